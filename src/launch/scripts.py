"""What the scripts of scripts/ start: each is launch.sh, and that is this program, told the name it was called by.

    sh scripts/launch.sh                 lists the scripts
    bash scripts/NAME WORD ...           the words of its form, then a recipe by name or file, then any --key value

``NETWORK`` in the environment chooses another network than the script's.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":  # by its path, from any folder
    sys.path[0] = str(ROOT)

from src.errors import EXIT_USAGE, UsageError, nearest, run  # noqa: E402
from src.launch.launcher import Options, launch, nodes_from, ranks_of_table, with_arguments  # noqa: E402
from src.launch.recipes import rate_flags, recipe_for  # noqa: E402

DEFAULT_NETWORK = "spnasnet"
COUNTS = ("DEVICE_NUM", "RANK_NUM", "RANK_SIZE")  # the originals' words for the number of ranks
LARGEST_COUNT = 999_999


@dataclass(frozen=True)
class Script:
    """What a script starts, and what need not be typed.

    Attributes:
        start: makes the launch.
        target: Ascend, GPU or CPU.
        form: the words it takes, in their order; ``--flag=WORD`` if it takes flags only.
        network: what it is about; ``""``: :data:`DEFAULT_NETWORK`.
        given: words that are not typed, or need not be.
        recipe: in place of the one for the network and the number of devices.
        flags: of the program, before the user's own.
        also: what the script is if the words are not of its form; two originals have scripts of one name.
    """

    start: Callable[[Call], Options]
    target: str
    form: str
    network: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    flags: tuple[str, ...] = ()
    also: Script | None = None

    def usage(self) -> str:
        """Its form as a reader is shown it."""
        words = [word if word.startswith("--") else f"[{word}]" for word in self.form.split()]
        return " ".join(words).replace("RANK_TABLE_FILE", "RANK_TABLE_FILE|msrun")


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
    def named_network(self) -> str:
        """The network that the environment or the script names, or ``""``."""
        return self.environment.get("NETWORK") or self.script.network

    @property
    def network(self) -> str:
        return self.named_network or DEFAULT_NETWORK

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
            raise UsageError(f"DATA_PATH: there is no folder {str(folder)!r}")
        return str(folder.absolute())

    def checkpoint(self) -> str:
        """A file or folder, in full; the originals' READMEs leave the suffix away."""
        path = Path(self.words["CHECKPOINT"] or newest_run(f"{self.network}_", "--checkpoint_path=CHECKPOINT"))
        with_suffix = path.with_name(f"{path.name}.ckpt")
        found = with_suffix if with_suffix.is_file() and not path.exists() else path
        if not found.exists():
            raise UsageError(f"CHECKPOINT: there is no file or folder {str(path)!r}")
        return str(found.absolute())

    def device(self) -> list[str]:
        """The flags of one device."""
        flags = ["--device_target", self.script.target]
        return flags if self.script.target == "CPU" else [*flags, "--device_id", str(self.number("DEVICE_ID"))]

    def recipe_flags(self) -> list[str]:
        """The recipe that was typed, else the script's."""
        recipe = self.recipe or self.script.recipe
        return ["--config_path", recipe] if recipe else []

    def line_of(self, script: str, changes: Mapping[str, str]) -> str:
        """The line that does the same by one of our own scripts, some words changed."""
        words = {**self.words, **changes}
        line = ["bash", str(ROOT / "scripts" / script), *(words[name] for name in OURS[script].form.split())]
        line += [*([self.recipe] if self.recipe else []), *self.script.flags, *self.arguments]
        network = f"NETWORK={shlex.quote(self.named_network)} " if self.named_network else ""
        return network + shlex.join(line)

    def options(self, name: str, program: str, arguments: Sequence[str], **started: Any) -> Options:
        """The launch of ``program`` with the script's own ``arguments``; ``name`` begins its folder's."""
        options = Options(name=name, target=self.script.target, typed=self.typed, **started)
        return with_arguments(options, str(ROOT / program), [*arguments, *self.script.flags, *self.arguments])


# -- what is started --------------------------------------------------------------------------------


def on_several(call: Call) -> Options:
    """Training on the devices of this machine, which NODE_NUM can make one of several."""
    target, count = call.script.target, call.count()
    words = {"DEVICE_NUM": str(count)}
    launcher, variables = "msrun", {}
    if target == "GPU":
        launcher, first = "mpirun", ",".join(map(str, range(count)))
        visible = call.words.get("CUDA_VISIBLE_DEVICES") or call.environment.get("CUDA_VISIBLE_DEVICES") or first
        if not re.fullmatch(r"\d+(,\d+)*", visible):
            raise UsageError(f"CUDA_VISIBLE_DEVICES must be a list such as 0,1,2,3, not {visible!r}")
        words |= {"CUDA_VISIBLE_DEVICES": visible}
        variables = {"CUDA_VISIBLE_DEVICES": visible}
        number = visible.count(",") + 1
        refuse_more(call, count, number, f"CUDA_VISIBLE_DEVICES names {number}", words)
    elif target == "Ascend":
        words |= {
            "RANK_TABLE_FILE": call.words.get("RANK_TABLE_FILE") or call.environment.get("RANK_TABLE_FILE", "msrun")
        }
    present = device_count(target, call.environment)
    refuse_more(call, count, present, f"there are {present} {target} devices here", words)
    table = words.get("RANK_TABLE_FILE", "msrun")
    if table != "msrun":
        launcher = "rank_table"
        if not Path(table).is_file():
            raise UsageError(
                f"there is no rank table {table!r}; write one with `python -m src.launch.rank_tables`, or do without: "
                + call.line_of("run_distribute_train_ascend.sh", {**words, "RANK_TABLE_FILE": "msrun"})
            )
    device = ["--device_target", target, "--is_distributed", "True"]
    started = {"ranks": count, "launcher": launcher, "variables": variables}
    return training(call, device, **started, rank_table="" if table == "msrun" else str(Path(table).absolute()))


def on_one(call: Call) -> Options:
    """Training on one device."""
    return training(call, [*call.device(), "--is_distributed", "False"])


def training(call: Call, arguments: list[str], ranks: int = 1, **started: Any) -> Options:
    """train.py by the recipe that was typed, else the script's, else the one published for so many ranks."""
    recipe = call.recipe or call.script.recipe.format(network=call.network)
    recipe = recipe or recipe_for(call.network, call.script.target.lower(), ranks)
    arguments = ["--config_path", recipe, "--data_path", call.data_path(), *arguments]
    options = call.options(Path(recipe).name, "train.py", arguments, makes_run=True, ranks=ranks, **started)
    options.command[1:1] = rate_flags(recipe, all_ranks(options, call.environment), call.arguments)
    return options


def all_ranks(options: Options, environment: Mapping[str, str]) -> int:
    """Ranks of the whole job, on all its machines."""
    if options.launcher == "rank_table":
        return ranks_of_table(Path(options.rank_table), 0)[1]
    return options.ranks if options.launcher == "none" else options.ranks * nodes_from(environment).number


def refuse_more(call: Call, count: int, present: int | None, what: str, words: Mapping[str, str]) -> None:
    """Raises UsageError with the line to type if there are fewer devices ``present`` than ``count``."""
    if present is not None and count > present:
        script = f"run_distribute_train_{call.script.target.lower()}.sh"
        line = call.line_of(script, {**words, "DEVICE_NUM": str(present)})
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
    folder = call.words["DATA_PATH"]
    if not (Path(call.data_path()) / "train").is_dir():
        split = shlex.join(["python", "-m", "src.data.split", folder, f"{folder.rstrip('/')}_split"])
        raise UsageError(f"{folder!r} has no train/ and val/; make a folder that has: {split}")
    return training(call, [*call.device(), "--is_distributed", "False", "--pretrained", call.checkpoint()])


def evaluation(call: Call) -> Options:
    network = ["--model", call.named_network] if call.named_network else []
    arguments = ["--val_data_path", call.data_path(), "--checkpoint_path", call.checkpoint(), *call.device()]
    return call.options("eval", "eval.py", [*call.recipe_flags(), *network, *arguments])


def search(call: Call) -> Options:
    arguments = [*call.recipe_flags(), "--data_path", call.data_path(), *call.device()]
    return call.options("search", "search.py", arguments, makes_run=True)


def search_of_newest(call: Call) -> Options:
    """A search of the newest supernet, unless another one is named."""
    options = search(call)
    if not any(word.partition("=")[0] == "--supernet" for word in call.arguments):
        options.command += ["--supernet", newest_run("spos_supernet", "--supernet RUN")]
    return options


def export(call: Call) -> Options:
    arguments = ["--checkpoint_path", call.checkpoint(), "--file_format", call.words["FILE_FORMAT"]]
    return call.options("export", "export.py", [*call.recipe_flags(), *arguments])


def newest_run(prefix: str, flag: str) -> str:
    """The newest run whose name begins with ``prefix`` and that has checkpoints.

    Raises:
        UsageError: there is none; ``flag`` names another.
    """
    runs = [run for run in (ROOT / "runs").glob(f"{prefix}*/") if any((run / "checkpoints").glob("*"))]
    if not runs:
        raise UsageError(f"no run {prefix}... with checkpoints is in {ROOT / 'runs'}; add {flag}")
    return str(max(runs, key=lambda run: run.stat().st_mtime))


# -- the table --------------------------------------------------------------------------------------

TRAIN_SEVERAL = {
    "Ascend": "RANK_TABLE_FILE DEVICE_NUM DATA_PATH",
    "GPU": "CUDA_VISIBLE_DEVICES DEVICE_NUM DATA_PATH",
    "CPU": "RANK_NUM DATA_PATH",
}
DEVICE = {"Ascend": "DEVICE_ID ", "GPU": "DEVICE_ID ", "CPU": ""}
EIGHT = {"DEVICE_NUM": "8"}
PROXYLESS, SHUFFLE = "proxylessnas_mobile", "shufflenetv1"
EVAL = "DEVICE_ID DATA_PATH CHECKPOINT"
# MnasNet's take flags only, and its evaluation on eight devices in fact takes one.
MNASNET_FORM = "--data_path=DATA_PATH --device_id=DEVICE_ID --checkpoint_path=CHECKPOINT"
MNASNET_GIVEN = {"DEVICE_ID": "0", "CHECKPOINT": ""}
# SPOS's took no words and read ~/imagenet/rec; here a folder with train/ and val/.
SPOS = {"DATA_PATH": "~/imagenet", "DEVICE_ID": "0", "DEVICE_NUM": "4"}
WITH_SE = (
    *("--model_options.use_se", "true", "--model_options.last_conv_after_pooling", "true"),
    *("--channel_start_epoch", "0", "--channel_warm_up", "false"),
)
PLUS_CHANNELS = ("--model_options.layout", "ShuffleNetV2+", "--model_options.last_conv_after_pooling", "false")

# The scripts of the other originals, under their own names and with their own words.
UPSTREAM = {
    # ProxylessNAS
    "run_distribute_train_for_ascend.sh": Script(on_several, "Ascend", "RANK_TABLE_FILE DATA_PATH", PROXYLESS, EIGHT),
    "run_distribute_train_ascend.sh": Script(on_several, "Ascend", "RANK_TABLE_FILE DATA_PATH", PROXYLESS, EIGHT),
    "run_distribute_train_for_gpu.sh": Script(on_several, "GPU", "DATA_PATH", PROXYLESS, EIGHT),
    "run_standalone_train_for_ascend.sh": Script(on_one, "Ascend", "DEVICE_ID DATA_PATH", PROXYLESS),
    "run_standalone_train_for_gpu.sh": Script(on_one, "GPU", "DEVICE_ID DATA_PATH", PROXYLESS),
    "run_eval_for_ascend.sh": Script(
        evaluation,
        "Ascend",
        EVAL,
        PROXYLESS,
        also=Script(evaluation, "Ascend", "DATA_PATH CHECKPOINT", PROXYLESS, {"DEVICE_ID": "0"}),
    ),
    "run_eval_for_gpu.sh": Script(evaluation, "GPU", EVAL, PROXYLESS),
    # ShuffleNetV1
    "run_distribute_train.sh": Script(on_several, "Ascend", "RANK_TABLE_FILE DATA_PATH", SHUFFLE, EIGHT),
    "run_distribute_train_gpu.sh": Script(on_several, "GPU", "RANK_SIZE DATA_PATH", SHUFFLE),
    "run_standalone_train.sh": Script(on_one, "Ascend", "DEVICE_ID DATA_PATH", SHUFFLE),
    "run_standalone_train_gpu.sh": Script(on_one, "GPU", "DEVICE_ID DATA_PATH", SHUFFLE),
    "run_eval.sh": Script(evaluation, "Ascend", EVAL, SHUFFLE),
    "run_eval_gpu.sh": Script(evaluation, "GPU", EVAL, SHUFFLE),
    "run_transfer.sh": Script(transfer, "CPU", "DATA_PATH CHECKPOINT", SHUFFLE, recipe="{network}_transfer"),
    "run_transfer_eval.sh": Script(evaluation, "CPU", "DATA_PATH CHECKPOINT", SHUFFLE),
    # Single-Path-NAS's README has two names for one script
    "run_distributed_train_gpu.sh": Script(on_several, "GPU", TRAIN_SEVERAL["GPU"], "spnasnet"),
    # MnasNet
    "test/train_full_1p.sh": Script(on_one, "Ascend", MNASNET_FORM, "mnasnet", MNASNET_GIVEN),
    "test/train_full_8p.sh": Script(on_several, "Ascend", MNASNET_FORM, "mnasnet", EIGHT),
    "test/train_performance_1p.sh": Script(
        on_one, "Ascend", MNASNET_FORM, "mnasnet", MNASNET_GIVEN, flags=("--epochs", "6")
    ),
    "test/train_performance_8p.sh": Script(
        on_several, "Ascend", MNASNET_FORM, "mnasnet", EIGHT, flags=("--epochs", "6")
    ),
    "test/train_eval_8p.sh": Script(evaluation, "Ascend", MNASNET_FORM, "mnasnet", MNASNET_GIVEN),
    # SPOS
    "train_oneshot.sh": Script(on_several, "GPU", "DATA_PATH", "spos_oneshot", SPOS),
    "train_oneshot+.sh": Script(on_several, "GPU", "DATA_PATH", "spos_oneshot_plus", SPOS),
    "train_oneshot-s+.sh": Script(on_several, "GPU", "DATA_PATH", "spos_oneshot_s_plus", SPOS),
    "train_oneshot-s+_mobilenetv3.sh": Script(
        on_several, "GPU", "DATA_PATH", "spos_oneshot_s_plus", SPOS, flags=PLUS_CHANNELS
    ),
    "train_supernet.sh": Script(on_one, "GPU", "DATA_PATH", "spos_oneshot", SPOS, "spos_supernet"),
    "train_supernet+.sh": Script(on_one, "GPU", "DATA_PATH", "spos_oneshot", SPOS, "spos_supernet", WITH_SE),
    "train_supernet+_with_constraints.sh": Script(
        on_one, "GPU", "DATA_PATH", "spos_oneshot", SPOS, "spos_supernet", (*WITH_SE, "--path_sampler", "strolling")
    ),
    "search_supernet.sh": Script(search_of_newest, "GPU", "DATA_PATH", "spos_oneshot", SPOS, "spos_search"),
}
# Our own, which are Single-Path-NAS's: any network on any platform.
OURS = {"run_export.sh": Script(export, "CPU", "CHECKPOINT FILE_FORMAT")}
for _target, _device in DEVICE.items():
    _platform = f"{_target.lower()}.sh"
    OURS |= {
        f"run_distribute_train_{_platform}": Script(
            on_several, _target, TRAIN_SEVERAL[_target], also=UPSTREAM.get(f"run_distribute_train_{_platform}")
        ),
        f"run_standalone_train_{_platform}": Script(on_one, _target, f"{_device}DATA_PATH"),
        f"run_eval_{_platform}": Script(evaluation, _target, f"{_device}DATA_PATH CHECKPOINT"),
        f"run_search_{_platform}": Script(search, _target, f"{_device}DATA_PATH"),
    }
# By path below scripts/. compat/ has the originals' alone: four of their names mean something else beside it.
SCRIPTS = {**UPSTREAM, **OURS, **{f"compat/{name}": script for name, script in UPSTREAM.items()}}


# -- reading ----------------------------------------------------------------------------------------


def read(script: Script, called: str, words: Sequence[str], environment: Mapping[str, str]) -> Call:
    """``words`` by the form of ``script``. Prints how to use it and exits if they are not of that form."""
    typed = shlex.join(["bash", called, *words])
    values = {name: str(Path(text).expanduser()) if text[:1] == "~" else text for name, text in script.given.items()}
    names = script.form.split()
    if words and words[0] in ("-h", "--help"):
        show_usage(script, called)
    if script.form.startswith("--"):
        words_of = dict(name.split("=") for name in names)
        split = [word.partition("=") for word in words]
        values |= {words_of[flag]: text for flag, joined, text in split if joined and flag in words_of}
        rest = ["".join(parts) for parts in split if not (parts[1] and parts[0] in words_of)]
        if not values.get("DATA_PATH"):
            raise UsageError(f"which images? Type: bash {shlex.quote(called)} --data_path=DATA_PATH")
        return Call(script, typed, values, "", rest, environment)
    if script.also and not fits(script, words) and fits(script.also, words):
        print(f"note: read as {script.also.network}'s {script.also.usage()}")
        return read(script.also, called, words, environment)
    plain = list(takewhile(lambda word: not word.startswith("--"), words))
    if not sum(name not in values for name in names) <= len(plain) <= len(names) + 1:
        show_usage(script, called)
    values |= dict(zip(names, plain, strict=False))
    recipe = plain[len(names)] if len(plain) > len(names) else ""
    return Call(script, typed, values, recipe, list(words[len(plain) :]), environment)


def fits(script: Script, words: Sequence[str]) -> bool:
    """Whether numbers stand where the form has numbers, and the images' folder where it has that."""
    typed = dict(zip(script.form.split(), words, strict=False))
    numbers = all(text.isdecimal() for name, text in typed.items() if name in (*COUNTS, "DEVICE_ID"))
    return numbers and Path(typed.get("DATA_PATH", "")).is_dir()


def show_usage(script: Script, called: str) -> None:
    """Prints how a script is used, and exits."""
    print(
        f"Usage: bash {called} {script.usage()} [CONFIG_PATH] [--key value ...]\n"
        "CONFIG_PATH is a recipe of configs/ by name or a file. Any --key of default_config.yaml can follow;\n"
        "--background leaves the terminal; the variable NETWORK chooses another network than "
        f"{script.network or DEFAULT_NETWORK}.",
        file=sys.stderr,
    )
    sys.exit(EXIT_USAGE)


def main(argv: list[str]) -> None:
    if not argv:
        for name, script in sorted({**UPSTREAM, **OURS}.items()):
            print(f"{name:36} {script.usage()}")
        return
    called, *words = argv
    path = Path(called).resolve()
    name = path.relative_to(ROOT / "scripts").as_posix() if (ROOT / "scripts") in path.parents else path.name
    if name not in SCRIPTS:
        raise UsageError(f"{called} is no script of src/launch/scripts.py{nearest(name, SCRIPTS)}")
    call = read(SCRIPTS[name], called, words, os.environ)
    sys.exit(launch(call.script.start(call)))


if __name__ == "__main__":
    run(main)
