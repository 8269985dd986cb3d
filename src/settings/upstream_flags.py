"""What the flags of the original repositories mean here.

A user of one of the five originals can type what was typed there: each flag is read as the keys of our schema it
stands for. A flag that only served the original's own machinery changes nothing, and a note says so. The tables, one
for each network and program, are in src/settings/upstream/.

A flag means what it meant for the network at hand. Those of the other networks are understood as well, unless their
name is one of our own keys. Their order on the command line is of no account: they apply in the table's order, so
what switches something off stands after what sets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.settings.sections import SECTIONS
from src.settings.upstream.flag import Keys, Table, path
from src.settings.upstream.mnasnet_flags import MNASNET
from src.settings.upstream.model_zoo_flags import PROXYLESSNAS_MOBILE, SHUFFLENETV1, SPNASNET
from src.settings.upstream.spos_flags import MODELS, SPOS

# By network, then by program.
FLAGS: dict[str, dict[str, Table]] = {
    "spnasnet": SPNASNET,
    "proxylessnas_mobile": PROXYLESSNAS_MOBILE,
    "shufflenetv1": SHUFFLENETV1,
    "mnasnet": MNASNET,
    "spos": SPOS,
}
# Of any network: evaluation has no use for training images, so these are the ones to evaluate.
_ANY: dict[str, Table] = {"eval": {"data_path": path("val_data_path")}}
_KEYS = {key for section in SECTIONS for key in section.model_fields}
# Whose lr_init is the peak, after a warm-up from 0; in ShuffleNetV1 and here it is the rate the warm-up starts from.
_PEAK_IS_LR_INIT = {"proxylessnas_mobile": "ProxylessNAS", "spnasnet": "Single-Path-NAS"}


def family_of(model: str) -> str:
    """The original a network comes from, as a key of :data:`FLAGS`, or ``""``."""
    if model in MODELS or model.startswith("spos_"):
        return "spos"
    return model if model in FLAGS else ""


def flags_of(program: str, model: str = "") -> Table:
    """Upstream flags of ``program`` by name (no dashes, underscores for hyphens; ``""``: a bare argument).

    A name that keeps its hyphens is that spelling only.

    Args:
        model: the network, as far as it is known; searches are SPOS's alone.
    """
    family = "spos" if program == "search" else family_of(model)
    own = {**_ANY.get(program, {}), **FLAGS.get(family, {}).get(program, {})}
    of_others = {
        name: flag
        for table in FLAGS.values()
        for name, flag in table.get(program, {}).items()
        if name not in own and name.replace("-", "_") not in _KEYS
    }
    return {**of_others, **own}


def as_meant_by(model: str, overrides: Mapping[str, Any]) -> Keys:
    """``overrides`` with two networks' use of one of our own names put right: ``lr_init`` is their peak, unless the
    peak is given as well."""
    if model not in _PEAK_IS_LR_INIT or "lr_init" not in overrides or "lr" in overrides:
        return dict(overrides)
    print(
        f"note: --lr_init: read as the peak, as {_PEAK_IS_LR_INIT[model]} does; "
        "give --lr too if the warm-up's start is meant"
    )
    settled = dict(overrides)
    settled["lr"] = settled.pop("lr_init")
    return settled
