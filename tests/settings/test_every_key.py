"""Every key of the configuration reaches the part it means, and no other.

A row of ROWS gives one key a value and says which fields of what a program builds (`tests.built`) it decides. The
program is started without the key and with it: those fields must become what the row says, all others must stay.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mindspore import nn

from src.machine.ranks import World
from src.settings.command_line import COMMANDS
from src.settings.config import load_config
from src.space.cost import cost_tables
from src.space.sampler import Stroll
from src.space.spaces import create_space
from src.training import sync_batch_norm
from tests.built import GRADIENTS, LABELS, LOGITS, PATHS, WEIGHT, Programs, View, programs_in

# Nothing here is neutral: two batches an update, rates that differ from update to update, a scaled loss.
BASES = {
    "train": "--model tiny --data_path {photos} --batch_size 4 --epochs 5 --accumulate 2 --warmup_epochs 2 "
    "--lr_init 0.02 --lr_schedule linear --loss_scale_mode fixed --workers 3 --check_data False",
    "supernet": "--config_path {plain} --train_supernet True --model spos_oneshot --model_options.layout mini "
    "--image_size 32 --data_path {photos} --search_holdout 0.25 --batch_size 4 --epochs 5 --accumulate 2 "
    "--warmup_epochs 2 --lr_init 0.02 --lr_schedule linear --loss_scale_mode fixed --workers 3 --check_data False",
    "loop": "--model tiny --data_path {photos} --batch_size 4 --epochs 6 --keep_checkpoint_max 50 --check_data False",
    "eval": "--checkpoint_path {checkpoint} --workers 3 --check_data False",
    "predict": "--checkpoint_path {checkpoint} --images {photos}/val/class1",
    "search": "--supernet {supernet} --data_path {photos} --search_population 9 --search_generations 4 "
    "--search_retain 5 --workers 3 --check_data False",
    "export": "--checkpoint_path {checkpoint}",
}


class Differs:
    """Any value but the one without the key."""


class Count(NamedTuple):
    """Any sequence of so many."""

    length: int


class Refused(NamedTuple):
    """The program ends with a message that the pattern is found in."""

    pattern: str


class Row(NamedTuple):
    """What a key decides.

    Attributes:
        value: for the key; neither its default nor the base's. A word of ``Programs.paths`` in braces is that path.
        programs: those it is given to.
        fields: name in the view to the value it has then, or to a function of the value it has without the key. A
            field that a program's view does not have is passed over.
        base: words that both command lines have besides the program's.
        frees: pattern of fields that may change along with these.
    """

    key: str
    value: Any
    programs: str
    fields: dict[str, Any]
    base: str = ""
    frees: str = "nothing"


def moves(
    rule: str = "momentum",
    momentum: float = 0.9,
    decay: float = 1e-5,
    decayed: tuple[str, ...] = ("kernel",),
    rms_decay: float = 0.9,
    epsilon: float = 1e-3,
) -> View:
    """The two updates of `tests.built.directions` in NumPy."""
    view = {}
    for kind in ("kernel", "bias", "scale"):
        velocity, square, steps = 0.0, 1.0, []
        for gradient, rate in zip(GRADIENTS, (0.02, 0.02 + 0.08 / 6), strict=True):
            gradient += decay * WEIGHT * (kind in decayed)
            square = rms_decay * square + (1 - rms_decay) * gradient**2
            if rule == "rmsprop":
                velocity = momentum * velocity + rate * gradient / math.sqrt(square + epsilon)
                steps.append(-velocity / rate)
            else:
                velocity = momentum * velocity + gradient
                steps.append(-(gradient + momentum * velocity if rule == "nesterov" else velocity))
        view[f"update.{kind}"] = tuple(steps)
    return view


def loss(smoothing: float = 0.1, form: str = "uniform", classes: int = 3) -> View:
    """Cross entropy of `tests.built.LOGITS` in NumPy, in training and in evaluation."""
    logits = LOGITS[:, :classes].astype(float)
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    off = smoothing / (classes if form == "uniform" else classes - 1)
    target = np.full(logits.shape, off)
    target[np.arange(len(LABELS)), LABELS] = 1 - smoothing + (off if form == "uniform" else 0)
    value = -(target * log_probability).sum(axis=1).mean()
    return {"loss": value, "loss.of_evaluation": value}


def line(
    epochs: int = 5, warmup: int = 2, peak: float = 0.1, init: float = 0.02, end: float = 0.0, share: float = 1.0
) -> View:
    """The rates of BASES, a line up and a line down, with ``share`` times as many updates an epoch as before."""

    def rates(before: np.ndarray) -> np.ndarray:
        an_epoch = math.ceil(len(before) // 5 * share)
        up, down = warmup * an_epoch, (epochs - warmup) * an_epoch
        rising, falling = np.arange(up) / max(up, 1), np.arange(down) / down
        return np.concatenate([init + (peak - init) * rising, peak + (end - peak) * falling])

    return {"rates": rates, "step.rates": rates}


def milestones(*epochs: int, gamma: float) -> View:
    def rates(before: np.ndarray) -> np.ndarray:
        epoch = np.arange(len(before)) // (len(before) // 5)
        return 0.1 * gamma ** sum((epoch >= milestone).astype(int) for milestone in epochs)

    return {"rates": rates, "step.rates": rates}


ANY_RATES = {"rates": Differs, "step.rates": Differs}


def fitness(ratio: float, macs: float = 328, params: float = 3.4) -> Callable[[np.ndarray], np.ndarray]:
    """Accuracies 0.7 and 0.4 of PATHS less ``ratio`` times their mean ratio to a network of so many M."""

    def of(before: np.ndarray) -> np.ndarray:
        tables = cost_tables(create_space("mini", num_classes=3))
        score = 0.5 * tables["macs"].totals(PATHS) / macs + 0.5 * tables["params"].totals(PATHS) / params
        return np.array([0.7, 0.4]) - ratio * score

    return of


def standard(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({cell.removeprefix("Fused") for cell in cells}))


def dropout(seed: int) -> tuple[int, ...]:
    return (seed * 0x9E3779B1 % 2**32,)


def steps(*epochs: int, of: Sequence[int] = range(1, 7)) -> tuple[tuple[int, int], ...]:
    return tuple((epoch, step) for epoch in epochs for step in of)


# train.py makes the loss, the rates, the data and their preprocessing before it asks whether there is a supernet.
TRAINED = "train supernet"
SET_UP = "train supernet eval search"
BAD = "--check_data True --data_path {bad} --val_data_path {bad}"
EVERY_CELL = ("BatchNorm2d", "Conv2d", "ConvNormAct", "Dense", "Dropout", "GlobalAvgPool", "Identity")
EVERY_CELL += ("Network", "ReLU", "SequentialCell")
PLOT = "--plot_samplers True --model_options.layout mini"
# Reachable in the mini space.
STROLL = {
    "flops_high": 0.5,
    "flops_low": 0.33,
    "cuts": 1,
    "params_low": 0.001,
    "params_high": 0.02,
    "pick_interval": 20,
}
SMALL_BINS = "--path_sampler binned --flops_bins 0.3,0.5,0.1"
DRAWN = r"search\.(first|paths|costs|best)|journal"  # follow from what the search is

ROWS = [
    # -- network
    Row(
        "model", "mnasnet", "train", {"facts.model": "mnasnet", "network.stem": (32, 3, 3, 3)}, "--image_size 64", ".*"
    ),
    Row(
        "model_options",
        {"channels": 12},
        "train",
        {"facts.model_options": {"channels": 12}, "network.stem": (12, 3, 3, 3), "network.weights": Differs},
    ),
    Row(
        "num_classes",
        9,
        TRAINED,
        {"facts.num_classes": 9, "network.classes": 9, **loss(classes=9), "network.weights": Differs},
    ),
    Row("num_classes", 9, "eval export", {"refused": Refused("3 classes, not 9")}),
    Row("num_classes", 9, "search", {"space.num_classes": 9}, PLOT),
    Row(
        "pretrained",
        "{another}",  # which was trained on images normalised otherwise
        "train",
        {"network.weights": Differs, "preprocessing.mean": Differs, "transforms.mean": Differs},
    ),
    Row("pretrained", "{trained_alike}", "supernet", {"network.weights": Differs}),
    # -- data
    Row(
        "data_path",
        "{other}",
        TRAINED,
        {"data.files": Differs, "eval.files": Differs},
        frees=r"data.images_per_epoch|(step\.)?rates|calibration\.(files|order)",
    ),
    Row(
        "data_path",
        "{other}",
        "search",
        {"calibration.files": Differs, "held_out.files": Differs, "journal": Differs},
        frees=r".*\.batch_size",
    ),
    Row(
        "val_share",
        0.4,
        TRAINED,
        {"eval.files": Count(6), "data.files": Differs},
        "--data_path {photos}/val --val_share 0.2",
        r"data.images_per_epoch|eval.batch_size|(step\.)?rates|calibration\..*",
    ),
    Row("val_data_path", "{other}", "train eval", {"eval.files": Count(9)}, frees=r"eval\.batch_size"),
    Row("val_data_path", "{other}", "export", {"source.val_data_path": "{other}/val"}),
    Row(
        "val_data_path",
        "{other}",
        "search",
        {"held_out.files": Count(9), "journal": Differs},
        "--search_on validation",
        "held_out.*",
    ),
    Row(
        "image_size",
        48,
        "train eval export",
        {"transforms.image_size": 48, "preprocessing.image_size": 48, "preprocessing.resize": 56},
    ),
    Row(
        "image_size",
        48,
        "supernet",
        {
            "transforms.image_size": 48,
            "preprocessing.image_size": 48,
            "preprocessing.resize": 55,
            "supernet.input_size": 48,
        },
    ),
    Row("image_size", 48, "search", {"space.input_size": 48}, PLOT),
    Row("eval_resize", 41, "train eval export", {"preprocessing.resize": 41}),
    Row(
        "interpolation",
        "bicubic",
        "train eval export",
        {"transforms.interpolation": "bicubic", "preprocessing.interpolation": "bicubic"},
    ),
    Row("resize_kernel", "pil", "train eval export", {"preprocessing.resize_kernel": "pil"}),
    *(
        Row(
            key, value, "train eval export", {f"{part}.{key}": tuple(value) for part in ("transforms", "preprocessing")}
        )
        for key, value in (("mean", [0.31, 0.42, 0.53]), ("std", [0.17, 0.28, 0.39]))
    ),
    Row(
        "batch_size",
        6,
        "train",
        {"data.batch_size": 6, "eval.batch_size": 6, "data.images_per_epoch": 24, **line(share=2 / 3)},
    ),
    Row(
        "batch_size",
        6,
        "supernet",
        {"data.batch_size": 6, "eval.batch_size": 6, "calibration.batch_size": 6, "data.images_per_epoch": 18},
    ),
    Row("batch_size", 6, "eval", {"eval.batch_size": 6}),
    Row("batch_size", 5, "search", {"held_out.batch_size": 5, "calibration.batch_size": 5, "journal": Differs}),
    Row("eval_batch_size", 7, "train eval", {"eval.batch_size": 7}),
    Row("eval_batch_size", 7, "supernet", {"eval.batch_size": 7, "calibration.batch_size": 7}),
    Row("eval_batch_size", 5, "search", {"held_out.batch_size": 5, "calibration.batch_size": 5, "journal": Differs}),
    Row("drop_remainder", False, "train", {"data.images_per_epoch": 24, **ANY_RATES}, "--batch_size 5 --accumulate 1"),
    Row("workers", 5, SET_UP, {f"{part}.workers": 5 for part in ("data", "eval", "calibration", "held_out")}),
    Row("check_data", False, "train eval", {"data.files": Count(13), "eval.files": Count(4)}, BAD, ".*"),
    Row("skip_bad_images", True, "train eval", {"data.files": Count(12), "eval.files": Count(3)}, BAD, ".*"),
    Row("max_image_pixels", 1000, "train eval", {"refused": Refused("max_image_pixels 1000")}, "--check_data True"),
    Row("crop_scale", [0.29, 0.83], "train", {"augmentation.crop_scale": [0.29, 0.83]}),
    Row("crop_ratio", [0.61, 1.71], "train", {"augmentation.crop_ratio": [0.61, 1.71]}),
    Row("horizontal_flip", 0.35, "train", {"augmentation.horizontal_flip": 0.35}),
    Row("color_jitter", [0.11, 0.22, 0.33, 0.04], "train", {"augmentation.color_jitter": [0.11, 0.22, 0.33, 0.04]}),
    Row("pca_noise", 0.17, "train", {"augmentation.pca_noise": 0.17}),
    Row("cutout", True, "train", {"augmentation.cutout": True}),
    Row("cutout_length", 13, "train", {"augmentation.cutout_length": 13}),
    Row("cutout_position", "normalized", "train", {"augmentation.cutout_position": "normalized"}),
    # -- loss
    Row("label_smoothing", 0.27, TRAINED + " eval", loss(0.27)),
    Row("label_smoothing_form", "others", "train eval", loss(form="others")),
    # -- optimizer
    Row("optimizer", "sgd", "train", {"optimizer": "FusedSGD"}),
    Row("optimizer", "nesterov", "train", {"optimizer": "FusedSGD", **moves("nesterov")}),
    Row("optimizer", "nesterov", "supernet", moves("nesterov")),
    Row("optimizer", "rmsprop", "train", {"optimizer": "FusedRMSProp", **moves("rmsprop")}),
    Row("optimizer", "rmsprop", "supernet", {"refused": Refused("momentum, sgd or nesterov")}),
    Row("momentum", 0.81, TRAINED, moves(momentum=0.81)),
    Row("weight_decay", 0.037, TRAINED, {"update.kernel": moves(decay=0.037)["update.kernel"]}),
    *(
        Row("weight_decay_on", choice, TRAINED, moves(decay=0.043, decayed=decayed), "--weight_decay 0.043")
        for choice, decayed in (
            ("weights_and_biases", ("kernel", "bias")),
            ("all", ("kernel", "bias", "scale")),
        )
    ),
    Row("rms_decay", 0.71, "train", moves("rmsprop", rms_decay=0.71), "--optimizer rmsprop"),
    Row("rms_epsilon", 0.19, "train", moves("rmsprop", epsilon=0.19), "--optimizer rmsprop"),
    Row("grad_clip", 2.7, TRAINED, {"step.grad_clip": 2.7}),
    Row("accumulate", 3, "train", {"step.accumulate": 3, **line(share=2 / 3)}),
    Row("accumulate", 4, "supernet", {"step.accumulate": 4, **line(share=1 / 2)}),
    # -- learning rate
    Row("lr", 0.37, TRAINED, line(peak=0.37)),
    Row("lr_schedule", "constant", "train", line(warmup=0, end=0.1), "--warmup_epochs 0"),
    *(
        Row("lr_schedule", choice, "train", ANY_RATES)
        for choice in ("cosine_epoch", "cosine_staircase", "steps", "steps_decay", "poly", "exponential", "milestone")
    ),
    Row("lr_schedule", "two_phase_cosine", "train", ANY_RATES, "--lr_tail_epochs 2"),
    Row("lr_init", 0.047, "train", line(init=0.047)),
    Row("lr_end", 0.013, "train", line(end=0.013)),
    Row("warmup_epochs", 3, "train", line(warmup=3)),
    Row("lr_epochs", [2, 4], "train", milestones(2, 4, gamma=0.3), "--lr_schedule milestone --warmup_epochs 0"),
    Row(
        "lr_gamma",
        0.59,
        "train",
        milestones(1, 3, gamma=0.59),
        "--lr_schedule milestone --warmup_epochs 0 --lr_epochs 1,3",
    ),
    Row("lr_tail_epochs", 2, "train", ANY_RATES, "--lr_schedule two_phase_cosine --lr_tail_epochs 3 --warmup_epochs 0"),
    Row("lr_scaling", "linear", "train", line(peak=0.1 * 8 / 256)),
    Row("lr_scaling_base", 96, "train", line(peak=0.1 * 8 / 96), "--lr_scaling linear"),
    # -- precision
    Row(
        "amp_level",
        "O1",
        "train eval",
        {"network.float16": ("Conv2d", "Dense"), "network.cells": standard},
        frees="optimizer",
    ),
    Row(
        "amp_level",
        "O2",
        "train eval",
        {"network.float16": EVERY_CELL[1:], "network.cells": EVERY_CELL},
        frees="optimizer",
    ),
    Row("amp_level", "O2", "supernet", {"network.float16": Differs, "network.cells": standard}, frees="optimizer"),
    Row(
        "amp_level", "O3", "train eval", {"network.float16": EVERY_CELL, "network.cells": EVERY_CELL}, frees="optimizer"
    ),
    Row("amp_level", "O2", "search", {"network.cells": standard}),
    Row(
        "loss_scale_mode",
        "fixed",
        TRAINED,
        {"step.loss_scale": 1024},
        "--loss_scale_mode none",
    ),
    Row("loss_scale_mode", "dynamic", TRAINED, {"step.is_dynamic": True}),
    Row("loss_scale", 96.0, TRAINED, {"step.loss_scale": 96}),
    Row("scale_factor", 3, TRAINED, {"step.scale_factor": 3}),
    Row("scale_window", 17, TRAINED, {"step.scale_window": 17}),
    # -- run
    Row("epochs", 7, TRAINED, line(epochs=7)),
    Row(
        "seed",
        77,
        "train",
        {"device.seed": 77, "data.seed": 77, "network.dropout": dropout(77), "network.weights": Differs},
    ),
    Row(
        "seed",
        77,
        "supernet",
        {
            "device.seed": 77,
            "data.seed": 77,
            "paths.seed": 77,
            "network.dropout": dropout(77),
            **dict.fromkeys(
                ("network.weights", "data.files", "calibration.files", "calibration.order", "sampler.draws"), Differs
            ),
        },
    ),
    Row("seed", 77, "eval export", {"device.seed": 77, "network.dropout": dropout(77)}),
    Row("seed", 77, "search", {"device.seed": 77, "search.first": Differs}, frees=DRAWN),
    Row("seed", 77, "search", {"device.seed": 77, "drawn.seed": 77}, PLOT),
    Row("deterministic", False, SET_UP, {"device.deterministic": False}),
    Row("device_target", "GPU", SET_UP + " export", {"device.target": "GPU"}, frees="sink"),
    Row("device_id", 3, SET_UP + " export", {"device.id": 3}),
    Row("sync_batch_norm", True, "supernet", {"refused": Refused("not for a supernet")}),
    Row("is_distributed", True, SET_UP, {"device.ranks": True}),
    Row("mode", "pynative", SET_UP, {"device.mode": "pynative"}),
    Row("cpu_operators", "standard", SET_UP, {"network.cells": standard}, frees="optimizer"),
    Row("sink", "off", "train", {"sink": False}, "--device_target GPU"),
    Row(
        "max_steps",
        15,
        "loop",
        {"run.steps": 15, "run.saved": ("1_6", "2_6", "3_3"), "run.status": "stopped"},
        frees="run.(evaluated|logged)",
    ),
    Row(
        "epochs",
        3,
        "loop",
        {"run.steps": 18, "run.saved": ("1_6", "2_6", "3_6"), "run.evaluated": (1, 2, 3)},
        frees="run.logged",
    ),
    Row("run_dir", "{folder}/chosen", "loop", {"run.folder": "chosen"}),
    Row("resume", "{stopped}", "loop", {"run.steps": 21, "run.folder": "stopped"}, "--max_steps 0", "run.*"),
    Row("keep_checkpoint_max", 3, "loop", {"run.saved": ("1_6", "4_6", "5_6", "6_6")}),
    Row("save_checkpoint_epochs", 4, "loop", {"run.saved": ("1_6", "4_6", "6_6")}),
    Row(
        "save_checkpoint_steps",
        4,
        "loop",
        {"run.saved": tuple(f"{epoch}_{step}" for epoch in range(1, 7) for step in (4, 6))},
    ),
    Row("eval_epochs", 4, "loop", {"run.evaluated": (4, 6)}),
    Row(
        "early_stop",
        3,
        "loop",
        {"run.evaluated": (1, 2, 3, 4), "run.status": "stopped"},
        frees=r"run.(steps|saved|logged)",
    ),
    Row("log_steps", 4, "loop", {"run.logged": steps(*range(1, 7), of=(4, 6))}),
    Row("measure_speed", True, "loop", {"run.evaluated": ()}, frees="run.saved"),
    Row("tensorboard", True, "loop", {"run.tensorboard": True}),
    # -- fine-tuning
    Row("freeze", {"classifier": 2}, "train", {"update.scale": (), "step.still": 2}),
    Row("freeze_batch_norm", "all", "train", {"step.still": 2}),
    Row("freeze_batch_norm", "none", "train", {"step.still": 0}, '--freeze {{"classifier":2}}'),
    Row(
        "layer_decay",
        0.5,
        "train",
        dict.fromkeys(("update.kernel", "update.scale"), lambda before: 0.25 * np.array(before)),  # of the stem
    ),
    # -- evaluation
    Row(
        "checkpoint_path",
        "{another}",
        "eval",
        {**loss(0.23, "others"), "preprocessing.mean": (0.2, 0.3, 0.4), "network.weights": Differs},
    ),
    Row(
        "checkpoint_path",
        "{another}",
        "export",
        {"source.checkpoint": Path("{another}"), "preprocessing.mean": (0.2, 0.3, 0.4)},
    ),
    Row("per_class", True, "eval", {"eval.with_confusion": True, "written.per_class": Differs}),
    Row("json", "{folder}/results.json", "eval predict", {"written.json": "{folder}/results.json"}),
    Row("csv", "{folder}/results.csv", "eval", {"written.csv": "{folder}/results.csv"}),
    # -- predictions
    Row("images", "{photos}/val/class0/0.jpg", "predict", {"asked": ("val/class0/0.jpg",)}),
    Row("sheet", "{folder}/sheet.png", "predict", {"written.sheet": "{folder}/sheet.png", "sheet.images": 5}),
    # -- supernet
    Row(
        "train_supernet",
        True,
        "train",
        {"sampler": "PathSampler"},
        BASES["supernet"].replace("--train_supernet True ", ""),
        ".*",
    ),
    Row("supernet_masking", "upstream", "supernet", {"supernet.is_exact": {False}}),
    Row("supernet_rounded", True, "supernet", {"supernet.widths": (48, 48)}),
    Row(
        "supernet_affine",
        False,
        "supernet",
        {"network.affine": {False}, "update.scale": (), "network.weights": Differs},
    ),
    Row(
        "path_sampler",
        "random",
        "supernet",
        {"sampler": "RejectionSampler", "sampler.bounds": "none"},
        frees=r"sampler\.draws",
    ),
    Row("path_sampler", "fair", "supernet", {"sampler": "FairSampler", "sampler.draws": Differs}),
    Row("path_sampler", "sandwich", "supernet", {"sampler": "SandwichSampler", "sampler.draws": Differs}),
    Row("path_sampler", "binned", "supernet", {"sampler": "BinnedSampler"}, "--flops_bins 0.3,0.5,0.1", r"sampler\..*"),
    Row(
        "path_constraints",
        {"params": [0, 0.0071]},
        "supernet",
        {"sampler.bounds": "params up to 0.0071"},
        "--path_sampler random",
        r"sampler\.draws",
    ),
    Row("path_constraints", {"params": [0, 0.0071]}, "search", {"drawn.bounds": ("params up to 0.0071",)}, PLOT),
    Row("stroll", {"cuts": 9}, "search", {"drawn.stroll": Stroll(cuts=9)}, PLOT),
    Row(
        "stroll",
        {**STROLL, "children": 12},
        "supernet",
        {"sampler.stroll": Stroll(**{**STROLL, "children": 12})},
        "--path_sampler strolling --stroll "
        + json.dumps(STROLL).replace(" ", "").replace("{", "{{").replace("}", "}}"),
        r"sampler\.draws",
    ),
    Row("stroll", {"cuts": 9}, "supernet", {"refused": Refused("path_sampler strolling")}),
    Row(
        "flops_bins",
        [0.33, 0.48, 0.05],
        "supernet",
        {"sampler.bins": ((0.33, 0.38), (0.38, 0.43), (0.43, 0.48))},
        SMALL_BINS,
        r"sampler\.draws",
    ),
    Row("flops_bins", [0.33, 0.48, 0.05], "search", {"drawn.bins": (0.33, 0.48, 0.05)}, PLOT),
    Row(
        "channel_start_epoch",
        3,
        "supernet",
        {"sampler.ranges": ((2, 2),) * 3 + ((0, 2),) * 5, "paths.range": ([0, 0, 0, 0], [3, 3, 2, 2])},
        "--channel_warm_up False",
    ),
    Row(
        "channel_warm_up",
        False,
        "supernet",
        {"sampler.ranges": ((2, 2),) * 3 + ((0, 2),) * 5},
        "--channel_start_epoch 3",
        r"paths\.range",
    ),
    Row(
        "ignore_first_two_cs",
        True,
        "supernet",
        {"sampler.ranges": ((2, 2),) * 8},
        "--channel_start_epoch 0 --channel_warm_up False",
        r"sampler\.draws|paths\.range",
    ),
    Row("ignore_first_two_cs", True, "search", {"drawn.ranges": (2, 2)}, PLOT),
    Row(
        "channel_fixed",
        1,
        "supernet",
        {"sampler.ranges": ((1, 1),) * 8, "paths.range": ([0, 0, 1, 1], [3, 3, 1, 1])},
        frees=r"sampler\.draws",
    ),
    Row("calibration_images", 7, "supernet", {"calibration.files": Count(7), "calibration.order": Count(7)}),
    Row(
        "calibration_images", 7, "search", {"calibration.files": Count(7), "calibration.batch_size": 7}, frees="journal"
    ),
    Row(
        "search_holdout",
        0.375,
        "supernet",
        {"data.files": Count(15), "data.images_per_epoch": 12},
        frees=r"calibration\.(files|order)|(step\.)?rates",
    ),
    # -- architecture search
    Row(
        "supernet",
        "{trained_alike}",
        "search",
        {
            "network.weights": Differs,
            "search.best": ["lr: 0.9"],
            "calibration.files": Differs,
            "held_out.files": Count(6),
            "journal": Differs,
        },
    ),
    Row(
        "search_method", "megvii", "search", {"search": "MegviiSearch", "search.total": 36}, frees=r"search\..*|journal"
    ),
    Row(
        "search_method", "random", "search", {"search": "RandomSearch", "search.total": 9}, frees=r"search\..*|journal"
    ),
    Row(
        "search_method", "pareto", "search", {"search": "ParetoSearch", "search.total": 36}, frees=r"search\..*|journal"
    ),
    Row("search_scope", "blocks", "search", {"search.range": ([0, 0, 1, 1], [3, 3, 1, 1])}, frees=DRAWN),
    Row("search_scope", "channels", "search", {"search.range": ([0, 0, 0, 0], [0, 0, 2, 2])}, frees=DRAWN),
    Row(
        "search_scope",
        "blocks_then_channels",
        "search",
        {"search": "TwoStageSearch", "search.range": ([0, 0, 1, 1], [3, 3, 1, 1])},
        frees=r"search\..*|journal",
    ),
    Row(
        "search_scope",
        "channels_then_blocks",
        "search",
        {"search": "TwoStageSearch", "search.range": ([0, 0, 0, 0], [0, 0, 2, 2])},
        frees=r"search\..*|journal",
    ),
    Row(
        "fixed_block_choices",
        [2, 1],
        "search",
        {"search.range": ([2, 1, 0, 0], [2, 1, 2, 2])},
        "--search_scope channels",
        DRAWN,
    ),
    Row(
        "fixed_channel_choices",
        [2, 0],
        "search",
        {"search.range": ([0, 0, 2, 0], [3, 3, 2, 0])},
        "--search_scope blocks",
        DRAWN,
    ),
    Row("search_constraints", {"params": [0, 0.0071]}, "search", {"search.bounds": "params up to 0.0071"}, frees=DRAWN),
    Row(
        "search_target",
        "balanced",
        "search",
        {"search.fitness": fitness(1.7), "journal": Differs},
        "--score_ratio 1.7",
        DRAWN,
    ),
    Row(
        "score_ratio",
        2.3,
        "search",
        {"search.fitness": fitness(2.3), "journal": Differs},
        "--search_target balanced",
        DRAWN,
    ),
    *(
        Row(
            "comparison_model",
            model,
            "search",
            {"search.fitness": fitness(1.7, *costs), "journal": Differs},
            "--search_target balanced --score_ratio 1.7",
            DRAWN,
        )
        for model, costs in (
            ("MobileNetV3_large", (217, 5.4)),
            ("MobileNetV2_1.4", (585, 6.9)),
            ("ShuffleNetV2+_medium", (222, 5.6)),
        )
    ),
    Row(
        "search_objectives",
        ["params", "score"],
        "search",
        {"search.objectives": ("params", "score")},
        "--search_method pareto",
        DRAWN,
    ),
    Row("search_population", 7, "search", {"search.population": 7, "search.total": 7 + 3 * 2}, frees=DRAWN),
    Row(
        "search_population",
        8,
        "search",
        {"search.population": 8, "search.mutations": 4, "search.total": 32},
        "--search_method megvii",
        DRAWN,
    ),
    Row("search_population", 7, "search", {"search.count": 7, "search.total": 7}, "--search_method random", DRAWN),
    Row("search_generations", 3, "search", {"search.iterations": 3, "search.total": 9 + 2 * 4}, frees=DRAWN),
    Row(
        "search_generations",
        3,
        "search",
        {"search.generations": 3, "search.total": 27},
        "--search_method megvii",
        DRAWN,
    ),
    Row(
        "search_generations",
        3,
        "search",
        {"search.generations": 3, "search.total": 27},
        "--search_method pareto",
        DRAWN,
    ),
    Row("search_retain", 4, "search", {"search.retain": 4, "search.total": 9 + 3 * 5}, frees=DRAWN),
    Row("search_retain", 4, "search", {"search.select": 4}, "--search_method megvii", DRAWN),
    Row("search_survive", 0.34, "search", {"search.survive": 0.34}, frees=DRAWN),
    Row("search_mutation", 0.26, "search", {"search.mutation": 0.26}, frees=DRAWN),
    Row("search_mutation", 0.26, "search", {"search.mutation": 0.26}, "--search_method megvii", DRAWN),
    Row("search_mutation", 0.26, "search", {"search.paths": Differs}, "--search_method pareto", DRAWN),
    Row(
        "search_on",
        "validation",
        "search",
        {"held_out.files": Count(15), "held_out.batch_size": 15, "journal": Differs},
    ),
    Row("search_top", 2, "search", {"search.recipes": ("best.yaml", "config.yaml", "top2.yaml")}),
    Row("search_recipe", "{recipe}", "search", {"search.best": ["epochs: 23"]}),
    Row("latency_table", "{latency}", "search", {"search.costs": Differs, "journal": Differs}, frees=r"search\.paths"),
    Row(
        "export_subnet",  # a command, as plot_samplers is
        "{recipe}",
        "search",
        {"refused": Refused(r"blocks=\(1, 2\), channels=\(2, 0\)\) out for spos_oneshot")},
    ),
    Row("plot_samplers", True, "search", {"space.num_classes": 1000}, "--model_options.layout mini", ".*"),
]


DEFAULTS = dict(load_config())


@pytest.fixture(scope="module")
def programs(tmp_path_factory, tiny_model) -> Iterator[Programs]:
    with programs_in(tmp_path_factory.mktemp("programs")) as found:
        yield found


@pytest.fixture(scope="module")
def views(programs) -> Callable[[str, str], View]:
    """The view of a program for the words of its base and more; that of the same words is taken once."""
    known: dict[tuple[str, str], View] = {}

    def view(program: str, more: str) -> View:
        if (program, more) not in known:
            words = f"{BASES[program]} {more}".format(**programs.paths).split()
            known[program, more] = getattr(programs, program)(words)
        return known[program, more]

    return view


CASES = [(row, program) for row in ROWS for program in row.programs.split()]


@pytest.mark.parametrize(
    ("row", "program"), CASES, ids=[f"{row.key}-{program}-{number}" for number, (row, program) in enumerate(CASES)]
)
def test_it_decides_what_it_means_and_nothing_else(programs, views, row, program):
    before = views(program, row.base)
    value = filled_in(row.value, programs)
    words = f"{BASES[program]} {row.base}".format(**programs.paths).split()
    after = getattr(programs, program)([*words, f"--{row.key}", value if isinstance(value, str) else json.dumps(value)])
    if "refused" not in row.fields:
        assert "refused" not in after, after
        assert "refused" not in before or row.frees == ".*", before
    elif "refused" in after:
        before = {"refused": ""}
    claimed = {field: filled_in(wanted, programs) for field, wanted in row.fields.items() if field in after}
    assert claimed, f"{program} has none of {list(row.fields)}"
    for field, wanted in claimed.items():
        if callable(wanted) and wanted is not Differs:
            wanted = wanted(before[field])
        assert is_wanted(after[field], wanted, before.get(field)), f"{field} is {after[field]}, not {wanted}"
    changed = {field for field in before.keys() | after.keys() if not is_equal(before.get(field), after.get(field))}
    assert changed & claimed.keys(), "nothing differs"
    strays = {field for field in changed - claimed.keys() if not re.fullmatch(row.frees, field)}
    assert not strays, {field: (before.get(field), after.get(field)) for field in strays}


def test_only_ranks_synchronise_batch_norm(programs, monkeypatch):
    words = f"{BASES['train']} --sync_batch_norm True".format(**programs.paths).split()
    assert "BatchNorm2d" in programs.train(words)["network.cells"]
    for collective in (sync_batch_norm.ops, "AllReduce"), (nn, "DistributedGradReducer"):  # ask for a communicator
        monkeypatch.setattr(*collective, lambda *_, **__: nn.Identity())
    monkeypatch.setattr(programs, "world", World(1, 2))
    assert "SyncBatchNorm" in programs.train(words)["network.cells"]
    view = programs.train([*words[:-1], "False"])
    assert "BatchNorm2d" in view["network.cells"]
    assert (len(view["eval.files"]), view["network.dropout"]) == (8, ((0x9E3779B1 + 0x85EBCA77) % 2**32,))


def filled_in(value: Any, programs: Programs) -> Any:
    if isinstance(value, (str, Path)) and "{" in str(value):
        return type(value)(str(value).format(**programs.paths))
    return value


def is_wanted(found: Any, wanted: Any, before: Any) -> bool:
    if wanted is Differs:
        return not is_equal(found, before)
    if isinstance(wanted, Count):
        return len(found) == wanted.length
    if isinstance(wanted, Refused):
        return bool(re.search(wanted.pattern, found))
    return is_equal(found, wanted)


def is_equal(one: Any, other: Any) -> bool:
    """Whether two fields have one value; numbers to the precision of float32."""
    try:
        one, other = np.asarray(one, float), np.asarray(other, float)
    except (TypeError, ValueError):
        return one == other
    return one.shape == other.shape and np.allclose(one, other, rtol=2e-5, atol=1e-6, equal_nan=True)


def test_every_key_has_a_row_and_every_row_a_key():
    claimed = {row.key for row in ROWS}
    assert DEFAULTS.keys() - claimed == set(), "keys whose effect nobody tests"
    assert claimed - DEFAULTS.keys() == COMMANDS["search"].keys(), "rows of keys that are gone"


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.key}-{number}" for number, row in enumerate(ROWS)])
def test_no_value_is_neutral(row):
    """Neither the default, nor 0 or 1, which hide a factor that is dropped."""
    assert row.value != DEFAULTS.get(row.key) or f"--{row.key} " in f"{BASES[row.programs.split()[0]]} {row.base}"
    if row.key not in ("channel_fixed", "fixed_block_choices", "fixed_channel_choices"):  # which are indices
        numbers = row.value if isinstance(row.value, list) else [row.value]
        assert not [number for number in numbers if type(number) in (int, float) and number in (0, 1)]
