"""Fine-tuning by depth: which stages of a network train in an epoch, at which share of the rate, and which normalise by
statistics that stay.

The stages of a network are the named cells of its features, in order, then the cells between pooling and classifier;
behind them stands the classifier. A cell without parameters is no stage.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from mindspore import Parameter, nn

from src.errors import UsageError
from src.models.layers import Network
from src.settings.sections import CLASSIFIER, Depth
from src.training.sync_batch_norm import SyncBatchNorm

_log = logging.getLogger(__name__)


def stages(network: Network) -> list[nn.Cell]:
    """The cells of ``network`` that train together, from the image on, without the classifier."""
    cells = [*network.features, network.hidden]
    return [cell for cell in cells if cell.trainable_params()]


def trained_stages(freeze: Mapping[str, int], epoch: int) -> int | None:
    """How many of the last stages train beside the classifier in ``epoch``, counted from 0; None: all of them."""
    end = 0
    for count, epochs in sorted((0 if stage == CLASSIFIER else int(stage), epochs) for stage, epochs in freeze.items()):
        end += epochs
        if epoch < end:
            return count
    return None


def switches(freeze: Mapping[str, int], epochs: int) -> list[int]:
    """The epochs, counted from 0 and inside the run, from which on other stages train than before."""
    ends = np.cumsum([freeze[stage] for stage in sorted(freeze, key=lambda stage: trained_stages({stage: 1}, 0))])
    return [int(end) for end in ends if end < epochs]


def check_freeze(freeze: Mapping[str, int], network: Network, epochs: int) -> None:
    """Says what of ``network`` a run of so many epochs never trains.

    Raises:
        UsageError: the network has fewer stages.
    """
    count = len(stages(network))
    largest = max((int(stage) for stage in freeze if stage != CLASSIFIER), default=0)
    if largest > count:
        raise UsageError(f"freeze: {largest} stages train, and the network has {count} before its classifier")
    last = trained_stages(freeze, epochs - 1)
    if last is not None and last < count:
        _log.warning(f"freeze lasts to the end of the run: the first {count - last} of {count} stages never train")


def rate_shares(network: Network, config: Depth, epoch: int) -> dict[Parameter, float]:
    """The parameters of ``network`` that train in ``epoch``, each with its share of the learning rate.

    A stage has ``layer_decay`` times the share of the one behind it; the classifier's is 1.
    """
    parts = [*stages(network), network.classifier]
    trained = trained_stages(config.freeze, epoch)
    first = 0 if trained is None else len(parts) - 1 - trained
    depth = {id(p): len(parts) - 1 - at for at, part in enumerate(parts) for p in part.trainable_params()}
    chosen = {id(p) for part in parts[first:] for p in part.trainable_params()}
    return {p: config.layer_decay ** depth[id(p)] for p in network.trainable_params() if id(p) in chosen}


def still_norms(network: Network, config: Depth, epoch: int) -> list[nn.Cell]:
    """The batch norms that normalise by their moving statistics in ``epoch`` and leave them as they are."""
    parts: Sequence[nn.Cell] = stages(network)
    trained = trained_stages(config.freeze, epoch)
    if config.freeze_batch_norm == "none":
        return []
    if config.freeze_batch_norm == "stages":
        parts = parts[: 0 if trained is None else len(parts) - trained]
    cells = [cell for part in parts for _, cell in part.cells_and_names()]
    return [cell for cell in cells if isinstance(cell, (nn.BatchNorm2d, SyncBatchNorm))]
