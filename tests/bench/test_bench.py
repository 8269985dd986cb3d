"""The bench's bookkeeping: engines in turn, medians, ratios, what fails left out."""

from __future__ import annotations

import sys

from bench.engines import measure, table, wanted

# An engine that counts its samples up in seconds, from `start`.
COUNTING = """
import json, sys
start = float(sys.argv[1])
print(json.dumps({"first_run_s": 0.5}), flush=True)
for number, _ in enumerate(sys.stdin):
    print(json.dumps({"seconds": start + number, "peak_mb": 7}), flush=True)
"""


def counting(start):
    return [sys.executable, "-c", COUNTING, str(start)], {}


def test_engines_are_sampled_and_one_that_fails_is_named(capsys):
    commands = {
        "ours": counting(1),
        "broken": ([sys.executable, "-c", "raise SystemExit(1)"], {}),
        "other": counting(3),
    }
    engines = measure(commands, "a network", rounds=3, threads=1)
    assert {engine.name: engine.samples for engine in engines} == {"ours": [1, 2, 3], "other": [3, 4, 5]}
    assert "broken: a network does not run" in capsys.readouterr().err


def test_the_table_gives_speeds_and_ratios_of_medians():
    text = table("title", 12, measure({"ours": counting(1), "other": counting(3)}, "", 3, 1), "ours")
    assert "| ours | 6.0 (4.0 to 12.0) | 1.00 x | 0.5 | 7 |" in text
    assert "| other | 3.0 (2.4 to 4.0) | 2.00 x | 0.5 | 7 |" in text


def test_engines_can_be_left_out_by_a_part_of_their_name():
    assert list(wanted({"PyTorch NCHW": ([], {}), "ours": ([], {})}, ["NCHW"])) == ["ours"]
