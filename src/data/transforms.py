"""What is done to the pixels, in training and in evaluation, as lists of MindSpore image operators.

A new augmentation is its keys in the section `Augmentation` and one more entry of :func:`train_transforms`.
"""

from __future__ import annotations

import mindspore.dataset.vision as vision
import numpy as np
from mindspore.dataset.vision import Inter
from PIL import Image

from src.data.preprocessing import Preprocessing
from src.errors import UsageError
from src.settings.sections import Augmentation

_INTERPOLATION = {"bilinear": Inter.BILINEAR, "bicubic": Inter.BICUBIC}
_PIL_INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def train_transforms(config: Augmentation, preprocessing: Preprocessing) -> list:
    """Operators from encoded bytes to an image [3, image_size, image_size], random ones included.

    The image is uint8, its normalisation left to do; float32 and normalised where :func:`cuts_the_normalized`.
    The cutout may lie partly or wholly beyond the edge: black, then flipped and jittered, or the mean colour if it
    comes after the normalisation.

    Args:
        preprocessing: its size, interpolation and normalisation; the crop is the augmentation's own.

    Raises:
        UsageError: a cutout larger than the image.
    """
    size = preprocessing.image_size
    if config.cutout and config.cutout_length > size:
        raise UsageError(
            f"cutout_length {config.cutout_length} is larger than image_size {size}: "
            f"lower it (upstream's 56 at 224 is a quarter)"
        )
    cutout = vision.CutOut(config.cutout_length, num_patches=1, is_hwc=True)
    is_late = cuts_the_normalized(config)
    steps = [
        vision.RandomCropDecodeResize(
            size,
            tuple(config.crop_scale),
            tuple(config.crop_ratio),
            _INTERPOLATION[preprocessing.interpolation],
        ),
        cutout if config.cutout and not is_late else None,
        vision.RandomHorizontalFlip(config.horizontal_flip) if config.horizontal_flip else None,
        _color_jitter(*config.color_jitter) if any(config.color_jitter) else None,
        # AlexNet's: one colour is added to all pixels, of components normal with this standard deviation.
        vision.RandomLighting(config.pca_noise) if config.pca_noise else None,
        *([normalization(preprocessing, is_hwc=True), cutout] if is_late else []),
        vision.HWC2CHW(),
    ]
    return [step for step in steps if step is not None]


def cuts_the_normalized(config: Augmentation) -> bool:
    """Whether the cutout comes after the normalisation, which then has to be the pipeline's."""
    return config.cutout and config.cutout_position == "normalized"


def eval_transforms(preprocessing: Preprocessing) -> list:
    """Operators from encoded bytes to a uint8 image [3, image_size, image_size], the same at every call.

    Its normalisation is left to do.

    Raises:
        UsageError: a resize smaller than the crop.
    """
    size, resize = preprocessing.image_size, preprocessing.resize
    if resize < size:
        raise UsageError(f"eval_resize {resize} is smaller than image_size {size}: make it at least as large")
    if preprocessing.resize_kernel == "pil":
        resize_crop = [PilResizeCrop(resize, size, _PIL_INTERPOLATION[preprocessing.interpolation])]
    else:
        resize_crop = [vision.Resize(resize, _INTERPOLATION[preprocessing.interpolation]), vision.CenterCrop(size)]
    return [vision.Decode(), *resize_crop, vision.HWC2CHW()]


def normalization(preprocessing: Preprocessing, is_hwc: bool = False) -> vision.Normalize:
    """The operator from an image of bytes to float32 (image - mean) / std, mean and std on the 0-255 scale."""
    return vision.Normalize(*_on_bytes(preprocessing), is_hwc)


def normalize(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Bytes [N, 3, H, W] to float32, bit for bit what :func:`normalization` gives, but a batch at a time: faster."""
    mean, std = (np.float32(values)[:, None, None] for values in _on_bytes(preprocessing))
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


def _on_bytes(preprocessing: Preprocessing) -> tuple[list[float], list[float]]:
    return [255.0 * value for value in preprocessing.mean], [255.0 * value for value in preprocessing.std]
