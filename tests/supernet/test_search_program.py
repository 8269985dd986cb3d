"""search.py itself: which images score a path, which give its statistics, what a search goes on with and leaves."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import search
from src.data.preprocessing import Preprocessing
from src.data.split import HELD_OUT_FILE, Split, divide
from src.errors import Interrupted, UsageError
from src.machine.ranks import World
from src.runs.checkpoint import CheckpointFolder, read_checkpoint
from src.runs.folder import RunFolder
from src.runs.run import Run
from src.runs.trained import Trained
from src.settings.config import Config, load_config
from src.space.score import score_table
from src.space.spaces import LAYOUTS, to_genes
from src.supernet import recalibration, searching
from src.supernet.subnet import Subnet, write_subnet

SPACE = LAYOUTS["digits"]
NETWORK = {"model": "spos_oneshot", "model_options": {"layout": "digits"}}
CLASSES = {"a": 0, "b": 1, "c": 2}
FILES = [(Path(name) / f"{number}.jpg", label) for name, label in CLASSES.items() for number in range(20)]
VALIDATION = [(Path("val") / f"{number}.jpg", number % 3) for number in range(11)]
OWN = Preprocessing(16, 24, mean=(0.1, 0.2, 0.3))


def config(**changes) -> Config:
    """Of a search; its seed, batch and numbers of images are not the supernet's."""
    settings = {"seed": 9, "calibration_images": 7, "batch_size": 4, "search_population": 6, "search_method": "random"}
    return load_config("", {**NETWORK, "data_path": "data", "workers": 1, **settings, **changes})


def facts(settings: dict) -> Trained:
    own = load_config("", {**NETWORK, **settings})
    return Trained(own.model, own.model_options, 3, list(CLASSES), OWN, own, {}, "CPU")


def trained(checkpoint: Path = Path("net.ckpt"), **changes) -> search.TrainedSupernet:
    settings = {"seed": 3, "search_holdout": 0.25, "calibration_images": 13, "batch_size": 5, "train_supernet": True}
    return search.TrainedSupernet(checkpoint, facts({**settings, **changes}), SPACE)


@pytest.fixture(autouse=True)
def images_here(tmp_path_factory, monkeypatch):
    """The working folder holds FILES, whose sizes tell them apart as well."""
    monkeypatch.chdir(tmp_path_factory.mktemp("images"))
    for number, (path, _) in enumerate(FILES):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"." * number)


# -- which images ------------------------------------------------------------------------------


class Served:
    """Stands for the batches of some images, and remembers which."""

    def __init__(self, files, preprocessing, batch_size, workers):
        self.files, self.preprocessing, self.batch_size = files, preprocessing, batch_size


@pytest.fixture
def served(monkeypatch):
    """Gives, for a configuration, (calibration, scored, in words) of a search."""
    monkeypatch.setattr(search.build, "train_images", lambda *_: (CLASSES, FILES))
    monkeypatch.setattr(search.build, "eval_folder", lambda asked: Path("val") if asked.val_data_path else None)
    monkeypatch.setattr(search.build, "eval_images", lambda *_: VALIDATION)
    monkeypatch.setattr(search, "EvalData", Served)
    monkeypatch.setattr(search, "keep_in_memory", lambda data, image_size: data)
    monkeypatch.setattr(search, "supernet_of", lambda *_: "network")
    monkeypatch.setattr(search, "load_checkpoint", lambda *_: None)
    monkeypatch.setattr(search, "operators_of", lambda *_: "standard")
    monkeypatch.setattr(search, "PathAccuracy", lambda network, calibration, held_out: (calibration, held_out))

    def serve(supernet: search.TrainedSupernet | None = None, **changes) -> tuple[Served, Served, str]:
        supernet = supernet or trained()
        images = search.images_of(config(**changes), supernet)
        return *search.scores_of(config(**changes), supernet, images), images.described

    return serve


def test_paths_are_scored_on_what_the_supernet_never_saw(served):
    """The images held out in training, by the supernet's share and seed whatever those of the search are."""
    seen, unseen = divide(FILES, 0.25, 3)
    for changes in ({}, {"seed": 10}, {"search_holdout": 0.5}):
        calibration, scored, words = served(**changes)
        assert scored.files == unseen
        assert set(calibration.files) <= set(seen)
        assert words == "15 training images held out"
    assert divide(FILES, 0.25, 9)[1] != unseen != divide(FILES, 0.5, 3)[1]


def test_what_a_supernet_held_out_stays_held_out_though_the_folder_grew(served, tmp_path, monkeypatch, caplog):
    """Drawn anew, most of it would be what the supernet was trained on."""
    run = tmp_path / "run"
    supernet = trained(run / "checkpoints" / "net.ckpt")
    seen, unseen = Split.drawn(FILES[:40], 0.25, 3).parts(FILES)
    (run / "checkpoints").mkdir(parents=True)
    Split.drawn(FILES[:40], 0.25, 3).write(run / HELD_OUT_FILE)
    calibration, scored, words = served(supernet, calibration_images=1000)
    assert (scored.files, sorted(calibration.files), words) == (unseen, sorted(seen), "10 training images held out")
    assert {path for path, _ in unseen} != {path for path, _ in divide(FILES, 0.25, 3)[1]}
    assert not caplog.records
    served()
    assert "drawn anew" in caplog.text
    unseen[0][0].write_bytes(b"changed")
    with pytest.raises(UsageError, match="1 of the 40 images that the run has split are gone or changed"):
        served(supernet)


def test_statistics_come_from_training_images_never_from_those_scored(served):
    first, _, _ = served()
    again, _, _ = served(seed=10)
    assert len(first.files) == len(set(first.files)) == 7
    assert first.files == again.files, "drawn with the supernet's seed: a search of another seed scores alike"
    other, _, _ = served(trained(seed=4))
    assert other.files != first.files
    everything, scored, _ = served(calibration_images=1000)
    assert sorted([*everything.files, *scored.files]) == sorted(FILES)


def test_on_validation_images_statistics_still_come_from_training_images(served):
    calibration, scored, words = served(search_on="validation", val_data_path="val")
    assert scored.files == VALIDATION
    assert set(calibration.files) <= set(divide(FILES, 0.25, 3)[0])
    assert words.startswith("11 VALIDATION images")
    with pytest.raises(UsageError, match="give --val_data_path"):
        served(search_on="validation")
    assert served(val_data_path="val")[1].files != VALIDATION


@pytest.mark.parametrize(
    ("changes", "batches"),
    [
        ({}, (4, 4)),
        ({"eval_batch_size": 6}, (6, 6)),
        ({"eval_batch_size": 10}, (7, 10)),
        ({"eval_batch_size": 99, "calibration_images": 2}, (2, 15)),
    ],
)
def test_batches_are_those_asked_for_and_no_larger_than_the_set(served, changes, batches):
    calibration, scored, _ = served(**changes)
    assert (calibration.batch_size, scored.batch_size) == batches
    assert calibration.preprocessing == scored.preprocessing == OWN


def test_other_classes_than_the_supernets_are_refused(served, monkeypatch):
    monkeypatch.setattr(search.build, "train_images", lambda *_: ({"a": 0, "b": 1, "d": 2}, FILES))
    with pytest.raises(UsageError, match="data has other classes"):
        served()


def test_a_path_gets_its_statistics_before_it_is_scored_on_the_other_images(monkeypatch):
    events = []

    class Recalibration:
        def __init__(self, network, batches):
            self.network, self.batches = network, batches

        def of_path(self, genes):
            events.append(("statistics", self.batches, genes))
            return self

        __enter__ = lambda self: 5  # noqa: E731
        __exit__ = lambda self, *_: events.append("taken back")  # noqa: E731

    class Forward(ms.nn.Cell):
        def construct(self, images):
            events.append("scored")
            return images

    monkeypatch.setattr(recalibration, "Recalibration", Recalibration)
    monkeypatch.setattr(recalibration, "Forward", lambda network: Forward())
    logits = np.eye(3, dtype=np.float32)
    # The third image of the last batch only fills it up: it must not count although it is right.
    scored = [(Tensor(logits), Tensor([0, 1, 1]), 3), (Tensor(logits), Tensor([1, 1, 2]), 2)]
    accuracy = recalibration.PathAccuracy(SimpleNamespace(space=SimpleNamespace(num_classes=3)), "calibration", scored)
    assert (accuracy.total, accuracy.hits("genes")) == (5, 3)
    assert events == [("statistics", "calibration", "genes"), "scored", "scored", "taken back"]
    assert accuracy.calibration_images == 5


# -- which supernet ----------------------------------------------------------------------------


def save(folder: CheckpointFolder, epoch: int, is_best: bool = False, written: dict | None = None, **settings) -> Path:
    meta = facts(settings).to_meta()
    meta["config"] |= written or {}
    weights = {"w": np.full(3, epoch, np.float32)}
    return folder.save("net", epoch, 1, weights, {}, meta, is_best=is_best)


def test_the_last_checkpoint_of_a_supernet_with_its_own_settings(tmp_path):
    """A supernet's best checkpoint is that of a few fixed paths; upstream searches the last."""
    run = RunFolder(tmp_path)
    run.write_config(config())
    run.checkpoints.mkdir()
    folder = CheckpointFolder(run.checkpoints)
    save(folder, 1, is_best=True, train_supernet=True, seed=3, search_holdout=0.25)
    last = save(folder, 2, train_supernet=True, seed=5, search_holdout=0.3)
    found = search.supernet_of_run(str(tmp_path))
    assert (found.checkpoint, found.facts.config.seed, found.facts.config.search_holdout) == (last, 5, 0.3)
    assert found.space.num_classes == 3
    alone = save(folder, 3, train_supernet=False)
    with pytest.raises(UsageError, match="is not of a supernet"):
        search.supernet_of_run(str(alone))
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(UsageError, match="damaged"):
        search.supernet_of_run(str(last))
    with pytest.raises(UsageError, match="which supernet"):
        search.supernet_of_run("")


def test_a_supernet_of_an_earlier_version_is_searched(tmp_path):
    """Its checkpoint says keys and values that are no more; what they meant stands for them."""
    written = {"cpu_operators": "rewritten", "export_subnet": "", "plot_samplers": False}
    path = save(CheckpointFolder(tmp_path), 1, written=written, train_supernet=True, seed=5)
    found = search.supernet_of_run(str(path)).facts.config
    assert (found.seed, found.cpu_operators, found.train_supernet) == (5, "standard", True)
    unknown = save(CheckpointFolder(tmp_path), 2, written={"export_subnet": "a.yaml"}, train_supernet=True)
    with pytest.raises(UsageError, match="there is no key 'export_subnet'"):
        search.supernet_of_run(str(unknown))


@pytest.mark.parametrize("words", ["--resume moved", "--resume moved --export_subnet moved/best.yaml"])
def test_a_supernet_that_is_gone_is_said_to_be_the_searchs(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    for path in (tmp_path / "supernet.ckpt", run.path / search.JOURNAL):
        path.touch()
    run.write_config(config(supernet="supernet.ckpt", data_path=""))
    run.path.rename("moved")
    (tmp_path / "supernet.ckpt").unlink()
    with pytest.raises(UsageError, match=rf"^{tmp_path}/supernet\.ckpt is gone, the supernet of moved; .* --supernet$"):
        search.main(words.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved"]


def test_a_network_that_was_cut_out_knows_its_images_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    subnet = Subnet({"w": np.zeros(3, np.float32)}, (0.5, 0.5), 0.0, 8)
    write_subnet(Path("path.ckpt"), subnet, config(data_path="photos"), facts({}))
    assert read_checkpoint(Path("path.ckpt")).trained.config.data_path == str(tmp_path / "photos")


def test_a_search_never_goes_on_in_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_config(config())
    with pytest.raises(UsageError, match="holds a run that is no search"):
        search.going_on(config(run_dir="run"))
    (run.path / search.JOURNAL).touch()
    assert [search.going_on(config(run_dir=name)).resume for name in ("run", "new", "")] == ["auto", "auto", ""]


# -- the search --------------------------------------------------------------------------------


class Landscape:
    """Stands for a supernet: a score of each path of its own, and SIGTERM while the path number ``stop`` is scored."""

    total = 100_000

    def __init__(self, stop: int = 0):
        self.stop, self.asked = stop, 0

    def hits(self, genes: np.ndarray) -> int:
        self.asked += 1
        if self.asked == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return int(40_000 + genes.astype(int) @ [3, 1009, 17, 5, 41, 2, 701, 11, 31, 7, 83, 101])


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """Runs :func:`search.search` into ``tmp_path``; gives the scores and what the results were written of."""
    checkpoint = tmp_path / "net.ckpt"
    checkpoint.write_bytes(b"weights")
    results = []
    monkeypatch.setattr(search.search_report, "write_results", lambda *parts: results.append(parts))

    def start(scores=None, world=World(), **changes):  # noqa: B008 (a tuple)
        scores = scores or Landscape()
        monkeypatch.setattr(search, "scores_of", lambda *_: scores)
        monkeypatch.setattr(search, "images_of", lambda *_: search.ImagesOfSearch(FILES[:9], FILES[9:], "some images"))
        (tmp_path / "run").mkdir(exist_ok=True)
        results.clear()
        current = Run("CPU", world, RunFolder(tmp_path / "run"))
        search.search(config(**changes), trained(checkpoint), current)
        return SimpleNamespace(scores=scores, checkpoint=checkpoint, results=results, run=tmp_path / "run")

    return start


def test_a_journal_of_another_supernet_is_refused(searched):
    done = searched()
    assert done.scores.asked == 6
    assert searched().scores.asked == 0, "the same search is not searched again"
    done.checkpoint.write_bytes(b"others!")
    with pytest.raises(UsageError, match=r"other settings \(checkpoint\)"):
        searched()


def test_a_journal_of_other_images_is_refused(searched):
    done = searched()
    FILES[3][0].write_bytes(b"another picture")
    with pytest.raises(UsageError, match=r"other settings \(images\)"):
        searched()
    header, *records = (done.run / "journal.jsonl").read_text().splitlines()
    before = json.loads(header)
    del before["search"]["images"], before["crc32"]  # as an earlier version wrote it
    (done.run / "journal.jsonl").write_text("\n".join([json.dumps(before), *records, ""]))
    assert searched().scores.asked == 0


def test_a_search_that_fails_before_its_first_path_leaves_the_folder_to_another(searched, tmp_path):
    class Broken(Landscape):
        def hits(self, genes: np.ndarray) -> int:
            raise UsageError("no images")

    with pytest.raises(UsageError, match="no images"):
        searched(Broken(), seed=4)
    assert list((tmp_path / "run").iterdir()) == []
    assert searched(seed=5).scores.asked == 6
    assert load_config(tmp_path / "run" / "config.yaml").seed == 5


def test_a_signal_stops_after_the_path_it_met_which_is_noted(searched):
    scores = Landscape(stop=3)
    with pytest.raises(Interrupted):
        searched(scores)
    assert scores.asked == 3
    assert searched().scores.asked == 3


@pytest.mark.parametrize(("target", "ratio"), [("accuracy", 30.0), ("balanced", 30.0), ("balanced", 0.01)])
def test_the_best_path_is_the_fittest_by_the_target(searched, target, ratio):
    done = searched(search_target=target, score_ratio=ratio, search_population=40)
    (folder, asked, template, space, _, candidates, ranked, words), *others = done.results
    assert (folder, space, words, others) == (done.run, SPACE, "some images", [])
    assert (asked.seed, template.seed) == (9, 3)
    accuracy = np.array([candidate.accuracy for candidate in candidates])
    genes = to_genes([candidate.architecture for candidate in candidates])
    fitness = accuracy - (target == "balanced") * ratio * score_table(SPACE, asked.comparison_model).totals(genes)
    assert [candidate.index for candidate in ranked] == np.argsort(-fitness, kind="stable").tolist()
    assert len(candidates) == 40
    if (target, ratio) == ("balanced", 30.0):
        assert fitness.argmax() != accuracy.argmax()


def test_only_rank_0_writes(searched, monkeypatch):
    for module in (search, searching):
        monkeypatch.setattr(module, "all_reduce_sum", lambda values: values)
    done = searched(Landscape(stop=1), World(1, 2, 1, "msrun"))  # a signal is rank 0's to heed
    assert (done.results, list(done.run.iterdir())) == ([], [])
    done = searched(world=World(0, 2, 0, "msrun"))
    assert len(done.results) == 1
    assert sorted(path.name for path in done.run.iterdir()) == ["config.yaml", search.JOURNAL]
    assert load_config(done.run / "config.yaml").seed == 9


# -- what decides a search ---------------------------------------------------------------------

DECIDES = {
    "search_method": "genetic", "search_scope": "blocks", "search_target": "balanced", "search_on": "validation",
    "search_constraints": {"flops": [0, 1]}, "search_population": 7, "search_mutation": 0.3, "seed": 10,
    "score_ratio": 0.5, "comparison_model": "MobileNetV3_Large", "calibration_images": 8, "latency_table": __file__,
    "batch_size": 5, "eval_batch_size": 3, "fixed_block_choices": [1] * 6,
}  # fmt: skip


@pytest.mark.parametrize("key", DECIDES)
def test_a_journal_knows_what_decides_its_search(key):
    header = searching.header_of(config(), SPACE, "0", "1")
    changed = searching.header_of(config(**{key: DECIDES[key]}), SPACE, "0", "1")
    name = "batch_size" if key == "eval_batch_size" else key
    assert [entry for entry in header if header[entry] != changed[entry]] == [name]
    json.dumps(changed)


def test_a_latency_table_is_the_same_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.json").write_text("{}")
    header = searching.header_of(config(latency_table="t.json"), SPACE, "0", "1")
    assert header == searching.header_of(config(latency_table=str(tmp_path / "t.json")), SPACE, "0", "1")
    Path("t.json").write_text("{ }")
    assert header != searching.header_of(config(latency_table="t.json"), SPACE, "0", "1")


def test_what_decides_nothing_may_change():
    changes = {"search_top": 9, "search_recipe": "mnasnet_cpu", "workers": 2, "data_path": "elsewhere", "lr": 9.0}
    assert searching.header_of(config(**changes), SPACE, "0", "1") == searching.header_of(config(), SPACE, "0", "1")
    assert searching.header_of(config(batch_size=5, eval_batch_size=4), SPACE, "0", "1") == searching.header_of(
        config(), SPACE, "0", "1"
    )
