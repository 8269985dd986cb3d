"""A contact sheet: images with what a network says of them, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from src.data.images import FORMATS, to_rgb
from src.files import replacing

MOST = 120  # images on a sheet
_SIDE, _GAP, _LINE = 176, 14, 17  # pixels: of an image's field, between fields, of a line of text
_INK, _PALE, _BAR, _FIRST, _PAPER = "#1a1a1a", "#767676", "#d3e0f2", "#8fb4e3", "#ffffff"

Lines = Sequence[tuple[str, float]]


def draw_sheet(images: Sequence[tuple[Path, Lines, str]], path: Path) -> None:
    """Draws ``images``, at most MOST, to ``path`` (PNG), in rows of up to eight.

    Args:
        images: the file, (class, probability) of the most probable classes, and why it could not be read if so.
    """
    images = images[:MOST]
    columns = min(len(images), 8) if len(images) > 12 else min(len(images), 4)
    rows = -(-len(images) // columns)
    lines = max(len(top) for _, top, _ in images) or 2
    width, height = _SIDE + _GAP, _SIDE + _GAP * 2 + _LINE * (1 + lines)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (file, top, refusal) in enumerate(images):
        x, y = _GAP + number % columns * width, _GAP + number // columns * height
        if refusal:
            draw.rectangle((x, y, x + _SIDE, y + _SIDE), _PAPER, _PALE)
            draw.multiline_text((x + 8, y + 8), _wrapped(refusal, font), _INK, font)
        else:
            thumbnail = _thumbnail(file)
            sheet.paste(thumbnail, (x + (_SIDE - thumbnail.width) // 2, y + (_SIDE - thumbnail.height) // 2))
        draw.text((x, y + _SIDE + 3), _fitting(file.name, font, _SIDE), _PALE, font)
        for place, (name, share) in enumerate(top):
            _draw_line(draw, font, (x, y + _SIDE + 4 + _LINE * (place + 1)), name, share, place == 0)
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")


def _draw_line(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, at: tuple[int, int], name: str, share: float, first: bool
) -> None:
    """A class and its probability over a bar as long as that."""
    x, y = at
    draw.rectangle((x, y, x + round(_SIDE * share), y + _LINE - 3), _FIRST if first else _BAR)
    number = f"{share:.1%}"
    wide = draw.textlength(number, font)
    draw.text((x + _SIDE - wide - 3, y), number, _INK, font)
    draw.text((x + 3, y), _fitting(name, font, _SIDE - wide - 12), _INK, font)


def _thumbnail(file: Path) -> Image.Image:
    """As large as its field; small images enlarged."""
    with Image.open(file, formats=FORMATS) as image:
        image.draft("RGB", (_SIDE * 2, _SIDE * 2))
        picture = to_rgb(image)
    scale = _SIDE / max(picture.size)
    kernel = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return picture.resize([max(1, round(side * scale)) for side in picture.size], kernel)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """``text``, its middle left out where it is longer than ``width`` pixels."""
    text = text if text.isprintable() else ascii(text)
    kept = len(text)
    while kept > 4 and font.getlength(shown := _shortened(text, kept)) > width:
        kept -= 1
    return shown if kept > 4 else text[:4]


def _shortened(text: str, kept: int) -> str:
    return text if kept >= len(text) else f"{text[: kept - kept // 3 - 1]}…{text[len(text) - kept // 3 :]}"


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _SIDE - 16:
            lines[-1] = longer
        else:
            lines.append(_fitting(word, font, _SIDE - 16))
    return "\n".join(lines[:9]).strip()
