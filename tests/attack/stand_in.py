"""A search without a network: ``search.py`` whole but for the score of a path, which is a number made of its genes.

``python -m tests.attack.stand_in FOLDER SECONDS …`` is ``search.py …``, each path taking so long; FOLDER is its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import search
from src.data.preprocessing import Preprocessing
from src.errors import run
from src.runs.trained import Trained
from src.settings.config import load_config
from src.space.spaces import LAYOUTS

SEARCH = "--config_path spos_search_digits --supernet . --data_path . --seed 3 --search_population 6"
SEARCH += " --search_generations 3 --search_method megvii --search_retain 3"


class Scores:
    """A score of every path, and the time that it takes."""

    total = 1000

    def __init__(self, seconds: float):
        self._seconds = seconds

    def hits(self, genes: np.ndarray) -> int:
        time.sleep(self._seconds)
        return int((genes * np.arange(3, 3 + 7 * len(genes), 7)).sum() * 37 % self.total)


def replace_scoring(replace: Callable, folder: Path, seconds: float = 0.0) -> None:
    """Has ``search.search`` score by :class:`Scores`; ``folder`` gets the file that stands for a supernet."""
    checkpoint = folder / "supernet.ckpt"
    checkpoint.write_bytes(b"supernet")
    own = load_config("", {"model": "spos_oneshot", "model_options": {"layout": "digits"}, "train_supernet": True})
    facts = Trained(own.model, own.model_options, 3, ["a", "b", "c"], Preprocessing(), own, {}, "CPU")
    images = search.ImagesOfSearch([], [], "images of a stand-in")
    replace(search, "supernet_of_run", lambda _: search.TrainedSupernet(checkpoint, facts, LAYOUTS["digits"]))
    replace(search, "images_of", lambda *_: images)
    replace(search, "scores_of", lambda *_: Scores(seconds))


if __name__ == "__main__":
    replace_scoring(setattr, Path(sys.argv[1]), float(sys.argv[2]))
    run(search.main, sys.argv[3:])
