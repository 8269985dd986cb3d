"""What the scripts start: each is scripts/launch.sh, and that is this program, told the name it was called by.

    sh scripts/launch.sh                 lists the scripts
    bash scripts/NAME WORD ...           the words of its form, then a recipe by name or file, then any --key value

Which network: the script's, if it is an original's; else the one that ``--model``, ``NETWORK`` in the environment or
the recipe names, or whose original alone has a script of these words. The first line printed says it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # by its path, from any folder
    sys.path[0] = str(ROOT)

from src.errors import UsageError, nearest, run  # noqa: E402
from src.launch.calls import Call, Script, guessed, plain_words, reading  # noqa: E402
from src.launch.jobs import on_one, search, search_of_newest, transfer  # noqa: E402
from src.launch.launcher import launch  # noqa: E402
from src.launch.script_table import SCRIPTS  # noqa: E402

GENERAL = {transfer: on_one, search_of_newest: search}  # what one of ours does for every network


def read(script: Script, called: str, words: Sequence[str], environment: Mapping[str, str]) -> Call:
    """``words`` by the form of ``script`` they fit best.

    Raises:
        UsageError: they fit none, are those of another original's script, or name another network than its own.
    """
    readings = [call for form in (script, *script.also) if (call := reading(form, called, words, environment))]
    best = max((call.fitness for call in readings), default=(False,))
    if not all(best[:2]):
        refuse_others_words(script, called, words, environment)
    if not readings:
        raise UsageError(what_is_missing(script, words))
    fitting = [call for call in readings if call.fitness == best]
    if script.network:
        refuse_another_network(fitting[0])
        return fitting[0]
    originals = [call for call in fitting if call.script.network]
    call = originals[0] if len(originals) == 1 and not fitting[0].told else fitting[0]
    return replace(call, script=replace(call.script, network="")) if call.told else call


def refuse_another_network(call: Call) -> None:
    """Raises UsageError if the line names another network than the original whose script it calls."""
    script = call.script
    if call.told in ("", script.network):
        return
    ours = next(other for other in SCRIPTS.values() if not other.network and is_like(other, script))
    more = [*([call.recipe] if call.recipe else []), *call.arguments]
    more += ["--pretrained", call.words["CHECKPOINT"]] if script.start is transfer else []
    line = ours.line(call.words, *more, *([] if call.is_named else ["--model", call.told]))
    raise UsageError(f"{script.path} is of {script.network}, and {call.told} is named; type: {line}")


def refuse_others_words(script: Script, called: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises UsageError if ``words`` fit the script that another original has for the same purpose."""
    plain = plain_words(words)
    for other in SCRIPTS.values():
        if len(plain) < 2 and not other.form.startswith("--"):
            continue  # nobody's in particular
        if other.network not in ("", script.network) and is_like(other, script) and other.path not in paths(script):
            call = reading(other, called, words, environment)
            if call and all(call.fitness):
                known = guessed(script, words)
                theirs = other.line(call.words, *call.arguments)
                typed = " ".join(plain or words)
                raise UsageError(
                    f"{typed} are the words of {other.network}'s script; type: {theirs}, or for "
                    f"{script.network or 'any network'}: {script.line(known)}"
                )


def paths(script: Script) -> set[str]:
    """Of a script and what else its words can be."""
    return {script.path, *(other.path for other in script.also)}


def is_like(one: Script, other: Script) -> bool:
    """Whether both start the same on the same platform."""
    starts = {GENERAL.get(script.start, script.start) for script in (one, other)}
    return one.target == other.target and len(starts) == 1


def what_is_missing(script: Script, words: Sequence[str]) -> str:
    """What to type in place of ``words``, which are too few or too many."""
    known = guessed(script, words)
    names = [word.rpartition("=")[2] for word in script.form.split()]
    missing = [name for name in names if name not in known and name not in script.given]
    what = f"{' and '.join(missing)} must be given" if missing else f"{' '.join(plain_words(words))} are too many words"
    return f"{what}; type: {script.line(known)}"


def usage(script: Script, called: str) -> str:
    """How a script is used."""
    ours = "--model NAME, or NETWORK=NAME before it, says which network."
    whose = f"It is of {script.network}." if script.network else ours
    return (
        f"Usage: bash {called} {script.usage()} [CONFIG_PATH] [--key value ...]\n"
        "CONFIG_PATH is a recipe of configs/ by name or a file. Any --key of default_config.yaml can follow;\n"
        f"--background leaves the terminal. {whose}"
    )


def main(argv: list[str]) -> None:
    if not argv:
        for path, script in sorted(SCRIPTS.items()):
            print(f"{path:60} {script.usage()}")
        return
    called, *words = argv
    path = Path(called).resolve()
    name = path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.name
    if name not in SCRIPTS:
        raise UsageError(f"{called} is no script of src/launch/script_table.py{nearest(name, SCRIPTS)}")
    if words and words[0] in ("-h", "--help"):
        print(usage(SCRIPTS[name], called))
        return
    call = read(SCRIPTS[name], called, words, os.environ)
    options = call.script.start(call)
    print(options.about, flush=True)
    sys.exit(launch(options))


if __name__ == "__main__":
    run(main)
