"""The cells of our networks under the names that others give them: pure functions of a name.

A cell is a convolution, a batch-norm or a classifier: ``features.stage2.0.expand.conv``. What others' files hold of it
is its name and, behind a dot, ``weight`` or the name that their framework has for it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MNASNET_UNITS = (3, 3, 3, 2, 4, 1)  # inverted bottlenecks of the stages behind the first
SHUFFLENET_UNITS = (4, 8, 4)
SPOS_BLOCKS = (4, 4, 8, 4)
# The convolutions of a SPOS block in their order.
SNB = ("expand", "depthwise", "project")
SXB = ("depthwise1", "expand", "depthwise2", "mix", "depthwise3", "project")
# Where they, and behind each its batch-norm, stand in others' sequences; activations take the places between.
SNB_PLACES = dict(zip(SNB, (0, 3, 5), strict=True))
SXB_PLACES = dict(zip(SXB, (0, 2, 5, 7, 10, 12), strict=True))
SHORTCUT_PLACES = {"depthwise": 0, "project": 2}
XCEPTION = 3  # the Xception-like among the ops of SPOS
# CanyonWind's supernet: names of the ops, and what stands first behind each of their channel selectors.
OP_NAMES = ("block_sn_3x3", "block_sn_5x5", "block_sn_7x7", "block_sx_3x3")
SELECTORS = ((1,), (1,), (1,), (3, 8))


class Cell(NamedTuple):
    """A name of ours in its parts; ``stage`` is -1 outside the stages.

    Attributes:
        part: of a unit (``expand``), or outside the stages what is left of the name (``stem``).
        is_norm: a batch-norm.
    """

    stage: int
    unit: int
    part: str
    is_norm: bool


def cell_of(name: str) -> Cell:
    """``features.stage2.0.expand.norm`` in its parts."""
    is_norm = name.endswith(".norm")
    if match := re.fullmatch(r"features\.stage(\d+)\.(\d+)\.(.+)\.(conv|norm)", name):
        return Cell(int(match[1]), int(match[2]), match[3], is_norm)
    outside = re.sub(r"\.(conv|norm)$", "", name.removeprefix("features."))
    return Cell(-1, 0, outside, is_norm)


def torchvision(name: str) -> str:
    """MnasNet as one sequence of ``layers``."""
    cell = cell_of(name)
    if cell.stage > 0:
        return f"layers.{7 + cell.stage}.{cell.unit}.layers.{_bottleneck_place(cell)}"
    return _flat(cell, "layers.", {"stem": 0, "head": 14}) or "classifier.1"


def mindcv_mnasnet(name: str) -> str:
    """The same in ``features``, its units one after the other."""
    cell = cell_of(name)
    if cell.stage > 0:
        unit = sum(MNASNET_UNITS[: cell.stage - 1]) + cell.unit
        return f"features.{8 + unit}.layers.{_bottleneck_place(cell)}"
    return _flat(cell, "features.", {"stem": 0, "head": 24}) or "classifier"


def _bottleneck_place(cell: Cell) -> int:
    return {"expand": 0, "depthwise": 3, "project": 6}[cell.part] + cell.is_norm


def _flat(cell: Cell, sequence: str, ends: dict[str, int]) -> str:
    """The name of the stem, of the separable unit behind it, and of the head."""
    if cell.stage == 0:
        return f"{sequence}{_bottleneck_place(cell)}"
    return f"{sequence}{ends[cell.part] + cell.is_norm}" if cell.part in ends else ""


def timm_mnasnet(name: str) -> str:
    """timm's builder for networks of inverted bottlenecks; its blocks are our stages."""
    return _timm(cell_of(name))


def timm_spnasnet(name: str) -> str:
    """The same, whose fifth block is the second half of our fourth stage."""
    cell = cell_of(name)
    if cell.stage == 4 and cell.unit >= 4:
        cell = cell._replace(stage=5, unit=cell.unit - 4)
    elif cell.stage == 5:
        cell = cell._replace(stage=6)
    return _timm(cell)


def _timm(cell: Cell) -> str:
    if cell.stage < 0:
        ends = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}
        return ends[cell.part][cell.is_norm] if cell.part in ends else "classifier"
    parts = ["expand", "depthwise", "project"] if cell.stage else ["depthwise", "project"]
    convolutions = ["conv_pw", "conv_dw", "conv_pwl"] if cell.stage else ["conv_dw", "conv_pw"]
    place = parts.index(cell.part)
    return f"blocks.{cell.stage}.{cell.unit}.{f'bn{place + 1}' if cell.is_norm else convolutions[place]}"


def proxylessnas(name: str) -> str:
    """ProxylessNAS' authors: blocks counted through, two of which (3 and 4) hold nothing."""
    cell, kind = cell_of(name), "bn" if name.endswith(".norm") else "conv"
    if cell.stage < 0:
        ends = {"stem": f"first_conv.{kind}", "head": f"feature_mix_layer.{kind}"}
        return ends.get(cell.part, "classifier.linear")
    block = {1: 0, 2: 1, 3: 5, 4: 9, 5: 17}[cell.stage] + cell.unit
    part = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}[cell.part]
    return f"blocks.{block}.mobile_inverted_conv.{part}.{kind}"


def mindspore_spnasnet(name: str) -> str:
    """Single-Path NAS of MindSpore's model zoo, less ``features.``."""
    cell, kind = cell_of(name), "bn" if name.endswith(".norm") else "conv"
    if cell.stage < 0:
        return {"stem": f"0.conv1.{kind}", "head": f"5.conv2.{kind}"}.get(cell.part, "output")
    unit = {0: "0.conv2", 5: "5.conv1"}.get(cell.stage, f"{cell.stage}.{cell.unit}")
    return f"{unit}.{ {'expand': 'exp_conv', 'depthwise': 'conv1', 'project': 'conv2'}[cell.part] }.{kind}"


def mindspore_proxylessnas(name: str) -> str:
    """ProxylessNAS of MindSpore's model zoo, less ``features.``."""
    cell, kind = cell_of(name), "bn" if name.endswith(".norm") else "conv"
    if cell.stage < 0:
        return {"stem": f"init_block.{kind}", "head": f"final_block.{kind}"}.get(cell.part, "output")
    part = {"expand": "bc_conv", "depthwise": "dw_conv", "project": "pw_conv"}[cell.part]
    return f"stage{cell.stage}.unit{cell.unit + 1}.body.{part}.{kind}"


def _shufflenet(name: str, places: dict[str, str], classifier: str) -> str:
    cell = cell_of(name)
    if cell.stage < 0:
        return f"first_conv.{int(cell.is_norm)}" if cell.part == "stem" else classifier
    branch, place = places[cell.part].split(".")
    unit = sum(SHUFFLENET_UNITS[: cell.stage - 1]) + cell.unit
    return f"features.{unit}.branch_main_{branch}.{int(place) + cell.is_norm}"


def megvii_shufflenet(name: str) -> str:
    """ShuffleNetV1 of megvii, which shuffles behind the depthwise convolution."""
    return _shufflenet(name, {"expand": "1.0", "depthwise": "1.3", "project": "2.0"}, "classifier.0")


def mindspore_shufflenet(name: str) -> str:
    """ShuffleNetV1 of MindSpore's model zoo and of mindcv, which shuffle before it."""
    return _shufflenet(name, {"expand": "1.0", "depthwise": "2.0", "project": "2.2"}, "classifier")


def _block(cell: Cell, is_xception: bool) -> str:
    """What stands in a SPOS block behind the block's name."""
    if cell.part.startswith("shortcut."):
        return f"proj.{SHORTCUT_PLACES[cell.part.removeprefix('shortcut.')] + cell.is_norm}"
    places = SXB_PLACES if is_xception else SNB_PLACES
    if cell.part.startswith("se."):
        attention = 15 if is_xception else 8
        return f"main.{attention}.channel_attention.{1 if cell.part == 'se.reduce' else 3}"
    return f"main.{places[cell.part.removeprefix('body.')] + cell.is_norm}"


def position_of(cell: Cell) -> int:
    """The number of a SPOS block, from the first of all."""
    return sum(SPOS_BLOCKS[: cell.stage - 1]) + cell.unit


def megvii_spos(name: str, is_xception: bool) -> str:
    """SPOS of its authors.

    Args:
        is_xception: the block that the cell stands in, if any, is the fourth op.
    """
    cell = cell_of(name)
    if cell.stage < 0:
        ends = {"stem": "first_conv", "head": "conv_last"}
        return f"{ends[cell.part]}.{int(cell.is_norm)}" if cell.part in ends else "classifier.0"
    return f"features.{position_of(cell)}.branch_{_block(cell, is_xception)}"


def mxnet_spos(name: str, is_xception: bool) -> str:
    """SPOS of CanyonWind's re-implementation, as ``save_parameters`` of Gluon names it.

    The convolution behind pooling is ``conv_fc`` here: its number depends on the tail (:func:`mxnet_tail`).
    """
    cell = cell_of(name)
    if cell.stage < 0:
        ends = {"stem": f"features.{int(cell.is_norm)}", "head": f"features.{23 + cell.is_norm}"}
        tail = {"hidden.conv": "conv_fc", "hidden.se.reduce": "features.27.channel_attention.1"}
        return {**ends, **tail, "hidden.se.expand": "features.27.channel_attention.3"}.get(cell.part, "output.0")
    branch, rest = _block(cell, is_xception).split(".", 1)
    return f"features.{3 + position_of(cell)}.{branch}_branch.{rest}"


def _choice_of(name: str) -> tuple[str, int]:
    """A supernet's cell as that of a path which goes through it, and the op that it belongs to (-1: to every path)."""
    match = re.fullmatch(r"(features\.stage\d+\.\d+)\.choices\.(\d+)\.(.+)", name)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (name, -1)


def megvii_supernet(name: str) -> str:
    """The supernet of SPOS's authors: the ops of a position are counted behind its number."""
    plain, op = _choice_of(name)
    theirs = megvii_spos(plain, op == XCEPTION)
    return theirs if op < 0 else re.sub(r"^features\.\d+", rf"\g<0>.{op}", theirs)


def mxnet_supernet(name: str) -> str:
    """CanyonWind's supernet, whose ops have names, and whose channel selectors take places in their sequences."""
    plain, op = _choice_of(name)
    theirs = mxnet_spos(plain, op == XCEPTION)
    if op < 0:
        return theirs
    start, branch, place, *rest = theirs.replace("features.", "features").split(".")
    if branch == "main_branch":
        place = str(int(place) + sum(int(place) >= selector for selector in SELECTORS[op]))
    return ".".join([start.replace("features", "features."), OP_NAMES[op], branch, place, *rest])


def mxnet_tail(has_head: bool) -> str:
    """What ``conv_fc`` is called, behind a head or without."""
    return "features.28" if has_head else "features.24"


def of_mxnet_export(name: str) -> str:
    """A name of ``HybridBlock.export`` as one of ``save_parameters``, or as it is.

    The one file of weights that the MXNet repository holds was exported: cells have the numbers in which they were
    made, those of a block's main branch before those of its projection.
    """
    match = re.fullmatch(r"shufflenasoneshotfix\d+_(.+)_(weight|bias|gamma|beta|running_mean|running_var)", name)
    if not match:
        return name
    cell = match[1].removeprefix("hybridsequential0_").removeprefix("features_")
    ends = {
        "first_conv": "features.0",
        "batchnorm0": "features.1",
        "last_conv": "features.23",
        "batchnorm1": "features.24",
        "se0_conv_squeeze": "features.27.channel_attention.1",
        "se0_conv_excitation": "features.27.channel_attention.3",
        "conv_fc": "conv_fc",
        "output_conv0": "output.0",
    }
    if cell in ends:
        return f"{ends[cell]}.{match[2]}"
    return f"exported.{cell}.{match[2]}" if cell.startswith("shufflenetblock") else name


def exported_block(name: str, is_xception: bool) -> str:
    """``exported.shufflenetblock8_conv3.weight`` as one of ``save_parameters``."""
    match = re.fullmatch(r"exported\.shufflenetblock(\d+)_(conv|batchnorm|se0_conv_)(\w+)\.(\w+)", name)
    if not match:
        return name
    prefix = f"features.{3 + int(match[1])}."
    if match[2] == "se0_conv_":
        attention = 1 if match[3] == "squeeze" else 3
        return f"{prefix}main_branch.{15 if is_xception else 8}.channel_attention.{attention}.{match[4]}"
    places = list((SXB_PLACES if is_xception else SNB_PLACES).values())
    number, is_norm = int(match[3]), match[2] == "batchnorm"
    if number < len(places):
        return f"{prefix}main_branch.{places[number] + is_norm}.{match[4]}"
    return f"{prefix}proj_branch.{2 * (number - len(places)) + is_norm}.{match[4]}"
