"""A program's command line: its own keys, the originals' flags, and the help that lists them."""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from src.errors import UsageError, nearest, steady_output
from src.settings.config import (
    DEFAULTS,
    SECTION_OF,
    Config,
    choices_of,
    coerce,
    limits_of,
    load_config,
)
from src.settings.published import SUPERNET, Cards, fitted, recipe_for
from src.settings.recipes import RECIPE_FOLDER, find_recipe, named_network
from src.settings.run_folders import CONFIG_FILE, run_going_on, search_of
from src.settings.sections import PROGRAMS
from src.settings.upstream.flag import Flag
from src.settings.upstream_flags import as_meant_by, flags_of
from src.settings.values import BOOLEAN_WORDS, BOOLEANS, NEARLY_BOOLEAN, as_boolean
from src.settings.yaml_text import flow, read_yaml

KINDS = {bool: "", int: "WHOLE", float: "NUMBER", str: "TEXT", list: "LIST", dict: "MAPPING"}


class Command(NamedTuple):
    """What a program does instead of its own work, for a flag that is no key of a run and so stands in no recipe.

    Attributes:
        value: what follows the flag, in a word; ``""`` for a switch.
        meaning: for the help.
    """

    value: str
    meaning: str

    @property
    def is_switch(self) -> bool:
        return not self.value


COMMANDS: dict[str, dict[str, Command]] = {
    "search": {
        "export_subnet": Command(
            "RECIPE", "cut the weights of its path out of the supernet, into a checkpoint beside it"
        ),
        "plot_samplers": Command("", "draw 5000 paths of each sampler in the plane of FLOPs and parameters"),
    }
}


def split_command(argv: list[str], program: str) -> tuple[str, str, list[str]]:
    """(the command a line asks for or ``""``, its value, the words about the run).

    Raises:
        UsageError: two commands, or one without its value.
    """
    asked: dict[str, str] = {}
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        flag, has_value, text = _flag_of(word)
        command = COMMANDS[program].get(flag)
        if not command:
            rest.append(word)
            continue
        text = text if has_value else _take_value(flag, command, words)
        if not command.is_switch or _boolean(text, _shown(flag)):
            asked[flag] = text
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(map(_shown, asked))} are asked for; {program}.py does one thing at a time")
    name, value = next(iter(asked.items()), ("", ""))
    return name, value, rest


def parse_arguments(argv: list[str], program: str, cards_of: Callable[[str], Cards] | None = None) -> Config:
    """The configuration a command line asks for.

    With ``cards_of``, which says what a ``device_target`` comes to here, a network that is named without a recipe
    trains by its own (src/settings/published.py), and a line says so.

    ``--key value``, ``--key=value`` and, for booleans, a bare ``--key`` are alike; hyphens and
    underscores too. ``--model_options.alpha 0.5`` sets one option of the network. Upstream's flags
    (src/settings/upstream_flags.py) are understood for ``program`` (``train``, ``eval``, …).

    Raises:
        UsageError: unknown flag (with its nearest neighbour), one of another program, a missing or unfitting value.
        SystemExit: after printing the help text.
    """
    upstream = flags_of(program, _network_named(argv))
    recipe, changed = "", {}
    ours: dict[str, Any] = {}
    theirs: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            print(help_text(program))
            raise SystemExit(0)
        flag, has_value, text = _flag_of(word)
        flag = _as_spelled(word, flag, upstream, [text] if has_value else words[:1])
        if not flag and "images" in keys_of(program):
            ours["images"] = [*ours.get("images", []), word]
            continue
        if not flag and ("" not in upstream or "" in theirs):
            raise UsageError(f"{word!r} stands alone; values are given as --key value (see --help)")
        if flag and not has_value:
            text = _take_value(flag, upstream.get(flag), words)
        if flag in ("config_path", "_config_path"):
            recipe = _unless_defaults(text, changed) or recipe
        elif flag in upstream:
            theirs[flag] = text
        elif flag.startswith("model_options."):
            option = flag.partition(".")[2]
            try:
                _merge(ours, {"model_options": {option: flow(text)}})
            except ValueError as error:
                raise UsageError(f"{word} {error}") from error
        elif flag in DEFAULTS or any(flag in commands for commands in COMMANDS.values()):
            _refuse_foreign(flag, program)
            _merge(ours, {flag: coerce(flag, text, "command line")})
        else:
            known = [*keys_of(program), *(name for name in upstream if len(name) > 1), "config_path"]
            raise UsageError(f"there is no flag {word!r}{nearest(flag.partition('/')[0], known)}")
    overrides = _translate(upstream, theirs)
    _refuse_two_values(upstream, theirs, ours)
    for key, value in ours.items():
        _merge(overrides, {key: value})
    overrides = {**changed, **overrides}
    run = run_going_on(overrides.get("resume", ""), overrides.get("run_dir", ""), recipe)
    if run or (program == "search" and (run := search_of(recipe))):
        # In its folder, under its own configuration, unless others are named too.
        recipe = recipe or str(run / CONFIG_FILE)
        overrides.setdefault("run_dir", str(run))
    model = overrides.get("model") or load_config(recipe).model
    overrides = as_meant_by(model, overrides)
    if cards_of and model and not recipe:
        cards = cards_of(overrides.get("device_target", "auto"))
        recipe = SUPERNET if overrides.get("train_supernet") else recipe_for(model, cards)
        overrides = {**fitted(recipe, cards, overrides), **overrides} if recipe else overrides
        print(_choice(model, recipe, cards))
    config = load_config(recipe, overrides)
    _require_expected(upstream, theirs, config)
    return config


def _choice(model: str, recipe: str, cards: Cards) -> str:
    """A line on the recipe that was chosen for ``cards``."""
    if not recipe:
        return f"{model} on {cards}: nobody has published a recipe of it; default_config.yaml says how it trains"
    line = f"{model} on {cards}: recipe {recipe} ({load_config(recipe).notes['description']})"
    return f"{line}; --config_path names another" + (", digits one for the digits" if cards.target == "CPU" else "")


def _network_named(argv: list[str]) -> str:
    """The network that a command line names, itself or by its recipe or run: on it depends what its flags mean."""
    named: dict[str, str] = {}
    for word, following in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        flag, has_value, text = _flag_of(word)
        named[flag] = text if has_value else following
    run = run_going_on(named.get("resume", ""), named.get("run_dir", ""), named.get("config_path", ""))
    recipe = named.get("config_path") or (str(run / CONFIG_FILE) if run else "")
    return named.get("model") or (named_network(recipe) if recipe else "")


def _unless_defaults(recipe: str, changed: dict[str, Any]) -> str:
    """``recipe``, or ``""`` for default_config.yaml, which lies below any; what a user has ``changed`` there counts."""
    if Path(recipe).name != "default_config.yaml" or not DEFAULTS.keys() <= read_yaml(find_recipe(recipe)).keys():
        return recipe
    changed |= load_config(recipe).changed()
    print(f"note: --config_path {recipe}: holds the defaults, which lie below any recipe")
    return ""


def _as_spelled(word: str, flag: str, upstream: Mapping[str, Flag], following: Sequence[str]) -> str:
    """``flag`` with its hyphens where an original had that spelling for something else than our key.

    Its switch with a number behind it is our key all the same.
    """
    spelled = word.lstrip("-").partition("=")[0]
    if "-" not in spelled or spelled not in upstream:
        return flag
    is_number = any(re.match(r"[\d.]", text) and text.lower() not in BOOLEANS for text in following)
    return flag if upstream[spelled].is_switch and is_number else spelled


def _refuse_two_values(upstream: Mapping[str, Flag], theirs: Mapping[str, str], ours: Mapping[str, Any]) -> None:
    """Raises UsageError where a key is given under two names with two values."""
    said = {key: (f"--{key} {value}", value) for key, value in ours.items()}
    for name, text in theirs.items():
        key = upstream[name].spells
        if not key or key not in (meant := upstream[name].meaning(text, theirs)):
            continue
        shown = f"{_shown(name)} {text}" if name else repr(text)
        value = coerce(key, meant[key], shown)
        first, known = said.setdefault(key, (shown, value))
        if known != value:
            raise UsageError(f"{first} and {shown} are two values of one key, {key}; leave one of them out")


def _require_expected(upstream: Mapping[str, Flag], theirs: Mapping[str, str], config: Config) -> None:
    """Raises UsageError unless the keys that flags without a key of their own expect have their values."""
    for name, text in theirs.items():
        key = upstream[name].expects
        if key and coerce(key, text, _shown(name)) != config[key]:
            shown = f"{_shown(name)} {text}"
            raise UsageError(f"{shown}: here it is {key}, which is {config[key]}; give --{key} {text} too")


def keys_of(program: str) -> list[str]:
    """The keys a program has a use for, in the schema's order."""
    return [key for section in PROGRAMS[program] for key in section.model_fields]


def _refuse_foreign(key: str, program: str) -> None:
    users = [f"{name}.py" for name in PROGRAMS if key in keys_of(name) or key in COMMANDS.get(name, {})]
    if f"{program}.py" not in users:
        raise UsageError(f"--{key} belongs to {' and '.join(users)}; {program}.py has no use for it")


def _flag_of(word: str) -> tuple[str, bool, str]:
    """Name of the flag (empty for a bare argument), whether a value is joined to it, and that value."""
    if not re.match(r"-{1,2}[A-Za-z_]", word):
        return "", True, word
    flag, joined, text = word.lstrip("-").partition("=")
    return "config_path" if flag == "_config_path" else flag.replace("-", "_"), bool(joined), text


def _translate(upstream: Mapping[str, Flag], given: Mapping[str, str]) -> dict[str, Any]:
    """Schema keys of the upstream flags ``given``, in the order of their table, whose later entries win."""
    overrides: dict[str, Any] = {}
    for name, flag in upstream.items():
        if name not in given:
            continue
        shown = _shown(name) if name else repr(given[name])
        value = _boolean(given[name], shown) if flag.is_switch else given[name]
        for key, meant in flag.meaning(value, given).items():
            _merge(overrides, {key: coerce(key, meant, shown)})
        if flag.note:
            print(f"note: {shown}: {flag.note}")
    return overrides


def _boolean(text: str, shown: str) -> bool:
    try:
        return as_boolean(text)
    except ValueError as error:
        raise UsageError(f"{shown} {error}") from error


def _take_value(flag: str, upstream: Flag | Command | None, words: list[str]) -> str:
    """The value that belongs to ``flag``: the next word, or True for a boolean without one."""
    is_switch = upstream.is_switch if upstream else isinstance(DEFAULTS.get(flag), bool)
    has_next = bool(words) and (not words[0].startswith("-") or _is_number(words[0]))
    if is_switch:
        word = words[0].lower() if has_next else ""
        if word in NEARLY_BOOLEAN:
            raise UsageError(f"{_shown(flag)} must be {BOOLEAN_WORDS}, not {words[0]!r}")
        return words.pop(0) if word in BOOLEANS else "True"
    known = upstream or flag in (*DEFAULTS, "config_path", "_config_path") or flag.startswith("model_options.")
    if not has_next and known:
        raise UsageError(f"{_shown(flag)} needs a value")
    return words.pop(0) if has_next else ""


def _shown(flag: str) -> str:
    return f"{'-' if len(flag) == 1 else '--'}{flag}"


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-\d+(\.\d*)?([eE][+-]?\d+)?", word))


def _merge(overrides: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if key == "model_options":
            overrides.setdefault(key, {}).update(coerce(key, value, "command line"))
        else:
            overrides[key] = value


def answer_help(program: str) -> None:
    """Prints the help and leaves if the command line asks for it: called before the imports that take seconds."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        with steady_output():
            print(help_text(program))
        raise SystemExit(0)


def help_text(program: str) -> str:
    """The program's keys by section, each with its kind, default, meaning and limits; then upstream's flags."""
    lines = [
        f"usage: python {program}.py [--config_path RECIPE] [--key value ...]",
        "",
        f"RECIPE is a file, or a name in {RECIPE_FOLDER.name}/. Booleans also as a bare --key. Defaults in brackets.",
    ]
    if program in COMMANDS:
        lines += ["", "instead of its own work:"]
    for name, command in COMMANDS.get(program, {}).items():
        lines += _entry(f"--{name} {command.value}", command.meaning)
    for section in PROGRAMS[program]:
        lines += ["", f"{section.__doc__}:"]
        for key in section.model_fields:
            lines += _described(key)
    theirs = [_shown(name) for name in flags_of(program) if name]
    if theirs:
        known = "Flags of the original repositories, understood as well: " + " ".join(theirs)
        lines += ["", *textwrap.wrap(known, 100, break_on_hyphens=False)]
    return "\n".join(lines)


def _described(key: str) -> list[str]:
    """Lines on one key."""
    field = SECTION_OF[key].model_fields[key]
    known = choices_of(key)
    kind = "|".join(word or '""' for word in known) if known else KINDS[type(DEFAULTS[key])]
    default = to_text(DEFAULTS[key])
    facts = "; ".join(filter(None, (default, limits_of(key))))
    return _entry(f"--{key} {kind}", f"{field.description} [{facts}]")


def _entry(flag: str, meaning: str) -> list[str]:
    """Lines of the help: a flag at the left, what it means beside it, or below where the flag is long."""
    head = f"  {flag}".rstrip()
    text = textwrap.wrap(meaning, 72, break_on_hyphens=False, break_long_words=False)
    if len(head) > 30:
        return [head, *(" " * 32 + line for line in text)]
    return [head.ljust(32) + text[0], *(" " * 32 + line for line in text[1:])]


def to_text(default: Any) -> str:
    """A default as it would be typed."""
    if default == "":
        return '""'
    return str(default).lower() if isinstance(default, bool) else str(default)
