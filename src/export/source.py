"""What is to be exported: a checkpoint's network with its classes and preprocessing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mindspore import nn

from src.data.folders import find_split
from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.models import create_model
from src.runs.checkpoint import facts_of, load_checkpoint
from src.settings.config import Config
from src.training import parts as build


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
    facts = facts_of(checkpoint, config.model, config.num_classes) or {
        "model": config.model,
        "model_options": config.model_options,
        "num_classes": config.num_classes or 1000,
        "classes": [],
    }
    if facts.get("config", {}).get("train_supernet"):
        raise UsageError(
            f"{checkpoint} is of a supernet, which is many networks: choose one with python search.py --supernet "
            f"{checkpoint}, then export what train.py makes of it or what search.py --export_subnet cuts out"
        )
    config = config.replace(model=facts["model"], model_options=facts["model_options"])
    own = facts.get("preprocessing")
    preprocessing = build.preprocessing_of(config, Preprocessing.from_dict(own) if own else None)
    # A head of more classes than the data has (num_classes of a recipe) has logits without a name.
    names = [*facts["classes"], *(f"unused {i}" for i in range(len(facts["classes"]), facts["num_classes"]))]
    return Source(
        checkpoint,
        facts["model"],
        facts["model_options"],
        facts["num_classes"],
        tuple(names) if facts["classes"] else (),
        preprocessing,
        _validation_folder(config, facts),
        _training_folder(facts),
    )


def _validation_folder(config: Config, facts: dict) -> str:
    """The validation folder that is asked for or that the checkpoint remembers, if it is (still) there."""
    remembered = (
        config.replace(**{key: facts["config"][key] for key in ("data_path", "val_data_path")})
        if "config" in facts
        else config
    )
    for candidate in (config, remembered):
        try:
            folder = build.eval_folder(candidate)
        except UsageError:
            if candidate is config:
                raise
            continue
        if folder is not None:
            return str(folder)
    return ""


def _training_folder(facts: dict) -> str:
    remembered = facts.get("config", {}).get("data_path", "")
    try:
        return str(find_split(remembered, "train")) if remembered else ""
    except UsageError:
        return ""
