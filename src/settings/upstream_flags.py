"""What the flags of the original repositories mean here.

A user of Single-Path-NAS, ProxylessNAS or ShuffleNetV1 on MindSpore, or of MnasNet on Ascend-PyTorch,
can type what was typed there: each flag is read as the keys of our schema it stands for. A flag that
only served the original's own machinery changes nothing, and a note says so.

A program's flags stand in one table. Their order on the command line is of no account: they apply in
the table's order, so what switches something off stands after what sets it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UsageError

Keys = dict[str, Any]


class Flag(NamedTuple):
    """A flag of an original repository.

    Attributes:
        meaning: gives the schema keys the flag sets, from its text, or from a bool for a switch.
        is_switch: can stand without a value, which then is True.
        note: printed when the flag is used.
    """

    meaning: Callable[[Any], Keys]
    is_switch: bool = False
    note: str = ""


def _sets(key: str, note: str = "") -> Flag:
    return Flag(lambda text: {key: text}, note=note)


def _path(key: str) -> Flag:
    """An empty path meant "not given"."""
    return Flag(lambda text: {key: text} if text else {})


def _switch(on: Keys, off: Keys, note: str = "") -> Flag:
    return Flag(lambda is_on: dict(on if is_on else off), is_switch=True, note=note)


def _refused_when_on(reason: str) -> Flag:
    def meaning(is_on: bool) -> Keys:
        if is_on:
            raise UsageError(reason)
        return {}

    return Flag(meaning, is_switch=True)


def _no_effect(why: str, is_switch: bool = False) -> Flag:
    return Flag(lambda _: {}, is_switch, f"has no effect: {why}")


def _word(key: str, words: Mapping[str, str]) -> Flag:
    """Other words for the values of ``key``; a word that is not listed stays as it is."""
    return Flag(lambda text: {key: words.get(text, text)})


def _run_dir(text: str) -> Keys:
    """The original wrote several fixed files into a shared folder; ``./`` was its "not given"."""
    return {"run_dir": text} if text.rstrip("/") not in ("", ".") else {}


def _devices() -> str:
    """How many the launcher has started on."""
    return os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("RANK_SIZE", "1")


def _share_of_total_batch(text: str) -> Keys:
    """The original's -b counts the images of all devices, our batch_size those of one."""
    devices = _devices()
    if not (text.isdecimal() and devices.isdecimal() and int(devices) and int(text) % int(devices) == 0):
        raise UsageError(
            f"-b {text}: the images of all devices together; must be a multiple of their number, {devices}"
        )
    return {"batch_size": int(text) // int(devices)}


LAUNCHER = "the launcher's environment says which process this is"
CHECKPOINT_KNOWS = "a checkpoint knows its own epoch"
NAMED_BY_MODEL = "--model names the network"
USE_EVAL = "train.py only trains; use python eval.py --checkpoint_path CHECKPOINT --val_data_path DIR"

# The model zoo's programs read one YAML file, so all of them took all of its keys.
_MODEL_ZOO = {
    "dataset_name": _no_effect("the folders of the data say what it is"),
    "work_nums": _sets("workers"),
    "epoch_size": _sets("epochs"),
    "train_batch_size": _sets("batch_size"),
    "val_batch_size": _sets("eval_batch_size"),
    "image_height": _sets("image_size"),
    "image_width": _sets("image_size"),
    "model_size": Flag(lambda text: {"model_options": {"size": text}}),
    "lr_max": _sets("lr"),
    "eta_min": _sets("lr_end"),
    "decay_method": _word("lr_schedule", {"": "linear"}),
    "lr_decay_mode": _word("lr_schedule", {"other": "linear"}),
    "lr_scheduler": _word("lr_schedule", {"cosine_annealing": "cosine_epoch", "exponential": "milestone"}),
    "label_smooth_factor": _sets("label_smoothing"),
    "enable_label_smooth": _switch({}, {"label_smoothing": 0.0}),
    "use_label_smooth": _switch({}, {"label_smoothing": 0.0}),
    "is_dynamic_loss_scale": _switch({"loss_scale_mode": "dynamic"}, {"loss_scale_mode": "fixed"}),
    "use_pynative_mode": _switch({"mode": "pynative"}, {"mode": "graph"}),
    "random_seed": _sets("seed"),
    "save_ckpt_path": Flag(_run_dir),
    "save_checkpoint": _no_effect("a run always keeps its newest and its best checkpoint", is_switch=True),
    "filter_prefix": _no_effect("our checkpoints need no prefix, and upstream's is understood when they are loaded"),
    "resume_epoch": _no_effect(CHECKPOINT_KNOWS),
    "rank": _no_effect(LAUNCHER),
    "group_size": _no_effect(LAUNCHER),
    "train_mini_steps": _no_effect("it had none upstream either"),
    "enable_graph_kernel": _no_effect("the framework chooses its kernels", is_switch=True),
    "enable_reduce_precision": _no_effect("--amp_level says where lower precision is used", is_switch=True),
    "enable_profiling": _no_effect("profiles are not taken", is_switch=True),
}

_MNASNET = {
    "": _path("data_path"),
    "device": _word("device_target", {"npu": "Ascend", "gpu": "GPU", "cpu": "CPU"}),
    "npu": _sets("device_id"),
    "gpu": _sets("device_id"),
    "a": _no_effect(NAMED_BY_MODEL),
    "arch": _no_effect(NAMED_BY_MODEL),
    "j": _sets("workers"),
    "b": Flag(_share_of_total_batch),
    "p": _sets("log_steps"),
    "print_freq": _sets("log_steps"),
    "wd": _sets("weight_decay"),
    "ls": _sets("label_smoothing"),
    "warmup": _sets("warmup_epochs"),
    "multiprocessing_distributed": _switch({"is_distributed": True}, {"is_distributed": False}),
    "run_distribute": _switch({"is_distributed": True}, {"is_distributed": False}),
    "start_epoch": _no_effect(CHECKPOINT_KNOWS),
    "device_list": _no_effect(LAUNCHER),
    "world_size": _no_effect(LAUNCHER),
    "local_rank": _no_effect(LAUNCHER),
    "dist_url": _no_effect(LAUNCHER),
    "dist_backend": _no_effect("the device decides between HCCL, NCCL and the CPU's own"),
    "run_prof": _no_effect("profiles are not taken", is_switch=True),
    "e": _refused_when_on(USE_EVAL),
    "evaluate": _refused_when_on(USE_EVAL),
}

_EXPORT_ONLY = {
    "file_name": _no_effect("export.py names its files"),
    "file_format": _no_effect("export.py chooses the format"),
}

_TRAIN = {
    **_MODEL_ZOO,
    **_MNASNET,
    **_EXPORT_ONLY,
    "dataset_path": _path("data_path"),
    "train_dataset_path": _path("data_path"),
    "eval_dataset_path": _path("val_data_path"),
    **dict.fromkeys(
        ("checkpoint", "ckpt_path", "ckpt_file", "checkpoint_dir"),
        _no_effect("eval.py reads it; training starts from --pretrained or goes on from --resume"),
    ),
    "enable_checkpoint_dir": _no_effect("eval.py reads checkpoints", is_switch=True),
    "enable_eval_on_train_dataset": _no_effect("eval.py evaluates", is_switch=True),
}

_CHECKPOINT = {
    "checkpoint": _path("checkpoint_path"),
    "ckpt_path": _path("checkpoint_path"),
    "ckpt_file": _path("checkpoint_path"),
    "checkpoint_dir": _path("checkpoint_path"),
    "enable_checkpoint_dir": _no_effect("a folder of checkpoints is known as one", is_switch=True),
}

_EVAL = {
    **_MODEL_ZOO,
    **_EXPORT_ONLY,
    **_CHECKPOINT,
    "dataset_path": _path("val_data_path"),
    "data_path": _path("val_data_path"),
    "eval_dataset_path": _path("val_data_path"),
    "train_dataset_path": _path("data_path"),
    "enable_eval_on_train_dataset": _refused_when_on("give the training folder as --val_data_path DIR/train"),
}

_FLAGS: dict[str, dict[str, Flag]] = {"train": _TRAIN, "eval": _EVAL, "export": {**_MODEL_ZOO, **_CHECKPOINT}}


def recipe_of(name: str) -> str:
    """The recipe that stands for a configuration file of an original, or ``""``: ShuffleNetV1's, named in commands."""
    several = int(_devices()) > 1 if _devices().isdecimal() else False
    recipes = {
        "transfer_config.yaml": "shufflenetv1_transfer",
        "gpu_default_config.yaml": "shufflenetv1_gpu_8p" if several else "shufflenetv1_gpu_1p",
    }
    return recipes.get(Path(name).name, "")


def flags_of(program: str) -> dict[str, Flag]:
    """Upstream flags of ``program`` by name (no dashes, underscores for hyphens; ``""``: a bare argument)."""
    return _FLAGS.get(program, {})


def as_meant_by(model: str, overrides: Mapping[str, Any]) -> Keys:
    """``overrides`` with ProxylessNAS's use of one of our own names put right.

    Its ``lr_init`` is the peak, with a warm-up from 0; in ShuffleNetV1 and here it is the rate the
    warm-up starts from. For that network it is the peak, unless the peak is given as well.
    """
    if model != "proxylessnas_mobile" or "lr_init" not in overrides or "lr" in overrides:
        return dict(overrides)
    print("note: --lr_init: read as the peak, as ProxylessNAS does; give --lr too if the warm-up's start is meant")
    settled = dict(overrides)
    settled["lr"] = settled.pop("lr_init")
    return settled
