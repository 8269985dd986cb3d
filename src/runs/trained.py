"""What a training run makes, apart from the weights: the part of a checkpoint that never changes in a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.settings.config import Config, saved_config

MOST_CLASSES = 1_000_000
# What each part of a checkpoint's meta is, and what it is in those of versions that did not write it.
_KINDS = {
    "model": str,
    "model_options": dict,
    "num_classes": int,
    "classes": list,
    "preprocessing": dict,
    "config": dict,
    "versions": dict,
    "device": str,
    "source": str,
}
_OPTIONAL: dict[str, Any] = {"versions": {}, "device": "", "source": ""}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network as it is trained, whatever its weights.

    Attributes:
        model, model_options, num_classes: arguments of ``create_model``.
        classes: names in the order of the logits; the head may have more logits than these.
        preprocessing: of the evaluation images.
        config: of the run that trained it.
        versions, device: of the framework and the machine it was trained with.
        source: whose weights they are, if not trained here.
    """

    model: str
    model_options: dict[str, Any]
    num_classes: int
    classes: list[str]
    preprocessing: Preprocessing
    config: Config
    versions: dict[str, str]
    device: str
    source: str = ""

    def to_meta(self) -> dict[str, Any]:
        """Plain values, as they stand in a checkpoint and, but for the configuration, in results."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "preprocessing": self.preprocessing.to_dict(), "config": self.config.values()}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], path: Path) -> Trained:
        """The inverse of :meth:`to_meta`, of checkpoints of earlier versions too.

        Raises:
            UsageError: ``path``, the checkpoint, does not say what it has to.
        """
        for key, kind in _KINDS.items():
            if not isinstance(meta.get(key, _OPTIONAL.get(key)), kind):
                raise UsageError(f"{path} is damaged: its meta has no {key}")
        classes, num_classes = meta["classes"], meta["num_classes"]
        if (
            not all(isinstance(name, str) for name in classes)
            or not max(len(classes), 1) <= num_classes <= MOST_CLASSES
        ):
            raise UsageError(f"{path} is damaged: its meta has {num_classes} classes and {len(classes)} names")
        try:
            preprocessing = Preprocessing.from_dict(meta["preprocessing"])
        except ValueError as error:
            raise UsageError(f"{path} is damaged: {error}") from error
        told = {**_OPTIONAL, **{key: meta[key] for key in _KINDS if key in meta}}
        return cls(**{**told, "preprocessing": preprocessing, "config": saved_config(meta["config"], str(path))})

    @property
    def is_supernet(self) -> bool:
        """Whether it is a whole space of networks."""
        return self.config.train_supernet

    def identity(self) -> dict[str, Any]:
        """What a checkpoint and the run that resumes it share. The option ``init`` is no part of it: it says what
        first weights are drawn from, and those of a resumed run are the checkpoint's."""
        options = {key: value for key, value in self.model_options.items() if key != "init"}
        return {
            "model": self.model,
            "model_options": options,
            "num_classes": self.num_classes,
            "classes": self.classes,
        }
