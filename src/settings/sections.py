"""The schema: every key of a run once, with its type, default, meaning, limits and choices.

A key is one line of the section it belongs to; what uses it takes that section and reads it. A :class:`Config`
(src/settings/config.py) is all sections at once, so it serves wherever one of them is asked for, and a test writes
``Schedule(lr=1.5)``. From these lines come default_config.yaml, the JSON Schema of the recipes and every ``--help``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.settings.values import (
    Number,
    Numbers,
    Options,
    Switch,
    Text,
    Whole,
    WholeNumbers,
    Words,
    as_mapping,
    as_whole_number,
)


class Section(BaseModel):
    """Keys that belong together; they do not change once they are set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __getitem__(self, key: str) -> Any:
        """The value of a key whose name is a value itself."""
        if key not in type(self).model_fields:
            raise KeyError(key)
        return getattr(self, key)


def _key(default: Any, meaning: str, **limits: Any) -> Any:
    return Field(default, description=meaning, **limits)


def _size(value: int) -> int:
    if value and not MIN_IMAGE_SIZE <= value <= MAX_IMAGE_SIZE:
        raise ValueError(f"is {value}; it must be 0 or from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}")
    return value


CLASSIFIER = "classifier"  # in `freeze`, beside numbers of stages


def _freeze(given: Any) -> dict[str, int]:
    """``{classifier: 2, 3: 4}`` in the order of the run, its stages as text. Raises ValueError for anything else."""
    value = as_mapping(given)
    try:
        read = [
            (0 if stage == CLASSIFIER else as_whole_number(stage), as_whole_number(value[stage])) for stage in value
        ]
    except ValueError:
        read = [(-1, 0)]
    numbers = dict(sorted(read))
    if len(numbers) < len(value) or any(stage < (CLASSIFIER not in value) or epochs < 1 for stage, epochs in read):
        raise ValueError(
            f"is {value}; it must say what trains for how many epochs before all does: {{{CLASSIFIER}: 2, 3: 4}} is the "
            f"classifier alone for 2, then the last 3 stages with it for 4"
        )
    return {str(stage or CLASSIFIER): epochs for stage, epochs in numbers.items()}


def _holds(*lengths: int) -> Callable[[list], list]:
    def check(value: list) -> list:
        if len(value) not in lengths:
            raise ValueError(f"is {value}; it must hold {lengths[-1]} numbers")
        return value

    return check


Freezing = Annotated[dict[str, int], BeforeValidator(_freeze)]


def _rising(value: list[float]) -> list[float]:
    """The smallest, then the largest of something that has to be there at all."""
    if not 0 < value[0] <= value[1]:
        raise ValueError(f"is {value}; it must be the smallest, above 0, and the largest")
    return value


def _shares(value: list[float]) -> list[float]:
    if value[1] > 1:
        raise ValueError(f"is {value}; no share is above 1")
    return value


def _of_pixels(value: list[float]) -> list[float]:
    """Of channels whose values lie from 0 to 1; others count them from 0 to 255."""
    if max(value, default=0) > 1:
        raise ValueError(f"is {value}; pixels are from 0 to 1 here{', so divide by 255' if max(value) <= 255 else ''}")
    if min(value, default=0) < 0:
        raise ValueError(f"is {value}; none can be below 0")
    return value


def _divisors(value: list[float]) -> list[float]:
    if 0 in value:
        raise ValueError(f"is {value}; channels are divided by it, so none can be 0")
    return value


def _jitter(value: list[float]) -> list[float]:
    if min(value) < 0 or value[3] > 0.5:
        raise ValueError(f"is {value}; none is below 0, and a hue turns by 0.5, half the circle, at most")
    return value


def _epochs(value: list[int]) -> list[int]:
    if any(later <= earlier for earlier, later in zip([0, *value], value, strict=False)):
        raise ValueError(f"is {value}; it must be epochs from 1 on, each above the one before")
    return value


def _bins(value: list[float]) -> list[float]:
    low, high, width = value
    if not (0 <= low < high and 0 < width <= high - low):
        raise ValueError(f"is {value}; it must be the lowest, a higher, and a width that fits between them")
    return value


def _indices(value: list[int]) -> list[int]:
    if min(value, default=0) < 0:
        raise ValueError(f"is {value}; choices are counted from 0")
    return value


Side = Annotated[Whole, AfterValidator(_size)]
Mean = Annotated[Numbers, AfterValidator(_holds(0, 3)), AfterValidator(_of_pixels)]
Std = Annotated[Mean, AfterValidator(_divisors)]
Range = Annotated[Numbers, AfterValidator(_holds(2)), AfterValidator(_rising)]
Shares = Annotated[Range, AfterValidator(_shares)]
Bins = Annotated[Numbers, AfterValidator(_holds(3)), AfterValidator(_bins)]
Jitter = Annotated[Numbers, AfterValidator(_holds(4)), AfterValidator(_jitter)]
Epochs = Annotated[WholeNumbers, AfterValidator(_epochs)]
Indices = Annotated[WholeNumbers, AfterValidator(_indices)]

# Below, one key is one line, however long: the table is read by its columns.
# fmt: off
# ruff: noqa: E501


class Network(Section):
    """network"""

    model: Text = _key("", "name in the registry: `python summary.py` lists them")
    model_options: Options = _key({}, "arguments of the network, e.g. {alpha: 0.5}; also --model_options.alpha 0.5")
    num_classes: Whole = _key(0, "(0: the number of class folders of the training set)", ge=0, le=2**20)


class Data(Section):
    """data and preprocessing"""

    data_path: Text = _key("", "training images: the folder with train/ and val/, or the train folder itself")
    val_data_path: Text = _key("", 'validation images, same forms ("": val/ beside or below data_path, if there)')
    image_size: Side = _key(0, f"side of the network's input in pixels, {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} (0: the network's own)")
    eval_resize: Whole = _key(0, "short side in pixels before the central crop (0: the network's own, scaled to image_size)", ge=0, le=4096)
    interpolation: Literal["", "bilinear", "bicubic"] = _key("", 'of the resize ("": the network\'s own)')
    resize_kernel: Literal["", "mindspore", "pil"] = _key("", 'evaluation resize: mindspore (no antialiasing), pil (antialiased) ("": the network\'s own)')
    mean: Mean = _key([], "per channel, 0 to 1 ([]: the network's own)")
    std: Std = _key([], "per channel, 0 to 1 ([]: the network's own)")
    batch_size: Whole = _key(32, "images per step and device", ge=1, le=2**20)
    eval_batch_size: Whole = _key(0, "images per evaluation step and device (0: batch_size)", ge=0, le=2**20)
    workers: Whole = _key(8, "data threads per process, at most the CPUs present", ge=1)
    check_data: Switch = _key(True, "decode every image once beforehand and name the bad ones")
    skip_bad_images: Switch = _key(False, "leave out what the check rejects instead of refusing to go on")
    max_image_pixels: Whole = _key(89478485, "pixels; a larger image is rejected by the check", ge=1)


class Augmentation(Section):
    """training images"""

    drop_remainder: Switch = _key(True, "leave out an epoch's last, smaller batch; evaluation never does")
    crop_scale: Shares = _key([0.08, 1.0], "random resized crop: smallest and largest share of the image's area")
    crop_ratio: Range = _key([0.75, 4 / 3], "random resized crop: smallest and largest width/height")
    horizontal_flip: Number = _key(0.5, "probability", ge=0, le=1)
    color_jitter: Jitter = _key([0.0, 0.0, 0.0, 0.0], "largest change of brightness, contrast, saturation, hue")
    pca_noise: Number = _key(0.0, "standard deviation of AlexNet's lighting noise, along the colours' principal components (0: off)", ge=0)
    cutout: Switch = _key(False, "black out one random square of each training image")
    cutout_length: Whole = _key(56, "side of that square in pixels", ge=1, le=4096)
    cutout_position: Literal["upstream", "normalized"] = _key("upstream", "upstream: on the cropped bytes, before flip and jitter; normalized: after normalisation")


class Loss(Section):
    """loss"""

    label_smoothing: Number = _key(0.1, "epsilon of the smoothed target (0: plain cross entropy)", ge=0, lt=1)
    label_smoothing_form: Literal["uniform", "others"] = _key("uniform", "uniform: epsilon/K on every class; others: epsilon/(K-1) on the wrong classes")


class Optimizer(Section):
    """optimizer"""

    optimizer: Literal["momentum", "sgd", "nesterov", "rmsprop"] = _key("momentum", "rmsprop is TensorFlow's form")
    momentum: Number = _key(0.9, "share of the old velocity that is kept", ge=0, lt=1)
    weight_decay: Number = _key(1e-5, "L2 factor added to the gradient", ge=0)
    weight_decay_on: Literal["weights", "weights_and_biases", "all"] = _key("weights", "weights: kernels only; weights_and_biases: all but batch norm; all: batch norm too")
    rms_decay: Number = _key(0.9, "rmsprop: share of the old mean square", ge=0, le=1)
    rms_epsilon: Number = _key(1e-3, "rmsprop: added to the mean square under the root", gt=0)


class Schedule(Section):
    """learning rate"""

    epochs: Whole = _key(1, "length of the run", ge=1)
    lr: Number = _key(0.1, "peak", ge=0)
    lr_schedule: Literal["cosine", "cosine_epoch", "cosine_staircase", "two_phase_cosine", "steps", "steps_decay", "linear", "poly", "exponential", "milestone", "constant"] = _key("cosine", "cosine: per step; the others as src/training/lr_schedule.py says")
    lr_init: Number = _key(0.0, "value before the first warm-up step", ge=0)
    lr_end: Number = _key(0.0, "value the decay ends on", ge=0)
    warmup_epochs: Whole = _key(0, "linear warm-up, part of epochs", ge=0)
    lr_epochs: Epochs = _key([30, 60, 90], "milestone: epochs at which the rate is multiplied")
    lr_gamma: Number = _key(0.3, "milestone: the factor at each of lr_epochs; exponential: the factor per epoch", ge=0)
    lr_tail_epochs: Whole = _key(60, "two_phase_cosine: length of the second phase, at a tenth of the last rate", ge=0)
    lr_scaling: Literal["none", "linear"] = _key("none", "linear: times devices * batch_size * accumulate / lr_scaling_base")
    lr_scaling_base: Whole = _key(256, "images: total batch for which lr is meant, used by lr_scaling: linear", ge=1)


class Update(Section):
    """gradients and their scale"""

    grad_clip: Number = _key(0.0, "largest global L2 norm of the unscaled gradient (0: off)", ge=0)
    accumulate: Whole = _key(1, "batches whose gradients are averaged into one update", ge=1)
    loss_scale_mode: Literal["none", "fixed", "dynamic"] = _key("none", "for float16, whose small gradients would vanish")
    loss_scale: Number = _key(1024.0, "the factor, or the first one when dynamic", ge=1, le=2**64)
    scale_factor: Whole = _key(2, "dynamic: divide by this on overflow, multiply after scale_window good updates", ge=2, le=1024)
    scale_window: Whole = _key(2000, "dynamic: updates", ge=1, le=2**31 - 1)


class Machine(Section):
    """device and precision"""

    device_target: Literal["auto", "CPU", "GPU", "Ascend"] = _key("auto", "auto: the best there is")
    device_id: Whole = _key(0, "card, where there are several (the environment's DEVICE_ID wins when distributed)", ge=0, le=4095)
    is_distributed: Switch = _key(False, "data parallel: start the program through msrun or mpirun")
    mode: Literal["graph", "pynative"] = _key("graph", "how the framework runs the network")
    deterministic: Switch = _key(True, "ask the framework for deterministic kernels")
    seed: Whole = _key(1, "of weights, data order, augmentation, dropout", ge=0, le=2**31 - 1)
    amp_level: Literal["O0", "O1", "O2", "O3"] = _key("O0", "O0 float32; O1 float16 for safe operators; O2 float16 but batch norm; O3 float16")
    cpu_operators: Literal["auto", "fused", "standard"] = _key("auto", "convolutions on the CPU: fused (C++, built on first use), standard (MindSpore's)")


class Folder(Section):
    """run folder"""

    run_dir: Text = _key("", 'where everything of the run goes ("": runs/<recipe>-<time>)')
    resume: Text = _key("", "run folder or checkpoint to go on from, or auto: the newest good one in run_dir")


class Running(Section):
    """training run"""

    pretrained: Text = _key("", "checkpoint whose weights start the run, ours or upstream's, or a run for its best; a classifier for other classes starts afresh")
    val_share: Number = _key(0.0, "share of each class's training images that validates where there is no val folder (0: none)", ge=0, lt=1)
    max_steps: Whole = _key(0, "stop after so many updates in all (0: no limit)", ge=0)
    sync_batch_norm: Switch = _key(False, "data parallel: batch-norm statistics over all ranks' images instead of each rank's")
    sink: Literal["auto", "on", "off"] = _key("auto", "a whole epoch on the device; auto: on for Ascend and GPU")
    keep_checkpoint_max: Whole = _key(5, "newest checkpoints kept, besides the best", ge=1)
    save_checkpoint_epochs: Whole = _key(1, "epochs between checkpoints", ge=1)
    save_checkpoint_steps: Whole = _key(0, "updates between checkpoints inside an epoch (0: off)", ge=0)
    eval_epochs: Whole = _key(1, "epochs between evaluations (0: only after the last)", ge=0)
    early_stop: Whole = _key(0, "stop after so many evaluations without a better top-1 (0: off)", ge=0)
    log_steps: Whole = _key(0, "steps between loss lines (0: ten an epoch)", ge=0)
    measure_speed: Switch = _key(False, "no evaluation; the last line is FPS, images/s without each epoch's first two steps")
    tensorboard: Switch = _key(False, "write TensorBoard event files into the run folder as well")


class Checkpoint(Section):
    """trained network"""

    checkpoint_path: Text = _key("", "a checkpoint, a folder of checkpoints, or a run folder")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a model's deprecated method json() makes room for our key

    class Results(Section):
        """results"""

        json: Text = _key("", "file for the results as JSON")


class Evaluation(Section):
    """evaluation"""

    per_class: Switch = _key(False, "per-class table and confusion matrix beside the checkpoint's results")
    csv: Text = _key("", "file for the results as CSV, one row per checkpoint")


class Prediction(Section):
    """predictions"""

    images: Words = _key([], "image files, folders of them, patterns such as photos/*.jpg; predict.py takes them without the flag too")
    sheet: Text = _key("", "file for a contact sheet (PNG): the images with what is said of them")


class Depth(Section):
    """fine-tuning"""

    freeze: Freezing = _key({}, "what trains before all does: {classifier: 2, 3: 4} is the classifier for 2 epochs, then the last 3 stages too for 4")
    freeze_batch_norm: Literal["stages", "all", "none"] = _key("stages", "whose moving statistics stay and normalise: of stages while they are frozen, of all, or of none")
    layer_decay: Number = _key(1.0, "learning rate of a stage over that of the one behind it, the classifier's being lr", gt=0, le=1)


class Supernet(Section):
    """search space and supernet (model: spos_...; its model_options say which space)"""

    train_supernet: Switch = _key(False, "train the whole space instead of one path of it")
    supernet_masking: Literal["exact", "upstream"] = _key("exact", "exact: a path computes what the network on its own does; upstream: 1x1 outputs only")
    supernet_rounded: Switch = _key(False, "mask to widths rounded up to multiples of 8, as upstream's plain training does")
    supernet_affine: Switch = _key(True, "batch-norm of the supernet learns scale and shift (megvii's does not)")
    path_sampler: Literal["uniform", "random", "strolling", "binned", "fair", "sandwich"] = _key("uniform", "random draws within path_constraints")
    path_constraints: Options = _key({}, "random: {flops: [190, 330], params: [2.8, 5.0]} in M, 0: unbounded")
    stroll: Options = _key({}, "strolling: constants that differ from upstream's, e.g. {flops_high: 330, flops_low: 190}")
    flops_bins: Bins = _key([290.0, 360.0, 10.0], "binned: lowest, highest, width in MFLOPs")
    channel_start_epoch: Whole = _key(-1, "0-based epoch from which channels are drawn too (-1: never, blocks only)", ge=-1)
    channel_warm_up: Switch = _key(True, "then widen the range of channels step by step")
    ignore_first_two_cs: Switch = _key(False, "never draw the two smallest channel scales")
    channel_fixed: Whole = _key(-1, "channel index before that epoch (-1: the largest)", ge=-1)
    calibration_images: Whole = _key(20000, "training images for the batch-norm statistics of one path, at most those there are", ge=1)
    search_holdout: Number = _key(0.1, "share of each class's training images kept from the supernet, for the search to score on", ge=0, le=1)


class Search(Section):
    """architecture search"""

    supernet: Text = _key("", "run folder or checkpoint of a trained supernet")
    search_method: Literal["genetic", "megvii", "random", "pareto"] = _key("genetic", "pareto is NSGA-II")
    search_scope: Literal["joint", "blocks", "channels", "blocks_then_channels", "channels_then_blocks"] = _key("joint", "what is searched, and in which order")
    fixed_block_choices: Indices = _key([], "blocks held while channels are searched ([]: the first block everywhere)")
    fixed_channel_choices: Indices = _key([], "channels held while blocks are searched ([]: scale 1.0, or the next above)")
    search_constraints: Options = _key({}, "{flops: [low, high], params: ..., macs: ..., score: ..., latency: ..., flops_ratio: ..., params_ratio: ...}, M, ms or shares of comparison_model's, 0: unbounded")
    search_target: Literal["accuracy", "balanced"] = _key("accuracy", "balanced: accuracy less score_ratio times the normalised score")
    score_ratio: Number = _key(1.0, "weight of the score in search_target: balanced", ge=0)
    comparison_model: Text = _key("SinglePathOneShot", "SinglePathOneShot, MobileNetV3_large, MobileNetV2_1.4 or ShuffleNetV2+_medium")
    search_objectives: Words = _key(["flops"], "pareto: costs to minimise besides the error")
    search_population: Whole = _key(50, "paths in a generation; random: all paths", ge=1)
    search_generations: Whole = _key(20, "generations (random: one)", ge=1)
    search_retain: Whole = _key(10, "genetic: fittest that stay; megvii: fittest that breed", ge=1)
    search_survive: Number = _key(0.1, "genetic: chance of every other path to stay", ge=0, le=1)
    search_mutation: Number = _key(0.1, "chance of a gene to be drawn anew", ge=0, le=1)
    search_on: Literal["held_out", "validation"] = _key("held_out", "images that score a path: held_out (of the training set) or validation")
    search_top: Whole = _key(3, "best paths that are listed with a recipe each", ge=1)
    search_recipe: Text = _key("", 'recipe whose training settings best.yaml takes over ("": the supernet run\'s)')
    latency_table: Text = _key("", "file of python -m src.supernet.latency, for constraints and objectives on latency")


# fmt: on
SECTIONS: tuple[type[Section], ...] = (
    Network,
    Data,
    Augmentation,
    Loss,
    Optimizer,
    Schedule,
    Update,
    Machine,
    Folder,
    Running,
    Depth,
    Supernet,
    Checkpoint,
    Results,
    Evaluation,
    Prediction,
    Search,
)
# Whose keys a program has a use for; those of the others it refuses.
PROGRAMS: dict[str, tuple[type[Section], ...]] = {
    "train": (
        Network, Data, Augmentation, Loss, Optimizer, Schedule, Update, Machine, Folder, Running, Depth, Supernet,
    ),
    "eval": (Network, Data, Loss, Machine, Checkpoint, Results, Evaluation),
    "predict": (Network, Data, Machine, Checkpoint, Results, Prediction),
    "export": (Network, Data, Machine, Checkpoint),
    "search": (Network, Data, Machine, Folder, Supernet, Search),
}  # fmt: skip
