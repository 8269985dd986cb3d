"""The device a run computes on and the framework settings that go with it."""

from __future__ import annotations

import os
import platform

import mindspore as ms
import numpy as np

from src.errors import UsageError

TARGETS = ("Ascend", "GPU", "CPU")


def choose_target(wanted: str, present: list[str]) -> str:
    """The device target to use: ``wanted`` if it is present, for ``auto`` the first of Ascend, GPU, CPU.

    Raises:
        UsageError: ``wanted`` is not on this machine.
    """
    if wanted == "auto":
        return next(target for target in TARGETS if target in present)
    if wanted not in present:
        raise UsageError(
            f"--device_target {wanted}: MindSpore {ms.__version__} finds no {wanted} here, only {', '.join(present)}"
        )
    return wanted


def present_targets() -> list[str]:
    """Device targets this MindSpore build can use on this machine."""
    return [target for target in TARGETS if target == "CPU" or ms.hal.is_available(target)]


def uses_sink(sink: str, target: str) -> bool:
    """Whether data is handed over by the framework's sink: automatic on Ascend and GPU, impossible on the CPU.

    Raises:
        UsageError: ``on`` for the CPU.
    """
    if sink == "on" and target == "CPU":
        raise UsageError("--sink on: MindSpore sinks data to an Ascend or a GPU only; use --sink auto")
    return sink != "off" and target != "CPU"


def set_up(wanted: str, device_id: int, mode: str, deterministic: bool, seed: int) -> str:
    """Selects device, execution mode, determinism and seed for this process; returns the device target."""
    target = choose_target(wanted, present_targets())
    if target == "CPU":
        ms.set_device("CPU")
    else:
        ms.set_device(target, device_id)
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    if deterministic:
        ms.set_deterministic(True)
    ms.set_seed(seed)
    return target


def describe_device(target: str) -> str:
    """Device, cores or card, and MindSpore version, as results name them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"CPU, {cores} cores" if target == "CPU" else target
    return f"{name}, MindSpore {ms.__version__}"


def versions() -> dict[str, str]:
    """What a result depends on besides this repository."""
    return {"mindspore": ms.__version__, "numpy": np.__version__, "python": platform.python_version()}
