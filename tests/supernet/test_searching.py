"""A search as a whole: killed and restarted it ends as if nothing had happened; what it writes is usable."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from mindspore import Tensor

from src.errors import UsageError
from src.machine.ranks import World
from src.settings.config import load_config
from src.space.constraints import Bound
from src.space.cost import cost_tables
from src.space.journal import Journal
from src.space.spaces import LAYOUTS, Architecture, Domain, create_space
from src.supernet import latency, search_report
from src.supernet.latency import compare, rank_correlation, read_latency_table
from src.supernet.searching import Candidate, header_of, run_search, search_of, tables_of
from tests.skipping import SKIPPING

SPACE = LAYOUTS["digits"]
SETTINGS = {
    "model": "spos_oneshot",
    "model_options": {"layout": "digits"},
    "search_constraints": {"flops": [0, 1.0]},
    "search_population": 10,
    "search_generations": 5,
    "search_retain": 4,
}


class Landscape:
    """Stands for a supernet: a fixed score of every path, at a price in time."""

    total = 1000

    def __init__(self, seconds=0.0):
        self.seconds, self.asked = seconds, 0

    def hits(self, genes):
        time.sleep(self.seconds)
        self.asked += 1
        return int(500 + 30 * (genes[:6] == 2).sum() - 10 * np.abs(genes[6:].astype(int) - 3).sum())


def search(folder, landscape=None, world=World(), **changes):  # noqa: B008 (a tuple)
    config = load_config("", {**SETTINGS, **changes})
    tables = tables_of(config, SPACE)
    with Journal(folder / "journal.jsonl", header_of(config, SPACE, "0", "1")) as journal:
        candidates = run_search(
            search_of(config, SPACE, tables), landscape or Landscape(), journal, world, lambda *_: None
        )
    (folder / "candidates.csv").write_text(search_report.candidates_csv(candidates, tables))
    return candidates, tables


METHODS = ["random", "genetic", "megvii", "pareto"]


@pytest.mark.parametrize("method", METHODS)
def test_killed_ten_times_it_ends_like_an_undisturbed_search(tmp_path, method):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    # So many paths at 20 ms that ten lives of at most 30 ms cannot reach the end.
    settings = {"search_method": method, "search_population": 40 if method == "random" else 10}
    search(whole, **settings)
    rng = np.random.default_rng(METHODS.index(method))
    killed = 0
    for _ in range(100):
        child = os.fork()
        if child == 0:
            try:
                search(broken, Landscape(seconds=0.02), **settings)
            finally:
                os._exit(0)
        if killed < 10:
            time.sleep(rng.uniform(0.005, 0.03))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            break
    assert killed == 10
    assert (broken / "candidates.csv").read_bytes() == (whole / "candidates.csv").read_bytes()
    assert (broken / "journal.jsonl").read_bytes() == (whole / "journal.jsonl").read_bytes()


def test_what_is_noted_is_not_evaluated_again(tmp_path):
    first, second = Landscape(), Landscape()
    candidates, _ = search(tmp_path, first)
    again, _ = search(tmp_path, second)
    assert first.asked == len(candidates) == len({candidate.architecture for candidate in candidates})
    assert (second.asked, again) == (0, candidates)


def test_a_journal_of_another_search_is_refused(tmp_path):
    search(tmp_path)
    with pytest.raises(UsageError, match="search_mutation, seed"):
        search(tmp_path, seed=5, search_mutation=0.3)


def test_every_scope_holds_what_it_must(tmp_path):
    for number, (scope, held) in enumerate([("blocks", slice(6, 12)), ("channels", slice(0, 6))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        candidates, _ = search(folder, search_scope=scope, search_constraints={})
        genes = search_report.to_genes([candidate.architecture for candidate in candidates])
        assert (genes[:, held] == genes[0, held]).all()
        assert (genes[0, held] == (2 if scope == "blocks" else 0)).all()  # scale 1.2 is the first from 1.0 on
    given = {"fixed_block_choices": [1, 2, 3, 0, 1, 2]}
    folder = tmp_path / "given"
    folder.mkdir()
    candidates, _ = search(folder, search_scope="channels", search_constraints={}, **given)
    assert {candidate.architecture.blocks for candidate in candidates} == {(1, 2, 3, 0, 1, 2)}


class Slope(Landscape):
    """Another score for every choice at every position, so that one path alone is the best."""

    total = 100_000

    def hits(self, genes):
        return int(40_000 + genes.astype(int) @ [3, 1009, 17, 5, 41, 2, 701, 11, 31, 7, 83, 101])


@pytest.mark.parametrize("target", ["accuracy", "balanced"])
@pytest.mark.parametrize(
    ("scope", "first", "given"),
    [
        ("blocks_then_channels", "blocks", {"fixed_channel_choices": [4, 0, 1, 3, 2, 4]}),
        ("channels_then_blocks", "channels", {"fixed_block_choices": [1, 2, 3, 0, 1, 2]}),
    ],
)
def test_a_second_stage_holds_the_best_of_the_first(tmp_path, scope, first, given, target):
    """The first stage is the search of that scope alone; the second varies what that held, around its fittest path."""
    for name in ("alone", "both"):
        (tmp_path / name).mkdir()
    settings = {"search_constraints": {}, "search_target": target, "score_ratio": 30.0, **given}
    alone, tables = search(tmp_path / "alone", Slope(), search_scope=first, **settings)
    both, _ = search(tmp_path / "both", Slope(), search_scope=scope, **settings)
    assert both[: len(alone)] == alone
    accuracy = np.array([candidate.accuracy for candidate in alone])
    paths = search_report.to_genes([candidate.architecture for candidate in alone])
    fitness = accuracy - (target == "balanced") * 30.0 * tables["score"].totals(paths)
    assert (fitness.argmax() == accuracy.argmax()) == (target == "accuracy")
    best, second = alone[fitness.argmax()].architecture, both[len(alone) :]
    assert len(second) > 5
    held, varied = (0, 1) if first == "blocks" else (1, 0)
    assert {candidate.architecture[held] for candidate in second} == {best[held]}
    assert len({candidate.architecture[varied] for candidate in second}) == len(second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_scope": "block"}, "did you mean 'blocks'"),
        ({"search_method": "genetics"}, "did you mean 'genetic'"),
        ({"search_target": "acc"}, "it can be accuracy, balanced"),
        ({"search_method": "pareto", "search_objectives": ["flop"]}, "did you mean 'flops'"),
        ({"search_constraints": {"flops": [0, 0.1]}}, "flops can be from 0.35945"),
        ({"search_constraints": {"params_ratio": [2, 0]}}, "params_ratio can be from"),
        ({"search_constraints": {"latency": [0, 1]}}, "latency needs --latency_table FILE"),
        ({"search_constraints": {"flop": [0, 1]}}, "did you mean 'flops'"),
        ({"search_constraints": {"flops": [2, 1]}}, "lower bound 2 above its upper bound 1"),
        ({"fixed_block_choices": [0] * 6}, "is for --search_scope channels or channels_then_blocks, not for joint"),
        ({"fixed_channel_choices": [1.5] * 6, "search_scope": "blocks"}, "must be a whole number"),
        ({"fixed_channel_choices": [5] * 6, "search_scope": "blocks"}, "channel choices go from 0 to 4; 5 does not"),
        ({"fixed_block_choices": [1], "search_scope": "channels"}, "6 block choices, not 1"),
        ({"comparison_model": "MobileNet"}, "there is no comparison model"),
    ],
)
def test_settings_that_cannot_be_searched_are_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        search(tmp_path, **changes)


def test_best_recipe_says_how_to_train_the_path(tmp_path):
    trained = load_config(
        "",
        {
            **SETTINGS,
            "train_supernet": True,
            "path_sampler": "fair",
            "supernet_affine": False,
            "epochs": 7,
            "lr": 0.3,
            "image_size": 32,
            "data_path": "somewhere",
            "run_dir": "elsewhere",
        },
    )
    candidates, tables = search(tmp_path)
    text = search_report.recipe_text(candidates[3], trained, tables, "5 images")
    path = tmp_path / "best.yaml"
    path.write_text(text)
    config = load_config(path)
    blocks, channels = candidates[3].architecture
    assert config.model_options == {
        "layout": "digits",
        "block_choices": list(blocks),
        "channel_choices": list(channels),
    }
    assert (config.model, config.epochs, config.lr, config.image_size) == ("spos_oneshot", 7, 0.3, 32)
    fresh = load_config("")
    for key in ("train_supernet", "path_sampler", "supernet_affine", "data_path", "run_dir", "search_constraints"):
        assert config[key] == fresh[key]
    assert "on 5 images; flops" in yaml.safe_load(text)["description"]


def test_results_are_drawn_and_listed(tmp_path):
    candidates, tables = search(tmp_path)
    rows = (tmp_path / "candidates.csv").read_text().splitlines()
    assert rows[0] == "index,generation,accuracy,flops,macs,params,score,pareto,blocks,channels"
    assert len(rows) == len(candidates) + 1
    flops = search_report.costs_of(candidates, tables)["flops"]
    search_report.draw_generations(candidates, tmp_path / "accuracy.png")
    search_report.draw_cloud(candidates, flops, tables["flops"], tmp_path / "cloud.png")
    search_report.draw_choices(candidates, SPACE, tmp_path / "choices.png")
    search_report.write_index(tmp_path, "a <search>", {"paths": len(candidates)}, candidates[:3], {1}, tables)
    page = (tmp_path / "index.html").read_text()
    assert page.count('<table class="sortable">') == 1
    assert "a &lt;search&gt;" in page
    assert page.count("<td>yes</td>") == 1
    assert all(f'src="{name}.png"' in page for name in ("accuracy", "cloud", "choices"))
    assert "http" not in page
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("accuracy", "cloud", "choices"))


def test_samplers_are_drawn_and_what_cannot_serve_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(search_report, "SAMPLED_PATHS", 40)
    lines = search_report.draw_samplers(load_config(""), SPACE, tmp_path / "samplers.png")
    assert len(lines) == 6
    assert lines[0].startswith("uniform: 40 paths from")
    assert any("can be from" in line for line in lines)
    assert (tmp_path / "samplers.png").stat().st_size > 5000


def test_rank_correlation():
    rising = np.array([1.0, 2.0, 5.0, 9.0])
    assert rank_correlation(rising, rising**2) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    assert rank_correlation(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(0.9486833)
    assert np.isnan(rank_correlation(rising, np.ones(4)))
    assert compare(np.array([2.0, 4.0]), np.array([1.0, 4.0])) == {
        "paths": 2,
        "rank_correlation": pytest.approx(1),
        "mean_relative_error": 0.5,
    }


def test_the_shortest_forward_counts_and_cells_take_turns():
    now, asked = [0.0], []

    def cell(name, seconds):
        times = iter([50.0, 50.0, *seconds])  # two to warm up

        def forward(image):
            asked.append(name)
            now[0] += next(times)
            return image

        return forward

    cells = [cell("a", [3, 1, 2]), cell("b", [5, 9, 4])]
    assert latency.measure(cells, Tensor(np.zeros(3, np.float32)), 3, lambda: now[0]) == [1000.0, 4000.0]
    assert asked == [*"aabb", *"ab" * 3]


def test_a_skipped_unit_takes_no_time_and_an_op_that_a_position_lacks_is_not_measured(monkeypatch):
    monkeypatch.setattr(latency, "measure", lambda networks, *_: [3.0, 1.0][: len(networks)])
    space = replace(SKIPPING, channel_scales=(1.0,))
    choices = np.array(latency.measure_table(space, 1, 1, {}, 1)["choices"])[:, :, 0]
    assert choices.tolist() == [[2.0] * 5, [2.0] * 4 + [0.0]] * 2


def test_the_picture_of_choices_names_the_ops_of_each_position(monkeypatch):
    figures = []
    monkeypatch.setattr(search_report, "save_picture", lambda figure, path: figures.append(figure))
    paths = [Architecture((2, 4, 0, 4), (0, 0, 0, 1)), Architecture((2, 3, 1, 4), (0, 4, 0, 1))]
    best = [Candidate(index, 0, path, 0.5) for index, path in enumerate(paths)]
    search_report.draw_choices(best, SKIPPING, Path("nowhere"))
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SNB-5", "SNB-7", "SXB-3", "SNB-3", "skip"]
    shares = axes.images[0].get_array()
    assert shares[:, 0].tolist() == [0, 0, 1, 0, 0]
    assert shares[:, 1].tolist() == [0, 0, 0.5, 0, 0.5]
    assert shares[:, 2].tolist() == [0.5, 0.5, 0, 0, 0]


def test_the_picture_of_a_path_has_each_block_in_its_width_and_the_colour_of_its_op(monkeypatch):
    figures = []
    monkeypatch.setattr(search_report, "save_picture", lambda figure, path: figures.append(figure))
    path = Candidate(7, 0, Architecture((2, 4, 0, 4), (0, 4, 0, 1)), 0.5)
    search_report.draw_path(path, SKIPPING, Path("nowhere"))
    axes = figures[0].axes[0]
    frames, *bars = axes.containers
    assert [bar.get_height() for bar in frames] == SKIPPING.largest_mids()
    drawn = {round(bar.get_x() + 0.45): (group.get_label(), bar.get_height()) for group in bars for bar in group}
    names = [position.ops[block].name for position, block in zip(SKIPPING.positions(), (2, 4, 0, 4), strict=True)]
    widths = SKIPPING.mids(path.architecture)
    assert drawn == {p: (name, 0 if name == "skip" else widths[p]) for p, name in enumerate(names)}
    assert len({bar.get_facecolor() for group in bars for bar in group}) == len(set(names))
    assert [text.get_text() for text in axes.texts] == [f"{SKIPPING.channel_scales[c]:g}" for c in (0, 4, 0, 1)]


def test_the_searched_area_is_framed_as_far_as_there_are_paths():
    space = create_space("OneShot")
    tables = cost_tables(space)
    low, high = tables["flops"].range(Domain.of(space))
    frame = search_report._frame([Bound("flops", 190), Bound("params", 2.8, 5.0), Bound("score", 0, 1)], tables, space)
    assert (frame.get_xy(), round(frame.get_height(), 6)) == ((190, 2.8), 2.2)
    assert 190 + frame.get_width() == pytest.approx(high) and low < 190
    assert search_report._frame([Bound("flops", 2 * high)], tables, space) is None


def test_latency_is_measured_predicted_and_a_cost_like_the_others(tmp_path, monkeypatch):
    space = create_space(
        "digits", stage_repeats=(1, 1), stage_out_channels=(24, 32), channel_scales=(1.0, 2.0), last_conv_out_channel=16
    )
    seen = []

    def measured(networks, image, repeats, clock):
        # Ten for starting, and a hundredth for each thousand parameters.
        seen.append((len(networks), image.shape, repeats))
        return [10 + sum(parameter.size for parameter in net.trainable_params()) / 1e5 for net in networks]

    monkeypatch.setattr(latency, "measure", measured)
    content = latency.measure_table(space, 2, 3, {"device": "clock"}, 5)
    params = cost_tables(space)["params"].choices / 1e5
    # The classifier behind a block has its channels, the one behind nothing the entry's.
    assert np.array(content["choices"]) == pytest.approx(params + np.array([8, 8])[:, None, None] / 1e5)
    assert content["check"]["paths"] == 5
    assert content["check"]["rank_correlation"] == pytest.approx(1)
    assert content["check"]["mean_relative_error"] < 1e-6
    assert seen == [(2, (2, 3, 32, 32), 3)] * 8 + [(2, (2, 3, 16, 16), 3)] * 8 + [(1, (2, 3, 32, 32), 3)] * 5
    assert {key: content["header"][key] for key in ("device", "batch_size", "repeats")} == {
        "device": "clock",
        "batch_size": 2,
        "repeats": 3,
    }
    content["fixed"] = -1000.0
    content["choices"] = np.arange(16, dtype=float).reshape(2, 4, 2).tolist()
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(content))
    config = load_config("", {**SETTINGS, "latency_table": str(path), "search_constraints": {"latency": [0, -990]}})
    tables = tables_of(config, space)
    assert tables["latency"].totals(np.array([[1, 3, 0, 1]]))[0] == -1000 + 2 + 15
    the_search = search_of(config, space, tables)
    assert (tables["latency"].totals(the_search.ask()) <= -990).all()
    with pytest.raises(UsageError, match=r"latency can be from -992 to -978 ms"):
        search_of(config.replace(search_constraints={"latency": [0, -995]}), space, tables)

    for other, message in ((create_space("digits"), "channel_scales"), (replace(space, use_se=True), "use_se")):
        with pytest.raises(UsageError, match=f"another space: it differs in .*{message}"):
            read_latency_table(path, other)
    assert read_latency_table(path, replace(space, num_classes=3)).fixed == -1000
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a latency table"):
        read_latency_table(path, space)
    with pytest.raises(UsageError, match="cannot read"):
        read_latency_table(tmp_path / "missing.json", space)
