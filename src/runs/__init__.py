"""One run and its folder: log, checkpoints, curves, reports."""
