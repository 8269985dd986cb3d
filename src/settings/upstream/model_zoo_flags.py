"""Flags of the three networks of the MindSpore model zoo: Single-Path-NAS, ProxylessNAS-Mobile, ShuffleNetV1.

Their programs read one file of keys each, so training, evaluation and export took the same ones.
"""

from __future__ import annotations

from src.settings.upstream.flag import (
    CHECKPOINT_KNOWS,
    EVALUATED_BY,
    LAUNCHER,
    Flag,
    Given,
    Keys,
    Table,
    no_effect,
    path,
    refused_when_on,
    sets,
    switch,
    word,
)


def _run_dir(text: str, _: Given) -> Keys:
    """The original wrote several fixed files into a shared folder; ``./`` was its "not given"."""
    return {"run_dir": text} if text.rstrip("/") not in ("", ".") else {}


def _dynamic_loss_scale(is_on: bool, _: Given) -> Keys:
    return {"loss_scale_mode": "dynamic" if is_on else "fixed"}


RUN_DIR = Flag(_run_dir, spells="run_dir")
FOLDERS_SAY = "the folders of the data say what it is"
SMOOTHING = switch({}, {"label_smoothing": 0.0})
KEPT = no_effect("a run always keeps its newest and its best checkpoint", is_switch=True)
TRANSFER = no_effect("--pretrained FILE of other classes is transfer learning", is_switch=True)
PROFILES = no_effect("profiles are not taken", is_switch=True)

_SHARED: Table = {
    "epoch_size": sets("epochs"),
    "label_smooth_factor": sets("label_smoothing"),
}

_SPNASNET: Table = {
    **_SHARED,
    "dataset_name": no_effect(FOLDERS_SAY),
    "name": no_effect(FOLDERS_SAY),
    "filter_prefix": no_effect("our checkpoints need no prefix, and upstream's is understood when they are loaded"),
    "pre_trained": refused_when_on("--pre_trained had no effect upstream; --pretrained FILE starts from a checkpoint"),
    "image_height": sets("image_size"),
    "image_width": sets("image_size"),
    "lr_scheduler": word("lr_schedule", {"cosine_annealing": "cosine_epoch", "exponential": "milestone"}),
    "eta_min": sets("lr_end"),
    "T_max": Flag(lambda *_: {}, expects="epochs"),
    "is_dynamic_loss_scale": Flag(_dynamic_loss_scale, is_switch=True),
    "use_label_smooth": SMOOTHING,
}

_PROXYLESS: Table = {
    **_SHARED,
    "random_seed": sets("seed"),
    "rank": no_effect(LAUNCHER),
    "group_size": no_effect(LAUNCHER),
    "work_nums": sets("workers"),
    "save_ckpt_path": RUN_DIR,
    "save_checkpoint": KEPT,
    "resume_epoch": no_effect(CHECKPOINT_KNOWS),
    "train_batch_size": sets("batch_size"),
    "val_batch_size": sets("eval_batch_size"),
    "train_mini_steps": no_effect("it had none upstream either"),
    "coutout_length": sets("cutout_length"),
    "enable_label_smooth": SMOOTHING,
    "use_pynative_mode": switch({"mode": "pynative"}, {"mode": "graph"}),
    "enable_graph_kernel": no_effect("the framework chooses its kernels", is_switch=True),
    "enable_reduce_precision": no_effect("--amp_level says where lower precision is used", is_switch=True),
    "enable_profiling": PROFILES,
}

_SHUFFLENET: Table = {
    **_SHARED,
    "model_size": Flag(lambda text, _: {"model_options": {"size": text}}),
    "save_ckpt_path": RUN_DIR,
    "save_checkpoint": KEPT,
    "lr_max": sets("lr"),
    "decay_method": word("lr_schedule", {"": "linear"}),
    "lr_decay_mode": word("lr_schedule", {"other": "linear"}),
    "enable_profiling": PROFILES,
}

_EXPORT_ONLY: Table = {
    "file_name": no_effect("export.py names its files"),
    "file_format": no_effect("export.py chooses the format"),
}


def _files(key: str, *names: str) -> Table:
    return {name: path(key) for name in names}


def _unread(*names: str) -> Table:
    """What training had no use for."""
    return {name: no_effect(EVALUATED_BY) for name in names}


_CHECKPOINTS = ("ckpt_path", "ckpt_file", "ckpt_files")  # ShuffleNetV1's document has all three

SPNASNET = {
    "train": {**_SPNASNET, **_EXPORT_ONLY, **_unread("checkpoint_path", "ckpt_file")},
    "eval": {**_SPNASNET, **_EXPORT_ONLY, **_files("val_data_path", "data_path")},
    "export": {**_SPNASNET, **_files("checkpoint_path", "ckpt_file")},
}
PROXYLESSNAS_MOBILE = {
    "train": {
        **_PROXYLESS,
        **_EXPORT_ONLY,
        **_files("data_path", "dataset_path"),
        **_unread("checkpoint", "checkpoint_dir"),
        "enable_checkpoint_dir": no_effect("eval.py reads checkpoints", is_switch=True),
        "enable_eval_on_train_dataset": no_effect("eval.py evaluates", is_switch=True),
    },
    "eval": {
        **_PROXYLESS,
        **_EXPORT_ONLY,
        **_files("val_data_path", "data_path", "dataset_path"),
        **_files("checkpoint_path", "checkpoint", "checkpoint_dir"),
        "enable_checkpoint_dir": no_effect("a folder of checkpoints is known as one", is_switch=True),
        "enable_eval_on_train_dataset": refused_when_on("give the training folder as --val_data_path DIR/train"),
    },
    "export": {
        **_PROXYLESS,
        **_files("checkpoint_path", "checkpoint", "checkpoint_dir"),
        "enable_checkpoint_dir": no_effect("a folder of checkpoints is known as one", is_switch=True),
    },
}
SHUFFLENETV1 = {
    "train": {
        **_SHUFFLENET,
        **_EXPORT_ONLY,
        **_files("data_path", "dataset_path", "train_dataset_path"),
        **_files("val_data_path", "eval_dataset_path"),
        **_unread(*_CHECKPOINTS),
        "is_transfer": TRANSFER,
    },
    "eval": {
        **_SHUFFLENET,
        **_EXPORT_ONLY,
        **_files("data_path", "train_dataset_path"),
        **_files("val_data_path", "data_path", "dataset_path", "eval_dataset_path"),
        **_files("checkpoint_path", *_CHECKPOINTS),
        "is_transfer": TRANSFER,
    },
    "export": {**_SHUFFLENET, **_files("checkpoint_path", *_CHECKPOINTS), "is_transfer": TRANSFER},
}
