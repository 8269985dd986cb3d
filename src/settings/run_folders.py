"""What makes a folder a run, and which run a path belongs to."""

from __future__ import annotations

from pathlib import Path

CONFIG_FILE, CHECKPOINTS, CHECKPOINT_SUFFIX = "config.yaml", "checkpoints", ".ckpt"
JOURNAL = "journal.jsonl"  # of a search
# Flags that say which checkpoint is meant, ours and the originals'.
CHECKPOINT_FLAGS = ("checkpoint_path", "ckpt_path", "ckpt_file", "ckpt_files", "checkpoint", "checkpoint_dir")


def is_run(path: Path) -> bool:
    """Whether ``path`` is the folder of a run."""
    return (path / CONFIG_FILE).is_file()


def run_of(path: Path) -> Path | None:
    """The run that is at ``path``, or whose checkpoints are, or one of them; None where there is none.

    A run is where its files are: nothing that is written in them says so, so it may have been moved or copied.
    """
    if is_run(path):
        return path
    whole = path if len(path.parts) > 2 else path.absolute()
    folder = whole.parent if whole.suffix == CHECKPOINT_SUFFIX else whole
    return folder.parent if folder.name == CHECKPOINTS and is_run(folder.parent) else None


def run_going_on(resume: str, run_dir: str, recipe: str) -> Path | None:
    """The run that a command line has go on, or None: what ``--resume`` names, for ``auto`` that of ``--run_dir``, or
    of a recipe that is a run's own configuration."""
    named = resume
    if resume == "auto":
        named = run_dir or (str(Path(recipe).parent) if Path(recipe).name == CONFIG_FILE else "")
    return run_of(Path(named)) if named else None


def search_of(recipe: str) -> Path | None:
    """The search whose own configuration ``recipe`` is: named so, it goes on."""
    path = Path(recipe)
    return path.parent if path.name == CONFIG_FILE and (path.parent / JOURNAL).is_file() else None
