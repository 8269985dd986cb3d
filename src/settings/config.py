"""The configuration of a run: default_config.yaml, below a recipe, below the command line.

default_config.yaml is the schema. A key that is not in it is refused with its nearest neighbour, and a
value is read by the type of its default, so YAML's surprises (``1e-5`` a string, ``yes`` a boolean,
``012`` ten, ``3:25`` two hundred and five) cannot reach a run.
"""

from __future__ import annotations

import copy
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from src.errors import UsageError, nearest
from src.settings.limits import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from src.settings.upstream_flags import Flag, as_meant_by, flags_of, recipe_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_FILE = ROOT / "default_config.yaml"
RECIPE_FOLDER = ROOT / "configs"
MAX_FILE_BYTES = 1 << 17
MAX_DEPTH = 20
# A recipe may say these besides the schema's keys: what it is, and figures published by others.
RECIPE_NOTES = ("description", "reference")
CHOICES = {
    "interpolation": ("", "bilinear", "bicubic"),
    "resize_kernel": ("", "mindspore", "pil"),
    "cutout_position": ("upstream", "normalized"),
    "label_smoothing_form": ("uniform", "others"),
    "optimizer": ("momentum", "sgd", "nesterov", "rmsprop"),
    "lr_schedule": (
        "cosine",
        "cosine_epoch",
        "cosine_staircase",
        "two_phase_cosine",
        "steps",
        "steps_decay",
        "linear",
        "poly",
        "exponential",
        "milestone",
        "constant",
    ),
    "weight_decay_on": ("weights", "weights_and_biases", "all"),
    "lr_scaling": ("none", "linear"),
    "amp_level": ("O0", "O1", "O2", "O3"),
    "loss_scale_mode": ("none", "fixed", "dynamic"),
    "device_target": ("auto", "CPU", "GPU", "Ascend"),
    "mode": ("graph", "pynative"),
    "cpu_operators": ("auto", "fused", "rewritten", "standard"),
    "sink": ("auto", "on", "off"),
    "supernet_masking": ("exact", "upstream"),
    "path_sampler": ("uniform", "random", "strolling", "binned", "fair", "sandwich"),
    "search_method": ("genetic", "megvii", "random", "pareto"),
    "search_scope": ("joint", "blocks", "channels", "blocks_then_channels", "channels_then_blocks"),
    "search_target": ("accuracy", "balanced"),
    "search_on": ("held_out", "validation"),
}
# Smallest and largest value a key can mean anything with.
RANGES = {
    "num_classes": (0, None),
    "image_size": (0, MAX_IMAGE_SIZE),
    "eval_resize": (0, None),
    "batch_size": (1, None),
    "eval_batch_size": (0, None),
    "workers": (1, None),
    "max_image_pixels": (1, None),
    "horizontal_flip": (0, 1),
    "cutout_length": (1, None),
    "label_smoothing": (0, 1),
    "lr": (0, None),
    "lr_init": (0, None),
    "lr_end": (0, None),
    "lr_gamma": (0, None),
    "lr_tail_epochs": (0, None),
    "lr_scaling_base": (1, None),
    "momentum": (0, 1),
    "rms_decay": (0, 1),
    "rms_epsilon": (0, None),
    "weight_decay": (0, None),
    "grad_clip": (0, None),
    "accumulate": (1, None),
    "warmup_epochs": (0, None),
    "loss_scale": (1, None),
    "scale_factor": (2, None),
    "scale_window": (1, None),
    "epochs": (1, None),
    "max_steps": (0, None),
    "seed": (0, 2**31 - 1),
    "keep_checkpoint_max": (1, None),
    "save_checkpoint_epochs": (1, None),
    "save_checkpoint_steps": (0, None),
    "eval_epochs": (0, None),
    "early_stop": (0, None),
    "log_steps": (0, None),
    "device_id": (0, None),
    "channel_start_epoch": (-1, None),
    "channel_fixed": (-1, None),
    "calibration_images": (1, None),
    "search_holdout": (0, 1),
    "score_ratio": (0, None),
    "search_population": (1, None),
    "search_generations": (1, None),
    "search_retain": (1, None),
    "search_survive": (0, 1),
    "search_mutation": (0, 1),
    "search_top": (1, None),
}
# How many numbers a list holds, where that is fixed.
LENGTHS = {
    "mean": (0, 3),
    "std": (0, 3),
    "crop_scale": (2,),
    "crop_ratio": (2,),
    "color_jitter": (4,),
    "flops_bins": (3,),
}


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars one expects: true and false, decimal numbers, null; all else is text.

    A key written twice is an error instead of the last one winning. Anchors are refused: a
    configuration needs none, and nested ones grow without bound.
    """

    yaml_implicit_resolvers: dict = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed", self.peek_event().start_mark
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)
            if key.value in seen:
                twice = f"key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, twice, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader`, or a YAML 1.1 reader, would take for something else; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_NUMBER = r"[-+]?(0|[1-9][0-9]*)"
_SCALARS = {
    "null": (r"null|~|", ["n", "~", ""]),
    "bool": (r"true|True|false|False", list("tTfF")),
    "int": (_NUMBER, list("-+0123456789")),
    "float": (rf"({_NUMBER}(\.[0-9]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}
for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def read_yaml(path: Path) -> dict:
    """A mapping from a YAML file of at most 128 KiB. Raises UsageError naming the file and the line."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes: not a configuration")
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold `key: value` lines")
    return content


class Config(Mapping):
    """Resolved values of every key of the schema, read as attributes (``config.batch_size``).

    Attributes:
        recipe: name of the recipe file without suffix, or ``""``.
        notes: the recipe's description and reference figures.
    """

    def __init__(self, values: Mapping[str, Any], recipe: str = "", notes: Mapping | None = None):
        self.__dict__["_values"] = dict(values)
        self.__dict__["recipe"] = recipe
        self.__dict__["notes"] = dict(notes or {})

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_values"][key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError("a configuration does not change; use replace()")

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def replace(self, **changes: Any) -> Config:
        """A copy with some keys changed, checked like any other value."""
        values = dict(self._values)
        for key, value in changes.items():
            values[key] = coerce(key, value, "replace()")
        return Config(values, self.recipe, self.notes)

    def to_yaml(self) -> str:
        """The text that, given back as a recipe, yields this configuration."""
        return yaml.dump(
            {**self.notes, **self._values}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
        )


def schema() -> dict[str, Any]:
    """Every key with its default."""
    return read_yaml(SCHEMA_FILE)


def coerce(key: str, value: Any, where: str) -> Any:
    """``value`` as the type of the default of ``key``. ``where`` names its origin in messages.

    Raises:
        UsageError: unknown key, a value of another kind, or one outside what the key can mean.
    """
    defaults = _SCHEMA
    if key not in defaults:
        raise UsageError(f"{where}: there is no key {key!r}{nearest(key, defaults)}")
    value = _as_type_of(defaults[key], value, f"{where}: {key}")
    if key in CHOICES and value not in CHOICES[key]:
        existing = ", ".join(choice or '""' for choice in CHOICES[key])
        raise UsageError(f"{where}: {key} is {value!r}{nearest(str(value), CHOICES[key])}; it can be {existing}")
    if key in LENGTHS and len(value) not in LENGTHS[key]:
        raise UsageError(f"{where}: {key} is {value}; it must hold {LENGTHS[key][-1]} numbers")
    if key == "image_size" and value and value < MIN_IMAGE_SIZE:
        raise UsageError(f"{where}: image_size is {value}; it must be at least {MIN_IMAGE_SIZE}, or 0")
    low, high = RANGES.get(key, (None, None))
    if (low is not None and value < low) or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{where}: {key} is {value}; it must be {limits}")
    return value


def _as_type_of(default: Any, value: Any, what: str) -> Any:
    if isinstance(default, bool):
        return _as_bool(value, what)
    if isinstance(default, int):
        return _as_int(value, what)
    if isinstance(default, float):
        return _as_float(value, what)
    if isinstance(default, str):
        if isinstance(value, (dict, list)):
            raise UsageError(f"{what} must be text, not {value!r}")
        return "" if value is None else str(value)
    if isinstance(value, str):
        value = _from_text(default, value, what)
    if isinstance(default, list):
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{what} must be a list such as {default}, not {value!r}")
        kind = default[0] if default else 0.0
        return [_as_type_of(kind, item, what) for item in value]
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} must be a mapping such as {{alpha: 0.5}}, not {value!r}")
    return copy.deepcopy(dict(value))


def _from_text(default: list | dict, text: str, what: str) -> Any:
    """A list or mapping typed on a command line: YAML flow text, or for a list plain commas."""
    if isinstance(default, list) and not text.lstrip().startswith("["):
        text = f"[{text}]"
    return _flow(text, what)


def _flow(text: str, what: str) -> Any:
    """A value typed on a command line, read as YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{what} cannot be read from {text!r}") from error


def _as_bool(value: Any, what: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in words:
        return words[str(value).lower()]
    raise UsageError(f"{what} must be True or False, not {value!r}")


def _as_int(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        return int(value)
    raise UsageError(f"{what} must be a whole number, not {value!r}")


def _as_float(value: Any, what: str) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if abs(number) < float("inf"):
            return number
    raise UsageError(f"{what} must be a number, not {value!r}")


_SCHEMA = schema()


def digits_network(name: str) -> str:
    """The network that ``<network>_cpu``, the name of a recipe, trains on the digits; ``""`` for any other name.

    Once each was a file, and they differed in the network alone; MnasNet's differs in more and is one still.
    """
    path = Path(name)
    network = path.name.removesuffix(".yaml").removesuffix("_cpu")
    is_ours = path.parent in (Path(), Path("configs")) or path.parent.resolve() == RECIPE_FOLDER
    return network if is_ours and f"{network}_cpu" in digits_recipes() else ""


def digits_recipes() -> list[str]:
    """``<network>_cpu`` of every network that has a recipe for larger devices."""
    at_scale = (re.fullmatch(r"(.+)_(?:ascend|gpu)_\d+p", path.stem) for path in sorted(RECIPE_FOLDER.glob("*.yaml")))
    return [f"{network}_cpu" for network in dict.fromkeys(match[1] for match in at_scale if match)]


def find_recipe(name: str) -> Path:
    """A recipe by path, by its name in ``configs/`` with or without ``.yaml``, or by that of an original's file."""
    for path in (Path(name), ROOT / name, RECIPE_FOLDER / name, RECIPE_FOLDER / f"{name}.yaml"):
        if path.is_file():
            return path
    if recipe := "digits" if digits_network(name) else recipe_of(name):
        return RECIPE_FOLDER / f"{recipe}.yaml"
    recipes = [path.stem for path in sorted(RECIPE_FOLDER.glob("*.yaml"))] + digits_recipes()
    raise UsageError(f"there is no configuration {name!r}{nearest(name, recipes)}; `ls configs` shows the recipes")


def load_config(recipe: str | Path = "", overrides: Mapping[str, Any] | None = None) -> Config:
    """Defaults, below the recipe file, below ``overrides``."""
    values = copy.deepcopy(_SCHEMA)
    notes: dict[str, Any] = {}
    name = ""
    if str(recipe):
        path = find_recipe(str(recipe))
        # A run folder's config.yaml is named after its folder, a recipe after its file.
        name = path.parent.name if path.name == "config.yaml" else path.stem
        for key, value in read_yaml(path).items():
            if key in RECIPE_NOTES:
                notes[key] = value
            else:
                values[key] = coerce(str(key), value, path.name)
        if name == "digits" and (network := digits_network(str(recipe))):
            name, values["model"] = f"{network}_cpu", network
    for key, value in (overrides or {}).items():
        if key == "model_options":  # options add to the recipe's
            values[key] = {**values[key], **coerce(key, value, "command line")}
        else:
            values[key] = coerce(key, value, "command line")
    return Config(values, name, notes)


def parse_arguments(argv: list[str], program: str) -> Config:
    """The configuration a command line asks for.

    ``--key value``, ``--key=value`` and, for booleans, a bare ``--key`` are alike; hyphens and
    underscores too. ``--model_options.alpha 0.5`` sets one option of the network. Upstream's flags
    (src/settings/upstream_flags.py) are understood for ``program`` (``train``, ``eval``, …).

    Raises:
        UsageError: unknown flag (with its nearest neighbour), missing or unfitting value.
        SystemExit: after printing the help text.
    """
    upstream = flags_of(program)
    recipe = ""
    ours: dict[str, Any] = {}
    theirs: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            print(help_text(program))
            raise SystemExit(0)
        flag, has_value, text = _flag_of(word)
        if not flag and ("" not in upstream or "" in theirs):
            raise UsageError(f"{word!r} stands alone; values are given as --key value (see --help)")
        if flag and not has_value:
            text = _take_value(flag, upstream.get(flag), words)
        if flag == "config_path":
            recipe = text
        elif flag in upstream:
            theirs[flag] = text
        elif flag.startswith("model_options."):
            _merge(ours, {"model_options": {flag.partition(".")[2]: _flow(text, word)}})
        elif flag in _SCHEMA:
            _merge(ours, {flag: coerce(flag, text, "command line")})
        else:
            known = [*_SCHEMA, *(name for name in upstream if len(name) > 1), "config_path"]
            raise UsageError(f"there is no flag {word!r}{nearest(flag, known)}")
    overrides = _translate(upstream, theirs)
    for key, value in ours.items():
        _merge(overrides, {key: value})
    recipe = recipe or _recipe_of_resumed_run(overrides)
    model = overrides.get("model") or load_config(recipe).model
    return load_config(recipe, as_meant_by(model, overrides))


def _recipe_of_resumed_run(overrides: Mapping[str, Any]) -> str:
    """A run that goes on does so under its own configuration, unless another one is named."""
    resumed = overrides.get("resume", "")
    folder = Path(overrides.get("run_dir", "") if resumed == "auto" else resumed)
    if folder.suffix == ".ckpt":
        folder = folder.parent.parent
    saved = folder / "config.yaml"
    return str(saved) if resumed and saved.is_file() else ""


def _flag_of(word: str) -> tuple[str, bool, str]:
    """Name of the flag (empty for a bare argument), whether a value is joined to it, and that value."""
    if not re.match(r"-{1,2}[A-Za-z]", word):
        return "", True, word
    flag, joined, text = word.lstrip("-").partition("=")
    return flag.replace("-", "_"), bool(joined), text


def _translate(upstream: Mapping[str, Flag], given: Mapping[str, str]) -> dict[str, Any]:
    """Schema keys of the upstream flags ``given``, in the order of their table, whose later entries win."""
    overrides: dict[str, Any] = {}
    for name, flag in upstream.items():
        if name not in given:
            continue
        shown = f"{'-' if len(name) == 1 else '--'}{name}" if name else repr(given[name])
        for key, value in flag.meaning(_as_bool(given[name], shown) if flag.is_switch else given[name]).items():
            _merge(overrides, {key: coerce(key, value, shown)})
        if flag.note:
            print(f"note: {shown}: {flag.note}")
    return overrides


def _take_value(flag: str, upstream: Flag | None, words: list[str]) -> str:
    """The value that belongs to ``flag``: the next word, or True for a boolean without one."""
    is_switch = upstream.is_switch if upstream else isinstance(_SCHEMA.get(flag), bool)
    has_next = bool(words) and (not words[0].startswith("-") or _is_number(words[0]))
    if is_switch and not (has_next and words[0].lower() in ("true", "false", "yes", "no", "1", "0")):
        return "True"
    known = upstream or flag in _SCHEMA or flag == "config_path" or flag.startswith("model_options.")
    if not has_next and known:
        raise UsageError(f"{'-' if len(flag) == 1 else '--'}{flag} needs a value")
    return words.pop(0) if has_next else ""


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-\d+(\.\d*)?([eE][+-]?\d+)?", word))


def _merge(overrides: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if key == "model_options":
            overrides.setdefault(key, {}).update(_as_type_of({}, value, "command line: model_options"))
        else:
            overrides[key] = value


def help_text(program: str) -> str:
    """The schema as it stands in its file, which documents every key, after a line of usage."""
    head = (
        f"usage: python {program}.py [--config_path RECIPE] [--key value ...]\n\n"
        "RECIPE is a file, or a name in configs/. Every key below can be given as --key value;\n"
        "booleans also as a bare --key. The values shown are the defaults.\n\n"
    )
    theirs = [f"{'-' if len(name) == 1 else '--'}{name}" for name in flags_of(program) if name]
    tail = textwrap.fill(
        "Flags of the original repositories, understood as well: " + " ".join(theirs), 100, break_on_hyphens=False
    )
    return head + SCHEMA_FILE.read_text(encoding="utf-8") + ("\n" + tail if theirs else "")
