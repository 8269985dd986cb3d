"""Where a program runs: its device, the ranks of a data-parallel job, stop signals, ModelArts."""
