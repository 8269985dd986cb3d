"""``python -m src.data.check DIR``: decodes every image once and names each that cannot be trained on.

Training runs the same check first. It is more than a courtesy: JPEG files cut off within their tables end a MindSpore
data pipeline by a signal (SIGFPE), its own mode for skipping bad images drops healthy neighbours, and a PNG of a few
hundred kilobytes may unfold to gigabytes. Only what passed here is handed to it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from src.data.folders import (
    Images,
    build_class_index,
    check_same_classes,
    find_split,
    find_val,
    is_pack,
    list_images,
    pack_of,
    some,
)
from src.data.images import FORMATS, is_image_name, to_rgb
from src.data.packed import PackedImage
from src.errors import UsageError, run
from src.files import read_sealed, write_sealed
from src.machine.caches import cache_folder

_log = logging.getLogger(__name__)

MAX_IMAGE_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gigabyte as RGB
MAX_ASPECT = 100  # the evaluation's resize of the short side makes a longer strip huge
_RULES = 2  # raise when what is refused changes: reports of other rules in the cache are void

_PILLOW = Path(PIL.__file__).parent
_ORIENTATION = 0x0112  # EXIF's tag
_STARTS = {  # of file contents, to say what a file is that does not open
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WEBP",
    b"%PDF": "PDF",
}
_OTHER_IMAGE_SUFFIXES = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".jpe", ".jfif", ".svg")

Finding = tuple[Path, str]


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What a check found in one split.

    Attributes:
        split_dir: the folder.
        good: images that can be trained on, with their labels, in the order of ``list_images``.
        bad: files and folders that cannot, each with the reason.
        notes: what is odd but harmless, each with what is done about it.
    """

    split_dir: Path
    good: Images
    bad: list[Finding]
    notes: list[Finding]

    def lines(self, findings: list[Finding]) -> list[str]:
        """``class/file: reason`` of each, names with unprintable characters escaped."""
        named = ((str(path.relative_to(self.split_dir)), reason) for path, reason in findings)
        return [f"{name if name.isprintable() else ascii(name)}: {reason}" for name, reason in named]

    def summary(self) -> str:
        """What is odd, how often and where, in one line; "" where nothing is."""
        named: dict[str, list[str]] = {}
        for line in self.lines(self.notes):
            name, _, remark = line.rpartition(": ")
            named.setdefault(remark, []).append(name)
        return "; ".join(f"{len(names)} {remark} ({some(names)})" for remark, names in named.items())


def check_folder(
    split_dir: Path,
    class_index: dict[str, int],
    max_pixels: int = MAX_IMAGE_PIXELS,
    workers: int = 8,
    cache: Path | None = None,
) -> CheckReport:
    """Checks all that lies in the class folders of a split, ``workers`` files at a time (at most one for each CPU).

    Args:
        cache: folder where the result is kept under a stamp of every file's name, size and time of change;
            while that is the same, the files are not decoded again. It need not exist. None: no cache.
    """
    entries, stamp = _contents(split_dir, class_index, max_pixels)
    kept = _Kept(cache, split_dir) if cache else None
    findings = kept.load(stamp) if kept else None
    if findings is None:
        count = max(1, min(workers, os.cpu_count() or 1))
        with ThreadPoolExecutor(count) as pool, _warnings_as_remarks() as warned:

            def judged(path: Path) -> tuple[str | None, str | None]:
                refusal, remark = examine(path, max_pixels)
                return refusal, ", ".join(filter(None, (remark, warned()))) or None

            verdicts = tqdm(
                pool.map(judged, entries),
                total=len(entries),
                desc=f"checking {split_dir.name}",
                unit="file",
                leave=False,
                disable=not sys.stderr.isatty(),
            )
            findings = [
                (os.path.relpath(path, split_dir), *verdict)
                for path, verdict in zip(entries, verdicts, strict=True)
                if verdict != (None, None)
            ]
        if kept:
            kept.save(stamp, findings)
    bad = [(split_dir / name, refusal) for name, refusal, _ in findings if refusal]
    notes = [(split_dir / name, remark) for name, _, remark in findings if remark]
    refused = {path for path, _ in bad}
    good = [(path, label) for path, label in list_images(split_dir, class_index) if path not in refused]
    return CheckReport(split_dir, good, bad, notes)


def usable_images(report: CheckReport, skip_bad_images: bool) -> Images:
    """The images to train on.

    Raises:
        UsageError: there are bad ones and they are not to be skipped, or a class would be left without images.
    """
    if report.bad and not skip_bad_images:
        first = "; ".join(report.lines(report.bad[:3]))
        raise UsageError(
            f"{len(report.bad)} files in {report.split_dir} cannot be used ({first}"
            f"{'; ...' if len(report.bad) > 3 else ''}). Repair or remove them, or leave them out with "
            f"--skip_bad_images; `python -m src.data.check {report.split_dir}` lists all"
        )
    left = {path.parent.name for path, _ in report.good}
    emptied = sorted({path.relative_to(report.split_dir).parts[0] for path, _ in report.bad} - left)
    if emptied:
        raise UsageError(f"no usable image is left in the classes {some(emptied)} of {report.split_dir}: add some")
    return report.good


def default_cache() -> Path:
    """Where check results are kept; data folders may be read-only."""
    return cache_folder("checks")


def examine(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> tuple[str | None, str | None]:
    """Why a file cannot be used (None: it can), and what is odd about it (None: nothing).

    The size is judged from the header, before any pixel is decoded.
    """
    if path.is_dir():
        return "a folder inside a class folder; its images would not be found", None
    if not path.is_file():
        return ("a broken link" if path.is_symlink() else "not a regular file"), None
    if not isinstance(path, PackedImage) and not is_image_name(path.name):
        if path.suffix.lower() in _OTHER_IMAGE_SUFFIXES:
            return f"format {path.suffix.lower()} is not supported; convert it to JPEG or PNG", None
        return None, "no image by its name, left out"
    try:
        if path.stat().st_size == 0:
            return "empty file", None
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                return f"{width} x {height} pixels, more than max_image_pixels {max_pixels}", None
            if max(width, height) > MAX_ASPECT * min(width, height):
                return f"{width} x {height} pixels, longer than {MAX_ASPECT} times its short side", None
            remark = _remark(image)
            to_rgb(image)
    except PermissionError:
        return "no permission to read it", None
    except UnidentifiedImageError:
        return _unopened(path), None
    except Exception as error:  # Pillow's parsers raise whatever a damaged file makes them stumble over
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        return f"{kind}: {' '.join(str(error).split()) or type(error).__name__}", None
    return None, remark


def _remark(image: Image.Image) -> str | None:
    remarks = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        remarks.append(f"animated with {image.n_frames} frames, the first is used")
    if image.format == "PNG" and any(";16" in str(tile[3]) for tile in image.tile):
        remarks.append("of 16 bits per channel, the upper 8 are used")
    if image.mode == "CMYK":
        remarks.append("CMYK, converted to RGB")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        remarks.append("transparent, its colours are used as if it were not")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        remarks.append("turned by its EXIF entry, which is not heeded")
    return ", ".join(remarks) or None


@contextlib.contextmanager
def _warnings_as_remarks() -> Iterator[Callable[[], str]]:
    """Within the block Pillow's warnings are kept: what is given tells those of this thread since it was last asked."""
    said, others = threading.local(), warnings.showwarning

    def keep(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        if not Path(filename).is_relative_to(_PILLOW):
            others(message, category, filename, *rest)
            return
        said.texts = [*getattr(said, "texts", []), " ".join(str(message).split()).replace(": ", ", ")]

    def taken() -> str:
        texts, said.texts = getattr(said, "texts", []), []
        return ", ".join(dict.fromkeys(texts))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = keep
        yield taken


def _unopened(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(12)
    for magic, name in _STARTS.items():
        if start.startswith(magic):
            return f"damaged or truncated {name} header" if name in FORMATS else f"{name} content is not supported"
    return "not an image"


def _contents(split_dir: Path, class_index: dict[str, int], max_pixels: int) -> tuple[list[Path], str]:
    """All that is to be looked at in a split, and its stamp."""
    if is_pack(split_dir):
        stamp = repr((_RULES, PIL.__version__, max_pixels, pack_of(split_dir).stamp))
        return [path for path, _ in list_images(split_dir, class_index)], stamp
    entries = _entries(split_dir, class_index)
    return [Path(entry.path) for entry in entries], _stamp(entries, split_dir, max_pixels)


def _entries(split_dir: Path, class_index: dict[str, int]) -> list[os.DirEntry]:
    entries = []
    for name in sorted(class_index):
        with os.scandir(split_dir / name) as found:
            entries += sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda e: e.name)
    return entries


def _stamp(entries: list[os.DirEntry], split_dir: Path, max_pixels: int) -> str:
    digest = hashlib.sha256(repr((_RULES, PIL.__version__, max_pixels)).encode())
    for entry in entries:
        try:
            facts = entry.stat()
            state = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        except OSError:
            state = ()
        digest.update(os.fsencode(os.path.relpath(entry.path, split_dir)) + repr(state).encode() + b"\n")
    return digest.hexdigest()


def _is_told(*texts: object) -> bool:
    return all(text is None or isinstance(text, str) for text in texts)


class _Kept:
    """The last report of one folder, kept as a JSON file in the cache folder."""

    def __init__(self, cache: Path, split_dir: Path):
        name = hashlib.sha256(os.fsencode(split_dir.resolve())).hexdigest()[:32]
        self.path = cache / f"{name}.json"

    def load(self, stamp: str) -> list[tuple[str, str | None, str | None]] | None:
        try:
            kept = read_sealed(self.path)
            if kept["stamp"] == stamp:
                findings = [(name, refusal, remark) for name, refusal, remark in kept["findings"]]
                if all(isinstance(name, str) and _is_told(refusal, remark) for name, refusal, remark in findings):
                    return findings
        except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: check again
            return None
        return None

    def save(self, stamp: str, findings: list[tuple[str, str | None, str | None]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(self.path, {"stamp": stamp, "findings": findings})
        except OSError as error:
            _log.warning("the check's result could not be kept and the check will run again: %s", error)


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(
        prog="python -m src.data.check", description="Decode every image once; name each that cannot be trained on."
    )
    parser.add_argument("folder", metavar="DIR", help="the parent of train/ and val/, or one of them")
    parser.add_argument("--max_image_pixels", type=int, default=MAX_IMAGE_PIXELS, help="refuse larger images")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="files decoded at a time")
    parser.add_argument("--no_cache", action="store_true", help="decode again even if nothing has changed")
    options = parser.parse_args(argv)

    bad = 0
    for split_dir, class_index in _splits(options.folder):
        cache = None if options.no_cache else default_cache()
        report = check_folder(split_dir, class_index, options.max_image_pixels, options.workers, cache)
        for line in report.lines(report.bad):
            print(f"bad   {line}")
        for line in report.lines(report.notes):
            print(f"note  {line}")
        per_class = collections.Counter(path.parent.name for path, _ in report.good)
        print(
            f"{split_dir}: {len(report.good)} good images in {len(per_class)} classes, "
            f"{len(report.bad)} bad, {len(report.notes)} notes"
        )
        bad += len(report.bad)
    if bad:
        raise UsageError(
            f"{bad} files of {options.folder} cannot be used: repair or remove them, or train with --skip_bad_images"
        )


def _splits(folder: str) -> list[tuple[Path, dict[str, int]]]:
    given = Path(folder).absolute()
    first = find_split(given, "val" if given.name == "val" else "train")
    splits = [(first, build_class_index(first))]
    val = None if first == given else find_val(given)
    if val:
        check_same_classes(val, splits[0][1])
        splits.append((val, splits[0][1]))
    return splits


if __name__ == "__main__":
    run(main)
