"""Image files built on the fly: sound ones in many forms, and every kind of damage."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32


@dataclasses.dataclass(frozen=True)
class Odd:
    """One file: its content and what a check must say of it.

    Attributes:
        refusal: part of the reason why it is refused (None: it is accepted).
        remark: part of the note on an accepted file (None: no note).
        pixels: uint8 RGB [32, 32, 3] that training must see of an accepted file.
    """

    content: bytes
    refusal: str | None = None
    remark: str | None = None
    pixels: np.ndarray | None = None


def photo(seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A smooth random picture, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray | Image.Image, form: str, **options) -> bytes:
    """The file's bytes in one of Pillow's formats."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any header, its rows compressed as they are."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@functools.cache
def png_bomb(side: int = 20_000) -> bytes:
    """400 million pixels in 389 kilobytes."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + side)
    data = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    whole = png(side, side, 8, 0, b"")
    start = whole.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return whole[:start] + chunk + whole[-12:]


def patched(content: bytes, at: int, new: bytes) -> bytes:
    """The same bytes with some overwritten."""
    return content[:at] + new + content[at + len(new) :]


@functools.cache
def refused_files() -> dict[str, Odd]:
    """Files that cannot be trained on, by name."""
    rng = np.random.default_rng(1)
    image = Image.fromarray(photo())
    jpeg, png_file = encode(image, "JPEG", quality=95), encode(image, "PNG")
    bmp, webp = encode(image, "BMP"), encode(image, "WEBP", lossless=True)
    frame_header = jpeg.index(b"\xff\xc0")
    files = {
        "empty.jpg": Odd(b"", "empty file"),
        "text.jpg": Odd(b"not a picture at all\n" * 9, "not an image"),
        "page.png": Odd(b"<!DOCTYPE html><title>404</title>", "not an image"),
        "random.jpeg": Odd(rng.bytes(3000), "not an image"),
        "zeros.bmp": Odd(bytes(4096), "not an image"),
        "document.jpg": Odd(b"%PDF-1.7\n" + rng.bytes(500), "PDF content"),
        "gif_inside.jpg": Odd(encode(image, "GIF"), "GIF content"),
        "tiff_inside.png": Odd(encode(image, "TIFF"), "TIFF content"),
        "picture.gif": Odd(encode(image, "GIF"), "format .gif"),
        "picture.tiff": Odd(encode(image, "TIFF"), "format .tiff"),
        "only_marker.jpg": Odd(jpeg[:2], "damaged or truncated JPEG header"),
        **{f"cut_at_{size}.jpg": Odd(jpeg[:size], "truncated") for size in (19, 100, 170, 300, 450, 600)},
        "half.jpg": Odd(jpeg[: len(jpeg) // 2], "truncated"),
        "three_quarters.jpg": Odd(jpeg[: len(jpeg) * 3 // 4], "truncated"),
        "no_pixels.jpg": Odd(patched(jpeg, frame_header + 5, bytes(4)), "JPEG header"),
        "signature.png": Odd(png_file[:8], "PNG header"),
        "cut_header.png": Odd(png_file[:20], "truncated"),
        "half.png": Odd(png_file[: len(png_file) // 2], "truncated"),
        "bad_header_sum.png": Odd(patched(png_file, 29, b"\0\0\0\0"), "PNG header"),
        "bad_data.png": Odd(patched(png_file, len(png_file) // 2, rng.bytes(40)), "damaged"),
        "bad_bit_depth.png": Odd(png(SIDE, SIDE, 5, 2, bytes(SIDE * (1 + 3 * SIDE))), "PNG header"),
        "half.bmp": Odd(bmp[: len(bmp) // 2], "truncated"),
        "cut_header.bmp": Odd(bmp[:20], "truncated"),
        "half.webp": Odd(webp[: len(webp) // 2], "damaged"),
        "wave.webp": Odd(b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), "WEBP header"),
        "bomb.png": Odd(png_bomb(), "20000 x 20000 pixels"),
        "claims_65500.jpg": Odd(patched(jpeg, frame_header + 5, struct.pack(">HH", 65500, 65500)), "65500 x 65500"),
        "claims_40000.bmp": Odd(patched(bmp, 18, struct.pack("<ii", 40000, 40000)), "40000 x 40000"),
        "strip.png": Odd(encode(photo(width=5000, height=3), "PNG"), "5000 x 3 pixels, longer than"),
    }
    assert all(len(file.content) < 1_000_000 for file in files.values())
    return files


@functools.cache
def accepted_files() -> dict[str, Odd]:
    """Unusual files that train correctly, by name."""
    rgb = photo()
    image = Image.fromarray(rgb)
    gray = np.asarray(image.convert("L"))
    alpha = Image.fromarray(photo(7)[:, :, 0])
    palette = image.quantize(17)
    wide = np.random.default_rng(2).integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    frames = {"save_all": True, "append_images": [Image.fromarray(photo(5)), Image.fromarray(photo(6))]}

    def lossless(content: bytes, pixels: np.ndarray, remark: str | None = None) -> Odd:
        return Odd(content, remark=remark, pixels=np.broadcast_to(pixels, (SIDE, SIDE, 3)))

    def jpeg(picture: Image.Image, remark: str | None = None, tail: bytes = b"", form: str = "JPEG", **options) -> Odd:
        content = encode(picture, form, **options) + tail
        with Image.open(io.BytesIO(content)) as decoded:
            return Odd(content, remark=remark, pixels=np.asarray(decoded.convert("RGB")))

    def sixteen_bit(values: np.ndarray, colour: int) -> bytes:
        return png(SIDE, SIDE, 16, colour, b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))

    return {
        "plain.jpg": jpeg(image),
        "upper.JPG": jpeg(image, quality=50),
        "upper.JPEG": jpeg(image, quality=60),
        "upper.PNG": lossless(encode(image, "PNG"), rgb),
        "upper.WebP": lossless(encode(image, "WEBP", lossless=True), rgb),
        "progressive.jpg": jpeg(image, progressive=True),
        "gray.jpg": jpeg(image.convert("L")),
        "cmyk.jpg": jpeg(image.convert("CMYK"), remark="CMYK"),
        "turned.jpg": jpeg(image, exif=turned.tobytes(), remark="EXIF"),
        "tail.jpg": jpeg(image, tail=b"<!-- appended -->"),
        "two_pictures.jpg": jpeg(image, form="MPO", **frames),
        "jpeg_inside.png": jpeg(image, quality=70),
        "png_inside.jpg": lossless(encode(image, "PNG"), rgb),
        "gray.png": lossless(encode(gray, "PNG"), gray[:, :, None]),
        "one_bit.png": lossless(encode(Image.fromarray(gray > 99), "PNG"), (gray > 99)[:, :, None] * np.uint8(255)),
        "palette.png": lossless(encode(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "palette_clear.png": lossless(
            encode(palette, "PNG", transparency=3), np.asarray(palette.convert("RGB")), "transparent"
        ),
        "alpha.png": lossless(encode(with_alpha, "PNG"), rgb, "transparent"),
        "gray_alpha.png": lossless(
            encode(Image.merge("LA", (Image.fromarray(gray), alpha)), "PNG"), gray[:, :, None], "transparent"
        ),
        "gray_16_bit.png": lossless(sixteen_bit(wide[:, :, :1], 0), (wide[:, :, :1] >> 8).astype(np.uint8), "16 bits"),
        "rgb_16_bit.png": lossless(sixteen_bit(wide, 2), (wide >> 8).astype(np.uint8), "16 bits"),
        "animated.png": lossless(encode(image, "PNG", **frames), rgb, "animated with 3 frames"),
        "animated.webp": lossless(encode(image, "WEBP", lossless=True, **frames), rgb, "animated with 3 frames"),
        "no_end.png": lossless(encode(image, "PNG")[:-12], rgb),
        "tail.png": lossless(encode(image, "PNG") + b"appended", rgb),
        "plain.bmp": lossless(encode(image, "BMP"), rgb),
        "palette.bmp": lossless(encode(palette, "BMP"), np.asarray(palette.convert("RGB"))),
        "one_pixel.png": lossless(encode(rgb[:1, :1], "PNG"), rgb[:1, :1]),
        "two words $(x);.jpg": jpeg(image),
        "-leading.jpg": jpeg(image),
        "line\nbreak é.png": lossless(encode(image, "PNG"), rgb),
    }


def write_files(folder: Path, files: dict[str, Odd]) -> None:
    """Writes the files into a (new) folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / name).write_bytes(file.content)


def write_unopenable(folder: Path) -> dict[str, str]:
    """Entries that are no readable files; name to part of the reason."""
    (folder / "album.jpg").mkdir()
    (folder / "more").mkdir()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    reasons = {
        "album.jpg": "a folder inside",
        "more": "a folder inside",
        "gone.jpg": "broken link",
        "pipe.jpg": "not a regular file",
    }
    if os.geteuid() != 0:  # root reads everything
        (folder / "locked.jpg").write_bytes(encode(photo(), "JPEG"))
        (folder / "locked.jpg").chmod(0)
        reasons["locked.jpg"] = "no permission"
    return reasons


def class_folders(root: Path, per_class: int = 5, classes: int = 3, height: int = 40, width: int = 48) -> Path:
    """A small split of JPEG photos."""
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(per_class):
            (folder / f"{number}.jpg").write_bytes(encode(photo(100 * label + number, height, width), "JPEG"))
    return root


def numbered_images(root: Path, count: int) -> list[tuple[Path, int]]:
    """Images of one gray each: image ``i`` has value ``i`` and label ``i % 10``."""
    root.mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(count):
        path = root / f"{number:03d}.png"
        path.write_bytes(encode(np.full((20, 24, 3), number, np.uint8), "PNG"))
        images.append((path, number % 10))
    return images
