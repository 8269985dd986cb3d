"""The bench's bookkeeping: engines in turn, medians, ratios, what fails left out."""

from __future__ import annotations

import sys

from bench.engines import measure, table, wanted
from bench.soak import Held, held, report

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


def test_a_soak_tells_what_grows_and_what_saves_cost():
    after = [Held(500 + 0.5 * epoch, 7, 20) for epoch in range(10)] + [Held(600 + epoch, 8, 21) for epoch in range(30)]
    text = report(after, [0.25, 0.5, 0.75], 10.0)
    assert "after epoch   10:   504.5 MB, 7 threads, 20 open files" in text
    assert "after the first 10: +1024.0 KB an epoch, 8 to 8 threads, 21 to 21 open files" in text
    assert "3 saves: median 500 ms, longest 750 ms, 15.0% of the time" in text


def test_what_a_process_holds_is_counted(tmp_path):
    before = held()
    with (tmp_path / "file").open("w"):
        assert held().files == before.files + 1
    assert 10 < before.memory < 100_000 and before.threads >= 1
