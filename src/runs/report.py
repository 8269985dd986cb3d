"""Compares runs on one page of HTML that asks for nothing from elsewhere.

    python -m src.runs.report RUN... [--out FILE] [--data_path DATA] [--val_data_path VAL] [--no_images]

It shows curves, figures, what the configurations differ in, and, of each network on its run's validation images, the
confusion matrix and the surest mistakes. A run is named by its folder, finished or not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from src.data.folders import find_split
from src.errors import UsageError, run
from src.machine.device import set_up
from src.runs.account import Account, account_of
from src.runs.log import logged
from src.runs.page import Cell, embedded, escaped, facts, picture, table, write_page
from src.runs.svg import Curve, key, line_chart, matrix
from src.runs.verdicts import Verdicts, verdicts_on
from src.settings.config import DEFAULTS

_log = logging.getLogger("src.runs.report")
_CHARTS = (
    ("training loss", "train_loss", False),
    ("validation loss", "val_loss", False),
    ("validation top-1", "top1", True),
    ("learning rate", "lr", False),
)
_CONFUSED = 10  # pairs of classes that are listed


def names_of(runs: Sequence[Account]) -> list[str]:
    """A name of each run: of its folder, or as much of the path as tells the runs apart."""
    paths = [account.path.resolve() for account in runs]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(common)) for path in paths]


def charts(runs: Sequence[Account], names: Sequence[str]) -> str:
    """The curves of all runs, one chart a quantity."""
    drawn = []
    for title, column, is_share in _CHARTS:
        curves = []
        for number, (account, name) in enumerate(zip(runs, names, strict=True)):
            points = [(row["epoch"], row[column]) for row in account.history if row[column] is not None]
            curves.append(Curve(name, number, points))
        drawn.append(line_chart(title, curves, is_share=is_share, may_be_log="loss" in column))
    return f'<h2>Curves</h2>\n<div class="grid">{"".join(drawn)}</div>'


def figures(runs: Sequence[Account], names: Sequence[str]) -> str:
    """A row for each run."""
    columns = ("run", "network", "best top-1", "of epoch", "top-5", "loss", "epochs", "time", "images/s", "parameters")
    rows = [_row(number, *pair) for number, pair in enumerate(zip(runs, names, strict=True))]
    said = "Top-1, top-5 and loss are of the best epoch on the validation images; time is that of training them."
    return f'{table([*columns, "how it ended", "device"], rows)}<p class="faint">{said}</p>'


def _row(number: int, account: Account, name: str) -> list[Cell]:
    best = account.best or {}
    seconds = sum(row["seconds"] or 0 for row in account.history)
    speeds = [row["images_per_second"] for row in account.history if row["images_per_second"]]
    epochs = int(account.history[-1]["epoch"]) if account.history else 0
    return [
        Cell(key(number) + escaped(name), is_markup=True),
        Cell(account.config.model),
        _number(best.get("top1"), "{:.2%}"),
        _number(best.get("epoch"), "{:.0f}"),
        _number(best.get("top5"), "{:.2%}"),
        _number(best.get("val_loss"), "{:.4f}"),
        Cell(f"{epochs} of {account.config.epochs}", epochs),
        Cell(f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60:02.0f}", seconds),
        _number(float(np.median(speeds)) if speeds else None, "{:,.0f}"),
        _number(account.parameters, "{:,}"),
        Cell(account.status, is_long=True),
        Cell(account.device),
    ]


def _number(value: float | None, form: str) -> Cell:
    return Cell("") if value is None else Cell(form.format(value), value)


def settings(runs: Sequence[Account], names: Sequence[str]) -> str:
    """What the configurations differ in; of a single run, from the defaults."""
    values = [account.config.values() for account in runs]
    if len(runs) == 1:
        values, names = [*values, DEFAULTS], [*names, "default"]
    keys = [name for name in DEFAULTS if any(other[name] != values[0][name] for other in values[1:])]
    title = "Settings that differ" if len(runs) > 1 else "Settings that are not the defaults"
    if not keys:
        return f"<h2>{title}</h2><p>All settings are the same.</p>"
    rows = [[name, *(Cell(_shown(each[name]), is_long=True) for each in values)] for name in keys]
    return f"<h2>{title}</h2>\n{table(['key', *names], rows)}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def judgement(verdicts: Verdicts, checkpoint: Path) -> str:
    """Confusion matrix, most confused classes and surest mistakes of one run."""
    confusion, classes = verdicts.confusion, verdicts.classes
    wrong = confusion - np.diag(np.diagonal(confusion))
    images, mistaken = int(confusion.sum()), int(wrong.sum())
    said = {
        "checkpoint": checkpoint.name,
        "images": images,
        "top-1": f"{(images - mistaken) / images:.2%} ({mistaken} mistaken)",
    }
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSED]
    pairs = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    rows = [
        [
            classes[row],
            classes[column],
            Cell(f"{wrong[row, column]} of {confusion[row].sum()}", int(wrong[row, column])),
        ]
        for row, column in pairs
    ]
    parts = [facts(said), '<div class="grid">', f"<div><h3>Confusion matrix</h3>{matrix(confusion, classes)}</div>"]
    if rows:
        parts.append(f"<div><h3>Most often confused</h3>{table(('class', 'taken for', 'images'), rows)}</div>")
    parts.append("</div>")
    if verdicts.mistakes:
        shown = "".join(
            picture(
                embedded(Image.fromarray(mistake.pixels)),
                f"image of {classes[mistake.label]}",
                f"{classes[mistake.label]}, taken for {classes[mistake.taken_for]} at {mistake.probability:.1%}: "
                f"{mistake.path.name}",
            )
            for mistake in verdicts.mistakes
        )
        parts.append(f'<h3>The surest mistakes, as the network sees them</h3><div class="thumbs">{shown}</div>')
    return "\n".join(parts)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line. Raises UsageError for a page or images that cannot be where it says."""
    parser = argparse.ArgumentParser(prog="python -m src.runs.report", description="Compare runs on one page of HTML.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run of train.py")
    parser.add_argument("--out", type=Path, help="the page (report.html in the folder of the run, or of all runs)")
    parser.add_argument("--data_path", default="", help="where the runs' images are now, if they were moved")
    parser.add_argument("--val_data_path", default="", help="where the runs' validation images are now")
    parser.add_argument("--no_images", action="store_true", help="judge no images: no confusion matrix, no mistakes")
    given = parser.parse_args(argv)
    for name, split in (("data_path", "train"), ("val_data_path", "val")):
        if path := getattr(given, name):
            find_split(path, split)
    return given


def place_of(out: Path | None, runs: Sequence[Account]) -> Path:
    """The file of the page. Raises UsageError where it cannot be."""
    path = out or Path(os.path.commonpath([account.path.resolve() for account in runs])) / "report.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {path}: the name of a page ends in .html")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: {'it is a folder' if path.is_dir() else f'there is no folder {path.parent}'}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(f"{path.absolute().parent} cannot be written to: say where the page goes with --out")
    return path


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    given = parse(argv)
    runs = [account_of(text) for text in given.runs]
    folders = [account.path.resolve() for account in runs]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise UsageError(f"{given.runs[number]} is named twice")
    out, names = place_of(given.out, runs), names_of(runs)
    title = f"{runs[0].config.model}: {names[0]}" if len(runs) == 1 else f"{len(runs)} runs"
    parts = [figures(runs, names), charts(runs, names), settings(runs, names)]
    with logged():
        if not given.no_images:
            set_up("auto", 0, "graph", False, 1)
            elsewhere = {name: value for name in ("data_path", "val_data_path") if (value := getattr(given, name))}
            for account, name in zip(runs, names, strict=True):
                parts += [f"<h2>{escaped(name)} on its validation images</h2>", _judged(account, name, elsewhere)]
        write_page(out, title, parts)
        _log.info(f"{out}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}")


def _judged(account: Account, name: str, elsewhere: dict[str, str]) -> str:
    try:
        if account.checkpoint is None:
            raise UsageError(account.complaint)
        return judgement(verdicts_on(account.checkpoint, account.config.replace(**elsewhere)), account.checkpoint.path)
    except UsageError as error:
        _log.warning(f"{name}: no confusion matrix and no mistakes: {error}")
        return f"<p>Left out: {escaped(error)}.</p>"


if __name__ == "__main__":
    run(main, sys.argv[1:])
