"""Writes the ModelArts job files of every network: python -m modelarts.make_jobs FOLDER

FOLDER/<network>/{train,eval,export}.json are bodies of the platform's "create training job" request (version 2).
Replace BUCKET, the engine version and the flavor by your own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from src.models import list_models
from src.settings.recipes import RECIPE_FOLDER

PROGRAMS = ("train", "eval", "export")
CARDS = 8


def recipe_of(network: str) -> dict[str, str]:
    """The arguments that choose how to train: the recipe for most Ascends, else for most GPUs, else none."""
    named = (re.fullmatch(rf"{network}_(ascend|gpu)_(\d+)p", path.stem) for path in RECIPE_FOLDER.glob("*.yaml"))
    recipes = [(match[1] == "ascend", int(match[2]), match[0]) for match in named if match]
    return {"config_path": max(recipes)[2]} if recipes else {"model": network}


def storage(name: str, folder: str, what: str) -> dict:
    """An input or output of a job: the argument --``name`` and the folder of the bucket it stands for."""
    return {"name": name, "description": what, "remote": {"obs": {"obs_url": f"/BUCKET/{folder}/"}}}


def job(network: str, program: str) -> dict:
    """The request that runs ``program`` (train, eval, export) for ``network``."""
    arguments = {"enable_modelarts": "True", "device_target": "Ascend"}
    inputs = [storage("checkpoint_url", f"{network}/checkpoint", "checkpoints, or the folder of a run")]
    images = storage("data_url", "imagenet", "images: train/ and val/ with a folder per class")
    if program == "train":
        arguments |= {**recipe_of(network), "is_distributed": "True"}
        inputs = [images]
    elif program == "eval":
        inputs = [images, *inputs]
    else:
        arguments |= {"file_format": "MINDIR"}
    return {
        "kind": "job",
        "metadata": {"name": f"{network}-{program}", "description": f"{program}.py of {network}"},
        "algorithm": {
            "code_dir": "/BUCKET/code/",
            "boot_file": f"/BUCKET/code/{program}.py",
            "engine": {"engine_name": "Ascend-Powered-Engine", "engine_version": "ENGINE_VERSION"},
            "parameters": [{"name": name, "value": value} for name, value in arguments.items()],
            "inputs": inputs,
            "outputs": [storage("train_url", f"{network}/{program}", "what the job writes")],
        },
        "spec": {"resource": {"flavor_id": f"FLAVOR_WITH_{CARDS if program == 'train' else 1}_CARDS", "node_count": 1}},
    }


def main(folder: Path) -> None:
    for network in list_models():
        for program in PROGRAMS:
            path = folder / network / f"{program}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(job(network, program), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m modelarts.make_jobs FOLDER")
    main(Path(sys.argv[1]))
