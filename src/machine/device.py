"""The device a run computes on and the framework settings that go with it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
from collections.abc import Iterator

import mindspore as ms
import numpy as np

from src.errors import UsageError
from src.machine.ranks import current_world
from src.settings.published import Cards

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
            f"--device_target {wanted}: MindSpore {ms.__version__} finds no {wanted} here, only {', '.join(present)}; "
            f"to compute on that, add --device_target {present[0]}"
        )
    return wanted


def present_targets() -> list[str]:
    """Device targets this MindSpore build can use on this machine."""
    with quiet_framework():  # it warns of each device that is absent
        return [target for target in TARGETS if target == "CPU" or ms.hal.is_available(target)]


def cards_of(wanted: str) -> Cards:
    """What ``wanted``, a device target, comes to here, and the ranks of this run. Whether it is there shows later."""
    return Cards(choose_target(wanted, present_targets()) if wanted == "auto" else wanted, current_world().size)


@contextlib.contextmanager
def quiet_framework() -> Iterator[None]:
    """Keeps the framework from logging where its finding is expected and passed on in our words."""
    logger = ms.log._get_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


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
        _be_deterministic()
    ms.set_seed(seed)
    return target


@functools.cache
def _be_deterministic() -> None:  # the framework takes it once in a process
    ms.set_deterministic(True)


def describe_device(target: str) -> str:
    """Device, cores or card, and MindSpore version, as results name them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"CPU, {cores} cores" if target == "CPU" else target
    return f"{name}, MindSpore {ms.__version__}"


def versions() -> dict[str, str]:
    """What a result depends on besides this repository."""
    return {"mindspore": ms.__version__, "numpy": np.__version__, "python": platform.python_version()}
