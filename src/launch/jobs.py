"""What the scripts start: training, evaluation, search and export, on one device or on several."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import UsageError
from src.launch.calls import ROOT, Call, Script
from src.launch.launcher import Options, nodes_from, ranks_of_table, value_of
from src.settings.published import Cards, fitted, recipe_for, scaled
from src.settings.recipes import named_network, networks
from src.settings.run_folders import CHECKPOINT_FLAGS

# The words of our own scripts, by platform; a card is named where there can be several.
SEVERAL = {
    "Ascend": "RANK_TABLE_FILE DEVICE_NUM DATA_PATH",
    "GPU": "CUDA_VISIBLE_DEVICES DEVICE_NUM DATA_PATH",
    "CPU": "RANK_NUM DATA_PATH",
}
ONE = {"Ascend": "DEVICE_ID DATA_PATH", "GPU": "DEVICE_ID DATA_PATH", "CPU": "DATA_PATH"}


def on_several(call: Call) -> Options:
    """Training on the devices of this machine, which NODE_NUM can make one of several."""
    target, count = call.script.target, call.count()
    words = {"DEVICE_NUM": str(count)}
    launcher, variables, table = "msrun", {}, "msrun"
    if target == "GPU":
        launcher, first = "mpirun", ",".join(map(str, range(count)))
        visible = call.words.get("CUDA_VISIBLE_DEVICES") or call.environment.get("CUDA_VISIBLE_DEVICES") or first
        if not re.fullmatch(r"\d+(,\d+)*", visible):
            raise UsageError(f"CUDA_VISIBLE_DEVICES must be a list such as 0,1,2,3, not {visible!r}")
        variables = {"CUDA_VISIBLE_DEVICES": visible}
        words |= variables
        number = visible.count(",") + 1
        refuse_more(call, count, number, f"CUDA_VISIBLE_DEVICES names {number}", words)
    elif target == "Ascend":
        table = call.words.get("RANK_TABLE_FILE") or call.environment.get("RANK_TABLE_FILE", "msrun")
        words |= {"RANK_TABLE_FILE": table}
    present = device_count(target, call.environment)
    refuse_more(call, count, present, f"there are {present} {target} devices here", words)
    if table != "msrun":
        launcher = "rank_table"
        check_table(call, table, count, words)
    device = ["--device_target", target, "--is_distributed", "True"]
    started = {"ranks": count, "launcher": launcher, "variables": variables}
    return training(call, device, **started, rank_table="" if table == "msrun" else str(Path(table).absolute()))


def on_one(call: Call) -> Options:
    """Training on one device."""
    return training(call, [*call.device(), "--is_distributed", "False"])


def training(call: Call, arguments: list[str], ranks: int = 1, **started: Any) -> Options:
    """train.py by the recipe that was typed, else the script's, else the network's own for so many ranks."""
    arguments = ["--data_path", call.data_path(), *arguments]
    options = call.options("", "train.py", arguments, makes_run=True, ranks=ranks, **started)
    given = {word[2:].partition("=")[0].replace("-", "_") for word in options.command[1:] if word.startswith("--")}
    cards = Cards(call.script.target, all_ranks(options, call.environment))
    recipe = call.recipe or call.script.recipe
    network = call.network or (named_network(recipe) if recipe else "")
    if not network:
        raise UsageError(which_network(call))
    if recipe:
        keys = scaled(recipe, cards.number, given)
    else:
        recipe = recipe_for(network, cards)
        if not recipe:
            raise UsageError(f"there is no recipe of {network}; give one as CONFIG_PATH: `ls configs` shows them")
        keys = fitted(recipe, cards, given)
    if not named_network(recipe) and "model" not in given:
        keys = {"model": network, **keys}
    flags = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    options.command[1:1] = ["--config_path", recipe, *flags]
    options.name, options.about = Path(recipe).name, f"{network} on {cards}, recipe {recipe}"
    return options


def which_network(call: Call) -> str:
    """What to type where nothing says which network is to be trained."""
    script, more = call.script, [*([call.recipe] if call.recipe else []), *call.arguments]
    theirs = [original.line(call.words, *more) for original in script.also if original.network]
    ours = script.line(call.words, *more, "--model", "NAME")
    lines = " or ".join([*theirs, f"{ours}, where NAME is {', '.join(networks())}"])
    return f"which network? Type: {lines}"


def check_table(call: Call, table: str, count: int, words: Mapping[str, str]) -> None:
    """Raises UsageError with the line to type unless the rank table names ``count`` cards of this machine."""
    if not Path(table).is_file():
        line = line_of(call, {**words, "RANK_TABLE_FILE": "msrun"})
        write = "write one with `python -m src.launch.rank_tables`, or do without"
        raise UsageError(f"there is no rank table {table!r}; {write}: {line}")
    server = call.environment.get("SERVER_ID", "0")
    number = len(ranks_of_table(Path(table), int(server) if server.isdecimal() else 0)[0])
    if number != count:
        line = line_of(call, {**words, "DEVICE_NUM": str(number)})
        raise UsageError(f"{count} ranks, but {table} names {number} cards of this machine; type: {line}")


def line_of(call: Call, words: Mapping[str, str]) -> str:
    """The line that does the same by our own script for several devices, with some ``words`` changed."""
    target, recipe = call.script.target, call.recipe or call.script.recipe
    script = Script(on_several, target, SEVERAL[target], path=f"scripts/run_distribute_train_{target.lower()}.sh")
    more = [*([recipe] if recipe else []), *call.script.flags, *call.arguments]
    if call.network and not call.is_named and not (recipe and named_network(recipe)):
        more += ["--model", call.network]
    return script.line({**call.words, **words}, *more)


def all_ranks(options: Options, environment: Mapping[str, str]) -> int:
    """Ranks of the whole job, on all its machines."""
    if options.launcher == "rank_table":
        return ranks_of_table(Path(options.rank_table), 0)[1]
    return options.ranks if options.launcher == "none" else options.ranks * nodes_from(environment).number


def refuse_more(call: Call, count: int, present: int | None, what: str, words: Mapping[str, str]) -> None:
    """Raises UsageError with the line to type if there are fewer devices ``present`` than ``count``."""
    if present is not None and count > present:
        line = line_of(call, {**words, "DEVICE_NUM": str(present)})
        raise UsageError(f"{count} ranks, but {what}; type: {line}")


def device_count(target: str, environment: Mapping[str, str]) -> int | None:
    """How many devices there are, None if that cannot be told."""
    if target == "Ascend":
        folder = Path(environment.get("LAUNCH_DEVICE_FOLDER", "/dev"))
        return len(list(folder.glob("davinci[0-9]*"))) or None
    if target == "GPU" and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        return len(re.findall(r"^GPU ", listed, re.MULTILINE))
    return None


def transfer(call: Call) -> Options:
    """Training on the CPU from a checkpoint of another data set."""
    return training(call, [*call.device(), "--is_distributed", "False", "--pretrained", checkpoint_of(call)])


def evaluation(call: Call) -> Options:
    """eval.py on what the checkpoint, unless the line says it, names as its network."""
    network = ["--model", call.network] if call.network and not value_of(call.arguments, "model") else []
    names_one = not call.words["CHECKPOINT"] and any(
        value_of(call.arguments, flag) for flag in (*CHECKPOINT_FLAGS, "pth_path")
    )
    checkpoint = [] if names_one else ["--checkpoint_path", checkpoint_of(call, f"{call.network}_")]
    arguments = ["--val_data_path", call.data_path(), *checkpoint, *call.device()]
    options = call.options("eval", "eval.py", [*recipe_flags(call), *network, *arguments])
    options.about = f"{call.network or 'the network of the checkpoint'} on {call.script.target}, evaluation"
    return options


def search(call: Call) -> Options:
    arguments = [*recipe_flags(call), "--data_path", call.data_path(), *call.device()]
    options = call.options("search", "search.py", arguments, makes_run=True)
    options.about = f"the space of the supernet on {call.script.target}, search"
    return options


def search_of_newest(call: Call) -> Options:
    """A search of the newest supernet, unless another one is named."""
    options = search(call)
    if not any(word.partition("=")[0] == "--supernet" for word in call.arguments):
        options.command += ["--supernet", newest_run("spos_supernet", "--supernet RUN")]
    return options


def export(call: Call) -> Options:
    arguments = ["--checkpoint_path", checkpoint_of(call), "--file_format", call.words["FILE_FORMAT"]]
    options = call.options("export", "export.py", [*recipe_flags(call), *arguments])
    options.about = "the network of the checkpoint, export"
    return options


def recipe_flags(call: Call) -> list[str]:
    """The recipe that was typed, else the script's."""
    recipe = call.recipe or call.script.recipe
    return ["--config_path", recipe] if recipe else []


def checkpoint_of(call: Call, prefix: str = "") -> str:
    """A file or folder, in full; the originals' READMEs leave the suffix away. None typed: the newest run's."""
    path = Path(call.words["CHECKPOINT"] or newest_run(prefix, "--checkpoint_path=CHECKPOINT"))
    with_suffix = path.with_name(f"{path.name}.ckpt")
    found = with_suffix if with_suffix.is_file() and not path.exists() else path
    if not found.exists():
        raise UsageError(f"CHECKPOINT: there is no file or folder {str(path)!r}")
    return str(found.absolute())


def newest_run(prefix: str, flag: str) -> str:
    """The newest run whose name begins with ``prefix`` and that has checkpoints.

    Raises:
        UsageError: there is none; ``flag`` names another.
    """
    runs = [run for run in (ROOT / "runs").glob(f"{prefix}*/") if any((run / "checkpoints").glob("*"))]
    if not runs:
        raise UsageError(f"no run {prefix}... with checkpoints is in {ROOT / 'runs'}; add {flag}")
    return str(max(runs, key=lambda run: run.stat().st_mtime))
