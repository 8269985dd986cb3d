"""Flags of MnasNet: the PyTorch program for Ascend, and its port in the MindSpore model zoo.

A name with a hyphen is that spelling only; with an underscore it is a key of ours and means another thing.
"""

from __future__ import annotations

from src.errors import UsageError
from src.settings.upstream.flag import (
    CHECKPOINT_KNOWS,
    LAUNCHER,
    Flag,
    Given,
    Keys,
    Table,
    devices,
    no_effect,
    path,
    refused_when_on,
    require_devices,
    sets,
    switch,
    word,
)

NAMED_BY_MODEL = "--model names the network"
USE_EVAL = "train.py only trains; use python eval.py --checkpoint_path CHECKPOINT --val_data_path DIR"


def _share_of_total_batch(flag: str, note: str = "") -> Flag:
    """Upstream counts the images of all devices, our batch_size those of one."""

    def meaning(text: str, _: Given) -> Keys:
        number = devices()
        if not (text.isdecimal() and number.isdecimal() and int(number) and int(text) % int(number) == 0):
            raise UsageError(
                f"{flag} {text}: the images of all devices together; must be a multiple of their number, {number}"
            )
        return {"batch_size": int(text) // int(number)}

    return Flag(meaning, note=note, spells="batch_size")


def _one_card(text: str, _: Given) -> Keys:
    """One card is chosen by its number; which of several a process takes is the launcher's to say."""
    cards = text.split(",")
    if len(cards) == 1:
        return {"device_id": text}
    require_devices("--device-list", len(cards))
    return {}


def _loss_scale(text: str, _: Given) -> Keys:
    """apex's: a number, or ``dynamic``."""
    return {"loss_scale_mode": "dynamic"} if text == "dynamic" else {"loss_scale_mode": "fixed", "loss_scale": text}


_DISTRIBUTED = switch({"is_distributed": True}, {"is_distributed": False})
_SHARED: Table = {
    "": path("data_path"),
    "device": word("device_target", {"npu": "Ascend", "gpu": "GPU", "cpu": "CPU"}),
    "npu": sets("device_id"),
    "gpu": sets("device_id"),
    "a": no_effect(NAMED_BY_MODEL),
    "arch": no_effect(NAMED_BY_MODEL),
    "j": sets("workers"),
    "b": _share_of_total_batch("-b"),
    "batch-size": _share_of_total_batch(
        "--batch-size", "counts the images of all devices, as MnasNet's document has it; --batch_size those of one"
    ),
    "multiprocessing_distributed": _DISTRIBUTED,
    "amp": switch({"amp_level": "O1"}, {"amp_level": "O0"}),
    "opt_level": sets("amp_level"),
    "device_list": Flag(
        _one_card,
        note="one card is taken; of several, the launcher gives each process its own "
        "(CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES before it says which there are)",
    ),
    "world_size": no_effect(LAUNCHER),
    "rank": no_effect(LAUNCHER),
    "local_rank": no_effect(LAUNCHER),
    "dist_url": no_effect(LAUNCHER),
    "dist_backend": no_effect("the device decides between HCCL, NCCL and the CPU's own"),
    "run_prof": no_effect("profiles are not taken", is_switch=True),
    "ls": sets("label_smoothing"),
}
MNASNET = {
    "train": {
        **_SHARED,
        "p": sets("log_steps"),
        "print_freq": sets("log_steps"),
        "wd": sets("weight_decay"),
        "warmup": sets("warmup_epochs"),
        "loss-scale": Flag(_loss_scale),
        "run_distribute": _DISTRIBUTED,
        "dataset_path": path("data_path"),
        "start_epoch": no_effect(CHECKPOINT_KNOWS),
        "e": refused_when_on(USE_EVAL),
        "evaluate": refused_when_on(USE_EVAL),
    },
}
