"""What is to be exported: a checkpoint's network with its classes and preprocessing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mindspore import nn

from src.data.folders import find_split
from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import create_model
from src.runs.trained import Trained
from src.settings.config import Config
from src.training import parts as build
from src.weights.loading import load_checkpoint, trained_of


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint and how to build its network.

    Attributes:
        checkpoint: the file.
        model, model_options, num_classes: arguments of ``create_model``.
        classes: names in the order of the logits (empty: an upstream file, which does not know them).
        preprocessing: of the images, at the size that is exported.
        val_data_path, train_data_path: images the checkpoint was validated and trained with ("": not known).
    """

    checkpoint: Path
    model: str
    model_options: dict
    num_classes: int
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    val_data_path: str = ""
    train_data_path: str = ""

    def network(self) -> nn.Cell:
        """The trained network, built anew at every call, in evaluation mode."""
        network = create_model(self.model, self.num_classes, **self.model_options)
        load_checkpoint(self.checkpoint, network, self.model)
        network.set_train(False)
        return network


def source_of(checkpoint: Path, config: Config) -> Source:
    """What the checkpoint says of itself and, for an upstream file that says nothing, the configuration.

    Raises:
        UsageError: damaged; another network or class count than asked for; an upstream file without ``--model``;
            a supernet.
    """
    trained = trained_of(checkpoint, config.model, config.num_classes, config.model_options)
    if trained is None:
        return Source(
            checkpoint,
            config.model,
            config.model_options,
            config.num_classes or 1000,
            (),
            build.preprocessing_of(config),
            _validation_folder(config),
        )
    if trained.is_supernet:
        raise UsageError(
            f"{checkpoint} is of a supernet, which is many networks: choose one with python search.py --supernet "
            f"{checkpoint}, then export what train.py makes of it or what search.py --export_subnet cuts out"
        )
    # A head of more classes than the data has (num_classes of a recipe) has logits without a name.
    unused = [f"unused {i}" for i in range(len(trained.classes), trained.num_classes) if trained.classes]
    return Source(
        checkpoint,
        trained.model,
        trained.model_options,
        trained.num_classes,
        (*trained.classes, *unused),
        build.preprocessing_of(config, trained.preprocessing),
        _validation_folder(config) or _remembered_validation_folder(trained),
        _training_folder(trained),
    )


def _validation_folder(config: Config) -> str:
    """The validation folder that is asked for."""
    folder = build.eval_folder(config)
    return str(folder) if folder else ""


def _remembered_validation_folder(trained: Trained) -> str:
    """The one that the network was validated with, if it is still there."""
    try:
        trained.config.require_inputs("val_data_path", "data_path")
        return _validation_folder(trained.config)
    except UsageError as error:
        print(f"note: {error}; until then the export is checked with two photographs of scikit-learn")
        return ""


def _training_folder(trained: Trained) -> str:
    remembered = trained.config.data_path
    try:
        return str(find_split(remembered, "train")) if remembered else ""
    except UsageError:
        return ""
