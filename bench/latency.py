"""Measures the time to predict one image: the C++ application on MindSpore Lite beside ONNX Runtime and PyTorch.

All engines of a network are sampled in turn. Writes one Markdown table, medians in milliseconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.__main__ import commands
from bench.engines import add_arguments, machine, measure, wanted
from src.models import list_models

APPLICATION = "C++ application"


def milliseconds(args: argparse.Namespace, model: str) -> dict[str, float]:
    """Of one image, by engine."""
    with tempfile.TemporaryDirectory() as folder:
        describing = [sys.executable, "-m", "bench.describe", model, "1", str(args.size), folder]
        subprocess.run(describing, check=True, stdout=subprocess.DEVNULL)
        application = [sys.executable, "-m", "bench.lite_engine", model, "1", str(args.size), str(args.threads)]
        engines = {APPLICATION: (application, {}), **commands(args, "eval", model, 1, args.size, Path(folder))}
        measured = measure(wanted(engines, args.without), f"{model}, batch 1", args.rounds, args.threads)
        return {engine.name: 1000 * engine.seconds for engine in measured}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list_models(), choices=list_models(), metavar="NAME")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    add_arguments(parser)
    parser.set_defaults(slow=False)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    args = parse(argv)
    header = machine(args.threads, ["mindspore", "onnxruntime"], args.bench_python, ("torch",))
    print(header, flush=True)
    rows: dict[str, dict[str, float]] = {}
    for model in args.models:
        rows[model] = milliseconds(args, model)
        print(model, {name: round(value, 2) for name, value in rows[model].items()}, file=sys.stderr, flush=True)
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [
        f"| ms per image, batch 1, {args.size} pixels | {' | '.join(names)} |",
        f"|--|{'--:|' * len(names)}",
        *(
            f"| `{model}` | {' | '.join(f'{row[name]:.1f}' if name in row else '' for name in names)} |"
            for model, row in rows.items()
        ),
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join([header, *lines, ""]))


if __name__ == "__main__":
    main(sys.argv[1:])
