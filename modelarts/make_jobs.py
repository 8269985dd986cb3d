"""Writes the ModelArts job files of every network: python modelarts/make_jobs.py [FOLDER]

The files are bodies of the platform's "create training job" request (version 2). Replace BUCKET, the engine
version and the flavor by your own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# network: the recipe for eight devices
RECIPES = {
    "spnasnet": "spnasnet_ascend_8p",
    "proxylessnas_mobile": "proxylessnas_mobile_ascend_8p",
    "shufflenetv1": "shufflenetv1_ascend_8p",
    "mnasnet": "mnasnet_ascend_8p",
    "spos_oneshot": "spos_oneshot_gpu_4p",
    "spos_oneshot_plus": "spos_oneshot_plus_gpu_4p",
    "spos_oneshot_s_plus": "spos_oneshot_s_plus_gpu_4p",
}
CARDS = 8


def storage(name: str, folder: str, what: str) -> dict:
    """An input or output of a job: the argument --``name`` and the folder of the bucket it stands for."""
    return {"name": name, "description": what, "remote": {"obs": {"obs_url": f"/BUCKET/{folder}/"}}}


def job(network: str, program: str) -> dict:
    """The request that runs ``program`` (train, eval, export) for ``network``."""
    arguments = {"enable_modelarts": "True", "device_target": "Ascend"}
    inputs = [storage("checkpoint_url", f"{network}/checkpoint", "checkpoints, or the folder of a run")]
    images = storage("data_url", "imagenet", "images: train/ and val/ with a folder per class")
    if program == "train":
        arguments |= {"config_path": RECIPES[network], "is_distributed": "True"}
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
    for network in RECIPES:
        for program in ("train", "eval", "export"):
            path = folder / network / f"{program}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(job(network, program), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
