"""From a configuration to the parts of a supernet's run: space, network, sampler, images, step, evaluation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn

from src.cpu import operators_in, use_operators
from src.data.dataset import EvalData, TrainData
from src.data.folders import Images
from src.data.preprocessing import Preprocessing
from src.data.split import HELD_OUT_FILE, Split
from src.errors import UsageError
from src.machine.ranks import World
from src.models import one_of, options_of, share
from src.models.layers import seed_dropout
from src.runs.folder import stored_split
from src.settings.config import Config
from src.settings.sections import Machine
from src.settings.sections import Supernet as SupernetKeys
from src.space.constraints import read_bounds
from src.space.sampler import ChannelSchedule, PathSampler, create_sampler, read_stroll
from src.space.spaces import SHUFFLES, Space, create_space
from src.supernet.network import Supernet
from src.supernet.path_evaluation import SupernetEvaluator
from src.supernet.path_sgd import PathSGD
from src.supernet.path_step import SupernetStep
from src.training.evaluation import Evaluator
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.one_pass import AllFinite
from src.training.step import apply_precision
from src.weights.loading import load_checkpoint

_log = logging.getLogger(__name__)

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
    one_of("shuffle", fields["shuffle"], SHUFFLES)
    if image_size:
        fields["input_size"] = image_size
    return create_space(fields.pop("layout"), num_classes=num_classes, **fields)


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


def operators_of(network: Supernet, config: Machine) -> str:
    """Gives ``network`` the CPU operators of the configuration, and returns which."""
    mode = config.cpu_operators if config.amp_level == "O0" else "standard"
    return use_operators(network, mode)


def schedule_of(config: SupernetKeys, space: Space) -> ChannelSchedule:
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
    return create_sampler(
        config.path_sampler,
        schedule_of(config, space),
        config.seed,
        config.epochs,
        bounds=read_bounds(config.path_constraints),
        stroll=read_stroll(config.stroll),
        bins=config.flops_bins,
    )


def held_out_of(files: Images, config: SupernetKeys, seed: int, checkpoint: Path | None) -> Split:
    """Which images train the supernet and which are held out for the search: of every class the same share.

    Args:
        seed: of the draw.
        checkpoint: of a run that has drawn already: its images stay what they are.

    Raises:
        UsageError: a class has too few images to give any.
    """
    if checkpoint and (stored := stored_split(checkpoint, HELD_OUT_FILE)):
        return stored
    try:
        return Split.drawn(files, config.search_holdout, seed)
    except UsageError as error:
        raise UsageError(f"search_holdout: {error}") from error


def calibration_images(files: Images, count: int, seed: int) -> Images:
    """``count`` of ``files`` (all, if there are no more), drawn from ``seed``, in the drawn order."""
    order = np.random.default_rng([seed, len(files)]).permutation(len(files))[:count]
    return [files[index] for index in order]


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
) -> Parts:
    """The supernet of the configuration, its step and its evaluation.

    Args:
        train_data: without the images held out; some of it gives the batch-norm statistics of a path.
    """
    if config.freeze or config.layer_decay != 1 or config.freeze_batch_norm == "all":
        raise UsageError("freeze, freeze_batch_norm and layer_decay are for one network, not for a supernet")
    if config.sync_batch_norm:
        raise UsageError("--sync_batch_norm is not for a supernet, whose paths get batch-norm statistics of their own")
    network = supernet_of(config, loss.num_classes)
    seed_dropout(network, config.seed, world.rank)
    if config.pretrained:
        load_checkpoint(config.pretrained, network)
    _log.info(f"CPU operators: {operators_of(network, config)}")
    computing = apply_precision(network, config.amp_level)
    step = step_of(config, computing, network, loss, rates, train_data.steps_per_epoch)
    evaluator = evaluator_of(config, Evaluator(computing, loss), network, train_data.files, preprocessing)
    return Parts(network, step, evaluator)


def step_of(
    config: Config,
    network: nn.Cell,
    supernet: Supernet,
    loss: LabelSmoothedCrossEntropy,
    rates: np.ndarray,
    steps_per_epoch: int,
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
        config,
        all_finite=AllFinite(operators) if operators else ms.amp.all_finite,
    )


def evaluator_of(
    config: Config,
    evaluator: Evaluator,
    supernet: Supernet,
    train_files: Images,
    preprocessing: Preprocessing,
) -> SupernetEvaluator:
    """The supernet's evaluation as the configuration says."""
    batch = config.eval_batch_size or config.batch_size
    images = calibration_images(train_files, config.calibration_images, config.seed)
    calibration = EvalData(images, preprocessing, min(batch, len(images)), config.workers)
    domain = schedule_of(config, supernet.space).domain(config.epochs - 1)
    return SupernetEvaluator(evaluator, supernet, calibration, domain, config.seed)
