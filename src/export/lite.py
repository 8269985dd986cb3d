"""MindSpore Lite 2.0 through the programs of ascend310_infer: conversion of ONNX to MindIR, and running the result."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx

from src.errors import RunFailed, UsageError
from src.export.graph import INPUT_NAME
from src.export.quantize import nodes_of
from src.files import replacing

PROGRAMS = Path(__file__).resolve().parents[2] / "ascend310_infer" / "out"
_METHODS = {"minmax": "MAX_MIN", "entropy": "KL", "percentile": "REMOVAL_OUTLIER"}
_RUNS = 30
# Measured with the quantiser of Lite 2.0, whatever the settings.
_REFUSED = {
    "shufflenetv1": "never ends",
    **dict.fromkeys(("spos_oneshot", "spos_oneshot_plus", "spos_oneshot_s_plus"), "makes a file Lite cannot run"),
}
_SECONDS, _SECONDS_PER_IMAGE = 300, 10  # many times what a conversion takes on two slow cores


def require_int8(model: str) -> None:
    """Raises UsageError when the converter is not built, or is known not to manage the network."""
    if model in _REFUSED:
        raise UsageError(
            f"int8 MindIR of {model}: MindSpore Lite 2.0's converter {_REFUSED[model]}; choose --file_format ONNX"
        )
    missing = [name for name in ("convert", "main") if not (PROGRAMS / name).is_file()]
    if missing:
        raise UsageError(
            f"int8 MindIR is made by MindSpore Lite's converter, and {PROGRAMS / missing[0]} is not there: "
            "`bash ascend310_infer/build.sh --fetch` builds it on Linux x86-64; int8 ONNX needs --file_format ONNX only"
        )


def convert(source: Path, target: Path, config: str = "") -> None:
    """Writes a float ONNX file as MindIR for Lite 2.0.

    Args:
        target: with the suffix .mindir.
        config: the converter's settings, such as :func:`int8_config` gives.

    Raises:
        RunFailed: the converter did not manage; its last words are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "converted"
        settings = []
        if config:
            settings = [Path(folder) / "settings.cfg"]
            settings[0].write_text(config)
        images = int(size[1]) if (size := re.search(r"calibrate_size=(\d+)", config)) else 0
        _run("convert", source, output, *settings, seconds=_SECONDS + images * _SECONDS_PER_IMAGE)
        with replacing(target) as unfinished:
            unfinished.write_bytes(output.with_suffix(".mindir").read_bytes())


def int8_config(
    source: Path, folder: Path, calibration: Iterable[np.ndarray], method: str, exclude: Sequence[str]
) -> str:
    """Settings of full quantisation, the calibration images written into ``folder``.

    Args:
        source: the float ONNX file.
        calibration: batches of exactly the file's input.
        method: a key of quantize.METHODS.
        exclude: some of quantize.PARTS, which stay float.
    """
    count = 0
    for count, values in enumerate(calibration, 1):
        values.tofile(folder / f"{count:06d}.bin")
    names = nodes_of(onnx.load(source), exclude)
    return "\n".join(
        [
            "[common_quant_param]",
            "quant_type=FULL_QUANT",
            "bit_num=8",
            "min_quant_weight_size=0",
            "min_quant_weight_channel=0",
            *([f"skip_quant_node={','.join(names)}"] if names else []),  # an empty list is an error
            "[data_preprocess_param]",
            f"calibrate_path={INPUT_NAME}:{folder}",
            f"calibrate_size={count}",
            "input_type=BIN",
            "[full_quant_param]",
            f"activation_quant_method={_METHODS[method]}",
            "bias_correction=true",
            "",
        ]
    )


def logits_of_lite(mindir: Path, manifest: Path, images: Sequence[Path]) -> np.ndarray:
    """What the C++ application answers for images, [N, K]. Raises RunFailed when one cannot be read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for number, image in enumerate(images):
            (folder / "images" / f"{number:06d}{image.suffix}").symlink_to(image.absolute())
        _run(
            "main", *_model(mindir, manifest), f"--dataset_path={folder / 'images'}", f"--result_path={folder / 'out'}"
        )
        lines = (folder / "out" / "index.jsonl").read_text().splitlines()
        rows = [np.fromfile(folder / "out" / f"{json.loads(line)['result']}_0.bin", np.float32) for line in lines]
    return np.stack(rows)


def milliseconds_of_lite(mindir: Path, manifest: Path, image: Path) -> float:
    """Of one prediction of a batch, the median of some."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"image{image.suffix}").symlink_to(image.absolute())
        printed = _run("main", *_model(mindir, manifest), f"--dataset_path={folder}", f"--benchmark={_RUNS}")
    return float(re.search(r"p50 ([0-9.]+)", printed)[1])


def _model(mindir: Path, manifest: Path) -> tuple[str, str]:
    return f"--mindir_path={mindir}", f"--manifest={manifest}"


def _run(program: str, *arguments: str | Path, seconds: float | None = None) -> str:
    """What a program prints, stopped after ``seconds``."""
    command = [str(PROGRAMS / program), *map(str, arguments)]
    quiet = {**os.environ, "GLOG_v": "3"}  # errors only
    try:
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"{program} of MindSpore Lite did not end within {seconds:.0f} s") from error
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise RunFailed(f"{program} of MindSpore Lite failed with status {done.returncode}: {last}")
    return done.stdout
