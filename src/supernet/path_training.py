"""Training the supernet with the engine that trains every other network.

What differs is the step (a path is drawn for each batch, and only what it goes through is updated) and
the evaluation (a fixed set of paths, each with batch-norm statistics of its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from src.cpu import operators_in, use_operators
from src.data.dataset import EvalData, TrainData
from src.data.folders import Images
from src.data.preprocessing import Preprocessing
from src.data.split import divide
from src.errors import UsageError
from src.machine.ranks import World
from src.models import one_of, options_of, share
from src.models.layers import seed_dropout
from src.runs.checkpoint import load_checkpoint
from src.settings.config import Config
from src.space.choices import BLOCKS
from src.space.constraints import read_bounds
from src.space.cost import cost_tables
from src.space.sampler import ChannelSchedule, PathSampler, make_sampler, read_stroll
from src.space.spaces import Domain, Space, make_space
from src.supernet.network import Supernet
from src.supernet.path_sgd import PathSGD, slots
from src.supernet.recalibration import Recalibration, keep_in_memory
from src.training.evaluation import Evaluation, Evaluator
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.one_pass import AllFinite
from src.training.scaled_gradients import ScaledGradients, state_parameter
from src.training.step import apply_precision

# The sampler's state as JSON text fills a parameter of this many bytes, so that a checkpoint holds it.
STATE_BYTES = 16384
RANDOM_PATHS = 3
# Options of the network that describe the space; the others belong to the stand-alone network.
PATH_OPTIONS = ("block_choices", "channel_choices", "bn_momentum", "bn_variance")


def space_of(config: Config, num_classes: int, image_size: int = 0) -> Space:
    """The space that the configured network is a path of.

    Args:
        image_size: pixels (0: the layout's own).

    Raises:
        UsageError: a network that is no path of a space, or an option it does not have.
    """
    options = options_of(config.model, config.model_options)
    if "block_choices" not in options:
        raise UsageError(f"{config.model} is no path of a search space; spos_oneshot and its kin are")
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name not in PATH_OPTIONS
    }
    for name in ("use_se", "last_conv_after_pooling"):
        one_of(name, fields[name], (False, True))
    if image_size:
        fields["input_size"] = image_size
    return make_space(fields.pop("layout"), num_classes=num_classes, **fields)


def supernet_of(config: Config, num_classes: int) -> Supernet:
    """The supernet of the configured space with fresh weights."""
    options = options_of(config.model, config.model_options)
    return Supernet(
        space_of(config, num_classes, config.image_size),
        num_classes,
        masking=config.supernet_masking,
        rounded=config.supernet_rounded,
        affine=config.supernet_affine,
        bn_momentum=share("bn_momentum", options["bn_momentum"]),
    )


def operators_of(network: Supernet, config: Config, say: Callable[[str], None]) -> str:
    """Gives ``network`` the CPU operators of the configuration, and returns which; ``say`` is as in `use_operators`."""
    mode = config.cpu_operators if config.amp_level == "O0" else "standard"
    return use_operators(network, mode, say)


def schedule_of(config: Config, space: Space) -> ChannelSchedule:
    """Which channel indices each epoch draws from."""
    return ChannelSchedule(
        space,
        start_epoch=config.channel_start_epoch,
        warm_up=config.channel_warm_up,
        ignore_first_two=config.ignore_first_two_cs,
        fixed=config.channel_fixed,
    )


def sampler_of(config: Config, space: Space) -> PathSampler:
    """The path sampler of the configuration.

    Raises:
        UsageError: settings of a sampler that is not the one chosen; they would be without effect.
    """
    for key, sampler in (("path_constraints", "random"), ("stroll", "strolling")):
        if config[key] and config.path_sampler != sampler:
            raise UsageError(f"{key} is for --path_sampler {sampler}, not for {config.path_sampler}")
    return make_sampler(
        config.path_sampler,
        schedule_of(config, space),
        config.seed,
        config.epochs,
        bounds=read_bounds(config.path_constraints),
        stroll=read_stroll(config.stroll),
        bins=config.flops_bins,
    )


def split_held_out(files: Images, share: float, seed: int) -> tuple[Images, Images]:
    """(images to train with, images held out): of every class the same share, drawn from ``seed``.

    Raises:
        UsageError: a class has too few images to give any.
    """
    try:
        return divide(files, share, seed)
    except UsageError as error:
        raise UsageError(f"search_holdout: {error}") from error


def calibration_images(files: Images, count: int, seed: int) -> Images:
    """``count`` of ``files`` (all, if there are no more), drawn from ``seed``, in the drawn order."""
    order = np.random.default_rng([seed, len(files)]).permutation(len(files))[:count]
    return [files[index] for index in order]


class SupernetStep(nn.Cell):
    """One training step along one path; called like :class:`src.training.step.TrainStep`, with the same results.

    Before every batch the sampler draws the path (the same one on every rank); after it, or after
    ``accumulate`` batches, what the paths went through is updated if the gradients are finite. The
    sampler's state is a parameter, so a run that is taken up again draws the same paths.

    Args:
        network: the supernet, in its precision.
        supernet: the same network, whose path is set.
        sampler: draws the paths.
        steps_per_epoch: batches of an epoch.
        learning_rates: of each update, float32 [updates].
        options: of :class:`src.training.scaled_gradients.ScaledGradients`, which may raise a UsageError.
    """

    def __init__(
        self,
        network: nn.Cell,
        supernet: Supernet,
        loss: LabelSmoothedCrossEntropy,
        optimizer: PathSGD,
        sampler: PathSampler,
        steps_per_epoch: int,
        learning_rates: np.ndarray,
        **options,
    ):
        super().__init__(auto_prefix=False)
        self.network, self.supernet = network, supernet
        self.optimizer, self.sampler = optimizer, sampler
        self.gradients = ScaledGradients(network, loss, optimizer.parameters, **options)
        self.accumulate = self.gradients.accumulate
        if not self.gradients.dynamic:
            # Only noted: every supernet's checkpoint has one. What counts is the configuration's.
            self.loss_scale = state_parameter("loss_scale", float(self.gradients.loss_scale), ms.float32)
        self.steps_per_epoch, self.learning_rates = steps_per_epoch, np.asarray(learning_rates, np.float32)
        self.slots = np.array(slots([p.name for p in optimizer.parameters], supernet.space.length))
        self.global_step = Parameter(Tensor([0], ms.int32), name="global_step", requires_grad=False)
        self.sampler_state = Parameter(
            Tensor(np.zeros(STATE_BYTES, np.uint8)), name="sampler_state", requires_grad=False
        )
        self.drawn = self.held = 0
        self.used = np.zeros(supernet.space.length * len(BLOCKS) + 1, bool)
        self.is_taken_up = False

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.is_taken_up:
            self._take_up()
        if self.drawn % self.steps_per_epoch == 0:
            self.sampler.begin_epoch(self.drawn // self.steps_per_epoch, self.steps_per_epoch)
        genes = self.sampler.draw()
        if self.held == 0:
            self.used[:] = False
        length = self.supernet.space.length
        self.used[np.arange(length) * len(BLOCKS) + genes[:length]] = True
        self.used[-1] = True
        self.supernet.set_path(genes)
        self.drawn += 1
        loss, finite, correct, held, gradients = self.gradients(images, labels, Tensor(self.held, ms.int32))
        self.held = int(held.asnumpy())
        if self.held == 0 and finite.asnumpy():
            self._update(gradients)
        self._note()
        return loss, finite, correct

    def _update(self, gradients: tuple[Tensor, ...]) -> None:
        updates = int(self.global_step.asnumpy()[0])
        rate = self.learning_rates[min(updates, len(self.learning_rates) - 1)]
        self.optimizer.update(np.flatnonzero(self.used[self.slots]).tolist(), gradients, float(rate))
        self.global_step.set_data(Tensor([updates + 1], ms.int32))

    def _note(self) -> None:
        """Puts all that decides the next paths where checkpoints find it."""
        used = np.flatnonzero(self.used).tolist()
        state = {"drawn": self.drawn, "held": self.held, "used": used, "sampler": self.sampler.get_state()}
        text = json.dumps(state).encode()
        if len(text) > STATE_BYTES:
            raise ValueError(f"the sampler's state takes {len(text)} bytes, more than {STATE_BYTES}")
        self.sampler_state.set_data(Tensor(np.frombuffer(text.ljust(STATE_BYTES, b"\0"), np.uint8).copy()))

    def _take_up(self) -> None:
        text = self.sampler_state.asnumpy().tobytes().rstrip(b"\0")
        if text:
            state = json.loads(text)
            self.drawn = state["drawn"]
            self.used[state["used"]] = True
            self.sampler.set_state(state["sampler"])
            self.held = state["held"] if "held" in state else self._held_of_old(self.drawn)
        self.is_taken_up = True

    def _held_of_old(self, drawn: int) -> int:
        """How many batches the window of an older checkpoint holds; its sums are still of scaled gradients."""
        held = drawn % self.accumulate
        if held:
            for total in self.gradients.sums:
                total.set_data(total * (1.0 / (float(self.gradients.loss_scale) * self.accumulate)))
        return held


class SupernetEvaluator:
    """Validation during training: the mean over a fixed set of paths, so that epochs can be compared.

    The smallest and the largest path that the last epoch may draw, and RANDOM_PATHS random ones.

    Args:
        evaluator: of the supernet, whatever its path.
        supernet: whose path is set.
        calibration: images for the batch-norm statistics.
        domain: of the last epoch.
        say: takes a line on every path.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        supernet: Supernet,
        calibration: EvalData,
        domain: Domain,
        seed: int,
        say: Callable[[str], None],
    ):
        self._evaluator, self._supernet, self._say = evaluator, supernet, say
        self._recalibration = Recalibration(supernet, keep_in_memory(calibration, supernet.space.input_size))
        self._tables = cost_tables(supernet.space)
        flops = self._tables["flops"]
        drawn = domain.sample(np.random.default_rng(seed), RANDOM_PATHS)
        self.paths = {
            "smallest": flops.extreme(domain, largest=False),
            "largest": flops.extreme(domain, largest=True),
            **{f"random {number}": genes for number, genes in enumerate(drawn, start=1)},
        }

    def run(self, data: EvalData, before_batch: Callable[[], None] = lambda: None) -> Evaluation:
        """Evaluates every path on ``data``; loss, top-1 and top-5 are means over the paths.

        Args:
            before_batch: as of :meth:`src.training.evaluation.Evaluator.run`.
        """
        found = []
        for name, genes in self.paths.items():
            with self._recalibration.of_path(genes) as images:
                result = self._evaluator.run(data, before_batch=before_batch)
            found.append(result)
            cost = self._tables["flops"].totals(genes[None])[0]
            self._say(f"path {name} ({cost:.4g} MFLOPs): loss {result.loss:.4f}, top-1 {result.top1:.2%}")
        self._say(f"batch-norm statistics from {images} images for each path")
        means = {key: float(np.mean([getattr(result, key) for result in found])) for key in ("loss", "top1", "top5")}
        return Evaluation(
            **means,
            images=found[0].images,
            total=found[0].total,
            images_per_second=float(np.mean([result.images_per_second for result in found])),
            confusion=None,
        )


class Parts(NamedTuple):
    """What a run of the supernet has of its own; everything else is as for any network."""

    network: Supernet
    step: SupernetStep
    evaluator: SupernetEvaluator


def parts_of(
    config: Config,
    loss: LabelSmoothedCrossEntropy,
    rates: np.ndarray,
    train_data: TrainData,
    preprocessing: Preprocessing,
    world: World,
    say: Callable[[str], None],
) -> Parts:
    """The supernet of the configuration, its step and its evaluation.

    Args:
        train_data: without the images held out; some of it gives the batch-norm statistics of a path.
        say: takes a line on every path that is evaluated.
    """
    if config.sync_batch_norm:
        raise UsageError("--sync_batch_norm is not for a supernet, whose paths get batch-norm statistics of their own")
    network = supernet_of(config, loss.num_classes)
    seed_dropout(network, config.seed, world.rank)
    if config.pretrained:
        load_checkpoint(config.pretrained, network)
    say(f"CPU operators: {operators_of(network, config, say)}")
    computing = apply_precision(network, config.amp_level)
    step = step_of(config, computing, network, loss, rates, train_data.steps_per_epoch, world)
    evaluator = evaluator_of(config, Evaluator(computing, loss), network, train_data.files, preprocessing, say)
    return Parts(network, step, evaluator)


def step_of(
    config: Config,
    network: nn.Cell,
    supernet: Supernet,
    loss: LabelSmoothedCrossEntropy,
    rates: np.ndarray,
    steps_per_epoch: int,
    world: World,
) -> SupernetStep:
    """The supernet's training step as the configuration says.

    Raises:
        UsageError: an optimizer the supernet cannot be trained with.
    """
    if config.optimizer == "rmsprop":
        raise UsageError("a supernet is trained with --optimizer momentum, sgd or nesterov")
    parameters = list(supernet.trainable_params())
    operators = operators_in(supernet)
    is_nesterov, decay = config.optimizer == "nesterov", (config.weight_decay, config.weight_decay_on)
    optimizer = PathSGD(parameters, config.momentum, is_nesterov, *decay, operators)
    return SupernetStep(
        network,
        supernet,
        loss,
        optimizer,
        sampler_of(config, supernet.space),
        steps_per_epoch,
        rates,
        loss_scale_mode=config.loss_scale_mode,
        loss_scale=config.loss_scale,
        scale_factor=config.scale_factor,
        scale_window=config.scale_window,
        grad_clip=config.grad_clip,
        accumulate=config.accumulate,
        all_finite=AllFinite(operators) if operators else ms.amp.all_finite,
        world_size=world.size,
    )


def evaluator_of(
    config: Config,
    evaluator: Evaluator,
    supernet: Supernet,
    train_files: Images,
    preprocessing: Preprocessing,
    say: Callable[[str], None],
) -> SupernetEvaluator:
    """The supernet's evaluation as the configuration says."""
    batch = config.eval_batch_size or config.batch_size
    images = calibration_images(train_files, config.calibration_images, config.seed)
    calibration = EvalData(images, preprocessing, min(batch, len(images)), config.workers)
    domain = schedule_of(config, supernet.space).domain(config.epochs - 1)
    return SupernetEvaluator(evaluator, supernet, calibration, domain, config.seed, say)
