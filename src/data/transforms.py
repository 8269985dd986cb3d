"""What is done to the pixels, in training and in evaluation, as lists of MindSpore image operators.

A new augmentation is one more field of :class:`TrainTransforms` and one more entry of :func:`train_transforms`.
"""

from __future__ import annotations

import dataclasses

import mindspore.dataset.vision as vision
import numpy as np
from mindspore.dataset.vision import Inter
from PIL import Image

from src.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from src.errors import UsageError

_INTERPOLATION = {"bilinear": Inter.BILINEAR, "bicubic": Inter.BICUBIC}
_PIL_INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class TrainTransforms:
    """Augmentation of training images.

    Attributes:
        image_size: side of the result, pixels.
        crop_scale: smallest and largest share of the image's area in the random crop.
        crop_ratio: smallest and largest width/height of the random crop.
        horizontal_flip: probability.
        color_jitter: largest change of brightness, contrast, saturation and hue.
        cutout: black out one random square of ``cutout_length`` pixels. It may lie partly or wholly beyond the edge.
        cutout_position: ``upstream`` (on the cropped bytes: black, then flipped and jittered) or
            ``normalized`` (after normalisation: the mean colour).
        interpolation: ``bilinear`` or ``bicubic``, of the crop's resize.
        mean, std: per RGB channel on the 0-1 scale.
    """

    image_size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.5
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cutout: bool = False
    cutout_length: int = 56
    cutout_position: str = "upstream"
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def cuts_the_normalized(self) -> bool:
        """Whether the cutout comes after the normalisation, which then has to be the pipeline's."""
        return self.cutout and self.cutout_position == "normalized"


def train_transforms(options: TrainTransforms) -> list:
    """Operators from encoded bytes to an image [3, image_size, image_size], random ones included.

    The image is uint8, its normalisation left to do; float32 and normalised if ``options.cuts_the_normalized``.

    Raises:
        UsageError: an unknown interpolation or cutout position, or a cutout larger than the image.
    """
    if options.cutout and options.cutout_length > options.image_size:
        raise UsageError(
            f"cutout_length {options.cutout_length} is larger than image_size {options.image_size}: "
            f"lower it (upstream's 56 at 224 is a quarter)"
        )
    position = _choose({"upstream": "upstream", "normalized": "normalized"}, "cutout_position", options.cutout_position)
    cutout = vision.CutOut(options.cutout_length, num_patches=1, is_hwc=True)
    steps = [
        vision.RandomCropDecodeResize(
            options.image_size,
            tuple(options.crop_scale),
            tuple(options.crop_ratio),
            _choose(_INTERPOLATION, "interpolation", options.interpolation),
        ),
        cutout if options.cutout and position == "upstream" else None,
        vision.RandomHorizontalFlip(options.horizontal_flip) if options.horizontal_flip else None,
        _color_jitter(*options.color_jitter) if any(options.color_jitter) else None,
        *([normalization(options, is_hwc=True), cutout] if options.cuts_the_normalized else []),
        vision.HWC2CHW(),
    ]
    return [step for step in steps if step is not None]


def eval_transforms(preprocessing: Preprocessing) -> list:
    """Operators from encoded bytes to a uint8 image [3, image_size, image_size], the same at every call.

    Its normalisation is left to do.

    Raises:
        UsageError: a name this pipeline does not know, or a resize smaller than the crop.
    """
    size, resize = preprocessing.image_size, preprocessing.resize
    if resize < size:
        raise UsageError(f"eval_resize {resize} is smaller than image_size {size}: make it at least as large")
    kernels = {
        "mindspore": lambda: [
            vision.Resize(resize, _choose(_INTERPOLATION, "interpolation", preprocessing.interpolation)),
            vision.CenterCrop(size),
        ],
        "pil": lambda: [
            PilResizeCrop(resize, size, _choose(_PIL_INTERPOLATION, "interpolation", preprocessing.interpolation))
        ],
    }
    resize_crop = _choose(kernels, "resize_kernel", preprocessing.resize_kernel)()
    return [
        vision.Decode(),
        *resize_crop,
        vision.HWC2CHW(),
    ]


def normalization(options: TrainTransforms | Preprocessing, is_hwc: bool = False) -> vision.Normalize:
    """The operator from an image of bytes to float32 (image - mean) / std, mean and std on the 0-255 scale."""
    return vision.Normalize(*_on_bytes(options), is_hwc)


def normalize(images: np.ndarray, options: TrainTransforms | Preprocessing) -> np.ndarray:
    """Bytes [N, 3, H, W] to float32, bit for bit what :func:`normalization` gives, but a batch at a time: faster."""
    mean, std = (np.float32(values)[:, None, None] for values in _on_bytes(options))
    normalized = np.subtract(images, mean, dtype=np.float32)
    return np.divide(normalized, std, out=normalized)


class PilResizeCrop:
    """Pillow's antialiased resize of the short side and a central crop, rounded as torchvision rounds.

    Weights published by torchvision and timm were scored with exactly this; MindSpore's resize, which skips
    source pixels when it shrinks, gives other pixels and a lower accuracy.
    """

    def __init__(self, resize: int, crop: int, kernel: Image.Resampling):
        self.resize, self.crop, self.kernel = resize, crop, kernel

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [height, width, 3] to uint8 [crop, crop, 3]."""
        height, width = image.shape[:2]
        short = min(height, width)
        new_width, new_height = (int(self.resize * side / short) for side in (width, height))
        left, top = round((new_width - self.crop) / 2), round((new_height - self.crop) / 2)
        resized = Image.fromarray(image).resize((new_width, new_height), self.kernel)
        return np.asarray(resized.crop((left, top, left + self.crop, top + self.crop)))


def _color_jitter(brightness: float, contrast: float, saturation: float, hue: float) -> vision.RandomColorAdjust:
    factors = [(max(0.0, 1 - change), 1 + change) for change in (brightness, contrast, saturation)]
    return vision.RandomColorAdjust(*factors, hue=(-hue, hue))


def _on_bytes(options: TrainTransforms | Preprocessing) -> tuple[list[float], list[float]]:
    return [255.0 * value for value in options.mean], [255.0 * value for value in options.std]


def _choose(table: dict, key: str, name: str):
    if name not in table:
        raise UsageError(f"{key} {name!r} is unknown: choose {' or '.join(table)}")
    return table[name]
