"""What is done to an image before a network sees it: part of a network's entry and of every result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

MOST_PIXELS = 1 << 15  # of a side
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize the short side, crop the centre, normalise per channel.

    Attributes:
        image_size: side of the central crop and of the network's input, pixels.
        resize: short side before the crop, pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        resize_kernel: ``mindspore`` (OpenCV's resize, no antialiasing: what upstream's MindSpore
            weights were scored with) or ``pil`` (antialiased: torchvision's and timm's weights).
        mean, std: per RGB channel on the 0-1 scale.
    """

    image_size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    resize_kernel: str = "mindspore"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def at_size(self, image_size: int) -> Preprocessing:
        """The same at another input size, the resize scaled in proportion (256/224 stays 256/224)."""
        scaled = max(image_size, round(self.resize * image_size / self.image_size))
        return dataclasses.replace(self, image_size=image_size, resize=scaled)

    def to_dict(self) -> dict:
        """Plain values, as they are stored in checkpoints, results and manifests."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping) -> Preprocessing:
        """The inverse of :meth:`to_dict`. Raises ValueError for what is no preprocessing."""
        try:
            found = cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
            is_possible = (
                all(type(side) is int and 1 <= side <= MOST_PIXELS for side in (found.image_size, found.resize))
                and found.interpolation in ("bilinear", "bicubic")
                and found.resize_kernel in ("mindspore", "pil")
                and len(found.mean) == len(found.std) == 3
                and all(math.isfinite(value) for value in (*found.mean, *found.std))
                and min(found.std) > 0
            )
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"it holds no preprocessing ({error})") from error
        if not is_possible:
            raise ValueError(f"it holds a preprocessing that cannot be ({found})")
        return found

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return (
            f"resize {self.resize} ({self.interpolation}, {self.resize_kernel} kernel), "
            f"centre crop {self.image_size}, mean ({mean}), std ({std})"
        )
