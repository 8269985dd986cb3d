"""What a training run makes, apart from the weights: the part of a checkpoint that never changes in a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.settings.config import Config, saved_config


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
        try:
            return cls(
                meta["model"],
                meta["model_options"],
                meta["num_classes"],
                meta["classes"],
                Preprocessing.from_dict(meta["preprocessing"]),
                saved_config(meta["config"], str(path)),
                meta.get("versions", {}),
                meta.get("device", ""),
                meta.get("source", ""),
            )
        except KeyError as error:
            raise UsageError(f"{path} is damaged: its meta has no {error.args[0]}") from error

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
