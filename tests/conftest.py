"""Shared by every test."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import class_folders

# The wings whose files take longest, heaviest first: with several workers the short files at the end fill the gaps.
LONGEST = ("supernet", "e2e", "launch", "training", "cpu", "models", "export")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files by ``LONGEST``; within a wing their order stays."""
    place = {wing: number for number, wing in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.parent.name, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Builds the C++ operators before the workers start, each of which would build them for itself."""
    from src.cpu.build import BuildError, library

    with contextlib.suppress(BuildError):  # the tests that need them say why they cannot be had
        library()


@pytest.fixture(scope="session", autouse=True)
def device() -> None:
    """The framework takes its deterministic mode before the first operator of a process, or never.

    Where none of the collected files has imported it there is nothing to set up, and 1.5 s are saved.
    """
    if "mindspore" not in sys.modules:
        return
    from src.cpu.build import cache_folder
    from src.machine.device import set_up

    os.environ.setdefault("NAS_CPU_CACHE", str(cache_folder()))  # also for tests that move the user's cache elsewhere
    set_up("CPU", 0, "pynative", True, 1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tiny_model() -> Iterator[str]:
    """The name of a network that exists for the tests of one file only."""
    import mindspore

    import src.models
    from tests import tiny

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(src.models._ENTRIES, tiny.ENTRY.name, tiny.ENTRY)
        yield tiny.ENTRY.name
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)  # training set it to graph mode


@pytest.fixture
def mini_space(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a search space small enough for the tests of one function."""
    from src.space import spaces

    space = spaces.Space("mini", (2,), (24,), (0.6, 1.2, 2.0), last_conv_out_channel=16, input_size=32)
    monkeypatch.setitem(spaces.LAYOUTS, "mini", space)
    return "mini"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of 32 pixels: 24 to train on and 13 to evaluate, in three classes; ``alone`` has only the former.

    Not to be changed.
    """
    folder = tmp_path_factory.mktemp("photos")
    class_folders(folder / "train", per_class=8, classes=3, height=32, width=32)
    class_folders(folder / "val", per_class=5, classes=3, height=32, width=32)
    for surplus in ("class1/4.jpg", "class2/4.jpg"):
        (folder / "val" / surplus).unlink()
    (folder / "alone").mkdir()
    (folder / "alone" / "train").symlink_to(folder / "train")
    return folder
