"""Wrong lines, put one at a time into the modules that need no framework: do the modules' own tests notice them?

``make mutants``, or ``make mutants MODULE=src/files.py``. Cosmic Ray finds the places and changes the code: another
operator, comparison or number, a condition negated, a loop left out, a decorator removed. One change is drawn for each
place, with ``--count`` for so many places of a module, by ``--seed``: a run can be repeated, and its score compared.

The tests run in a copy of the tree, and a changed module is only in the memory of the process that tests it: a run that
is interrupted leaves nothing behind. docs/tests.md holds the scores.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import wait
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from parso.tree import NodeOrLeaf

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ("settings/test_config.py", "settings/test_upstream_flags.py")
SPACE = ("space/test_spaces.py", "space/test_cost.py")
# The tests of each module, those that notice most first. They must run where MindSpore is not installed.
MODULES = {
    "src/errors.py": ("test_errors.py",),
    "src/files.py": ("test_files.py",),
    "src/settings/command_line.py": SETTINGS,
    "src/settings/config.py": SETTINGS,
    "src/settings/sections.py": SETTINGS,
    "src/settings/upstream_flags.py": SETTINGS[::-1],
    "src/settings/upstream/flag.py": SETTINGS[::-1],
    "src/settings/upstream/mnasnet_flags.py": SETTINGS[::-1],
    "src/settings/upstream/model_zoo_flags.py": SETTINGS[::-1],
    "src/settings/upstream/spos_flags.py": SETTINGS[::-1],
    "src/settings/values.py": SETTINGS,
    "src/settings/yaml_text.py": SETTINGS,
    "src/space/blocks.py": SPACE,
    "src/space/constraints.py": ("space/test_sampler.py", "space/test_evolution.py"),
    "src/space/cost.py": ("space/test_cost.py",),
    "src/space/evolution.py": ("space/test_evolution.py",),
    "src/space/journal.py": ("space/test_journal.py",),
    "src/space/sampler.py": ("space/test_sampler.py",),
    "src/space/score.py": ("space/test_cost.py",),
    "src/space/spaces.py": SPACE,
    "src/data/folders.py": ("data/test_folders.py",),
    "src/data/labels.py": ("data/test_labels.py",),
    "src/data/split.py": ("data/test_split.py",),
    "src/training/lr_schedule.py": ("training/test_lr_schedule.py",),
    "src/training/metrics.py": ("training/test_metrics.py",),
    "src/launch/rank_tables.py": ("launch/test_rank_tables.py",),
    "src/settings/published.py": ("settings/test_published.py",),
    "src/launch/scripts.py": ("launch/test_scripts.py",),
}
# Imported once, for every process that is forked off.
SHARED = ("numpy", "pydantic", "yaml", "PIL.Image", "pymoo.algorithms.moo.nsga2", "pymoo.operators.crossover.ux")
# Whether equal numbers and strings are one object is an accident of the interpreter.
ACCIDENTS = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq")


class Mutant(NamedTuple):
    """A module with one wrong line."""

    module: str
    source: str
    diff: str


class Loader(SourceFileLoader):
    """Loads a module from its changed source, as if it stood in the file."""

    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the changed module before anyone finds the one on the disk."""

    def __init__(self, mutant: Mutant):
        self.mutant = mutant
        self.name = mutant.module.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        file = str(Path(self.mutant.module).resolve())
        return spec_from_file_location(name, file, loader=Loader(name, file, self.mutant.source))


def is_tested(node: NodeOrLeaf) -> bool:
    """Whether a change there can be noticed: in no annotation, and not where a module is started as a program."""
    while (above := node.parent) is not None:
        is_annotation = (
            node.type == "tfpdef"
            or (above.type == "annassign" and node is above.children[1])
            or (above.type == "funcdef" and node is above.annotation)
        )
        is_start = node.type == "if_stmt" and node.children[1].get_first_leaf().value == "__name__"
        if is_annotation or is_start:
            return False
        node = above
    return True


def places(source: str) -> Iterator[list[tuple[str, int]]]:
    """For each place that can be changed: operators and the number of the occurrence they change there."""
    nodes = list(ast_nodes(get_ast(source)))
    found: dict[tuple, list[tuple[str, int]]] = {}
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.endswith(ACCIDENTS):
            continue
        spots = [(node, start) for node in nodes for start, _ in operator().mutation_positions(node)]
        for occurrence, (node, start) in enumerate(spots):
            if is_tested(node):
                found.setdefault((start, name.partition("_")[0]), []).append((name, occurrence))
    return iter(found.values())


def draw(module: str, count: int, seed: int) -> list[Mutant]:
    """Draws one change for each place of a module, then ``count`` of them."""
    source = Path(module).read_text(encoding="utf-8")
    generator = random.Random(f"{seed} {module}")
    changes = [generator.choice(choices) for choices in places(source)]
    mutants = []
    for name, occurrence in generator.sample(changes, min(count, len(changes))):
        try:
            changed = mutate_code(source, get_operator(name)(), occurrence)
        except AttributeError:  # Cosmic Ray 8.7.0 replaces no exception that has a dot in its name
            continue
        diff = difflib.unified_diff(source.splitlines(), changed.splitlines(), module, module, lineterm="", n=0)
        mutants.append(Mutant(module, changed, "\n".join(list(diff)[2:])))
    return mutants


class Limit(NamedTuple):
    """Seconds that a mutant's tests may take: a change can make a loop endless."""

    elapsed: float
    processor: float


def test(mutant: Mutant, tests: Sequence[str], limit: Limit) -> None:
    """Runs the tests of a mutant in this process, which ends with their exit status: 0 where they notice nothing."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit.processor),) * 2)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    sys.meta_path.insert(0, Finder(mutant))
    os._exit(pytest.main(["-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))


def statuses(mutants: Sequence[Mutant], tests: Sequence[str], workers: int, limit: Limit) -> list[int | None]:
    """Exit status of each mutant's tests; None where they were still running at their limit."""
    fork = multiprocessing.get_context("fork")
    result: list[int | None] = [None] * len(mutants)
    waiting = list(enumerate(mutants))[::-1]
    running: dict[int, tuple] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, mutant = waiting.pop()
                process = fork.Process(target=test, args=(mutant, tests, limit))
                process.start()
                running[process.sentinel] = (index, process, time.monotonic() + limit.elapsed)
            wait(list(running), timeout=1)
            for sentinel, (index, process, until) in list(running.items()):
                if process.is_alive() and time.monotonic() < until:
                    continue
                result[index] = None if process.is_alive() else process.exitcode
                end_group(process)
                del running[sentinel]
    finally:  # also where the run is interrupted
        for _, process, _ in running.values():
            end_group(process)
    return result


def end_group(process: multiprocessing.Process) -> None:
    """Ends a process of tests, and what they started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def copy_tree(target: Path) -> None:
    """Copies what git knows or would add, as it is now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def processor_time() -> float:
    """Seconds that this process and those it has waited for spent so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(module: str, count: int, seed: int, workers: int) -> tuple[int, int]:
    """Tests a module's mutants and prints those that went unnoticed; returns how many were noticed, and of how many."""
    tests = [f"tests/{name}" for name in MODULES[module]]
    begin, spent = time.monotonic(), processor_time()
    unchanged = Mutant(module, Path(module).read_text(encoding="utf-8"), "")
    if statuses([unchanged], tests, 1, Limit(600, 600)) != [0]:
        sys.exit(f"error: {' '.join(tests)} fail without any change")
    limit = Limit(10 + 5 * (time.monotonic() - begin), 2 + 3 * (processor_time() - spent))
    mutants = draw(module, count, seed)
    noticed = 0
    for mutant, status in zip(mutants, statuses(mutants, tests, workers, limit), strict=True):
        noticed += status != 0
        if status == 0:
            print(f"{module} {mutant.diff}", flush=True)
    took, spent = time.monotonic() - begin, processor_time() - spent
    print(f"{module}: {noticed} of {len(mutants)} noticed ({took:.0f} s, {spent:.0f} of a processor)\n", flush=True)
    return noticed, len(mutants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="as src/files.py; all where none is given")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="mutants of a module at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"not among the modules of tests/mutants.py: {' '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copy is removed
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(Path(folder))
        os.chdir(folder)
        for name in SHARED:
            importlib.import_module(name)
        gc.freeze()  # a forked process does not write into the pages it shares
        scores = {
            module: measure(module, options.count, options.seed, options.workers)
            for module in options.modules or MODULES
        }
        os.chdir(ROOT)
    print("| module | noticed | of |\n|---|---|---|")
    for module, (noticed, tried) in scores.items():
        print(f"| {module} | {noticed} | {tried} |")
    noticed, tried = (sum(column) for column in zip(*scores.values(), strict=True))
    print(f"| all | {noticed} | {tried} |\n\n{noticed / tried:.1%} noticed; seed {options.seed}")


if __name__ == "__main__":
    main()
