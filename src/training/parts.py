"""From a configuration to the parts of a run: network, data, loss, learning rates, optimizer, step."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mindspore import nn

from src.cpu import use_operators
from src.data.check import check_folder, default_cache, usable_images
from src.data.dataset import EvalData, TrainData
from src.data.folders import Images, build_class_index, check_same_classes, find_split, find_val, list_images
from src.data.preprocessing import Preprocessing
from src.data.split import Split, divide
from src.errors import UsageError
from src.machine.ranks import World
from src.models import create_model, get_entry, options_of
from src.models.layers import seed_dropout
from src.runs.checkpoint import SUFFIX, read_checkpoint, verify
from src.runs.folder import checkpoints_of, stored_split
from src.runs.log import record
from src.runs.trained import Trained
from src.settings.config import Config
from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.settings.sections import Data, Loss, Machine, Network
from src.training.depth import check_freeze, rate_shares, still_norms, switches
from src.training.evaluation import Evaluator
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.lr_schedule import learning_rates, scaled
from src.training.one_pass import optimizer_for
from src.training.step import TrainStep, apply_precision
from src.training.sync_batch_norm import synchronise_batch_norm
from src.weights.loading import load_pretrained, trained_of

_log = logging.getLogger(__name__)


def preprocessing_of(config: Config, own: Preprocessing | None = None) -> Preprocessing:
    """``own`` (the network's, if not given) evaluation preprocessing with what the configuration changes in it.

    Raises:
        UsageError: an image size outside 32 to 299, or a resize below it.
    """
    own = own or get_entry(config.model).preprocessing
    size = config.image_size or own.image_size
    if not MIN_IMAGE_SIZE <= size <= MAX_IMAGE_SIZE:
        raise UsageError(f"image_size is {size}; it must be from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}")
    if config.eval_resize and config.eval_resize < size:
        origin = f" (of the recipe {config.recipe})" if "eval_resize" in config.from_recipe else ""
        raise UsageError(
            f"eval_resize {config.eval_resize}{origin} is smaller than image_size {size}; "
            f"give --eval_resize too: {own.at_size(size).resize} keeps the network's proportion, 0 asks for it"
        )
    changes: dict = {"resize": config.eval_resize} if config.eval_resize else {}
    for key in ("interpolation", "resize_kernel"):
        if config[key]:
            changes[key] = config[key]
    for key in ("mean", "std"):
        if config[key]:
            changes[key] = tuple(config[key])
    return dataclasses.replace(own.at_size(size), **changes)


def from_weights_alone(config: Config) -> Config:
    """``config``, as that of a new run from the file that ``resume`` names if it holds weights alone, as upstream's do.

    Raises:
        UsageError: damaged, or other weights are to start the run as well.
    """
    file = Path(config.resume)
    if not file.is_file() or (file.suffix == SUFFIX and read_checkpoint(file).state):
        return config
    if config.pretrained not in ("", config.resume):
        raise UsageError(
            f"--resume {file} holds weights alone, from which a run starts, and so does --pretrained "
            f"{config.pretrained}: leave one of them out"
        )
    print(f"note: --resume {file}: holds weights alone; a new run starts from them, at epoch 0, as with --pretrained")
    return config.replace(resume="", pretrained=config.resume)


def with_weights(config: Config) -> Config:
    """The configuration with the file that ``pretrained`` means, of a run its best.

    Raises:
        UsageError: no such file, or several.
    """
    if not config.pretrained or config.resume:
        return config
    path, *more = checkpoints_of(config.pretrained, "--pretrained")
    if more:
        raise UsageError(
            f"--pretrained {config.pretrained} holds {len(more) + 1} checkpoints: name one of them, or a run folder"
        )
    return config.replace(pretrained=str(path))


def network_told(config: Config) -> list[str]:
    """The words that name the network of the weights that a run starts from, where nothing else names one."""
    file = Path(config.pretrained or config.resume)
    if config.model or not file.is_file() or (trained := trained_of(file)) is None:
        return []
    print(f"note: {file} is of {trained.model}")
    options = [[f"--model_options.{name}", str(value)] for name, value in trained.model_options.items()]
    return ["--model", trained.model, *(word for option in options for word in option)]


def normalised_as_pretrained(config: Config) -> Config:
    """``config`` with the normalisation of the images that the weights it starts from were trained on. A run that goes
    on has it already.

    Raises:
        UsageError: the weights are of another network, or of a supernet for a single one.
    """
    if not config.pretrained or (config.of_run and "pretrained" in config.from_recipe):
        return config
    trained = trained_of(Path(config.pretrained), config.model, 0, config.model_options)
    if trained is None:
        return config
    if trained.is_supernet and not config.train_supernet:
        raise UsageError(
            f"--pretrained {config.pretrained} is of a supernet: search it with python search.py --supernet, or go on "
            "with --train_supernet"
        )
    own, theirs = get_entry(config.model).preprocessing, trained.preprocessing
    changed = [key for key in ("mean", "std") if not config[key] and getattr(theirs, key) != getattr(own, key)]
    return config.replace(**{key: list(getattr(theirs, key)) for key in changed})


def check_inputs(config: Config) -> None:
    """Looks for what the configuration names, before a run gets a folder.

    Raises:
        UsageError: an option the network does not have, an image size that does not fit, no such folder or checkpoint,
            a single class, a class too small to be split.
    """
    options_of(config.model, config.model_options)
    preprocessing_of(config)
    config.require_inputs("data_path", "val_data_path")
    classes = _classes_of(train_folder(config))
    if eval_folder(config) is None and config.val_share and not config.resume:
        divide(list_images(train_folder(config), classes), config.val_share, config.seed)
    if config.pretrained and not (config.of_run and "pretrained" in config.from_recipe):
        verify(Path(config.pretrained))  # a run that goes on has taken what it needs of it


def train_folder(config: Data) -> Path:
    """The folder of the training classes. Raises UsageError if none is given or there."""
    if not config.data_path:
        raise UsageError("--data_path is missing: the folder that holds train/ and val/")
    return find_split(config.data_path, "train")


def train_images(config: Data) -> tuple[dict[str, int], Images]:
    """The class index of the training folder and its images, checked if the configuration says so."""
    folder = train_folder(config)
    classes = _classes_of(folder)
    return classes, _checked(folder, classes, config)


def _classes_of(folder: Path) -> dict[str, int]:
    classes = build_class_index(folder)
    if len(classes) < 2:
        raise UsageError(f"{folder} has one class, {next(iter(classes))}: there is nothing to tell it from")
    return classes


def split_of(files: Images, config: Config, resumed: Path | None) -> Split | None:
    """Which of the training folder's images train and which validate; None where all train.

    Args:
        files: of the training folder.
        resumed: the checkpoint that the run goes on from: its run keeps its split.
    """
    if resumed and (stored := stored_split(resumed)):
        return stored
    if not config.val_share or eval_folder(config):
        return None
    return Split.drawn(files, config.val_share, config.seed)


def eval_folder(config: Data) -> Path | None:
    """The validation folder: the one given, or ``val/`` that belongs to ``data_path``, or None."""
    if config.val_data_path:
        return find_split(config.val_data_path, "val")
    return find_val(config.data_path) if config.data_path else None


def eval_classes(folder: Path, trained: Trained | None) -> dict[str, int]:
    """The label of each class of a folder that is evaluated: by name where the network's classes have names.

    Weights of others may be evaluated on some of their classes, and on as many as they have under other names, whose
    order is then that of the sorted names.

    Raises:
        UsageError: other classes than the network's.
    """
    if trained is None:
        return build_class_index(folder)
    own = {name: label for label, name in enumerate(trained.classes)}
    if not trained.source:
        return own
    found = build_class_index(folder)
    if found.keys() <= own.keys():
        return {name: own[name] for name in found}
    if len(found) != trained.num_classes:
        names = f"named like {trained.classes[0]}" if own else "as many as the network has"
        raise UsageError(
            f"{folder} has {len(found)} classes, of {trained.num_classes} of the network, and they are not {names}; "
            "name its classes: python -m src.weights.convert FILE OUT.ckpt --classes LIST.json"
        )
    _log.warning(f"the network's outputs are taken in the order of the sorted names of {folder}")
    return found


def eval_images(folder: Path, classes: dict[str, int], config: Data) -> Images:
    """The images of a validation folder under the class index of the training folder, checked like those."""
    check_same_classes(folder, classes)
    return _checked(folder, classes, config)


def _checked(folder: Path, classes: dict[str, int], config: Data) -> Images:
    if not config.check_data:
        return list_images(folder, classes)
    report = check_folder(folder, classes, config.max_image_pixels, config.workers, default_cache())
    images = usable_images(report, config.skip_bad_images)
    for line in report.lines(report.bad):
        _log.warning(f"left out {line}")
    for line in report.lines(report.notes):
        record("image_note", split=str(folder), note=line)
    if summary := report.summary():
        _log.info(f"{folder}: {summary}")
    return images


def classes_in_head(config: Network, classes: Mapping[str, int]) -> int:
    """The network's number of classes: ``num_classes``, or that of the data.

    Raises:
        UsageError: fewer than the data has.
    """
    if config.num_classes and config.num_classes < len(classes):
        raise UsageError(f"--num_classes {config.num_classes}, but the training folder has {len(classes)} classes")
    return config.num_classes or len(classes)


def network_of(config: Config, num_classes: int, world: World) -> nn.Cell:
    """The network with fresh weights; each rank draws dropout masks of its own."""
    network = create_model(config.model, num_classes, **config.model_options)
    seed_dropout(network, config.seed, world.rank)
    if config.sync_batch_norm and world.size > 1:
        synchronise_batch_norm(network, world.size)
    return network


class Parts(NamedTuple):
    """What is made of a network.

    Attributes:
        later: makes the steps that take the place of ``step``, by the epoch, counted from 0, from which on they do.
    """

    network: nn.Cell
    step: TrainStep
    evaluator: Evaluator
    later: dict[int, Callable[[], TrainStep]]


def parts_of(config: Config, loss: LabelSmoothedCrossEntropy, rates: np.ndarray, world: World) -> Parts:
    """The network with its first weights, and the training steps and the evaluation around it."""
    network = network_of(config, loss.num_classes, world)
    if config.pretrained:
        left_out = load_pretrained(config.pretrained, network, config.model)
        _log.info(f"starting from the weights of {config.pretrained}{_but(left_out, loss.num_classes)}")
    check_freeze(config.freeze, network, config.epochs)
    computes = computing(network, config)
    step = partial(step_of, config, computes, loss, rates)
    later = {epoch: partial(step, epoch) for epoch in switches(config.freeze, config.epochs)}
    return Parts(network, step(0), Evaluator(computes, loss), later)


def _but(left_out: list[str], num_classes: int) -> str:
    if not left_out:
        return ""
    return f" without its {' and '.join(left_out)}, which start afresh for {num_classes} classes"


def computing(network: nn.Cell, config: Machine) -> nn.Cell:
    """``network`` as it computes: in its precision, and on the CPU with the operators chosen.

    Raises:
        UsageError: fused operators, which compute in float32, in another precision.
    """
    operators = config.cpu_operators
    if config.amp_level != "O0":
        if operators == "fused":
            raise UsageError(f"--cpu_operators fused is float32; --amp_level {config.amp_level} needs standard")
        operators = "standard"
    _log.info(f"CPU operators: {use_operators(network, operators)}")
    return apply_precision(network, config.amp_level)


def loss_of(config: Loss, num_classes: int) -> LabelSmoothedCrossEntropy:
    """The label-smoothed cross entropy of training and evaluation."""
    return LabelSmoothedCrossEntropy(num_classes, config.label_smoothing, config.label_smoothing_form)


def train_data_of(config: Config, files: Images, preprocessing: Preprocessing, world: World) -> TrainData:
    """This rank's training batches."""
    return TrainData(
        files,
        config,
        preprocessing,
        config.batch_size,
        config.seed,
        config.workers,
        world.rank,
        world.size,
        config.skip_bad_images,
    )


def eval_data_of(config: Data, files: Images, preprocessing: Preprocessing, world: World) -> EvalData:
    """This rank's share of the evaluation images."""
    batch = min(config.eval_batch_size or config.batch_size, max(len(files), 1))
    return EvalData(files, preprocessing, batch, config.workers, world.rank, world.size)


def learning_rates_of(config: Config, steps_per_epoch: int, world: World) -> np.ndarray:
    """The learning rate of every update, float32 [epochs * updates an epoch]."""
    total_batch = config.batch_size * config.accumulate * world.size
    schedule = scaled(config, total_batch)
    if schedule.lr != config.lr:
        _log.info(
            f"learning rate {config.lr:g} times {total_batch}/{config.lr_scaling_base} = {schedule.lr:g} (lr_scaling)"
        )
    return learning_rates(schedule, math.ceil(steps_per_epoch / config.accumulate))


def step_of(
    config: Config, network: nn.Cell, loss: LabelSmoothedCrossEntropy, rates: np.ndarray, epoch: int = 0
) -> TrainStep:
    """The training step of an epoch, counted from 0, around ``network``, which is in its precision already."""
    shares = rate_shares(network, config, epoch)
    optimizer, all_finite = optimizer_for(network, list(shares), config, rates, list(shares.values()))
    if config.freeze:
        trained, whole = (sum(p.size for p in params) for params in (shares, network.trainable_params()))
        _log.info(f"from epoch {epoch + 1} on {trained:,} of {whole:,} parameters train")
    return TrainStep(network, loss, optimizer, config, still_norms(network, config, epoch), all_finite=all_finite)
