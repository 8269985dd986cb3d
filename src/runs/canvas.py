"""matplotlib as a server can use it: without a screen, and where a home may be missing."""

from __future__ import annotations

import os

from src.machine.caches import cache_folder

os.environ.setdefault("MPLCONFIGDIR", str(cache_folder("matplotlib")))  # it looks for a home as it is imported

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

__all__ = ["plt"]
