"""Training: the loop over epochs and steps, and everything a run must keep to go on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from src.data.dataset import EvalData, TrainData
from src.data.reading import ImageLost
from src.errors import Interrupted, RunFailed, UsageError
from src.machine.ranks import World, all_equal, broadcast_parameters
from src.machine.stop import StopRequest
from src.models.layers import weights
from src.runs.checkpoint import BEST, LAST, Checkpoint, CheckpointFolder
from src.runs.folder import RunFolder
from src.runs.log import record
from src.runs.trained import Trained
from src.settings.config import Config
from src.training.evaluation import Evaluation, Evaluator
from src.training.going_on import (
    Position,
    begins_afresh,
    differences,
    pace_of,
    pace_of_data,
    position_of,
    saved_position,
)
from src.training.reporter import Reporter
from src.training.step import TrainStep, state
from src.weights.assignment import assign_weights

_log = logging.getLogger(__name__)

# A dynamic loss scale halves on overflow; from 2^24 it is at 1 after 24 such steps in a row.
MOST_OVERFLOWS_IN_A_ROW = 25


@dataclasses.dataclass
class _Process:
    """What begins anew with each process; nothing that is computed depends on it.

    Attributes:
        saved_at: epoch and step of the newest checkpoint.
        best: of the checkpoint gone on from, if it is the best one, and of this run.
        is_under_way: whether the folder is this process's to write to.
        update: number of the newest update seen.
        overflows: before that update.
    """

    saved_at: tuple[int, int] | None = None
    best: Path | None = None
    is_under_way: bool = False
    update: int = -1
    overflows: int = 0


class Trainer:
    """Trains one network as a configuration says.

    Args:
        config: resolved configuration.
        network: the network whose weights are trained and saved.
        step: the training step around it.
        later: makes the steps that take its place, by the epoch, counted from 0, from which on they do. What a step
            remembers goes over to the next.
        evaluator, eval_data: None to train without evaluation.
        learning_rates: the rate of each update, float32 [updates], from the first one of the run on.
        train_data: images of this rank.
        trained: what never changes in a run; part of every checkpoint's meta.
        run, world: run folder and place among the ranks; only rank 0 writes.
        is_sinking: the framework hands batches over on the device (Ascend, GPU).
        keep: writes what the folder is to hold beside the checkpoints (configuration, classes, …). Called once, after
            the first step and before anything is saved: a start that fails before leaves a run as it was.

    Attributes:
        after_step: called after each step with its number in the epoch, from 1, and its loss, before the trainer itself
            looks at either.
    """

    def __init__(
        self,
        *,
        config: Config,
        network: nn.Cell,
        step: TrainStep,
        evaluator: Evaluator | None,
        learning_rates: np.ndarray,
        train_data: TrainData,
        eval_data: EvalData | None,
        trained: Trained,
        run: RunFolder,
        world: World,
        is_sinking: bool = False,
        keep: Callable[[], None] = lambda: None,
        later: Mapping[int, Callable[[], TrainStep]] | None = None,
    ):
        self._config = config
        self._network = network
        self._later = {**(later or {})}
        self._evaluator = evaluator
        self._learning_rates = learning_rates
        self._train_data = train_data
        self._eval_data = eval_data
        self._trained = trained
        self._run = run
        self._world = world
        self._is_sinking = is_sinking
        self._keep = keep
        self._checkpoints = CheckpointFolder(run.checkpoints, config.keep_checkpoint_max)
        self._report = Reporter(config, run, world.rank == 0)
        self.after_step: list[Callable[[int, Tensor], None]] = []
        self._take(step)
        self._pace = pace_of_data(train_data, config.accumulate)
        self._at = Position()
        self._process = _Process()

    # -- state ---------------------------------------------------------------------------------

    def _take(self, step: TrainStep) -> None:
        counters = self._network.parameters_dict().keys() - weights(self._network).keys()
        self._step = step
        self._state = {**state(step), **{name: self._network.parameters_dict()[name] for name in counters}}

    def _follow(self, epoch: int) -> None:
        """Takes up the step of an epoch, counted from 0, if it is another one than that in use."""
        for since in sorted(first for first in self._later if first <= epoch):
            before = {name: value.asnumpy() for name, value in self._state.items()}
            self._take(self._later.pop(since)())
            for name, array in before.items():
                self._state[name].set_data(Tensor(array))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up weights, optimizer and position of ``checkpoint``, and says what differs from its run so far.

        Raises:
            UsageError: it belongs to another network or other classes, or lacks part of the state.
        """
        if not checkpoint.state:
            raise UsageError(f"{checkpoint.path} holds weights only; start a new run from them with --pretrained")
        earlier = checkpoint.trained
        assert earlier is not None, "read_checkpoint refuses a state without meta"
        theirs, ours = earlier.identity(), self._trained.identity()
        for fact in ours:
            if theirs[fact] != ours[fact]:
                raise UsageError(f"{checkpoint.path} was trained with another {fact}: {theirs[fact]}")
        saved = saved_position(checkpoint)
        self._follow(saved.epoch if saved.step else saved.epoch - 1)  # a whole epoch was saved before the next one's
        afresh = begins_afresh(earlier.config, self._config)
        held = {name: value for name, value in checkpoint.state.items() if not name.startswith(afresh)}
        wanted = {name for name in self._state if not name.startswith(afresh)}
        missing, surplus = wanted - held.keys(), held.keys() - wanted
        wrong = {name for name in wanted & held.keys() if self._state[name].shape != held[name].shape}
        if missing or surplus or wrong:
            raise UsageError(
                f"{checkpoint.path} holds the state of another optimizer or precision, or another freeze "
                f"(missing {sorted(missing)[:3]}, surplus {sorted(surplus)[:3]}, other shape {sorted(wrong)[:3]}); "
                "start from its weights alone with --pretrained"
            )
        assign_weights(self._network, checkpoint.weights)
        for name, value in held.items():
            self._state[name].set_data(Tensor(value))
        then, now = pace_of(checkpoint, self._pace), self._pace
        self._at = position_of(checkpoint, now, self._config.seed)
        if not then.counts_like(now):
            self._step.begin_at(self._at.epoch, self._at.step)
        self._process.saved_at = (self._at.epoch, self._at.step)
        is_best = (self._at.best_epoch, 0) == self._process.saved_at
        if is_best and self._world.rank == 0 and checkpoint.path.parent.samefile(self._run.checkpoints):
            self._process.best = checkpoint.path
        if changes := differences(earlier, self._trained, then, now):
            _log.warning(f"going on otherwise than so far: {', '.join(changes)}")

    @property
    def updates(self) -> int:
        """Optimizer updates done."""
        return int(self._state["global_step"].asnumpy().reshape(-1)[0])

    @property
    def overflows(self) -> int:
        """Updates skipped because a gradient was not finite."""
        return int(self._state["overflow_count"].asnumpy().reshape(-1)[0])

    def _be_under_way(self) -> None:
        """Has the folder hold what belongs to the run as it is now; does so once."""
        process = self._process
        if process.is_under_way or self._world.rank:
            return
        try:
            self._keep()
            if process.best:
                self._checkpoints.point(BEST, process.best)  # a kill may have come between the file and its pointer
        except OSError as error:
            raise RunFailed(f"cannot write into {self._run.path}: {error}") from error
        process.is_under_way = True

    def _save(self, *, is_best: bool = False) -> None:
        self._be_under_way()
        if self._world.rank == 0:
            at = self._at
            learned = {name: value.asnumpy() for name, value in weights(self._network).items()}
            for name, array in learned.items():
                if not np.isfinite(array).all():
                    self._fail(f"{name} holds values that are not finite")
            # A completed epoch is named after its last step, as MindSpore's own checkpoints are.
            epoch, step = (at.epoch + 1, at.step) if at.step else (at.epoch, self._train_data.steps_per_epoch)
            try:
                self._checkpoints.save(
                    self._config.model,
                    epoch,
                    step,
                    learned,
                    {name: value.asnumpy() for name, value in self._state.items()},
                    {**self._trained.to_meta(), "position": dataclasses.asdict(at), "pace": self._pace._asdict()},
                    is_best=is_best,
                )
            except (OSError, RuntimeError) as error:
                whole = self._checkpoints.pointed(LAST)
                rest = f"The last one, {whole}, is whole; go on with --resume {self._run.path}" if whole else ""
                raise RunFailed(f"cannot write a checkpoint into {self._run.checkpoints}: {error}. {rest}") from error
        self._process.saved_at = (self._at.epoch, self._at.step)

    # -- the loop ------------------------------------------------------------------------------

    def fit(self) -> dict[str, Any]:
        """Trains to the last epoch (or max_steps, or the early stop) and returns the result as plain values.

        Raises:
            RunFailed: the loss is not a number; the last checkpoint stays as it is.
            Interrupted: a signal, after a checkpoint has been written.
        """
        try:
            with StopRequest(is_heeded=self._world.is_main) as stop:
                while not self.reason_to_end():
                    self._train_epoch(stop)
                self._save_if_new()
            self._be_under_way()
            if self._world.size > 1:
                self._compare_ranks()
        except ImageLost:
            if self._process.is_under_way:
                self._save_if_new()
                _log.info(f"stopped in epoch {self._at.epoch + 1} after step {self._at.step}, which is saved")
            raise
        except Interrupted as signal:
            self._save_if_new()
            _log.info(
                f"stopped by a signal ({signal}) in epoch {self._at.epoch + 1} after step {self._at.step}; "
                f"go on with: python train.py --resume {self._run.path}"
            )
            raise
        finally:
            self._report.close(self._at.history if self._process.is_under_way else ())
        return self._result(self.reason_to_end())

    def reason_to_end(self) -> str:
        """Why there is nothing left to train, or ``""``."""
        if self._at.epoch >= self._config.epochs:
            return "finished"
        if self._is_past_last_step():
            return f"stopped after {self.updates} updates (max_steps)"
        if 0 < self._config.early_stop <= self._at.stale:
            return f"stopped early: no better top-1 in {self._at.stale} evaluations"
        return ""

    def _compare_ranks(self) -> None:
        """Says whether all ranks ended with the same weights, to the bit; batch-norm statistics are each rank's own."""
        digest = hashlib.sha256()
        for parameter in self._network.trainable_params():
            digest.update(parameter.asnumpy().tobytes())
        if all_equal(digest.digest()):
            _log.info(f"all {self._world.size} ranks hold the same weights")
        else:
            _log.info(f"warning: the {self._world.size} ranks ended with different weights; rank 0's are saved")

    def _is_past_last_step(self) -> bool:
        return 0 < self._config.max_steps <= self.updates

    def _save_if_new(self) -> None:
        if self._process.saved_at != (self._at.epoch, self._at.step):
            self._save()

    def _train_epoch(self, stop: StopRequest) -> None:
        config, at, data = self._config, self._at, self._train_data
        self._follow(at.epoch)
        steps = data.steps_per_epoch
        log_steps = config.log_steps or max(steps // 10, 1)
        pending: list[Tensor] = []
        start = time.perf_counter()
        timed_from, timed_steps = start, 0
        self._step.set_train(True)
        with self._report.bar(at.epoch + 1, steps, at.step) as bar, self._absorbing(pending):
            for loss, _, _ in self._steps():
                at.step += 1
                for observe in self.after_step:
                    observe(at.step, loss)
                pending.append(loss)
                if timed_steps == 0:  # the first step of a process compiles
                    self._absorb(pending)
                    self._be_under_way()
                    timed_from = time.perf_counter()
                timed_steps += 1
                bar.update()
                is_last = at.step == steps
                if at.step % log_steps == 0 or is_last:
                    self._absorb(pending)
                    self._report.step(bar, at.epoch + 1, at.step, float(loss.asnumpy()), self.updates)
                is_over = self._is_past_last_step()
                is_saving = config.save_checkpoint_steps and at.step % config.save_checkpoint_steps == 0
                if stop.is_set or is_over or is_saving:
                    self._absorb(pending)
                    stop.raise_if_set()
                    if is_over and not is_last:
                        return
                    if is_saving and not is_last:
                        self._save()
        seconds = time.perf_counter() - start
        timed = timed_steps - 1
        images_per_step = config.batch_size * self._world.size
        speed = (
            timed * images_per_step / max(time.perf_counter() - timed_from, 1e-9)
            if timed > 0
            else timed_steps * images_per_step / seconds
        )
        self._finish_epoch(seconds, timed_steps, speed, stop)

    def _steps(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Does the steps that are left of the epoch, giving each one's result."""
        at, data = self._at, self._train_data
        if not self._is_sinking:
            for images, labels in data.epoch(at.epoch, at.step):
                yield self._step(images, labels)
            return
        left = data.steps_per_epoch - at.step
        sunk = ms.data_sink(self._step, data.pipeline(at.epoch, at.step), sink_size=1)
        for _ in range(left):
            yield sunk()

    @contextlib.contextmanager
    def _absorbing(self, pending: list[Tensor]) -> Iterator[None]:
        """Within the block, losses of the steps done are read also where the images end early."""
        try:
            yield
        except ImageLost:
            self._absorb(pending)
            raise

    def _absorb(self, pending: list[Tensor]) -> None:
        """Reads the losses of finished steps from the device into the epoch's mean."""
        for loss in pending:
            value = float(loss.asnumpy())
            if self._config.loss_scale_mode != "dynamic" and not math.isfinite(value):
                self._fail(f"the loss is {value}")
            if math.isfinite(value):
                self._at.loss_sum += value
                self._at.loss_count += 1
        pending.clear()
        # An update between two overflows starts the count anew; batches that only accumulate are neither.
        updates, overflows = self.updates, self.overflows
        process = self._process
        if updates != process.update:
            process.update, process.overflows = updates, overflows
        in_a_row = overflows - process.overflows
        if in_a_row >= MOST_OVERFLOWS_IN_A_ROW:
            self._fail(f"the gradients were not finite {in_a_row} times in a row")

    def _fail(self, what: str) -> NoReturn:
        last = self._checkpoints.pointed(LAST)
        record("diverged", epoch=self._at.epoch + 1, step=self._at.step, what=what)
        raise RunFailed(
            f"{what} at epoch {self._at.epoch + 1}, step {self._at.step}; training stopped. "
            f"Last good checkpoint: {last or 'none yet'}. Try a smaller --lr, --grad_clip 1, or --amp_level O0"
        )

    def _finish_epoch(self, seconds: float, steps_timed: int, images_per_second: float, stop: StopRequest) -> None:
        """Evaluates, books the epoch's row, saves, and says what happened."""
        config, at = self._config, self._at
        number = at.epoch + 1
        is_last = number == config.epochs
        is_due = config.eval_epochs and number % config.eval_epochs == 0
        evaluation = self._evaluate(stop) if self._eval_data and (is_due or is_last) else None
        rate = float(self._learning_rates[min(max(self.updates - 1, 0), len(self._learning_rates) - 1)])
        row = {
            "epoch": number,
            "step": self.updates,
            "lr": rate,
            "train_loss": at.loss_sum / at.loss_count if at.loss_count else None,
            "val_loss": evaluation.loss if evaluation else None,
            "top1": evaluation.top1 if evaluation else None,
            "top5": evaluation.top5 if evaluation else None,
            "images_per_second": round(images_per_second, 1),
            "seconds": round(seconds, 3),
        }
        is_best = evaluation is not None and evaluation.top1 > at.best_top1
        if evaluation is not None:
            at.stale = 0 if is_best else at.stale + 1
        if is_best:
            at.best_top1, at.best_epoch = evaluation.top1, number
        at.history.append(row)
        at.epoch, at.step, at.loss_sum, at.loss_count = number, 0, 0.0, 0
        if is_best or is_last or number % config.save_checkpoint_epochs == 0:
            self._save(is_best=is_best)
        self._report.epoch(at.history, evaluation, steps_timed, self.overflows, is_best)

    def _evaluate(self, stop: StopRequest) -> Evaluation:
        assert self._evaluator is not None and self._eval_data is not None
        # Each rank has batch-norm statistics of its own images; all judge by those of rank 0, which a checkpoint holds.
        broadcast_parameters(value for value in weights(self._network).values() if not value.requires_grad)
        return self._evaluator.run(self._eval_data, before_batch=stop.raise_if_set)

    def _result(self, why: str) -> dict[str, Any]:
        at = self._at
        last = at.history[-1] if at.history else {}
        best = self._checkpoints.pointed(BEST)
        newest = self._checkpoints.pointed(LAST)
        facts = self._trained.to_meta()
        return {
            "status": why,
            "epochs": at.epoch,
            "updates": self.updates,
            "train_loss": last.get("train_loss"),
            "val_loss": last.get("val_loss"),
            "top1": last.get("top1"),
            "top5": last.get("top5"),
            "best_top1": at.best_top1 if at.best_epoch else None,
            "best_epoch": at.best_epoch or None,
            "best_checkpoint": best.name if best else None,
            "last_checkpoint": newest.name if newest else None,
            **{key: facts[key] for key in ("model", "num_classes", "preprocessing", "device", "versions")},
        }
