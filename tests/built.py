"""What the programs build from a command line, as plain values.

Each program runs as a user starts it, up to where the work would begin; what it has built until then is described
field by field, so that two command lines can be compared. Of private names only those of this file are used.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import eval as evaluation_program
import export as export_program
import predict as prediction_program
import search as search_program
import train as training_program
from src.data.dataset import EvalData, TrainData
from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.machine.ranks import World
from src.models.layers import Dropout, weights
from src.runs.checkpoint import list_checkpoints, write_checkpoint
from src.runs.folder import RunFolder, open_run
from src.settings.sections import Augmentation
from src.space import spaces
from src.space.spaces import Space
from src.supernet import path_parts, search_report
from src.supernet.path_sgd import PathSGD
from src.training import reporter
from src.training.evaluation import Evaluation, Evaluator
from src.training.prediction import Answer
from src.training.step import TrainStep
from src.training.trainer import Trainer
from tests.images import class_folders, encode, photo

View = dict[str, Any]
GRADIENTS = (0.25, -0.75)  # of the two updates by which an optimizer is told
WEIGHT = 0.5  # of every parameter before each of them
LOGITS = np.random.default_rng(3).normal(size=(5, 16)).astype(np.float32) * 2
LABELS = np.array([0, 2, 1, 1, 0], np.int32)
PATHS = np.array([[0, 1, 2, 0], [3, 2, 1, 0]], np.int8)  # two of the mini space
MINI = Space("mini", (2,), (24,), (0.6, 1.2, 2.0), last_conv_out_channel=16, input_size=32)
AUGMENTED = [key for key in Augmentation.model_fields if key != "drop_remainder"]
TRANSFORMED = ("image_size", "interpolation", "mean", "std")  # of the preprocessing, in training


class Programs:
    """The four programs, their heavy parts stood in for.

    Attributes:
        paths: folders and files that a command line can name.
        world: the place among ranks that a program finds itself in.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.patch = folder, patch
        self.world = World()
        self.count = 0
        self.seen: View = {}
        self.paths: dict[str, str] = {}
        self._stand_in()
        self._write_inputs()

    # -- the programs --------------------------------------------------------------------------

    def train(self, words: Sequence[str]) -> View:
        """Everything that train.py has at hand when the first step would begin, of a network or of a supernet."""
        with self.patch.context() as patch:
            patch.setattr(Trainer, "fit", lambda trainer: {"status": "stood in"})
            return self._described(training_program, words, lambda: of_training(self.seen))

    supernet = train

    def loop(self, words: Sequence[str]) -> View:
        """What train.py has done at its end; steps and evaluations cost nothing, the first one is the best."""

        def step(step: TrainStep, images: None, labels: None) -> tuple[Tensor, Tensor, Tensor]:
            self.seen["steps"] = self.seen.get("steps", 0) + 1
            ops.assign_add(step.optimizer.global_step, Tensor([1], ms.int32))
            return Tensor(1.5, ms.float32), Tensor(True), Tensor(0, ms.int32)

        def no_images(data: TrainData, epoch: int, skip_steps: int = 0) -> Iterator[tuple[None, None]]:
            yield from [(None, None)] * (data.steps_per_epoch - skip_steps)

        with self.patch.context() as patch:
            patch.setattr(TrainStep, "__call__", step)
            patch.setattr(TrainData, "epoch", no_images)
            patch.setattr(reporter, "draw_curves", lambda history, path, title: None)
            return self._described(training_program, words, lambda: of_run(self.seen))

    def eval(self, words: Sequence[str]) -> View:
        """What eval.py has given its evaluator, and the files it has written."""
        return self._described(evaluation_program, words, lambda: of_evaluation(self.seen))

    def predict(self, words: Sequence[str]) -> View:
        """What predict.py asks its network, and the picture it draws."""
        return self._described(prediction_program, words, lambda: of_prediction(self.seen))

    def search(self, words: Sequence[str]) -> View:
        """The search of search.py, what scores its paths, and the files it has written."""
        return self._described(search_program, words, lambda: of_search(self.seen))

    def export(self, words: Sequence[str]) -> View:
        """What export.py would write a file of."""
        return self._described(export_program, words, lambda: of_source(self.seen))

    def _described(self, program: Any, words: Sequence[str], describe: Callable[[], View]) -> View:
        self.seen.clear()
        self.count += 1
        own_folder = program in (training_program, search_program) and not {"--run_dir", "--resume"} & set(words)
        try:
            program.main([*words, *(["--run_dir", str(self.folder / f"run{self.count}")] if own_folder else [])])
        except UsageError as error:
            return {"refused": str(error)}
        device = {key: value for key, value in self.seen.items() if key.startswith("device.")}
        return {**device, **describe()}

    # -- what stands in ------------------------------------------------------------------------

    def _stand_in(self) -> None:
        seen, patch = self.seen, self.patch

        def set_up(wanted: str, device_id: int, mode: str, deterministic: bool, seed: int) -> str:
            values = {"target": wanted, "id": device_id, "mode": mode, "deterministic": deterministic, "seed": seed}
            seen.update({f"device.{key}": value for key, value in values.items()})
            ms.set_seed(seed)
            return "CPU" if wanted == "auto" else wanted

        for place in ("src.runs.run", "export"):
            patch.setattr(f"{place}.set_up", set_up)
        patch.setattr("src.runs.run.initialise", lambda world, asked, target: seen.update({"device.ranks": asked}))
        patch.setattr("src.runs.run.current_world", lambda: self.world)

        real_trainer, real_evaluator = Trainer.__init__, Evaluator.__init__

        def trainer(it: Trainer, **parts: Any) -> None:
            seen.update(parts)
            real_trainer(it, **parts)

        def evaluator(it: Evaluator, network: nn.Cell, loss: nn.Cell) -> None:
            seen.update(evaluated=network, loss_of_evaluation=loss)
            real_evaluator(it, network, loss)

        def run(it: Evaluator, data: EvalData, with_confusion: bool = False, before_batch=None) -> Evaluation:
            seen.update(evaluation_data=data, with_confusion=with_confusion)
            seen["evaluations"] = seen.get("evaluations", 0) + 1
            top1 = 0.5 if seen["evaluations"] == 1 else 0.25
            confusion = np.eye(3, dtype=int) if with_confusion else None
            return Evaluation(2.5, top1, 0.75, 13, 13, 7.0, confusion)

        patch.setattr(Trainer, "__init__", trainer)
        patch.setattr(Evaluator, "__init__", evaluator)
        patch.setattr(Evaluator, "run", run)
        patch.setattr("src.data.dataset.usable_workers", lambda requested: requested)

        def paths_evaluated(evaluator, supernet, calibration, domain, seed):
            seen.update(calibration=calibration, domain=domain, seed_of_paths=seed)

        patch.setattr(path_parts, "SupernetEvaluator", paths_evaluated)
        patch.setattr(path_parts, "Supernet", _kept(path_parts.Supernet))
        patch.setattr("src.files.flush", lambda *_: None)
        patch.setitem(spaces.LAYOUTS, "mini", MINI)
        self._stand_in_for_the_search()
        patch.setattr(export_program, "export", lambda source, options, target: seen.update(source=source))
        self._stand_in_for_predictions()
        patch.setattr(evaluation_program, "write_json", lambda results, best, path: seen.update(json=str(path)))
        patch.setattr(evaluation_program, "write_csv", lambda results, path: seen.update(csv=str(path)))

        def write_per_class(confusion: np.ndarray, names: Sequence[str], folder: Path) -> tuple[str, str]:
            seen.update(per_class=(confusion.shape, tuple(names), folder.name))
            return "table", "picture"

        patch.setattr(evaluation_program, "write_per_class", write_per_class)

    def _stand_in_for_predictions(self) -> None:
        seen, patch = self.seen, self.patch

        def answers(network: nn.Cell, paths: Sequence[Path], preprocessing: Preprocessing, **how: int) -> list[Answer]:
            seen.update(asked=paths, preprocessing=preprocessing, how=how)
            return [Answer(path, ((2, 0.75), (0, 0.25))) for path in paths]

        patch.setattr(prediction_program, "answers", answers)
        patch.setattr(prediction_program, "write_json", lambda path, content: seen.update(json=str(path)))
        patch.setattr("src.runs.sheet.draw_sheet", lambda images, path: seen.update(sheet=str(path), drawn=len(images)))

    def _stand_in_for_the_search(self) -> None:
        seen, patch = self.seen, self.patch

        class Scores:
            total = 1000

            def __init__(self, network: nn.Cell, calibration: EvalData, held_out: EvalData):
                seen.update(network=network, calibration=calibration, held_out=held_out)

            def hits(self, genes: np.ndarray) -> int:
                return int(500 + 30 * (genes[:2] == 2).sum() - 10 * genes[2:].astype(int).sum())

        real_run = search_program.run_search

        def run_search(search, scores, journal, world, after_each):
            seen.update(search=search, first=search.ask())
            return real_run(search, scores, journal, world, after_each)

        def opened(*arguments: Any) -> RunFolder:
            seen["run"] = open_run(*arguments)
            return seen["run"]

        def no_sampler(method: str, schedule, seed: int, epochs: int, *, bounds, stroll, bins):
            drawn = {"seed": seed, "bins": tuple(bins), "stroll": stroll, "ranges": schedule.channel_range(0)}
            seen.update({f"drawn.{key}": value for key, value in drawn.items()}, space=schedule.space)
            if method == "random":
                seen["drawn.bounds"] = tuple(map(str, bounds))
            raise UsageError("stood in")

        def cut_out(scores, path, recipe):
            raise UsageError(f"cut {path} out for {recipe.model}")

        patch.setattr(search_program, "PathAccuracy", Scores)
        patch.setattr(search_program, "keep_in_memory", lambda data, size: data)
        patch.setattr(search_program, "run_search", run_search)
        patch.setattr("src.runs.run.open_run", opened)
        patch.setattr(search_program, "cut_out", cut_out)
        patch.setattr(search_report, "create_sampler", no_sampler)
        for name in ("draw_generations", "draw_cloud", "draw_choices", "draw_path", "save_picture"):
            patch.setattr(search_report, name, lambda *_: None)

    def _write_inputs(self) -> None:
        photos, bad = self.folder / "photos", self.folder / "bad"
        for folder, classes, per_class in ((photos, 3, 8), (bad, 3, 4), (self.folder / "other", 3, 6)):
            class_folders(folder / "train", per_class, classes, 32, 32)
            class_folders(folder / "val", per_class - 3, classes, 32, 32)
        for split in ("train", "val"):
            (bad / split / "class1" / "bad.jpg").write_bytes(encode(photo(), "JPEG")[:300])
        self.paths = {name: str(self.folder / name) for name in ("photos", "bad", "other", "stopped")}
        self.paths["folder"] = str(self.folder)
        words = f"--model tiny --data_path {photos} --check_data False --batch_size 4"
        self.paths["checkpoint"] = self._checkpoint("tiny.ckpt", self.train, words.split())
        other = "--seed 5 --label_smoothing 0.23 --label_smoothing_form others --mean 0.2,0.3,0.4"
        self.paths["another"] = self._checkpoint("another.ckpt", self.train, [*words.split(), *other.split()])
        plain = self.folder / "plain.yaml"
        plain.write_text("# the defaults, in place of the network's own recipe\n")
        self.paths["plain"] = str(plain)
        words = f"--config_path {plain} --model spos_oneshot --model_options.layout mini --image_size 32 --lr 0.7 "
        words += (
            f"--data_path {photos} --batch_size 4 --search_holdout 0.25 --train_supernet True --check_data False "
            "--supernet_masking upstream"
        )
        self.paths["supernet"] = self._checkpoint("supernet.ckpt", self.supernet, words.split())
        self.paths["trained_alike"] = self._checkpoint(
            "alike.ckpt", self.supernet, [*words.split(), "--lr", "0.9", "--seed", "5"]
        )
        recipe = self.folder / "path.yaml"
        recipe.write_text(
            "{model: spos_oneshot, epochs: 23,\n"
            "model_options: {layout: mini, block_choices: [1, 2], channel_choices: [2, 0]}}\n"
        )
        self.paths["recipe"] = str(recipe)
        space = dataclasses.asdict(dataclasses.replace(spaces.LAYOUTS["mini"]))
        table = self.folder / "latency.json"
        table.write_text(json.dumps({"header": {"space": space}, "fixed": 1.5, "choices": np.ones((2, 4, 3)).tolist()}))
        self.paths["latency"] = str(table)

        words = f"--model tiny --data_path {photos} --check_data False --batch_size 4 --epochs 6 --max_steps 15"
        self.loop([*words.split(), "--run_dir", self.paths["stopped"]])

    def _checkpoint(self, name: str, build: Callable[[Sequence[str]], View], words: Sequence[str]) -> str:
        view = build(words)
        assert "refused" not in view, view
        learned = {key: value.asnumpy() for key, value in weights(self.seen["network"]).items()}
        write_checkpoint(self.folder / name, learned, {}, self.seen["trained"].to_meta())
        return str(self.folder / name)


def _kept(build: Callable[..., nn.Cell]) -> Callable[..., nn.Cell]:
    """``build``, whose networks are built once for the same arguments and have their first weights each time."""
    built: dict[tuple, tuple[nn.Cell, dict[str, np.ndarray]]] = {}

    def network_of(*arguments: Any, **options: Any) -> nn.Cell:
        key = (repr(arguments), repr(options), ms.get_seed())
        if key not in built or of_network(built[key][0])["network.float16"]:
            network = build(*arguments, **options)
            built[key] = network, {name: value.asnumpy().copy() for name, value in network.parameters_and_names()}
        network, first = built[key]
        for name, value in network.parameters_and_names():
            value.set_data(Tensor(first[name]))
        return network

    return network_of


# -- descriptions ------------------------------------------------------------------------------


def _prefixed(prefix: str, values: dict[str, Any]) -> View:
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _files(images: Sequence[tuple[Path, int]]) -> tuple[str, ...]:
    return tuple("/".join(path.parts[-4:]) for path, _ in images)


def of_network(network: nn.Cell) -> View:
    cells = [cell for _, cell in network.cells_and_names()]
    arrays = {name: value.asnumpy() for name, value in weights(network).items()}
    digest = hashlib.sha256(b"".join(name.encode() + array.tobytes() for name, array in arrays.items()))
    norms = [cell for cell in cells if isinstance(cell, nn.BatchNorm2d)]
    return {
        "network.stem": next(iter(arrays.values())).shape,
        "network.classes": list(arrays.values())[-1].shape[0],
        "network.weights": digest.hexdigest(),
        "network.dropout": tuple(cell.key for cell in cells if isinstance(cell, Dropout)),
        "network.float16": tuple(sorted({type(cell).__name__ for cell in cells if cell.get_flags().get("fp16")})),
        "network.cells": tuple(sorted({type(cell).__name__ for cell in cells})),
        "network.affine": {norm.gamma.requires_grad for norm in norms},
    }


def loss_of_logits(loss: nn.Cell) -> float:
    """The mean of the loss over LOGITS, as many columns as there are classes, and LABELS."""
    return float(loss.per_sample(Tensor(LOGITS[:, : loss.num_classes]), Tensor(LABELS)).mean().asnumpy())


def directions(optimizer: nn.Cell, rates: np.ndarray) -> View:
    """Where two updates by GRADIENTS lead a kernel, a bias and a scale that stand at WEIGHT, in units of the rate."""
    parameters = list(optimizer.parameters)
    kinds: dict[str, Callable[[Parameter], bool]] = {
        "kernel": lambda parameter: parameter.ndim > 1,
        "bias": lambda parameter: parameter.name.endswith("bias"),
        "scale": lambda parameter: parameter.name.endswith("gamma"),
    }
    found = {kind: next((i for i, p in enumerate(parameters) if is_kind(p)), None) for kind, is_kind in kinds.items()}
    chosen = [index for index in found.values() if index is not None]
    touched = chosen if isinstance(optimizer, PathSGD) else range(len(parameters))
    first = {index: parameters[index].asnumpy().copy() for index in touched}
    moved: dict[str, tuple[float, ...]] = dict.fromkeys(kinds, ())
    for gradient, rate in zip(GRADIENTS, rates[:2], strict=True):
        for index in chosen:
            ops.assign(parameters[index], Tensor(np.full(parameters[index].shape, WEIGHT, np.float32)))
        by_shape = {p.shape: Tensor(np.full(p.shape, gradient, np.float32)) for p in parameters}
        gradients = tuple(by_shape[parameter.shape] for parameter in parameters)
        if isinstance(optimizer, PathSGD):
            optimizer.update(chosen, gradients, float(rate))
        else:
            optimizer.construct(gradients)
        for kind, index in found.items():
            if index is not None:
                moved[kind] += ((float(parameters[index].asnumpy().ravel()[0]) - WEIGHT) / float(rate),)
    for index, value in first.items():
        ops.assign(parameters[index], Tensor(value))
    return _prefixed("update", moved)


def of_step(step: nn.Cell, rates: np.ndarray) -> View:
    gradients = step.gradients
    view = {
        "optimizer": type(step.optimizer).__name__,
        "loss": loss_of_logits(gradients.loss_fn),
        "step.grad_clip": gradients.grad_clip,
        "step.accumulate": gradients.accumulate,
        "step.is_dynamic": gradients.dynamic,
        "step.loss_scale": float(gradients.loss_scale),
        "step.scale_factor": gradients.scale_factor,
        "step.scale_window": gradients.scale_window,
        **directions(step.optimizer, rates),
    }
    if isinstance(step, TrainStep):
        return {**view, "step.still": len(step.still)}
    supernet, sampler = step.supernet, step.sampler
    masking = {
        any(block.is_masked_after) for _, cell in supernet.cells_and_names() for block in getattr(cell, "choices", ())
    }
    masks = [cell.masks.asnumpy().sum() for _, cell in supernet.cells_and_names() if hasattr(cell, "masks")]
    sampler.begin_epoch(0, 20)
    return {
        **view,
        "step.rates": step.learning_rates,
        "supernet.input_size": supernet.space.input_size,
        "supernet.is_exact": masking,
        "supernet.widths": tuple(masks),
        "sampler": type(sampler).__name__,
        "sampler.bounds": str(getattr(sampler, "constraints", "")),
        "sampler.bins": getattr(sampler, "bins", ()),
        "sampler.stroll": getattr(sampler, "stroll", None),
        "sampler.ranges": tuple(sampler.schedule.channel_range(epoch) for epoch in range(8)),
        "sampler.draws": tuple(tuple(sampler.draw().tolist()) for _ in range(5)),
    }


def of_eval_data(name: str, data: EvalData) -> View:
    own = {"files": _files(data.files), "batch_size": data.batch_size, "workers": data.workers}
    return {**_prefixed(name, own), **_prefixed("preprocessing", dataclasses.asdict(data.preprocessing))}


def of_training(parts: View) -> View:
    data, rates, trained = parts["train_data"], parts["learning_rates"], parts["trained"]
    assert trained.preprocessing == parts["eval_data"].preprocessing
    view = {
        **_prefixed("facts", {key: getattr(trained, key) for key in ("model", "model_options", "num_classes")}),
        **_prefixed("data", {key: getattr(data, key) for key in ("batch_size", "seed", "workers", "images_per_epoch")}),
        "data.files": _files(data.files),
        **_prefixed("augmentation", {key: data.config[key] for key in AUGMENTED}),
        **_prefixed("transforms", {key: getattr(data.preprocessing, key) for key in TRANSFORMED}),
        **of_eval_data("eval", parts["eval_data"]),
        "rates": rates,
        "sink": parts["is_sinking"],
        "loss.of_evaluation": loss_of_logits(parts["loss_of_evaluation"]),
        **of_network(parts["network"]),
        **of_step(parts["step"], rates),
    }
    if "domain" in parts:
        view["calibration.files"] = _files(parts["calibration"].files)
        view["calibration.order"] = tuple(view["data.files"].index(name) for name in view["calibration.files"])
        view["calibration.batch_size"] = parts["calibration"].batch_size
        view["calibration.workers"] = parts["calibration"].workers
        view["paths.range"] = (parts["domain"].low.tolist(), parts["domain"].high.tolist())
        view["paths.seed"] = parts["seed_of_paths"]
    return view


def of_prediction(seen: View) -> View:
    return {
        "asked": tuple("/".join(path.parts[-3:]) for path in seen["asked"]),
        **_prefixed("how", seen["how"]),
        **_prefixed("preprocessing", dataclasses.asdict(seen["preprocessing"])),
        "written.json": seen.get("json"),
        "written.sheet": seen.get("sheet"),
        "sheet.images": seen.get("drawn"),
    }


def of_run(seen: View) -> View:
    folder = seen["run"].path
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = re.findall(r"epoch: (\d+) step: (\d+), loss", (folder / "log.txt").read_text())
    result = json.loads((folder / "result.json").read_text())
    return {
        "run.steps": seen.get("steps", 0),
        "run.saved": tuple(path.stem.removeprefix("tiny-") for path in list_checkpoints(folder / "checkpoints")),
        "run.evaluated": tuple(int(row["epoch"]) for row in rows if row["top1"]),
        "run.logged": tuple((int(epoch), int(step)) for epoch, step in lines),
        "run.status": result["status"].split(" ")[0],
        "run.tensorboard": (folder / "tensorboard").is_dir(),
        "run.folder": folder.name.rstrip("0123456789"),
    }


def of_evaluation(seen: View) -> View:
    return {
        **of_eval_data("eval", seen["evaluation_data"]),
        **of_network(seen["evaluated"]),
        "loss": loss_of_logits(seen["loss_of_evaluation"]),
        "eval.with_confusion": seen["with_confusion"],
        "eval.checkpoints": seen["evaluations"],
        **_prefixed("written", {name: seen.get(name) for name in ("json", "csv", "per_class")}),
    }


def of_search(seen: View) -> View:
    drawn = {key: value for key, value in seen.items() if key.startswith("drawn.")}
    if drawn:
        space = seen["space"]
        return {**drawn, "space.num_classes": space.num_classes, "space.input_size": space.input_size}
    search, folder = seen["search"], seen["run"].path
    own = ("population", "iterations", "generations", "retain", "select", "survive", "mutation", "mutations", "count")
    journal = (folder / "journal.jsonl").read_text().splitlines()[0]
    network = of_network(seen["network"])
    return {
        "search": type(search).__name__,
        **_prefixed("search", {key: getattr(search, key) for key in own if hasattr(search, key)}),
        "search.total": search.total(),
        "search.range": (search.domain.low.tolist(), search.domain.high.tolist()),
        "search.bounds": str(search.constraints),
        "search.objectives": tuple(table.name for table in getattr(search, "objectives", ())),
        "search.fitness": search.fitness(PATHS, np.array([0.7, 0.4])),
        "search.first": seen["first"].tolist(),
        "search.paths": (folder / "candidates.csv").read_text(),
        "search.costs": (folder / "candidates.csv").read_text().partition("\n")[0],
        "search.recipes": tuple(sorted(path.name for path in folder.glob("*.yaml"))),
        "search.best": re.findall(r"(?m)^(?:lr|epochs): .*", (folder / "best.yaml").read_text()),
        "journal": json.loads(journal),
        "network.weights": network["network.weights"],
        "network.cells": network["network.cells"],
        **of_eval_data("calibration", seen["calibration"]),
        **of_eval_data("held_out", seen["held_out"]),
    }


def of_source(seen: View) -> View:
    source = dataclasses.asdict(seen["source"])
    preprocessing = source.pop("preprocessing")
    return {**_prefixed("source", source), **_prefixed("preprocessing", preprocessing)}


@contextlib.contextmanager
def programs_in(folder: Path) -> Iterator[Programs]:
    """The programs, with a folder for what they read and write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.training.parts.default_cache", lambda: folder / "checks")
        yield Programs(folder, patch)
