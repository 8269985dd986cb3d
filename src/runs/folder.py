"""The folder of one run: what was asked, what happened, and what came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data.split import SPLIT_FILE, Split
from src.errors import UsageError
from src.files import fresh_folder, write_csv, write_json, write_text
from src.runs.checkpoint import BEST, LAST, SUFFIX, CheckpointFolder, list_checkpoints
from src.settings.config import Config
from src.settings.run_folders import CHECKPOINTS, CONFIG_FILE, is_run, run_of

METRICS = ("epoch", "step", "lr", "train_loss", "val_loss", "top1", "top5", "images_per_second", "seconds")


class RunFolder:
    """Paths and small files of a run. Nothing of an earlier run is ever removed.

    Layout: config.yaml, classes.json, split.json (of a run that split its images), log.txt, log.jsonl, metrics.csv,
    curves.png, checkpoints/, result.json.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS

    def write_config(self, config: Config) -> None:
        """The resolved configuration; given as ``--config_path`` it asks for the same once more."""
        write_text(self.path / CONFIG_FILE, config.kept().to_yaml())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """One JSON file, e.g. classes.json ({class: index}) or result.json."""
        write_json(self.path / name, content)

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """metrics.csv anew: one row an epoch, an empty field for what was not measured."""
        write_csv(self.path / "metrics.csv", METRICS, history)


def stored_split(checkpoint: Path, name: str = SPLIT_FILE) -> Split | None:
    """The split ``name`` of the run of a checkpoint; None if it has none, or the checkpoint lies outside its run.

    Raises:
        UsageError: the file is damaged.
    """
    path = checkpoint.absolute().parent.parent / name
    return Split.read(path) if path.is_file() else None


def open_run(config: Config, is_main: bool = True) -> RunFolder:
    """The run's folder, made if need be: ``run_dir``, the resumed run's own, or ``runs/<recipe>-<time>``.

    Ranks beside the main one never write into it and get the path as far as the configuration tells it.

    Raises:
        UsageError: ``run_dir`` already holds a run that is not being resumed, or cannot be written.
    """
    resumed = Path(config.resume)
    require_resumable(config.resume)
    if not is_main:
        return RunFolder(Path(config.run_dir or run_of(resumed) or "runs"))
    try:
        if config.run_dir:
            path = Path(config.run_dir)
            if is_run(path) and not _goes_on(config.resume, path):
                raise UsageError(f"{path} holds a run already; go on with --resume auto, or give another --run_dir")
            path.mkdir(parents=True, exist_ok=True)
        elif config.resume == "auto":
            raise UsageError("--resume auto looks in --run_dir for the newest checkpoint; give --run_dir too")
        elif config.resume and (own := run_of(resumed)):
            path = own
        else:
            path = fresh_folder(Path("runs"), config.recipe or config.model)
        run = RunFolder(path)
        run.checkpoints.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the run folder {config.run_dir or 'runs'}: {error.strerror}") from error
    return run


def require_resumable(resume: str) -> None:
    """Raises UsageError if nothing is where ``resume`` says."""
    if resume not in ("", "auto") and not Path(resume).exists():
        raise _nothing_at(resume)


def _nothing_at(resume: str) -> UsageError:
    return UsageError(f"--resume {resume}: there is no such run folder or checkpoint")


def _goes_on(resume: str, run: Path) -> bool:
    """Whether ``resume`` means the run of that folder, by whatever path."""
    own = run_of(Path(resume)) if resume and resume != "auto" else None
    return resume == "auto" or (own is not None and own.samefile(run))


def checkpoint_of(resume: str, run: RunFolder) -> tuple[Path | None, list[str]]:
    """The checkpoint that ``resume`` means, and a line on each damaged one that was passed over.

    Raises:
        UsageError: there is none, unless ``resume`` is ``auto`` and the run never wrote one; or an earlier one than the
            newest of the run that goes on.
    """
    if not resume:
        return None, []
    path = run.path if resume == "auto" else Path(resume)
    if path.is_file():
        is_own = run.checkpoints.is_dir() and path.parent.samefile(run.checkpoints)  # other ranks may not see it yet
        newest = CheckpointFolder(run.checkpoints).newest_valid()[0] if is_own else None
        if newest and not newest.samefile(path):
            raise UsageError(
                f"--resume {resume}: {run.path} has come further, to {newest.name}; go on from there with "
                f"--resume {run.path}, or give another --run_dir for a run that leaves it at {path.name}"
            )
        return path, []
    if not path.is_dir():
        raise _nothing_at(resume)
    folder = path / CHECKPOINTS if is_run(path) or resume == "auto" else path
    newest, complaints = CheckpointFolder(folder).newest_valid()
    if newest is None and (resume != "auto" or complaints):
        anew = f"; --run_dir {path} --resume auto starts that run anew" if is_run(path) else ""
        reasons = "; ".join(complaints) or f"it holds none{anew}"
        raise UsageError(f"--resume {resume}: no usable checkpoint in {folder}: {reasons}")
    return newest, complaints


def checkpoints_of(text: str, flag: str = "--checkpoint_path", pointers: Sequence[str] = (BEST, LAST)) -> list[Path]:
    """The checkpoints that ``flag`` means: the file itself, all of a folder in order, or the one of a run.

    Args:
        pointers: which of a run's checkpoints, the first of these that there is.

    Raises:
        UsageError: nothing is given, or no checkpoint is there.
    """
    if not text:
        raise UsageError(f"{flag} is missing: a checkpoint, a folder of checkpoints, or a run folder")
    path = Path(text)
    if not path.exists() and (whole := path.with_name(path.name + SUFFIX)).is_file():  # upstream's READMEs shorten it
        path = whole
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"{flag} {text}: there is no such file or folder")
    if is_run(path):
        folder = CheckpointFolder(path / CHECKPOINTS)
        for pointer in pointers:
            if chosen := folder.pointed(pointer):
                return [chosen]
            if folder.has_lost(pointer):
                raise UsageError(f"{folder.path / pointer} is damaged: it names no checkpoint; give one of that folder")
        raise UsageError(f"{path} holds no checkpoint yet")
    if found := list_checkpoints(path):
        return found
    raise UsageError(f"{path} is neither a run folder nor a folder with .ckpt files")
