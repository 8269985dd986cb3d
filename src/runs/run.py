"""The start and the end of a program that computes: device, ranks, run folder and log."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from src.machine.device import describe_device, set_up
from src.machine.ranks import World, current_world, initialise
from src.runs.code_state import keep_code_state
from src.runs.folder import RunFolder, open_run
from src.runs.lock import sole_user
from src.runs.log import logged
from src.settings.config import Config

_log = logging.getLogger(__name__)

WITH_FOLDER = ("train", "search")


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a program computes, and what it leaves.

    Attributes:
        target: device target.
        world: the place among the ranks; only the main one writes.
        folder: of the run; None for a program that leaves none.
    """

    target: str
    world: World
    folder: RunFolder | None

    def __str__(self) -> str:
        return f"{describe_device(self.target)}, rank {self.world.rank} of {self.world.size}"


@contextlib.contextmanager
def started(config: Config, program: str) -> Iterator[Run]:
    """A run of ``program``: on its device, joined with the other ranks, its folder made and its alone, its log open.

    After the block the log is closed. A rank takes its leave of the others only at the end of the process
    (:func:`src.machine.ranks.leave`), after its files have been brought to where they belong.

    Args:
        program: ``train`` and ``search`` have a run folder, others only talk.

    Raises:
        SystemExit: in the scheduler's process, at the end of the job.
        UsageError: no such device, no launcher, or a run folder that is not to be written to, or is in use.
    """
    world = current_world()
    target = set_up(config.device_target, world.card(config.device_id), config.mode, config.deterministic, config.seed)
    initialise(world, config.is_distributed, target)
    folder = open_run(config, world.is_main) if program in WITH_FOLDER else None
    written = folder.path if folder and world.is_main else None
    with contextlib.ExitStack() as stack:
        complaint = stack.enter_context(sole_user(written)) if written else ""
        if written:
            keep_code_state(written)
        stack.enter_context(logged(written, is_quiet=not world.is_main))
        if complaint:
            _log.warning(complaint)
        yield Run(target, world, folder)
