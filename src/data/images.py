"""Image files: which names and formats count, and their bytes as MindSpore's decoder takes them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.packed import PackedImage

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"

# Pillow's own pixel limit would warn about, or refuse, what `max_image_pixels` allows; src.data.check applies that
# limit from the header, before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: a suffix of ``SUFFIXES`` in any case, not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def to_rgb(image: Image.Image) -> Image.Image:
    """The first frame as 8-bit RGB: gray is repeated, alpha dropped, 16-bit values keep their high byte."""
    if image.mode.startswith("I"):  # Pillow's own conversion would clip everything above 255 to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def read_encoded(path: str | os.PathLike) -> np.ndarray:
    """The file as a uint8 vector that MindSpore's image operators decode.

    JPEG goes through as it is: cropping while decoding is MindSpore's fast path, and its pixels equal
    Pillow's. Every other format is decoded by Pillow and handed on as a bitmap, because MindSpore knows no
    WebP and refuses PNG and BMP files that lack no more than their last bytes, which Pillow reads. A JPEG without
    its end is decoded by Pillow first: one that was cut off since it was checked would end the process.

    Raises:
        OSError, and whatever Pillow raises: it is gone or damaged.
    """
    is_packed = isinstance(path, PackedImage)
    encoded = np.frombuffer(path.read_bytes(), np.uint8) if is_packed else np.fromfile(path, np.uint8)
    if encoded[: len(_JPEG_START)].tobytes() == _JPEG_START:
        if encoded[-len(_JPEG_END) :].tobytes() != _JPEG_END:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
                image.load()
        return encoded
    bitmap = io.BytesIO()
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        to_rgb(image).save(bitmap, "BMP")
    return np.frombuffer(bitmap.getbuffer(), np.uint8)
