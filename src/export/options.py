"""The command line of export.py: its own flags, and those of default_config.yaml for network and device."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from src.errors import UsageError, nearest
from src.export.formats import FORMATS, MINDIR_FOR
from src.export.parity import TOLERANCE
from src.export.quantize import METHODS, PARTS
from src.settings.command_line import parse_arguments
from src.settings.config import Config


def parse(argv: list[str]) -> tuple[argparse.Namespace, Config]:
    """export.py's own options and the configuration made of the others.

    Raises:
        UsageError: a value that does not fit.
        SystemExit: after printing the help text.
    """
    parser = _Parser(
        prog="export.py",
        allow_abbrev=False,
        description="Writes a trained network as MindIR, ONNX or AIR and checks the file against the network.",
        epilog="Also understood: --checkpoint_path (--ckpt_file, --ckpt_path, --checkpoint), --device_target, "
        "--device_id, --image_size and, for checkpoints of the original repositories, --model, --model_options, "
        "--num_classes or --config_path RECIPE.",
    )
    parser.add_argument("--file_format", nargs="+", default=["MINDIR"], help="MINDIR, ONNX, AIR; several are allowed")
    parser.add_argument("--file_name", default="", help="path without suffix (the network's name)")
    parser.add_argument("--batch_size", type=_batch, default=1, help="images at once, or `dynamic` (1)")
    parser.add_argument("--width", type=int, default=0, help="side of the input in pixels (the checkpoint's)")
    parser.add_argument("--height", type=int, default=0, help="the same as --width")
    parser.add_argument("--mindir_for", choices=MINDIR_FOR, default="mindspore", help="the program that is to read it")
    parser.add_argument("--merge_bn", type=_switch, nargs="?", const=True, default=False, help="fold batch norm away")
    parser.add_argument(
        "--preprocess",
        type=_switch,
        nargs="?",
        const=True,
        default=False,
        help="take uint8 [N, H, W, 3], normalise inside",
    )
    parser.add_argument("--image_path", default="", help="images for the check (the checkpoint's validation images)")
    parser.add_argument("--check_images", type=int, default=16, help="how many of them (16)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help=f"largest difference allowed ({TOLERANCE:g})"
    )
    parser.add_argument(
        "--quantize", choices=("int8",), help="write <name>_int8 in these formats as well, batch norms merged"
    )
    parser.add_argument("--calibration_path", default="", help="images for it (the checkpoint's training images)")
    parser.add_argument("--calibration_images", type=int, default=128, help="how many of them (128)")
    parser.add_argument(
        "--calibration_method", choices=METHODS, default="minmax", help="how ranges are chosen (minmax)"
    )
    parser.add_argument(
        "--exclude", nargs="*", choices=PARTS, default=["first", "last"], help="parts that stay float (first last)"
    )
    options, others = parser.parse_known_args(_with_underscores(argv))
    config = parse_arguments(others, "export")
    options.file_format = [_format(word) for text in options.file_format for word in text.split(",")]
    if options.width != options.height and options.width and options.height:
        raise UsageError(f"--width {options.width} --height {options.height}: the networks take square images")
    if options.preprocess and options.mindir_for == "lite-2.0" and "MINDIR" in options.file_format:
        raise UsageError(
            "--preprocess with --mindir_for lite-2.0: Lite 2.0 cannot take uint8 images; leave --preprocess away, "
            "ascend310_infer normalises by the manifest"
        )
    if options.batch_size is None and options.mindir_for == "lite-2.0" and "MINDIR" in options.file_format:
        raise UsageError(
            "--batch_size dynamic with --mindir_for lite-2.0: Lite 2.0 crashes on the open batch of some networks "
            "(measured: SPOS with squeeze-excite); give a number"
        )
    side = options.width or options.height
    if side:
        if side < 32:
            raise UsageError(f"--width {side}: the side of the images must be at least 32 pixels")
        config = config.replace(image_size=side)
    if options.check_images < 1 or options.calibration_images < 1 or not options.tolerance > 0:
        raise UsageError("--check_images, --calibration_images and --tolerance must be positive")
    return options, config


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UsageError(message)


def _with_underscores(argv: list[str]) -> list[str]:
    """``--file-format=X`` is ``--file_format=X``, as in every other program here."""
    return [re.sub(r"^--[^=]+", lambda flag: "--" + flag[0][2:].replace("-", "_"), word) for word in argv]


def _format(word: str) -> str:
    if word.upper() not in FORMATS:
        raise UsageError(f"--file_format {word!r}{nearest(word.upper(), FORMATS)}: it can be {', '.join(FORMATS)}")
    return word.upper()


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 to 4096 nor `dynamic`")
    return int(text)


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return words[text.lower()]


def name_of(options: argparse.Namespace, model: str) -> Path:
    """The files' path without suffix, its folder made. A known suffix that was given is taken off; a folder gets files
    named after the network.

    Raises:
        UsageError: nothing can be written there.
    """
    path = Path(options.file_name or model)
    if path.is_dir():
        path = path / model
    elif path.suffix in FORMATS.values():
        path = path.with_suffix("")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--file_name {path}: {path.parent} cannot be made: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--file_name {path}: nothing can be written into {path.parent}")
    return path
