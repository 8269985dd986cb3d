"""The configuration of a run: the schema's defaults, below a recipe, below the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import PrivateAttr, TypeAdapter, ValidationError

from src.errors import UsageError, nearest
from src.settings.recipes import digits_network, find_recipe
from src.settings.run_folders import CHECKPOINTS, CONFIG_FILE
from src.settings.sections import SECTIONS, Section
from src.settings.upstream_flags import flags_of
from src.settings.values import as_boolean, as_text
from src.settings.yaml_text import read_yaml, to_yaml

# A recipe may say these besides the schema's keys: what it is, and figures published by others.
RECIPE_NOTES = ("description", "reference")
# Values that runs of earlier versions may hold, and what stands for them now.
RETIRED = {"cpu_operators": {"rewritten": "standard"}}
# Commands of search.py that once were keys: every configuration saved until then holds them, with these values.
FORMER_KEYS = {"export_subnet": "", "plot_samplers": False}
# Keys that name files or folders a run reads, and those that say where it is, which only its path can.
INPUTS = ("data_path", "val_data_path", "pretrained", "supernet", "latency_table", "search_recipe")
_PLACES = ("run_dir", "resume")


class Config(*SECTIONS):
    """All sections at once: the resolved value of every key, read as an attribute (``config.batch_size``).

    Attributes:
        recipe: name of the recipe file without suffix, or ``""``.
        notes: the recipe's description and reference figures.
        from_recipe: keys whose values the recipe gave, and no one after it.
        of_run: the folder, or the checkpoint, of the run whose configuration the recipe is, or ``""``.
        typed: keys that the command line gave.
    """

    _recipe: str = PrivateAttr("")
    _from_recipe: frozenset[str] = PrivateAttr(frozenset())
    _of_run: str = PrivateAttr("")
    _typed: frozenset[str] = PrivateAttr(frozenset())
    _notes: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def recipe(self) -> str:
        return self._recipe

    @property
    def from_recipe(self) -> frozenset[str]:
        return self._from_recipe

    @property
    def of_run(self) -> str:
        return self._of_run

    @property
    def typed(self) -> frozenset[str]:
        return self._typed

    @property
    def notes(self) -> dict[str, Any]:
        return self._notes

    def values(self) -> dict[str, Any]:
        """Every key with its value, in the schema's order."""
        return {key: self[key] for key in DEFAULTS}

    def changed(self) -> dict[str, Any]:
        """The keys whose values are not the schema's defaults."""
        return {key: value for key, value in self.values().items() if value != DEFAULTS[key]}

    def replace(self, **changes: Any) -> Config:
        """A copy with some keys changed, checked like any other value."""
        checked = {key: coerce(key, value, "replace()") for key, value in changes.items()}
        rest = self.from_recipe - checked.keys()
        return _resolved({**self.values(), **checked}, self.recipe, self.notes, rest, self.of_run, self.typed)

    def kept(self) -> Config:
        """As it is kept with a run: what it reads by full paths, for any working folder, and not where it is itself."""
        full = {key: str(Path(self[key]).absolute()) for key in INPUTS if self[key] and Path(self[key]).exists()}
        return self.replace(**full, **dict.fromkeys(_PLACES, ""))

    def require_inputs(self, *keys: str) -> None:
        """Raises UsageError if what the run has read so far is not where it was."""
        for key in keys:
            if self.of_run and key in self.from_recipe and self[key] and not Path(self[key]).exists():
                raise UsageError(f"{self[key]} is gone, the {key} of {self.of_run}; say where it is now with --{key}")

    def to_yaml(self) -> str:
        """The text that, given back as a recipe, yields this configuration."""
        return to_yaml({**self.notes, **self.values()})


def _resolved(
    values: Mapping[str, Any],
    recipe: str,
    notes: Mapping[str, Any],
    from_recipe: Iterable[str] = (),
    of_run: str = "",
    typed: Iterable[str] = (),
) -> Config:
    config = Config.model_construct(**values)
    config._of_run, config._typed = of_run, frozenset(typed)
    config._recipe, config._notes, config._from_recipe = recipe, dict(notes), frozenset(from_recipe)
    return config


# Every key with its default, and with the section it stands in, in the schema's order.
DEFAULTS: dict[str, Any] = {
    key: field.get_default() for section in SECTIONS for key, field in section.model_fields.items()
}
SECTION_OF: dict[str, type[Section]] = {key: section for section in SECTIONS for key in section.model_fields}


def choices_of(key: str) -> tuple[str, ...]:
    """The words a key can be, or nothing where it is no choice."""
    annotation = SECTION_OF[key].model_fields[key].annotation
    return tuple(word for word in get_args(annotation) if isinstance(word, str))


@cache
def _reader(key: str) -> TypeAdapter:
    field = SECTION_OF[key].model_fields[key]
    return TypeAdapter(Annotated.__class_getitem__((field.annotation, *field.metadata, field)))


def coerce(key: str, value: Any, where: str) -> Any:
    """``value`` as the schema means ``key``. ``where`` names its origin in messages.

    Raises:
        UsageError: unknown key, a value of another kind, or one outside what the key can mean.
    """
    if key not in DEFAULTS:
        raise UsageError(f"{where}: there is no key {key!r}{nearest(key, DEFAULTS)}")
    try:
        if choices_of(key):  # a number or nothing may be meant as a word
            value = "" if value is None else str(value)
        return _reader(key).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{where}: {key} {_complaint(key, value, error)}") from error


def _complaint(key: str, value: Any, error: ValidationError) -> str:
    """What pydantic found, in this project's words."""
    found = error.errors(include_url=False)[0]
    if found["type"] == "value_error":  # of src/settings/values.py and sections.py, which say all
        return str(found["ctx"]["error"])
    if found["type"] == "literal_error":
        known = choices_of(key)
        listed = ", ".join(word or '""' for word in known)
        return f"is {value!r}{nearest(str(value), known)}; it can be {listed}"
    return f"is {found['input']}; it must be {limits_of(key)}"


def limits_of(key: str) -> str:
    """The range of a number in words (``at least 0 and below 1``), or ``""`` where it has none."""
    bounds = {type(limit).__name__.lower(): limit for limit in SECTION_OF[key].model_fields[key].metadata}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    if {"ge", "le"} <= bounds.keys():
        return f"from {bounds['ge'].ge} to {bounds['le'].le}"
    return " and ".join(f"{word} {getattr(bounds[name], name)}" for name, word in words.items() if name in bounds)


def _of_file(written: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Keys and values in a file of this version or an earlier one, and a line on each value that is no more."""
    values, notes = {}, []
    for key, value in _in_our_words(written, where).items():
        if key in FORMER_KEYS and value == FORMER_KEYS[key]:
            continue
        if isinstance(value, str) and value in RETIRED.get(key, {}):
            notes.append(f"{where}: {key} {value} is no more; {RETIRED[key][value]} stands for it")
            value = RETIRED[key][value]
        values[key] = coerce(str(key), value, where)
    return values, notes


def _in_our_words(written: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``written`` with the keys that the network's original had in its file (``dataset_path``) as ours.

    Raises:
        UsageError: a key under two names with two values.
    """
    table = flags_of("train", str(written.get("model", "")))
    theirs = {str(key): value for key, value in written.items() if key not in DEFAULTS and key in table}
    given = {key: as_text(value) for key, value in theirs.items()}
    meant: dict[str, Any] = {}
    for name, flag in table.items():
        if name not in theirs:
            continue
        spelled = table[name].spells
        if spelled in written and as_text(written[spelled]) != given[name]:
            raise UsageError(f"{where}: {name} and {spelled} are one key with two values: leave one of them out")
        meant |= flag.meaning(as_boolean(theirs[name]) if flag.is_switch else given[name], given)
    return {**meant, **{key: value for key, value in written.items() if key not in theirs}}


def saved_config(written: Mapping[str, Any], where: str) -> Config:
    """The configuration in a checkpoint named ``where``, of this version or an earlier one."""
    values, _ = _of_file(written, where)
    return _resolved({**_defaults(), **values}, "", {}, values.keys(), where)


def _defaults() -> dict[str, Any]:
    """Of every key; lists and mappings are new ones."""
    return {key: SECTION_OF[key].model_fields[key].get_default() for key in DEFAULTS}


def load_config(recipe: str | Path = "", overrides: Mapping[str, Any] | None = None) -> Config:
    """Defaults, below the recipe file, below ``overrides``.

    The config.yaml of a run does not say where that is: whoever names it may have moved it.
    """
    values = _defaults()
    notes: dict[str, Any] = {}
    known: dict[str, Any] = {}
    name = of_run = ""
    if str(recipe):
        path = find_recipe(str(recipe))
        # A run folder's config.yaml is named after its folder, a recipe after its file.
        name = path.absolute().parent.name if path.name == CONFIG_FILE else path.stem
        of_run = str(path.parent) if path.name == CONFIG_FILE and (path.parent / CHECKPOINTS).is_dir() else ""
        written = read_yaml(path)
        notes = {key: written.pop(key) for key in RECIPE_NOTES if key in written}
        known, lines = _of_file(written, path.name)
        if of_run:
            known |= dict.fromkeys(_PLACES, "")
        values.update(known)
        for line in lines:
            print(f"note: {line}")
        if name == "digits" and (network := digits_network(str(recipe))):
            name, values["model"] = f"{network}_cpu", network
    for key, value in (overrides or {}).items():
        checked = coerce(key, value, "command line")
        # Options of the network add to the recipe's.
        values[key] = {**values[key], **checked} if key == "model_options" else checked
    typed = (overrides or {}).keys()
    return _resolved(values, name, notes, known.keys() - typed, of_run, typed)
