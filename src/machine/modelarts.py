"""Runs a program as a ModelArts job: fetches its inputs from object storage, brings its outputs back.

``run(on_modelarts(main, "train"))`` is ``run(main)`` unless the command line says --enable_modelarts. Then:

    --data_url         images, fetched to --data_path (default /cache/data)
    --checkpoint_url   checkpoints, fetched to --load_path (default /cache/checkpoint_path)
    --train_url        where outputs go, and outputs of an earlier job that are fetched first, to
                       --output_path (default /cache/train)

Images below --data_path are named by --train_dataset_path and the like; --data_path then only says where to fetch to.

A url that is a plain path is a folder the platform itself keeps in step with the storage; it is used as it
is. Only obs:// and s3:// need moxing, which exists on the platform alone and is imported nowhere else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UsageError
from src.machine.ranks import current_world
from src.settings.run_folders import CHECKPOINT_FLAGS

REMOTE = ("obs://", "s3://")
# Our own options with their defaults; --data_path belongs to the programs as well.
DEFAULTS = {
    "enable_modelarts": "False",
    "data_url": "",
    "train_url": "",
    "checkpoint_url": "",
    "output_path": "/cache/train",
    "load_path": "/cache/checkpoint_path",
}
DATA_PATH = "/cache/data"
# Which flags name a program's images.
DATA_FLAGS = {
    "train": ("data_path", "dataset_path", "train_dataset_path"),
    "eval": ("data_path", "val_data_path", "dataset_path", "train_dataset_path", "eval_dataset_path"),
    "export": (),
}
# What the platform adds to every command line, and why it is passed over.
PLATFORMS_OWN = {
    "init_method": "ranks find each other by the launcher's environment",
    "num_gpus": "the launcher's environment says how many ranks there are",
    "rank": "the launcher's environment says which rank this is",
    "world_size": "the launcher's environment says how many ranks there are",
    "multi_data_url": "--data_url says where the images are",
    "pretrain_url": "--pretrained FILE says which weights to start from",
    "model_url": "--checkpoint_url says where checkpoints are",
    "grampus_code_url": "the code is where the platform has put it",
    "job_id": "the environment's JOB_ID names the job",
}


@dataclass(frozen=True)
class Job:
    """What a command line asks of the platform.

    Attributes:
        data, output, load: local folders.
        data_url, train_url, checkpoint_url: their counterparts in the storage, or "".
        arguments: the program's own command line, pointed at the local folders.
    """

    data: str
    output: str
    load: str
    data_url: str
    train_url: str
    checkpoint_url: str
    arguments: list[str]


def is_remote(url: str) -> bool:
    """Whether ``url`` is in the object storage."""
    return url.startswith(REMOTE)


def split_options(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our options among ``argv`` with their values, and the rest. A bare --enable_modelarts means True."""
    options, rest = dict(DEFAULTS), []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, has_value, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("--") or name not in DEFAULTS:
            rest.append(word)
        elif has_value:
            options[name] = value
        elif words and not words[0].startswith("--"):
            options[name] = words.pop(0)
        elif name == "enable_modelarts":
            options[name] = "True"
        else:
            raise UsageError(f"--{name} needs a value")
    return options, rest


def _without_platforms_own(argv: Sequence[str]) -> list[str]:
    """``argv`` without :data:`PLATFORMS_OWN`, each named in a note."""
    kept, words = [], list(argv)
    while words:
        word = words.pop(0)
        name, has_value, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in PLATFORMS_OWN:
            kept.append(word)
            continue
        if not has_value and words and not words[0].startswith("--"):
            words.pop(0)
        print(f"note: --{name}, which the platform adds, has no effect: {PLATFORMS_OWN[name]}")
    return kept


def given(argv: Sequence[str], names: Sequence[str]) -> str | None:
    """The value of the first of the flags ``names`` in ``argv``, or None."""
    for position, word in enumerate(argv):
        name, has_value, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in names:
            return value if has_value else next(iter(argv[position + 1 : position + 2]), "")
    return None


def _without_place_of_data(arguments: Sequence[str], program: str) -> list[str]:
    """``arguments`` without --data_path if another flag names the program's images below that folder."""
    place, named = given(arguments, ("data_path",)), given(arguments, DATA_FLAGS[program][1:])
    if not place or not named or not Path(named).is_relative_to(place):
        return list(arguments)
    position = next(i for i, word in enumerate(arguments) if word.partition("=")[0] == "--data_path")
    length = 1 if "=" in arguments[position] else 2
    return [*arguments[:position], *arguments[position + length :]]


def job_from(argv: Sequence[str], program: str, environment: Mapping[str, str]) -> Job | None:
    """The job that a command line of ``program`` (train, eval, export) asks for; None without --enable_modelarts.

    What the program is not told is pointed at the local folders: its images, its checkpoint, its run folder
    or result file, and its card.
    """
    options, arguments = split_options(argv)
    enabled = options["enable_modelarts"].lower()
    if enabled not in ("true", "false", "1", "0", "yes", "no"):
        raise UsageError(f"--enable_modelarts must be True or False, not {options['enable_modelarts']!r}")
    if enabled in ("false", "0", "no"):
        for name in (name for name, value in DEFAULTS.items() if options[name] != value and name != "enable_modelarts"):
            print(f"note: --{name} has no effect without --enable_modelarts True")
        return None
    arguments = _without_platforms_own(arguments)
    data = options["data_url"] if options["data_url"] and not is_remote(options["data_url"]) else ""
    output = options["train_url"] if options["train_url"] and not is_remote(options["train_url"]) else ""
    data = data or given(arguments, ("data_path",)) or DATA_PATH
    arguments = _without_place_of_data(arguments, program)
    output = output or options["output_path"]
    url = options["checkpoint_url"]
    load = url if url and not is_remote(url) else options["load_path"]
    if is_remote(url) and url.endswith((".ckpt", ".safetensors")):
        load = f"{load}/{url.rpartition('/')[2]}"
    job = environment.get("JOB_ID") or "job"
    defaults = {
        "train": {
            "data_path": (DATA_FLAGS["train"], data),
            "run_dir": (("run_dir", "save_ckpt_path"), f"{output}/{job}"),
        },
        "eval": {
            "val_data_path": (DATA_FLAGS["eval"], data),
            "checkpoint_path": (CHECKPOINT_FLAGS, load),
            "json": (("json",), f"{output}/eval.json"),
        },
        "export": {"checkpoint_path": (CHECKPOINT_FLAGS, load)},
    }[program]
    for name, (flags, value) in defaults.items():
        if given(arguments, flags) is None:
            arguments += [f"--{name}", value]
    if environment.get("DEVICE_ID") and given(arguments, ("device_id",)) is None:
        arguments += ["--device_id", environment["DEVICE_ID"]]
    return Job(data, output, load, options["data_url"], options["train_url"], url, arguments)


def job_name(environment: Mapping[str, str]) -> str:
    """What is the same for all ranks of a job on a machine and different for another job."""
    return environment.get("JOB_ID") or environment.get("MA_VJ_NAME") or f"local-{os.getppid()}"


def fetch_once(url: str, local: Path, job: str, fetch: Callable[[str, Path], None]) -> bool:
    """Brings ``url`` to ``local`` by ``fetch(url, local)``, once per machine and job; True in the process that did.

    The other ranks wait. If the one that fetches dies, its lock goes with it and the next one fetches.
    """
    digest = hashlib.sha256(f"{job}\n{url}\n{local}".encode()).hexdigest()[:16]
    marker = Path(tempfile.gettempdir()) / f"modelarts-{digest}"
    with marker.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists() and local.exists():
            return False
        fetch(url, local)
        marker.touch()
        return True


def _storage() -> Any:
    """moxing's functions on files. Raises UsageError outside the platform, where there is none."""
    try:
        import moxing
    except ImportError as error:
        raise UsageError(
            "obs:// and s3:// are reached through moxing, which only ModelArts has; give a local folder"
        ) from error
    return moxing.file


def download(url: str, local: Path) -> None:
    """Copies a folder or file from the storage. Raises UsageError if it is not there."""
    storage = _storage()
    if not storage.exists(url):
        raise UsageError(f"{url} does not exist in the object storage, or this job may not read it")
    local.parent.mkdir(parents=True, exist_ok=True)
    if storage.is_directory(url):
        local.mkdir(exist_ok=True)
        storage.copy_parallel(url, str(local))
    else:
        storage.copy(url, str(local))


def download_earlier_outputs(url: str, local: Path) -> None:
    """Copies the outputs of an earlier job, if there are any."""
    storage = _storage()
    local.mkdir(parents=True, exist_ok=True)
    if storage.exists(url) and storage.list_directory(url):
        storage.copy_parallel(url, str(local))


def upload(local: Path, url: str) -> None:
    """Copies a folder into the storage; an empty one is left out, which moxing would take for an error."""
    if any(local.iterdir()):
        _storage().copy_parallel(str(local), url)


def on_modelarts(main: Callable[[list[str]], None], program: str) -> Callable[[list[str]], None]:
    """``main`` of ``program`` (train, eval, export) that also runs as a ModelArts job."""

    def run_job(argv: list[str]) -> None:
        job = job_from(argv, program, os.environ)
        if job is None:
            main(split_options(argv)[1])
            return
        name = job_name(os.environ)
        if is_remote(job.data_url):
            fetch_once(job.data_url, Path(job.data), name, download)
        if is_remote(job.checkpoint_url):
            fetch_once(job.checkpoint_url, Path(job.load), name, download)
        if is_remote(job.train_url):
            fetch_once(job.train_url, Path(job.output), name, download_earlier_outputs)
        Path(job.output).mkdir(parents=True, exist_ok=True)
        if program == "export":  # it writes beside where it is called
            os.chdir(job.output)
        try:
            main(job.arguments)
        finally:  # after a failure or a signal too: the log and the last checkpoint are wanted then most
            if is_remote(job.train_url) and current_world().is_main:
                upload(Path(job.output), job.train_url)

    return run_job
