"""Evaluates checkpoints: python eval.py --checkpoint_path FILE_OR_FOLDER_OR_RUN [--val_data_path DATA]."""

from __future__ import annotations

from src.settings.command_line import answer_help

if __name__ == "__main__":
    answer_help("eval")  # before the imports below, which take seconds

import gc
import logging
import sys
import time
from pathlib import Path

from src.data.split import SPLIT_FILE
from src.errors import UsageError, run
from src.machine.device import describe_device, versions
from src.machine.modelarts import on_modelarts
from src.machine.ranks import leave
from src.runs.checkpoint import verify
from src.runs.folder import checkpoints_of, stored_split
from src.runs.results import say_in_their_words, write_csv, write_json, write_per_class
from src.runs.run import Run, started
from src.runs.trained import Trained
from src.settings.command_line import parse_arguments
from src.settings.config import Config
from src.training import parts as build
from src.training.evaluation import Evaluator
from src.weights.loading import load_checkpoint, trained_of

log = logging.getLogger("src.eval")


def main(argv: list[str]) -> None:
    config = parse_arguments(argv, "eval")
    checkpoints = checkpoints_of(config.checkpoint_path)
    for path in checkpoints:
        verify(path)
    config, trained = as_trained(checkpoints[0], config)
    with started(config, "eval") as current:
        evaluate(checkpoints, config, trained, current)


def as_trained(path: Path, config: Config) -> tuple[Config, Trained | None]:
    """The configuration with the network, loss and data that the checkpoint knows, and what that says of itself.

    Weights with our names that nothing describes do not say their network; then the command line or a recipe must.
    """
    trained = trained_of(path, config.model, config.num_classes, config.model_options)
    if trained is None:
        return config, None
    if trained.is_supernet:
        raise UsageError(f"{path} is of a supernet; its paths are scored by python search.py --supernet {path}")
    of_loss = () if trained.source else ("label_smoothing", "label_smoothing_form")
    taken = [key for key in of_loss if key not in config.typed]
    if not trained.source and not (config.val_data_path or config.data_path):
        taken += ["val_data_path", "data_path"]
        trained.config.require_inputs("val_data_path" if trained.config.val_data_path else "data_path")
    changes = {key: trained.config[key] for key in taken}
    return config.replace(model=trained.model, model_options=trained.model_options, **changes), trained


def evaluate(checkpoints: list[Path], config: Config, trained: Trained | None, current: Run) -> None:
    folder, split = build.eval_folder(config), stored_split(checkpoints[0])
    if folder is None and not (split and config.data_path):
        raise UsageError("--val_data_path is missing: the folder that holds val/, or the val folder itself")
    preprocessing = build.preprocessing_of(config, trained and trained.preprocessing)
    evaluated = folder or build.train_folder(config)
    classes = build.eval_classes(evaluated, trained)
    images = build.eval_images(evaluated, classes, config)
    if split and (folder is None or split.is_of(images)):
        images = split.parts(images)[1]
        log.info(f"the run was trained on the other images of this folder ({SPLIT_FILE})")
    num_classes = trained.num_classes if trained else build.classes_in_head(config, classes)
    network = build.network_of(config, num_classes, current.world)
    evaluator = Evaluator(build.computing(network, config), build.loss_of(config, num_classes))
    data = build.eval_data_of(config, images, preprocessing, current.world)
    log.info(f"{config.model} on {describe_device(current.target)}: {len(images)} images of {images[0][0].parents[1]}")
    log.info(f"preprocessing: {preprocessing}")

    results, best, confusion = [], None, None
    for path in checkpoints:
        found = load_checkpoint(path, network, config.model).trained
        if (found and found.classes) != (trained and trained.classes):
            raise UsageError(f"{path} was trained on other classes than {checkpoints[0]}")
        start = time.perf_counter()
        evaluation = evaluator.run(data, config.per_class)
        seconds = time.perf_counter() - start
        result = {
            "model": config.model,
            "checkpoint": str(path),
            **{key: getattr(evaluation, key) for key in ("loss", "cross_entropy", "top1", "top5", "images", "total")},
            "label_smoothing": config.label_smoothing,
            "images_per_second": round(evaluation.images_per_second, 1),
            "preprocessing": preprocessing.to_dict(),
            "device": describe_device(current.target),
            "versions": versions(),
        }
        results.append(result)
        is_best = best is None or result["top1"] > best["top1"]
        if is_best:
            best, confusion = result, evaluation.confusion
        log.info(
            f"{path}: {evaluation}"
            f"{f', cross entropy {evaluation.cross_entropy:.4f} without smoothing' if config.label_smoothing else ''}"
            f"{f', {evaluation.images_per_second:.1f} images/s' if evaluation.images_per_second else ''}"
            f"{' (best so far)' if is_best and len(checkpoints) > 1 else ''}"
        )
        say_in_their_words(result, 1000 * seconds, current.world.is_main)
    if len(checkpoints) > 1:
        log.info(f"{len(checkpoints)} checkpoints; best top-1 {best['top1']:.2%}: {best['checkpoint']}")
    if not current.world.is_main:
        return
    if config.json:
        write_json(results, best, Path(config.json))
    if config.csv:
        write_csv(results, Path(config.csv))
    if config.per_class:
        place = Path(config.json).parent if config.json else Path(best["checkpoint"]).parent
        table, picture = write_per_class(
            confusion, trained.classes if trained and trained.classes else list(classes), place
        )
        log.info(f"per-class accuracies: {table}; confusion matrix: {picture}")


if __name__ == "__main__":
    gc.freeze()  # the imports stay; the framework collects garbage at every compilation
    run(on_modelarts(main, "eval"), sys.argv[1:], at_end=leave)
