"""Whose files are understood: by what each is recognised, how it names tensors, and in what it differs from ours."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import get_entry, mnasnet, shufflenetv1
from src.space.spaces import ONESHOT, S_PLUS, create_space
from src.weights import names

Arrays = Mapping[str, np.ndarray]

OURS_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
TORCH_NORM = ("weight", "bias", "running_mean", "running_var")
MXNET_NORM = ("gamma", "beta", "running_mean", "running_var")

# Images in BGR from 0 to 255, as megvii's networks take them, but for the order of the channels.
BYTES = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


class Identity(NamedTuple):
    """A network of ours: arguments of ``create_model`` but the classes, defaults left away."""

    model: str
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """Files of one origin for one kind of network.

    Attributes:
        name: as ``--source`` and ``--to`` take it.
        models: the networks of ours that it can be.
        anchors, strangers: names that each of its files has, and such as none has.
        cell: a cell of ours under its name, given the cells that are Xception-like blocks of SPOS.
        identify: which network the tensors are of.
        publisher: how ``Published.source`` of its accuracies begins.
        licence: of what it publishes.
        form: options under which our network computes what its does.
        norm: names of batch-norm's scale, shift, mean and variance.
        preprocessing: what its evaluation does otherwise than our network's entry says, by network.
        is_bgr: the channels of its images are in the other order.
        has_bias: its classifier has one; ours is zero where it has none.
        has_affine: its batch-norm has scale and shift; ours are one and zero where it has none.
        supernet: keys of the configuration that our supernet computes the same with; none of a single network.
        has_pixel_classifier: its classifier is a 1x1 convolution.
        has_separate_groups: each group of a 1x1 convolution is a convolution of its own.
    """

    name: str
    models: tuple[str, ...]
    anchors: tuple[str, ...]
    cell: Callable[[str, frozenset[str]], str]
    identify: Callable[[Arrays], Identity]
    publisher: str
    licence: str
    strangers: tuple[str, ...] = ()
    form: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    norm: tuple[str, str, str, str] = TORCH_NORM
    preprocessing: Callable[[Identity], Mapping[str, Any]] = lambda identity: {}
    is_bgr: bool = False
    has_bias: bool = True
    has_affine: bool = True
    supernet: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    has_pixel_classifier: bool = False
    has_separate_groups: bool = False

    def preprocessing_of(self, identity: Identity) -> Preprocessing:
        """What is done to an image before the network sees it, here as there."""
        own = get_entry(identity.model).preprocessing
        return dataclasses.replace(own, **self.preprocessing(identity))

    def is_of(self, held: Iterable[str]) -> bool:
        """Whether a file with tensors of these names is one of its."""
        held = set(held)
        return held.issuperset(self.anchors) and not held.intersection(self.strangers)


def _plain(cell: Callable[[str], str]) -> Callable[[str, frozenset[str]], str]:
    return lambda name, xception: cell(name)


def _mnasnet(stem: str, **form: Any) -> Callable[[Arrays], Identity]:
    def identify(arrays: Arrays) -> Identity:
        widths = {mnasnet.scaled(mnasnet.STEM_CHANNELS, alpha): alpha for alpha in mnasnet.ALPHAS}
        width = len(arrays[stem])
        if width not in widths:
            known = ", ".join(f"{channels} (alpha {alpha})" for channels, alpha in widths.items())
            raise UsageError(f"{stem} has {width} channels; MnasNet's stem has {known}")
        alpha = {} if widths[width] == 1.0 else {"alpha": widths[width]}
        return Identity("mnasnet", {**alpha, **form})

    return identify


def _shufflenetv1(project: str, **form: Any) -> Callable[[Arrays], Identity]:
    """``project``: name of the second unit's last convolution, whose outputs only one width has."""

    def identify(arrays: Arrays) -> Identity:
        outputs = sum(len(array) for name, array in arrays.items() if re.fullmatch(project, name))
        width = next((width for width in shufflenetv1.WIDTHS if width.stages[0] == outputs), None)
        if width is None:
            raise UsageError(f"its first stage has {outputs} channels, which no published ShuffleNetV1 has")
        options = {"groups": width.groups, "size": width.size, **form}
        defaults = {"groups": 3, "size": "2.0x"}
        return Identity("shufflenetv1", {key: value for key, value in options.items() if defaults.get(key) != value})

    return identify


def _alone(model: str) -> Callable[[Arrays], Identity]:
    return lambda arrays: Identity(model, {})


def _spos(block: Callable[[int], str], **form: Any) -> Callable[[Arrays], Identity]:
    """``block``: the beginning of the names of a position's main branch."""

    def identify(arrays: Arrays) -> Identity:
        layout, fields = _form(_main(block, 0, arrays)[1], arrays)
        space = create_space(layout, **fields)
        blocks, channels = [], []
        for number, position in enumerate(space.positions()):
            op, _, mid = _main(block, number, arrays)
            widths = [space.mid_channels(position.out_channels, index) for index in range(len(space.channel_scales))]
            if mid not in widths:
                raise UsageError(f"block {number} is {mid} channels wide inside; a network of SPOS has one of {widths}")
            blocks.append(op)
            channels.append(widths.index(mid))
        return _nearest(
            tuple(blocks), tuple(channels), {**fields, **({"layout": layout} if layout != "OneShot" else {}), **form}
        )

    return identify


def _form(projection: str, arrays: Arrays) -> tuple[str, dict[str, bool]]:
    """The layout of a space of SPOS, and its other fields.

    Args:
        projection: name of the last convolution of its first block.
    """
    first_width = len(arrays[projection]) + 16
    layout = {64: "OneShot", 48: "ShuffleNetV2+"}.get(first_width)
    if layout is None:
        raise UsageError(f"its first stage has {first_width} channels; those of SPOS have 64 or 48")
    has_se = any("channel_attention" in name for name in arrays)
    return layout, {"use_se": has_se, "last_conv_after_pooling": "features.24.bias" in arrays}


def _mxnet_supernet(arrays: Arrays) -> Identity:
    projection = "features.3.block_sn_3x3.main_branch.6.weight"
    if projection not in arrays:
        raise UsageError(f"{projection} is missing")
    layout, fields = _form(projection, arrays)
    is_other = {} if layout == "OneShot" else {"layout": layout}
    return Identity("spos_oneshot", {**is_other, **{key: True for key, value in fields.items() if value}})


def _main(block: Callable[[int], str], position: int, arrays: Arrays) -> tuple[int, str, int]:
    """The op of a block, the name of its last convolution, and its inner width."""
    start = block(position)
    first = arrays.get(f"{start}0.weight")
    if first is None or first.ndim != 4:
        raise UsageError(f"{start}0.weight is missing")
    places = list((names.SXB_PLACES if first.shape[-1] > 1 else names.SNB_PLACES).values())
    for place in places:
        if (name := f"{start}{place}.weight") not in arrays or arrays[name].ndim != 4:
            raise UsageError(f"{name} is missing")
    kernel = arrays[f"{start}{places[1]}.weight"].shape[-1]
    op = 3 if len(places) == 6 else {3: 0, 5: 1, 7: 2}.get(kernel, -1)
    if op < 0:
        raise UsageError(f"{start}{places[1]}.weight is of size {kernel}; SPOS has 3, 5 and 7")
    inner = places[1] if op == 3 else places[0]
    return op, f"{start}{places[-1]}.weight", len(arrays[f"{start}{inner}.weight"])


def _nearest(blocks: tuple[int, ...], channels: tuple[int, ...], fields: dict[str, Any]) -> Identity:
    """The registered network with that path, or the plain one with all that differs."""
    tail = fields["use_se"] and fields["last_conv_after_pooling"]
    is_s_plus = tail and (blocks, channels) == S_PLUS
    model = "spos_oneshot_s_plus" if is_s_plus else "spos_oneshot_plus" if tail else "spos_oneshot"
    path = S_PLUS if is_s_plus else ONESHOT
    options = {key: value for key, value in fields.items() if value is not False and not (tail and value is True)}
    if blocks != path.blocks:
        options["block_choices"] = ",".join(map(str, blocks))
    if channels != path.channels:
        options["channel_choices"] = ",".join(map(str, channels))
    return Identity(model, options)


SPOS = ("spos_oneshot", "spos_oneshot_plus", "spos_oneshot_s_plus")


def _spos_cell(cell: Callable[[str, bool], str]) -> Callable[[str, frozenset[str]], str]:
    return lambda name, xception: cell(name, ".".join(name.split(".")[:3]) in xception)


def _torchvision_images(identity: Identity) -> dict[str, Any]:
    """The two widths that came later were evaluated on images of 232 pixels."""
    return {"resize": 232} if identity.options.get("alpha") in (0.75, 1.3) else {}


MODEL_ZOO = "Apache-2.0"
SOURCES = (
    Source(
        "torchvision",
        ("mnasnet",),
        ("layers.0.weight", "layers.8.0.layers.0.weight"),
        _plain(names.torchvision),
        _mnasnet("layers.0.weight"),
        "torchvision",
        "BSD-3-Clause",
        form={"bn_eps": 1e-5},
        preprocessing=_torchvision_images,
    ),
    Source(
        "timm",
        ("mnasnet",),
        ("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.5.3.conv_pwl.weight"),
        _plain(names.timm_mnasnet),
        _mnasnet("conv_stem.weight"),
        "timm",
        "Apache-2.0",
        strangers=("blocks.4.3.conv_pwl.weight",),
        form={"bn_eps": 1e-5},
        preprocessing=lambda identity: {"interpolation": "bicubic"},
    ),
    Source(
        "timm",
        ("spnasnet",),
        ("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.4.3.conv_pwl.weight"),
        _plain(names.timm_spnasnet),
        _alone("spnasnet"),
        "timm",
        "Apache-2.0",
        preprocessing=lambda identity: {"resize_kernel": "pil"},
    ),
    Source(
        "proxylessnas",
        ("proxylessnas_mobile",),
        ("first_conv.conv.weight", "blocks.0.mobile_inverted_conv.depth_conv.conv.weight"),
        _plain(names.proxylessnas),
        _alone("proxylessnas_mobile"),
        "mit-han-lab",
        "MIT",
        preprocessing=lambda identity: {"resize_kernel": "pil"},
    ),
    Source(
        "megvii",
        ("shufflenetv1",),
        ("first_conv.0.weight", "features.0.branch_main_1.3.weight", "features.0.branch_main_2.0.weight"),
        _plain(names.megvii_shufflenet),
        _shufflenetv1(r"features\.1\.branch_main_2\.0\.weight", shuffle="after"),
        "megvii",
        "MIT",
        form={"shuffle": "after", "pooling": "symmetric"},
        preprocessing=lambda identity: {**BYTES, "resize": 256},
        is_bgr=True,
        has_bias=False,
    ),
    Source(
        "megvii",
        SPOS,
        ("first_conv.0.weight", "features.0.branch_main.0.weight", "conv_last.0.weight"),
        _spos_cell(names.megvii_spos),
        _spos(lambda position: f"features.{position}.branch_main.", shuffle="megvii"),
        "megvii",
        "MIT",
        form={"shuffle": "megvii", "use_se": False, "last_conv_after_pooling": False},
        preprocessing=lambda identity: {**BYTES, "resize_kernel": "mindspore"},
        is_bgr=True,
        has_bias=False,
    ),
    Source(
        "mxnet",
        SPOS,
        ("features.0.weight", "features.3.main_branch.0.weight"),
        _spos_cell(names.mxnet_spos),
        _spos(lambda position: f"features.{3 + position}.main_branch."),
        "CanyonWind",
        "none stated",
        form={"shuffle": "mxnet"},
        norm=MXNET_NORM,
        has_pixel_classifier=True,
    ),
    Source(
        "megvii",
        SPOS,
        ("first_conv.0.weight", "features.0.0.branch_main.0.weight", "conv_last.0.weight"),
        _plain(names.megvii_supernet),
        lambda arrays: Identity("spos_oneshot", {"layout": "blocks", "shuffle": "megvii"}),
        "megvii",
        "MIT",
        form={"layout": "blocks", "shuffle": "megvii", "use_se": False, "last_conv_after_pooling": False},
        preprocessing=lambda identity: {**BYTES, "resize_kernel": "mindspore"},
        is_bgr=True,
        has_bias=False,
        has_affine=False,
        supernet={"train_supernet": True, "supernet_affine": False},
    ),
    Source(
        "mxnet",
        SPOS,
        ("features.0.weight", "features.3.block_sn_3x3.main_branch.0.weight"),
        _plain(names.mxnet_supernet),
        _mxnet_supernet,
        "CanyonWind",
        "none stated",
        form={"shuffle": "mxnet"},
        norm=MXNET_NORM,
        has_pixel_classifier=True,
        supernet={"train_supernet": True, "supernet_masking": "upstream"},
    ),
    Source(
        "mindspore",
        ("spnasnet",),
        ("0.conv1.conv.weight", "5.conv1.exp_conv.conv.weight"),
        _plain(names.mindspore_spnasnet),
        _alone("spnasnet"),
        "MindSpore model zoo",
        MODEL_ZOO,
        norm=OURS_NORM,
    ),
    Source(
        "mindspore",
        ("proxylessnas_mobile",),
        ("init_block.conv.weight", "stage5.unit5.body.pw_conv.conv.weight"),
        _plain(names.mindspore_proxylessnas),
        _alone("proxylessnas_mobile"),
        "MindSpore model zoo",
        MODEL_ZOO,
        norm=OURS_NORM,
    ),
    Source(
        "mindspore",
        ("shufflenetv1",),
        ("first_conv.0.weight", "features.0.branch_main_2.2.convs.0.weight"),
        _plain(names.mindspore_shufflenet),
        _shufflenetv1(r"features\.1\.branch_main_2\.2\.convs\.\d+\.weight", pooling="same"),
        "MindSpore model zoo",
        MODEL_ZOO,
        form={"pooling": "same", "shuffle": "before"},
        norm=OURS_NORM,
        has_separate_groups=True,
    ),
    Source(
        "mindcv",
        ("shufflenetv1",),
        ("first_conv.0.weight", "features.0.branch_main_2.2.weight"),
        _plain(names.mindspore_shufflenet),
        _shufflenetv1(r"features\.1\.branch_main_2\.2\.weight", pooling="same"),
        "mindcv",
        "Apache-2.0",
        form={"pooling": "same", "shuffle": "before"},
        norm=OURS_NORM,
        preprocessing=lambda identity: {"resize": 256},
        has_bias=False,
    ),
    Source(
        "mindcv",
        ("mnasnet",),
        ("features.0.weight", "features.8.layers.0.weight"),
        _plain(names.mindcv_mnasnet),
        _mnasnet("features.0.weight", bn_eps=1e-3),
        "mindcv",
        "Apache-2.0",
        form={"bn_eps": 1e-3},
        norm=OURS_NORM,
        preprocessing=lambda identity: {"resize_kernel": "mindspore"},
    ),
)
NAMES = tuple(dict.fromkeys(source.name for source in SOURCES))


def target(name: str, model: str) -> Source:
    """The form ``name`` that ``--to`` asks for network ``model``. Raises UsageError where it has none."""
    for source in SOURCES:
        if source.name == name and model in source.models:
            return source
    known = ", ".join(source.name for source in SOURCES if model in source.models)
    raise UsageError(f"--to {name}: {name} has no {model}; it can be {known}, or ours")
