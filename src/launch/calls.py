"""What is typed after the name of a script, read by the script's form."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from src.errors import UsageError
from src.launch.launcher import Options, value_of, with_arguments
from src.settings.recipes import named_network

ROOT = Path(__file__).resolve().parents[2]
COUNTS = ("DEVICE_NUM", "RANK_NUM", "RANK_SIZE")  # the originals' words for the number of ranks
LARGEST_COUNT = 999_999


@dataclass(frozen=True)
class Script:
    """What a script starts, and what need not be typed.

    Attributes:
        start: makes the launch.
        target: Ascend, GPU or CPU.
        form: the words it takes, in their order; ``--flag=WORD`` if it takes flags only.
        network: the original's; ``""``: of a script of ours, which serves every network.
        given: words that are not typed, or need not be.
        recipe: in place of the one for the network and the number of devices.
        flags: of the program, before the user's own.
        also: what else its words can be: another form of the same script; the originals' scripts that share its name.
        path: of its file, below the repository.
    """

    start: Callable[[Call], Options]
    target: str
    form: str
    network: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    flags: tuple[str, ...] = ()
    also: tuple[Script, ...] = ()
    path: str = ""

    def usage(self) -> str:
        """Its form as a reader is shown it."""
        words = [word if word.startswith("--") else f"[{word}]" for word in self.form.split()]
        return " ".join(words).replace("RANK_TABLE_FILE", "RANK_TABLE_FILE|msrun")

    def line(self, words: Mapping[str, str], *more: str) -> str:
        """The line that calls it with ``words``; one that is missing there stands by its name."""
        typed = []
        for word in self.form.split():
            flag, joined, name = word.rpartition("=")
            if words.get(name) or name not in self.given:
                typed.append(f"{flag}{joined}{words.get(name) or name}")
        return shlex.join(["bash", shown(self.path), *typed, *more])


def shown(path: str) -> str:
    """A path below the repository as it can be typed here."""
    return min(os.path.relpath(ROOT / path), str(ROOT / path), key=len)


@dataclass(frozen=True)
class Call:
    """What was typed, read by the form of a script.

    Attributes:
        typed: the whole line.
        words: the texts of the form's words, and of those given.
        recipe: the one typed, or ``""``.
        arguments: the flags after it.
    """

    script: Script
    typed: str
    words: Mapping[str, str]
    recipe: str
    arguments: list[str]
    environment: Mapping[str, str]

    @property
    def told(self) -> str:
        """The network that the line or the environment names, or ``""``.

        Raises:
            UsageError: they name two.
        """
        network = self.environment.get("NETWORK", "")
        telling = {f"NETWORK={network}": network, **self._telling()}
        found = {what: name for what, name in telling.items() if name}
        if len(set(found.values())) > 1:
            raise UsageError(f"{' and '.join(found)} name different networks; give one of them")
        return next(iter(found.values()), "")

    @property
    def is_named(self) -> bool:
        """Whether the line itself names the network."""
        return any(self._telling().values())

    def _telling(self) -> dict[str, str]:
        recipe = self.recipe or value_of(self.arguments, "config_path")
        model = value_of(self.arguments, "model")
        return {f"--model {model}": model, f"the recipe {recipe}": named_network(recipe) if recipe else ""}

    @property
    def network(self) -> str:
        """The one that was told, else the script's; ``""`` if there is neither."""
        return self.told or self.script.network

    @property
    def fitness(self) -> tuple[bool, bool, bool]:
        """How well the words fit the form: numbers where it has numbers, a folder for the images, no word left over."""
        numbers = [self.words[name] for name in (*COUNTS, "DEVICE_ID") if name in self.words]
        folder = self.words.get("DATA_PATH")
        return all(map(str.isdecimal, numbers)), folder is None or Path(folder).is_dir(), not self.recipe

    def number(self, name: str, least: int = 0) -> int:
        """A word as a whole number."""
        text = self.words[name]
        if not re.fullmatch(r"0|[1-9][0-9]*", text) or int(text) > LARGEST_COUNT:
            raise UsageError(f"{name} must be a whole number, not {text!r}")
        if int(text) < least:
            raise UsageError(f"{name} must be at least {least}")
        return int(text)

    def count(self) -> int:
        """Ranks on this machine."""
        return self.number(next(name for name in COUNTS if name in self.words), least=1)

    def data_path(self) -> str:
        """The folder of the images, in full: it then depends on no working folder and is taken for no flag."""
        folder = Path(self.words["DATA_PATH"])
        if not folder.is_dir():
            line = self.script.line({**self.words, "DATA_PATH": "DATA_PATH"})
            raise UsageError(f"DATA_PATH: there is no folder {str(folder)!r}; type: {line}")
        return str(folder.absolute())

    def device(self) -> list[str]:
        """The flags of one device."""
        flags = ["--device_target", self.script.target]
        return flags if self.script.target == "CPU" else [*flags, "--device_id", str(self.number("DEVICE_ID"))]

    def options(self, name: str, program: str, arguments: Sequence[str], **started: Any) -> Options:
        """The launch of ``program`` with the script's own ``arguments``; ``name`` begins its folder's."""
        options = Options(name=name, target=self.script.target, typed=self.typed, **started)
        return with_arguments(options, str(ROOT / program), [*arguments, *self.script.flags, *self.arguments])


def reading(script: Script, called: str, words: Sequence[str], environment: Mapping[str, str]) -> Call | None:
    """``words`` by the form of ``script``; None if they are not as many as it has."""
    typed = shlex.join(["bash", called, *words])
    values = {name: str(Path(text).expanduser()) if text[:1] == "~" else text for name, text in script.given.items()}
    if script.form.startswith("--"):
        found, rest = by_flags(script.form, words)
        values |= found
        return Call(script, typed, values, "", rest, environment) if values.get("DATA_PATH") else None
    names = script.form.split()
    plain = plain_words(words)
    if not sum(name not in values for name in names) <= len(plain) <= len(names) + 1:
        return None
    values |= dict(zip(names, plain, strict=False))
    recipe = plain[len(names)] if len(plain) > len(names) else ""
    return Call(script, typed, values, recipe, list(words[len(plain) :]), environment)


def plain_words(words: Sequence[str]) -> list[str]:
    """Those before the first flag."""
    return list(takewhile(lambda word: not word.startswith("--"), words))


def by_flags(form: str, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The words of a form of flags, joined by ``=`` or not, and what is left."""
    names = dict(word.split("=") for word in form.split())
    found: dict[str, str] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        flag, joined, text = left.pop(0).partition("=")
        if flag in names and (joined or left):
            found[names[flag]] = text if joined else left.pop(0)
        else:
            rest.append(f"{flag}{joined}{text}")
    return found, rest


def guessed(script: Script, words: Sequence[str]) -> dict[str, str]:
    """What ``words``, which are not of the form of ``script``, can only mean in it: folders and numbers."""
    flags = {"--data_path": "DATA_PATH", "--device_id": "DEVICE_ID", "--checkpoint_path": "CHECKPOINT"}
    known, _ = by_flags(" ".join(map("=".join, flags.items())), words)
    left = plain_words(words)
    for name in (word.rpartition("=")[2] for word in script.form.split()):
        for word in left:
            kind = "DATA_PATH" if Path(word).is_dir() else "number" if word.isdecimal() else ""
            if kind == ("number" if name in (*COUNTS, "DEVICE_ID") else name if name == "DATA_PATH" else ""):
                known[name] = word
                left.remove(word)
                break
    return known
