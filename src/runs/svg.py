"""Curves and confusion matrices as SVG inside a page, in the page's colours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from src.runs.page import COLOURS, escaped

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 26, 34
_DASHES = ("", "6 3", "2 3")
_POINTS = 30  # up to so many are marked, each with its value
_SHADES = 10
NAMED, COUNTED = 40, 20  # classes up to which a matrix names them, and up to which it says the counts


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of a run: ``number`` is its place among the runs, from which colour and dashes follow."""

    name: str
    number: int
    points: Sequence[tuple[float, float]]


def stroke(number: int) -> str:
    """Attributes of the line of run ``number``."""
    dashes = _DASHES[number // COLOURS % len(_DASHES)]
    return f'style="stroke:var(--c{number % COLOURS})"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def key(number: int) -> str:
    """The sign by which the lines of run ``number`` are known."""
    return (
        f'<svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path d="M0 4H24" fill="none" stroke-width="4" '
        f"{stroke(number)}/></svg>"
    )


def line_chart(title: str, curves: Sequence[Curve], *, is_share: bool = False, may_be_log: bool = False) -> str:
    """Curves over the epochs, points that are no numbers left out.

    Args:
        is_share: the values are fractions of one, shown in percent.
        may_be_log: the scale is logarithmic where the values, all above 0, span more than a factor of 50.
    """
    finite = [
        dataclasses.replace(curve, points=[point for point in curve.points if math.isfinite(point[1])])
        for curve in curves
    ]
    values = [value for curve in finite for _, value in curve.points]
    begin = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(title)}">'
    heading = f'<text x="{_LEFT}" y="14" style="font-size:13px;font-weight:600">{escaped(title)}</text>'
    if not values:
        empty = f'<text class="faint" x="{_LEFT}" y="{_HEIGHT / 2}">nothing was measured</text>'
        return f"<figure>{begin}{heading}{empty}</svg></figure>"
    is_log = may_be_log and min(values) > 0 and max(values) > 50 * min(values)
    x_of, x_marks = _axis(
        [epoch for curve in finite for epoch, _ in curve.points], _LEFT, _WIDTH - _RIGHT, is_whole=True
    )
    y_of, y_marks = _axis(values, _HEIGHT - _BOTTOM, _TOP, is_log=is_log)
    lines = []
    for mark in y_marks:
        text = f"{100 * mark:.4g}%" if is_share else f"{mark:.4g}"
        lines.append(f'<path class="axis" d="M{_LEFT} {y_of(mark):.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(f'<text class="faint" x="{_LEFT - 5}" y="{y_of(mark) + 4:.1f}" text-anchor="end">{text}</text>')
    for mark in x_marks:
        at = f'x="{x_of(mark):.1f}" y="{_HEIGHT - _BOTTOM + 15}"'
        lines.append(f'<text class="faint" {at} text-anchor="middle">{mark:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(f'<text class="faint" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">epoch</text>')
    for curve in finite:
        path = "L".join(f"{x_of(epoch):.1f} {y_of(value):.1f}" for epoch, value in curve.points)
        lines.append(f'<path class="curve" d="M{path}" {stroke(curve.number)}/>' if path else "")
        for epoch, value in curve.points if len(curve.points) <= _POINTS else ():
            said = f"{curve.name}, epoch {epoch:g}: {f'{value:.2%}' if is_share else f'{value:.4g}'}"
            lines.append(
                f'<circle cx="{x_of(epoch):.1f}" cy="{y_of(value):.1f}" r="2.5" '
                f'style="fill:var(--c{curve.number % COLOURS})"><title>{escaped(said)}</title></circle>'
            )
    return f"<figure>{begin}{heading}{''.join(lines)}</svg></figure>"


def _axis(values: Sequence[float], begin: float, end: float, *, is_log: bool = False, is_whole: bool = False):
    """(value to place, marks) of an axis that runs from ``begin`` to ``end`` and holds all ``values``."""
    low, high = min(values), max(values)
    if is_log:
        marks = [
            step * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for step in (1, 2, 5)
            if low <= step * 10.0**power <= high
        ]
        marks = [mark for mark in marks if len(marks) < 8 or math.log10(mark).is_integer()]
        low, high = math.log10(low), math.log10(high)
    else:
        step = _step(high - low or abs(high) or 1.0, is_whole)
        low, high = (low, high) if is_whole else (math.floor(low / step) * step, math.ceil(high / step) * step)
        first = math.ceil(low / step - 1e-9)
        marks = [(first + n) * step for n in range(int((high - first * step) / step + 1e-9) + 1)]
    if high == low:
        low, high = low - 0.5, high + 0.5

    def place(value: float) -> float:
        position = math.log10(value) if is_log else value
        return begin + (position - low) / (high - low) * (end - begin)

    return place, marks


def _step(span: float, is_whole: bool) -> float:
    """1, 2 or 5 times a power of ten: the distance of about five marks within ``span``."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5 * (1 - 1e-9))
    return max(1.0, step) if is_whole else step


def matrix(confusion: np.ndarray, classes: Sequence[str]) -> str:
    """A confusion matrix [K, K] (rows true, columns predicted), each row shaded by its shares."""
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 32 if count <= 10 else 26 if count <= COUNTED else 14 if count <= NAMED else max(1, 560 // count)
    names = [name if len(name) <= 16 else f"{name[:15]}…" for name in classes] if count <= NAMED else [""] * count
    margin = 28 + 7 * max(map(len, names))
    size = margin + count * side + 4
    lines = [
        f'<text class="faint" x="{margin}" y="12">predicted class</text>',
        f'<text class="faint" transform="translate(12 {margin + count * side}) rotate(-90)">true class</text>',
        f'<rect class="axis" x="{margin}" y="{margin}" width="{count * side}" height="{count * side}"/>',
        *_shaded(shares, margin, side),
    ]
    for place, name in enumerate(names if count <= NAMED else ()):
        at = margin + (place + 0.5) * side
        lines.append(f'<text x="{margin - 5}" y="{at + 4}" text-anchor="end">{escaped(name)}</text>')
        lines.append(f'<text transform="translate({at + 4} {margin - 5}) rotate(-90)">{escaped(name)}</text>')
    for row, column in zip(*np.nonzero(confusion), strict=True) if count <= COUNTED else ():
        at = f'x="{margin + (column + 0.5) * side}" y="{margin + (row + 0.5) * side + 4}" text-anchor="middle"'
        colour = ' style="fill:var(--back)"' if shares[row, column] > 0.5 else ""
        lines.append(f"<text {at}{colour}>{confusion[row, column]}</text>")
    width = f"min-width:{min(size, 700)}px;max-width:{max(2 * size, 560)}px"
    return (
        f'<div class="scroll" tabindex="0"><svg viewBox="0 0 {size} {size}" width="{size}" height="{size}" role="img" '
        f'aria-label="confusion matrix" style="display:block;{width}">{"".join(lines)}</svg></div>'
    )


def _shaded(shares: np.ndarray, margin: int, side: int) -> list[str]:
    """The squares above 0, those of one shade as one path."""
    shades = np.ceil(shares * _SHADES).astype(int)
    paths = []
    for shade in range(1, _SHADES + 1):
        rows, columns = np.nonzero(shades == shade)
        squares = "".join(
            f"M{margin + column * side} {margin + row * side}h{side}v{side}h-{side}z"
            for row, column in zip(rows, columns, strict=True)
        )
        if squares:
            paths.append(f'<path d="{squares}" style="fill:rgb(var(--mark)/{shade / _SHADES:g})"/>')
    return paths
