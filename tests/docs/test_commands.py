"""Every command of the README and of the other pages: its program takes it, and a test runs it or it says why not.

What a line needs that is not here stands in its comment: a device, or ImageNet. All others are named in RUN_BY with
the test that runs them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import summary
from src.cpu.build import cache_folder
from src.export.options import parse as parse_export
from src.launch import jobs, scripts
from src.launch.script_table import SCRIPTS
from src.models import options_of
from src.settings.command_line import parse_arguments, split_command
from tests.docs.pages import FRONT, ROOT, blocks, command_lines, commands, pages, text_of, words_of

# README_CN.md has the README's commands (test_readme.py), docs/originals.md those of others (tests/originals).
PAGES = [page for page in pages() if page not in ("README_CN.md", "docs/originals.md")]
COMMANDS = [(page, command, around) for page in PAGES for command, around in commands(page)]
# The program, module, script or target; a test that runs it; what it says there.
RUN_BY = {
    "train.py": ("e2e/test_networks.py", "train.main("),
    "eval.py": ("e2e/test_networks.py", "evaluation.main("),
    "predict.py": ("e2e/test_prediction_program.py", "predict.main("),
    "export.py": ("export/test_files.py", "export.main("),
    "search.py": ("e2e/test_spos_tutorial.py", "search.main("),
    "summary.py": ("models/test_summary.py", "summary.main("),
    "infer_onnx.py": ("export/test_quantize.py", "infer_onnx.main("),
    "src.data.check": ("data/test_check.py", '"-m", "src.data.check"'),
    "src.data.labels": ("data/test_labels.py", "main("),
    "src.data.sample": ("data/test_sample.py", "main("),
    "src.data.split": ("data/test_split.py", "main("),
    "src.export.mindir_v1": ("e2e/test_infer_310.py", "lite_Model"),
    "src.launch.rank_tables": ("launch/test_rank_tables.py", "run(main, "),
    "src.runs.report": ("runs/test_report.py", "report.main("),
    "src.settings.generate": ("docs/test_contributing.py", '"src.settings.generate"'),
    "src.space.cost": ("space/test_cost.py", "cost.main("),
    "src.space.extent": ("space/test_cost.py", "extent.main("),
    "src.space.score": ("space/test_cost.py", "score.main("),
    "src.weights.convert": ("weights/test_convert.py", "convert.main("),
    "src.supernet.latency": ("test_durability.py", "latency.main("),
    "tests.docs.notebooks": ("docs/test_notebooks.py", "execute("),
    "tests.originals.page": ("originals/test_items.py", "== page()"),
    "modelarts.make_jobs": ("machine/test_modelarts.py", "make_jobs.main("),
    "src/launch/rank.py": ("launch/test_two_ranks.py", "mpirun"),
    "scripts/launch.sh": ("launch/test_decisions.py", '"launch.sh"'),
    "scripts/run_distribute_train_cpu.sh": ("launch/test_cpu_launch.py", '"run_distribute_train_cpu.sh"'),
    "scripts/run_search_cpu.sh": ("e2e/test_spos_tutorial.py", '"run_search_cpu.sh"'),
    "scripts/run_infer_310.sh": ("e2e/test_infer_310.py", '"run_infer_310.sh"'),
    "ascend310_infer/build.sh": ("e2e/test_infer_310.py", '"build.sh"'),
    "ascend310_infer/out/main": ("e2e/test_infer_310.py", '"out"'),
    "quickstart": ("docs/test_commands.py", "typed_from_top_to_bottom"),
    "transfer-tutorial": ("e2e/test_transfer.py", "train.main("),
    "spos-tutorial": ("e2e/test_spos_tutorial.py", "search.main("),
    ".venv/bin/activate": ("docs/test_commands.py", "typed_from_top_to_bottom"),
}
# Why no test runs the others.
NOT_RUN = {
    **dict.fromkeys(
        ("test", "test-all", "mutants", "tests.mutants", "lint", "format", "pytest"), "they run the tests and linters"
    ),
    **dict.fromkeys(
        (
            "bench",
            *(f"bench.{name}" for name in ("gradients", "latency", "pipeline", "profile", "rank_correlation", "soak")),
        ),
        "measurements of minutes; their parts are tested in tests/bench and tests/supernet",
    ),
    "-n": "bash -n on any script",
    "clone": "a copy of the tree is its result",
}


def refused(command: str) -> str:
    """Why a command is none, or ``""``."""
    variables, (program, *rest) = words_of(command.replace("…", ""))
    if program == "make":
        targets = re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE)
        return ", ".join(word for word in rest if "=" not in word and word not in targets)
    if program in ("mpirun", "sbatch"):  # -n N, -N N
        return refused(" ".join(rest[2:])) if program == "mpirun" else missing(rest[2])
    if program in ("bash", "sh"):
        return refused_script(rest, variables)
    if program == "git":
        return "" if rest == ["clone", "URL", rest[2], "&&", "cd", rest[2]] else " ".join(rest)
    if program == "source":
        return "" if rest == [".venv/bin/activate"] else rest[0]
    if program == "python":
        return refused_python(rest)
    if program == "ascend310_infer/out/main":
        return missing_flags(rest, "ascend310_infer/src/options.cc")
    return f"what is {program}?"


def missing(path: str) -> str:
    return "" if (ROOT / path).is_file() else f"there is no {path}"


def missing_flags(words: list[str], *files: str) -> str:
    text = "".join(text_of(file) for file in files)
    flags = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--help"]
    return ", ".join(flag for flag in flags if not re.search(rf"{flag}\b|\"{flag[2:]}\"", text))


def refused_script(words: list[str], variables: dict[str, str]) -> str:
    """A script's words are as many as its form has, and the flags are its program's."""
    path, *rest = words
    if path == "-n":  # a check of the syntax
        return ""
    if path not in SCRIPTS:
        return missing(path) or missing_flags(rest, path)
    call = scripts.read(SCRIPTS[path], path, rest, variables)
    program = {jobs.evaluation: "eval", jobs.search: "search"}.get(call.script.start, "train")
    if call.script.start in (jobs.on_one, jobs.on_several) and not call.network:
        return jobs.which_network(call)
    arguments = list(call.arguments)
    if "--ranks" in arguments:  # the launcher's
        at = arguments.index("--ranks")
        del arguments[at : at + 2]
    parse_arguments([*(["--config_path", call.recipe] if call.recipe else []), *arguments], program)
    return ""


def refused_python(words: list[str]) -> str:
    if words[0] == "-m":
        module, *rest = words[1:]
        if module == "pytest":
            return ", ".join(word for word in rest if "/" in word and not (ROOT / word).exists())
        path = module.replace(".", "/")
        file = f"{path}.py" if (ROOT / f"{path}.py").is_file() else f"{path}/__main__.py"
        shared = [f"bench/{other.name}" for other in (ROOT / "bench").glob("*.py")] if module[:6] == "bench." else []
        return missing(file) or missing_flags(rest, file, *shared)
    program, *rest = words
    if "--help" in rest or (gone := missing(program)):
        return missing(program)
    # A run's own configuration is not there while its page is tested.
    at = [number for number, word in enumerate(rest) if word == "--config_path" and rest[number + 1][:5] == "runs/"]
    for number in at:
        del rest[number : number + 2]
    name = program.removesuffix(".py")
    if program == "summary.py":
        arguments, options = summary.parse(rest)
        if arguments.model:
            options_of(arguments.model, options)
    elif program == "export.py":
        parse_export(rest)
    elif name in ("train", "eval", "predict", "search"):
        parse_arguments(split_command(rest, name)[2] if name == "search" else rest, name)
    else:
        return gone or missing_flags(rest, program)
    return ""


@pytest.mark.parametrize(("page", "command"), [(page, command) for page, command, _ in COMMANDS])
def test_a_command_is_taken_by_its_program(page, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(command) == ""


def needs(command: str) -> set[str]:
    """What a command needs that no test has: words that its comment must hold."""
    found = {"ImageNet"} if "/data/imagenet" in command else set()
    _, words = words_of(command)
    script = next((SCRIPTS[word] for word in words if word in SCRIPTS), None)
    if script and script.target != "CPU":
        found |= {script.target}
    if words[0] == "sbatch":
        found |= {"Slurm"}
    return found


@pytest.mark.parametrize(("page", "command", "around"), COMMANDS)
def test_a_command_that_cannot_be_run_here_says_what_it_needs(page, command, around):
    assert [word for word in needs(command) if word not in around] == []


def name_of(command: str) -> str:
    """The program, module, script or make target of a command."""
    _, words = words_of(command)
    if len(words) == 1 or words[0].startswith("ascend310_infer"):
        return words[0]
    words = words[3:] if words[0] == "mpirun" else words
    return words[2] if words[:2] == ["python", "-m"] else words[1].rstrip("…")


def test_every_other_command_is_run_by_a_test():
    here = {name_of(command) for _, command, _ in COMMANDS if not needs(command)}
    assert here == {*RUN_BY, *NOT_RUN}
    for name, (file, evidence) in RUN_BY.items():
        assert evidence in text_of(f"tests/{file}"), name


def test_each_of_the_five_systems_is_one_command_away():
    """What make would run trains that network on the digits and evaluates that run."""
    typed = [re.fullmatch(r"make quickstart NETWORK=(\w+)", command) for command, _ in commands(FRONT)]
    offered = [match[1] for match in typed if match]
    assert offered == ["spnasnet", "proxylessnas_mobile", "shufflenetv1", "mnasnet", "spos_oneshot"]
    for network in [*offered, ""]:
        made = ["make", "-n", "quickstart", *([f"NETWORK={network}"] if network else [])]
        lines = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        train, evaluate = (words_of(line)[1][2:] for line in lines if re.match(r"\S+ (train|eval)\.py", line))
        config = parse_arguments(train, "train")
        assert (config.model, config.image_size) == (network or "shufflenetv1", 32)
        assert parse_arguments(evaluate, "eval").checkpoint_path == config.run_dir


@pytest.mark.slow
def test_the_readme_typed_from_top_to_bottom_works(tmp_path):
    """In a fresh copy, with recipes of one epoch. Nothing else is shortened; what needs a device is left out."""
    for name in ("src", "scripts", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [*ROOT.glob("*.py"), *ROOT.glob("*.txt"), ROOT / "Makefile", ROOT / "default_config.yaml"]:
        shutil.copy(file, tmp_path)
    for recipe in (tmp_path / "configs").glob("*.yaml"):
        short = re.sub(r"(?m)^epochs: .*", "epochs: 1", recipe.read_text())
        short = re.sub(r"(?m)^(search_population|search_retain): .*", r"\1: 2", short)
        recipe.write_text(re.sub(r"(?m)^(search_generations|channel_start_epoch): .*", r"\1: 1", short))
    # An environment that is ready: make asks for nothing that it would have to fetch.
    commands_of_environment = tmp_path / ".venv" / "bin"
    commands_of_environment.mkdir(parents=True)
    (commands_of_environment / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (commands_of_environment / "python").chmod(0o755)
    (commands_of_environment / "msrun").symlink_to(Path(sys.executable).parent / "msrun")
    (commands_of_environment / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    (tmp_path / ".venv" / ".ready").touch()

    typed = [line for block in blocks(text_of(FRONT)) if block.language == "bash" for line in command_lines(block.text)]
    script = [command for command, _ in typed if not needs(command) and name_of(command) not in NOT_RUN]
    assert len(script) >= 14
    environment = {**os.environ, "NAS_CPU_CACHE": str(cache_folder())}
    done = subprocess.run(
        ["bash", "-e"], input="\n".join(script), cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "runs" / "digits" / "curves.png").is_file()
    assert {"digits.mindir", "digits.onnx", "small_int8.onnx", "digits.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert (tmp_path / "runs" / "search" / "best.yaml").is_file()
    assert "360 of 360 images" in done.stdout and "all 2 ranks hold the same weights" in done.stdout
