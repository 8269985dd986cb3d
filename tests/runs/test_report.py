"""The page that compares runs: what it says, of which runs, and what a browser makes of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import create_model
from src.models.layers import weights
from src.runs import report, verdicts
from src.runs.account import account_of
from src.runs.checkpoint import BEST, CheckpointFolder
from src.runs.folder import RunFolder
from src.runs.lock import sole_user
from src.runs.page import Cell, escaped, table, write_page
from src.runs.svg import Curve, line_chart, matrix
from src.runs.trained import Trained
from src.settings.config import load_config

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLASSES = ["class0", "class1", "class2"]


def row(epoch: int, top1: float | None, loss: float = 1.5) -> dict:
    figures = {"lr": 0.1 / epoch, "train_loss": loss, "val_loss": 1.25, "top1": top1, "top5": 1.0}
    return {"epoch": epoch, "step": 6 * epoch, **figures, "images_per_second": 100.0, "seconds": 61.0}


def a_run(path: Path, data: Path, *rows: dict, event: str = "result", classes: tuple[str, ...] = (), **keys) -> Path:
    """The folder of a run as training leaves it, of the tiny network."""
    path.mkdir(parents=True)
    folder, classes = RunFolder(path), list(classes or CLASSES)
    folder.checkpoints.mkdir()
    config = load_config("", {"model": "tiny", "data_path": str(data), "batch_size": 4, "epochs": 2, **keys})
    folder.write_config(config)
    folder.write_metrics(rows)
    folder.write_json("result.json", {"status": "finished"})
    (path / "log.jsonl").write_text(json.dumps({"event": event, "message": "SIGTERM"}) + "\n")
    trained = Trained("tiny", {}, 3, classes, Preprocessing().at_size(32), config, {}, "CPU, 7 cores")
    ms.set_seed(1)
    learned = {name: value.asnumpy() for name, value in weights(create_model("tiny", 3)).items()}
    meta = {**trained.to_meta(), "position": {"epoch": 2}}
    CheckpointFolder(folder.checkpoints).save("tiny", 2, 6, learned, {"step": np.zeros(1)}, meta, is_best=True)
    return path


@pytest.fixture(scope="module")
def two(tiny_model, photos, tmp_path_factory) -> list[Path]:
    """Two runs, one with a name that is markup. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    first = a_run(folder / "<b>one&two", photos, row(1, 0.5), row(2, 0.75), lr=0.25)
    return [first, a_run(folder / "plain", photos, row(1, None, float("nan")), lr=0.5, event="stopped")]


@pytest.fixture(scope="module")
def page(two) -> str:
    report.main([*map(str, two)])
    return (two[0].parent / "report.html").read_text(encoding="utf-8")


def test_the_page_of_two_runs_lies_above_both_and_has_the_figures_of_each(page):
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    first, second = (
        [re.sub("<.*?>", "", cell) for cell in re.findall("<td.*?</td>", line)] for line in body.splitlines() if line
    )
    # 8 x 3 x 9 + 8 weights and a norm, 8 x 9 and a norm, and a classifier of 3 x 8 + 3.
    parameters = f"{8 * 27 + 16 + 8 * 9 + 16 + 27:,}"
    assert first[:10] == [
        "&lt;b&gt;one&amp;two", "tiny", "75.00%", "2", "100.00%", "1.2500", "2 of 2", "0:02:02", "100", parameters
    ]  # fmt: skip
    assert first[10:] == ["finished", "CPU, 7 cores"]
    assert second[:7] == ["plain", "tiny", "", "", "", "", "1 of 2"] and second[10] == "stopped: SIGTERM"


def test_only_the_settings_that_differ_are_listed(page):
    part = page.partition("Settings that differ")[2].partition("</table>")[0]
    assert re.findall("<td.*?>(.*?)</td>", part) == ["lr", "0.25", "0.5"]


def test_the_page_asks_for_nothing_from_elsewhere_and_takes_names_as_text(page):
    assert "http" not in page and "<b>" not in page and "url(" not in page and "<link" not in page
    sources = re.findall('src="(.{5})', page)
    assert len(sources) > 5 and set(sources) == {"data:"}


def test_the_matrix_counts_each_image_once(page):
    for part in page.split("on its validation images")[1:]:
        assert "<dt>images</dt><dd>13</dd>" in part
        counted = re.findall(r'text-anchor="middle"(?: style="[^"]*")?>(\d+)</text>', part)
        assert sum(map(int, counted)) == 13


def test_the_surest_mistakes_come_first_and_no_more_than_are_shown(monkeypatch):
    monkeypatch.setattr(verdicts, "SHOWN", 3)
    rng = np.random.default_rng(5)
    logits, truth = rng.normal(size=(10, 4)), rng.integers(0, 4, 10)
    images = rng.integers(0, 256, (10, 3, 2, 2)).astype(np.float32)
    preprocessing = Preprocessing(2, 2, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    normal = (images / 255 - mean) / std

    class Data(list):
        files, steps = [(Path(f"{number}.png"), 0) for number in range(10)], 3

    data = Data()
    data.preprocessing = preprocessing
    for start in (0, 4, 8):  # the last batch is filled up
        rows = [min(number, 9) for number in range(start, start + 4)]
        data.append((ms.Tensor(normal[rows]), ms.Tensor(truth[rows].astype(np.int32)), min(4, 10 - start)))
    batches = iter([logits[[min(n, 9) for n in range(start, start + 4)]] for start in (0, 4, 8)])
    network = type("Network", (), {"set_train": lambda *_: None, "__call__": lambda *_: ms.Tensor(next(batches))})()
    confusion, mistakes = verdicts.judged(network, data, 4)
    expected = np.zeros((4, 4), int)
    for label, scores in zip(truth, logits, strict=True):
        expected[label, scores.argmax()] += 1
    assert (confusion == expected).all()
    sure = np.exp(logits).max(axis=1) / np.exp(logits).sum(axis=1)
    wrong = sorted((n for n in range(10) if logits[n].argmax() != truth[n]), key=lambda n: -sure[n])
    assert len(wrong) > 3
    assert [mistake.path.name for mistake in mistakes] == [f"{number}.png" for number in wrong[:3]]
    np.testing.assert_allclose([mistake.probability for mistake in mistakes], sure[wrong[:3]])
    assert (mistakes[0].pixels == images[wrong[0]].transpose(1, 2, 0)).all()


def test_a_moved_run_whose_images_are_gone_keeps_its_page_and_says_what_is_missing(tiny_model, photos, tmp_path):
    made = a_run(tmp_path / "run", photos, row(1, 0.5))
    moved = made.rename(tmp_path / "moved")
    (moved / "config.yaml").write_text((moved / "config.yaml").read_text().replace(str(photos), "/gone/photos"))
    report.main([str(moved / "checkpoints")])
    page = (moved / "report.html").read_text()
    assert "Left out: /gone/photos is gone; say where its images are now with --data_path" in page
    assert "Settings that are not the defaults" in page and "<img" not in page
    report.main([str(moved), "--data_path", str(photos), "--out", str(tmp_path / "other.html")])
    assert "<img" in (tmp_path / "other.html").read_text()
    CheckpointFolder(moved / "checkpoints").pointed(BEST).write_bytes(b"cut")
    report.main([str(moved)])
    assert "is damaged: its SHA-256" in (moved / "report.html").read_text()


def test_a_run_that_goes_on_was_stopped_or_was_killed_is_told_so(tiny_model, photos, tmp_path):
    path = a_run(tmp_path / "run", photos)
    assert account_of(str(path)).status == "finished"
    with sole_user(path):
        assert account_of(str(path)).status == "running"
    with (path / "log.jsonl").open("a") as file:
        file.write('{"event": "epoch", "epoch": 1}\n{"event": "ep')
    assert account_of(str(path)).status == "ended without a word"
    (path / "metrics.csv").write_text("epoch,step\nx,y\n")
    with pytest.raises(UsageError, match=r"metrics\.csv is damaged"):
        account_of(str(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not the folder of a run: there is no such folder"),
        (["{photos}"], "it has no config.yaml"),
        (["{search}"], r"is not a run of train.py: it has no checkpoints; its own page is .*index\.html"),
        (["{one}", "{one}/checkpoints"], "is named twice"),
        (["{one}", "--out", "{one}/config.yaml"], r"a page ends in \.html"),
        (["{one}", "--out", "nowhere/page.html"], "there is no folder nowhere"),
        (["{one}", "--data_path", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(two, photos, root, tmp_path, words, message):
    places = {"photos": photos, "search": root / "tests" / "old_runs" / "search", "one": two[1]}
    before = {path: path.read_bytes() for path in two[1].rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=message):
        report.main([word.format(**places) for word in words])
    assert {path: path.read_bytes() for path in two[1].rglob("*") if path.is_file()} == before


def test_cells_sort_by_their_numbers_and_text_is_escaped():
    made = table(["a<b"], [[Cell("1,000", 1000)], ["<i>"]])
    assert '<th scope="col">a&lt;b</th>' in made and '<td class="number" data-value="1000">1,000</td>' in made
    assert "<td>&lt;i&gt;</td>" in made
    assert escaped("\udcff\"'") == "\\udcff&quot;&#x27;"


def test_a_chart_spans_its_values_and_leaves_out_what_is_no_number():
    chart = line_chart("loss", [Curve("a", 0, [(1, 1.0), (2, float("nan")), (3, 100.0)])], may_be_log=True)
    assert re.findall('<circle cx="([0-9.]+)" cy="([0-9.]+)"', chart) == [("52.0", "216.0"), ("410.0", "26.0")]
    marks = re.findall(r'text-anchor="end">([^<]+)<', chart)
    assert marks == ["1", "2", "5", "10", "20", "50", "100"]
    assert "nothing was measured" in line_chart("loss", [Curve("a", 0, [(1, float("inf"))])])
    shares = line_chart("top-1", [Curve("a", 0, [(1, 0.0), (2, 1.0)])], is_share=True)
    assert re.findall(r'text-anchor="end">([^<]+)<', shares) == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_a_matrix_of_many_classes_has_shades_but_no_names():
    confusion = np.diag(np.arange(1, 101))
    made = matrix(confusion, [f"class {number}" for number in range(100)])
    assert "class 7" not in made and made.count("h5v5h-5z") == 100


LOOKED_AT = """<body><pre id="width"></pre><iframe src="{page}" style="width:390px;height:900px;border:0"></iframe>
<script>
onmessage = event => document.getElementById("width").textContent = JSON.stringify(event.data);
</script></body>"""
SAID = """<script>addEventListener("load", () => {
  const head = document.querySelector("table.sortable th:nth-child(3) button");
  const firsts = [];
  for (const _ of [1, 2]) {
    head.click();
    firsts.push(document.querySelector("table.sortable tbody td").textContent);
  }
  const back = getComputedStyle(document.body).backgroundColor;
  parent.postMessage([document.documentElement.scrollWidth, innerWidth, firsts, back], "*");
})</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no headless browser here: chromium")
@pytest.mark.parametrize(("scheme", "back"), [(1, "rgb(255, 255, 255)"), (0, "rgb(20, 23, 26)")])
def test_a_browser_sorts_the_page_and_a_phone_shows_it_without_scrolling_sideways(page, tmp_path, scheme, back):
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{SAID}</body>"))
    (tmp_path / "phone.html").write_text(LOOKED_AT.format(page="page.html"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'browser'}",
    ]
    flags += [f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [BROWSER, *flags, (tmp_path / "phone.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    scroll, width, firsts, colour = json.loads(html.unescape(re.search('<pre id="width">(.*?)</pre>', done.stdout)[1]))
    assert width == 390 and scroll == 390 and colour == back
    # By best top-1, which the second run has none of: it stays last.
    assert firsts == ["<b>one&two", "<b>one&two"]


def test_a_page_is_whole_or_absent(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("earlier")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_page(tmp_path / "page.html", "title", ["<p>new</p>"])
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "earlier"
