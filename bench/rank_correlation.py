"""How well a supernet ranks paths: python -m bench.rank_correlation --supernet RUN --data_path DATA --run_dir OUT.

Random paths are scored in the supernet as a search scores them, then each is trained alone by train.py with the
supernet's own settings, and Spearman's rank correlation of the two accuracies is printed. What is there already in
OUT is not done again, so a measurement that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

import train
from search import scores_of, supernet_of_run
from src.errors import UsageError, run
from src.files import write_text
from src.machine.device import set_up
from src.runs.log import logged
from src.settings.config import load_config
from src.space.cost import cost_tables
from src.space.spaces import Domain, from_genes
from src.supernet.latency import rank_correlation
from src.supernet.search_report import recipe_text
from src.supernet.searching import Candidate


def main(argv: list[str]) -> None:
    given = parse(argv)
    out = given.run_dir
    out.mkdir(parents=True, exist_ok=True)
    table = out / "scored.json"
    if not table.is_file():
        write_text(table, json.dumps(score(given), indent=1))
    content = json.loads(table.read_text(encoding="utf-8"))
    if [content[key] for key in ("supernet", "paths", "seed")] != [given.supernet, given.paths, given.seed]:
        raise UsageError(f"{out} holds a measurement of other paths; give another --run_dir")
    alone = []
    for number, recipe in enumerate(content["recipes"]):
        alone.append(train_alone(given, out / f"path{number}", recipe))
        print(f"path {number}: {content['accuracies'][number]:.4f} in the supernet, {alone[-1]:.4f} alone", flush=True)
    with (out / "accuracies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "flops", "supernet", "alone"])
        writer.writerows(zip(range(len(alone)), content["flops"], content["accuracies"], alone, strict=True))
    against = {
        "supernet accuracy": content["accuracies"],
        "FLOPs": content["flops"],
    }
    for name, values in against.items():
        correlation = rank_correlation(np.array(values), np.array(alone))
        print(f"{name} against the accuracy alone over {len(alone)} paths: rank correlation {correlation:.3f}")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rank_correlation", description=__doc__.partition(".")[0])
    parser.add_argument("--supernet", required=True, metavar="RUN", help="run folder of train.py --train_supernet")
    parser.add_argument("--data_path", required=True)
    parser.add_argument("--run_dir", required=True, type=Path, metavar="OUT")
    parser.add_argument("--paths", type=int, default=12, help="random paths (default 12)")
    parser.add_argument(
        "--epochs",
        type=int,
        default=3,
        help="of the training alone; few, so that the networks still differ (default 3)",
    )
    parser.add_argument("--calibration_images", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=64, help="of the scoring (default 64)")
    parser.add_argument("--seed", type=int, default=1, help="of the paths")
    return parser.parse_args(argv)


def score(given: argparse.Namespace) -> dict:
    """The paths, as recipes, with their accuracies in the supernet and their FLOPs in millions."""
    set_up("auto", 0, "graph", True, given.seed)
    config = load_config(
        "",
        {key: getattr(given, key) for key in ("supernet", "data_path", "calibration_images", "batch_size")},
    )
    trained = supernet_of_run(given.supernet)
    tables = cost_tables(trained.space)
    with logged():
        scores, scored_on = scores_of(config, trained)
    genes = Domain.of(trained.space).sample(np.random.default_rng(given.seed), given.paths)
    accuracies = [scores.hits(row) / scores.total for row in genes]
    candidates = [
        Candidate(number, 0, path, accuracy)
        for number, (path, accuracy) in enumerate(zip(from_genes(genes), accuracies, strict=True))
    ]
    return {
        "supernet": given.supernet,
        "paths": given.paths,
        "seed": given.seed,
        "accuracies": accuracies,
        "flops": tables["flops"].totals(genes).tolist(),
        "recipes": [recipe_text(candidate, trained.facts.config, tables, scored_on) for candidate in candidates],
    }


def train_alone(given: argparse.Namespace, folder: Path, recipe: str) -> float:
    """Top-1 of a path after its training alone, on the validation images."""
    result = folder / "result.json"
    if not result.is_file():
        file = folder.with_suffix(".yaml")
        write_text(file, recipe)
        words = f"--epochs {given.epochs} --warmup_epochs 1 --eval_epochs 0 --save_checkpoint_epochs {given.epochs}"
        places = ["--config_path", str(file), "--data_path", given.data_path, "--run_dir", str(folder)]
        train.main([*places, *words.split(), "--resume", "auto"])
    return json.loads(result.read_text(encoding="utf-8"))["top1"]


if __name__ == "__main__":
    run(main, sys.argv[1:])
