"""What each script of scripts/ asks the launcher for: read here without starting anything."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from src.errors import UsageError
from src.launch import calls, jobs, scripts
from src.launch.calls import Call
from src.launch.launcher import Options
from src.launch.script_table import SCRIPTS
from src.settings.command_line import parse_arguments
from src.settings.config import load_config
from src.settings.published import scaled
from src.settings.recipes import networks
from tests.launch.conftest import ROOT

SE = "--model_options.use_se true --model_options.last_conv_after_pooling true"
SE += " --channel_start_epoch 0 --channel_warm_up false"
CPU = "--amp_level O0 --loss_scale_mode none --lr_scaling linear --lr_scaling_base {}"
SPEED = "--epochs 6 --save_checkpoint_epochs 6 --measure_speed True"
V2 = "--model_options.layout ShuffleNetV2+ --model_options.last_conv_after_pooling false"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with images, a checkpoint, a rank table of eight and an earlier run of MnasNet."""
    for name in ("data/train", "home/imagenet", "dev", "runs/mnasnet_gpu_1p-1/checkpoints", "runs/spos_supernet-2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("net.ckpt", "table.json", "runs/mnasnet_gpu_1p-1/checkpoints/a.ckpt"):
        (tmp_path / name).touch()
    devices = [{"device_id": str(device), "rank_id": str(device)} for device in range(8)]
    (tmp_path / "table.json").write_text(f'{{"server_list": [{{"device": {devices}}}]}}'.replace("'", '"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi tells this machine's cards
    for module in (calls, jobs):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def read(line: str, **environment: str) -> Call:
    """The line, a script below scripts/ (or in test/) and its words."""
    script, *words = shlex.split(line)
    path = script if script.startswith("test/") else f"scripts/{script}"
    return scripts.read(SCRIPTS[path], path, words, {"LAUNCH_DEVICE_FOLDER": "dev", **environment})


def asked(line: str, **environment: str) -> Options:
    """What the line asks for."""
    call = read(line, **environment)
    return call.script.start(call)


def flags_of(options: Options) -> dict[str, str]:
    """Flag to value, of a command in which each stands once."""
    words = options.command[1:]
    flags = dict(zip(words[::2], words[1::2], strict=True))
    assert len(flags) * 2 == len(words) and all(flag.startswith("--") for flag in flags)
    return {flag[2:]: value for flag, value in flags.items()}


def given(line: str) -> dict[str, str]:
    words = line.split()
    return {flag[2:]: value for flag, value in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.parametrize(
    ("line", "target", "count", "launcher", "recipe", "more"),
    [
        ("run_distribute_train_ascend.sh table.json 8 data", "Ascend", 8, "rank_table", "spnasnet_ascend_8p", ""),
        ("run_distribute_train_ascend.sh msrun 8 data", "Ascend", 8, "msrun", "spnasnet_ascend_8p", ""),
        ("run_distribute_train_gpu.sh 7,6,5,4,3,2,1,0 8 data", "GPU", 8, "mpirun", "spnasnet_gpu_8p", ""),
        ("run_distribute_train_cpu.sh 2 data --model spnasnet", "CPU", 2, "msrun", "spnasnet_gpu_8p", CPU.format(1024)),
        ("run_standalone_train_ascend.sh 3 data", "Ascend", 1, "none", "spnasnet_ascend_1p", "--device_id 3"),
        ("spnasnet/run_standalone_train_gpu.sh 3 data", "GPU", 1, "none", "spnasnet_gpu_1p", "--device_id 3"),
        ("run_standalone_train_cpu.sh data mnasnet_cpu --epochs 2", "CPU", 1, "none", "mnasnet_cpu", "--epochs 2"),
        ("run_standalone_train_gpu.sh 3 data mnasnet_gpu_1p", "GPU", 1, "none", "mnasnet_gpu_1p", "--device_id 3"),
        # the names that several originals share, by the words of one
        ("run_distribute_train_ascend.sh msrun data", "Ascend", 8, "msrun", "proxylessnas_mobile_ascend_8p", ""),
        ("run_distribute_train_gpu.sh 8 data", "GPU", 8, "mpirun", "shufflenetv1_gpu_8p", ""),
        ("shufflenetv1/run_standalone_train_gpu.sh 0 data", "GPU", 1, "none", "shufflenetv1_gpu_1p", "--device_id 0"),
        ("shufflenetv1/run_distribute_train_gpu.sh 8 data", "GPU", 8, "mpirun", "shufflenetv1_gpu_8p", ""),
        # Single-Path-NAS
        ("run_distributed_train_gpu.sh 0,1,2,3,4,5,6,7 8 data", "GPU", 8, "mpirun", "spnasnet_gpu_8p", ""),
        # ProxylessNAS
        (
            "run_distribute_train_for_ascend.sh table.json data",
            "Ascend",
            8,
            "rank_table",
            "proxylessnas_mobile_ascend_8p",
            "",
        ),
        ("run_distribute_train_for_gpu.sh data", "GPU", 8, "mpirun", "proxylessnas_mobile_gpu_8p", ""),
        (
            "run_standalone_train_for_ascend.sh 1 data",
            "Ascend",
            1,
            "none",
            "proxylessnas_mobile_ascend_1p",
            "--device_id 1",
        ),
        ("run_standalone_train_for_gpu.sh 1 data", "GPU", 1, "none", "proxylessnas_mobile_gpu_1p", "--device_id 1"),
        # ShuffleNetV1
        ("run_distribute_train.sh table.json data", "Ascend", 8, "rank_table", "shufflenetv1_ascend_8p", ""),
        ("run_standalone_train.sh 2 data", "Ascend", 1, "none", "shufflenetv1_ascend_1p", "--device_id 2"),
        ("run_transfer.sh data net", "CPU", 1, "none", "shufflenetv1_transfer", "--pretrained {place}/net.ckpt"),
        # MnasNet
        ("test/train_full_1p.sh --data_path=data", "Ascend", 1, "none", "mnasnet_ascend_1p", "--device_id 0"),
        ("test/train_full_8p.sh --data_path=data --epochs 3", "Ascend", 8, "msrun", "mnasnet_ascend_8p", "--epochs 3"),
        (
            "test/train_performance_1p.sh --data_path=data --device_id=2",
            "Ascend",
            1,
            "none",
            "mnasnet_ascend_1p",
            f"{SPEED} --device_id 2",
        ),
        ("test/train_performance_8p.sh --data_path=data", "Ascend", 8, "msrun", "mnasnet_ascend_8p", SPEED),
        # SPOS
        ("train_oneshot.sh data", "GPU", 4, "mpirun", "spos_oneshot_gpu_4p", ""),
        ("train_oneshot+.sh data", "GPU", 4, "mpirun", "spos_oneshot_plus_gpu_4p", ""),
        ("train_oneshot-s+.sh data", "GPU", 4, "mpirun", "spos_oneshot_s_plus_gpu_4p", ""),
        ("train_oneshot-s+_mobilenetv3.sh data", "GPU", 4, "mpirun", "spos_oneshot_s_plus_gpu_4p", V2),
        ("train_supernet.sh data", "GPU", 4, "mpirun", "spos_supernet_plus_gpu_4p", ""),
        ("train_supernet+.sh data", "GPU", 1, "none", "spos_supernet", f"--device_id 0 {SE}"),
        (
            "train_supernet+_with_constraints.sh data",
            "GPU",
            1,
            "none",
            "spos_supernet",
            f"--device_id 0 {SE} --path_sampler strolling",
        ),
    ],
)
def test_training(place, line, target, count, launcher, recipe, more):
    options = asked(line)
    assert (options.target, options.ranks, options.launcher, options.name) == (target, count, launcher, recipe)
    assert options.makes_run and options.command[0] == str(place / "train.py")
    assert options.rank_table == (str(place / "table.json") if launcher == "rank_table" else "")
    if target == "GPU" and count > 1:
        visible = shlex.split(line)[1] if "," in line else ",".join(map(str, range(count)))
        assert options.variables == {"CUDA_VISIBLE_DEVICES": visible}
    distributed = str(count > 1)
    more += " --model spnasnet" if "--model spnasnet" in line else ""
    expected = {"config_path": recipe, "data_path": str(place / "data"), "device_target": target}
    assert flags_of(options) == {**expected, "is_distributed": distributed, **given(more.format(place=place))}
    config = parse_arguments(options.command[1:], "train")
    assert config.train_supernet == recipe.startswith("spos_supernet")
    assert (config.lr_scaling != "none") == ("--lr_scaling" in more)
    assert options.about == f"{config.model} on {count} {target}, recipe {recipe}"


@pytest.mark.parametrize(
    ("line", "target", "model", "device"),
    [
        ("run_eval_ascend.sh 1 data net", "Ascend", "", "1"),
        ("run_eval_gpu.sh 1 data net", "GPU", "", "1"),
        ("run_eval_cpu.sh data net", "CPU", "", ""),
        ("run_eval_for_ascend.sh 1 data net", "Ascend", "proxylessnas_mobile", "1"),
        ("run_eval_for_ascend.sh data net", "Ascend", "proxylessnas_mobile", "0"),
        ("run_eval_for_gpu.sh 1 data net", "GPU", "proxylessnas_mobile", "1"),
        ("run_eval.sh 1 data net", "Ascend", "shufflenetv1", "1"),
        ("shufflenetv1/run_eval_gpu.sh 1 data net", "GPU", "shufflenetv1", "1"),
        ("spnasnet/run_eval_gpu.sh 1 data net", "GPU", "spnasnet", "1"),
        ("run_eval_gpu.sh 1 data net --model mnasnet", "GPU", "mnasnet", "1"),
        ("run_eval_for_ascend 1 data net", "Ascend", "proxylessnas_mobile", "1"),
        ("run_transfer_eval.sh data net", "CPU", "shufflenetv1", ""),
        ("test/train_eval_8p.sh --data_path=data --checkpoint_path=net --device_id=4", "Ascend", "mnasnet", "4"),
        ("test/train_eval_8p.sh --data_path=data", "Ascend", "mnasnet", "0"),
    ],
)
def test_evaluation(place, line, target, model, device):
    options = asked(line)
    assert options.command[0] == str(place / "eval.py") and not options.makes_run and options.ranks == 1
    checkpoint = place / ("net.ckpt" if "net" in line.split("data")[-1] else "runs/mnasnet_gpu_1p-1")
    expected = {"val_data_path": str(place / "data"), "checkpoint_path": str(checkpoint), "device_target": target}
    expected |= {"model": model} if model else {}
    assert flags_of(options) == {**expected, **({"device_id": device} if device else {})}
    again = asked(f"{line} --batch_size 3", NETWORK=model or "mnasnet")
    assert flags_of(again) == {**flags_of(options), "model": model or "mnasnet", "batch_size": "3"}
    assert options.about == f"{model or 'the network of the checkpoint'} on {target}, evaluation"


def test_search_and_export(place):
    for target, device in (("Ascend", "2 "), ("GPU", "2 "), ("CPU", "")):
        options = asked(f"run_search_{target.lower()}.sh {device}data spos_search --search_top 3")
        assert options.command[0] == str(place / "search.py") and options.makes_run
        expected = {"config_path": "spos_search", "data_path": str(place / "data"), "device_target": target}
        assert flags_of(options) == {**expected, "search_top": "3", **({"device_id": "2"} if device else {})}
    options = asked("run_export.sh net.ckpt MINDIR --batch_size 1")
    assert options.command[0] == str(place / "export.py") and not options.makes_run
    assert flags_of(options) == {"checkpoint_path": str(place / "net.ckpt"), "file_format": "MINDIR", "batch_size": "1"}


def test_the_search_by_the_originals_name_takes_the_newest_supernet(place):
    with pytest.raises(UsageError, match=r"no run spos_supernet\.\.\. with checkpoints.*--supernet RUN"):
        asked("search_supernet.sh data")
    for age, name in enumerate(["spos_supernet-9", "spos_supernet-1", "spos_supernet_digits-2"]):
        (place / "runs" / name / "checkpoints").mkdir(parents=True)
        (place / "runs" / name / "checkpoints" / "a.ckpt").touch()
        os.utime(place / "runs" / name, (age, age))
    os.utime(place / "runs" / "spos_supernet_digits-2", (0, 0))
    flags = flags_of(asked("search_supernet.sh data"))
    assert flags == {
        "config_path": "spos_search",
        "data_path": str(place / "data"),
        "device_target": "GPU",
        "device_id": "0",
        "supernet": str(place / "runs" / "spos_supernet-1"),
    }
    assert flags_of(asked("search_supernet.sh data --supernet mine")) == {**flags, "supernet": "mine"}
    assert flags_of(asked("search_supernet.sh --search_top 3")) == {
        **flags,
        "data_path": str(place / "home" / "imagenet"),
        "search_top": "3",
    }


def test_the_line_or_the_environment_chooses_network_cards_and_table(place):
    for words, environment in (("--model mnasnet", {}), ("--model=mnasnet", {}), ("", {"NETWORK": "mnasnet"})):
        assert asked(f"run_standalone_train_gpu.sh 0 data {words}", **environment).name == "mnasnet_gpu_1p"
        # The words of ShuffleNetV1, for another network, and those of two originals' scripts.
        options = asked(f"run_distribute_train_gpu.sh 8 data {words}", **environment)
        assert (options.ranks, options.name) == (8, "mnasnet_gpu_8p")
        options = asked(f"run_distribute_train_ascend.sh table.json 8 data {words}", **environment)
        assert (options.launcher, options.name) == ("rank_table", "mnasnet_ascend_8p")
    options = asked("run_standalone_train_cpu.sh data digits", NETWORK="mnasnet")
    assert options.command[1:5] == ["--config_path", "digits", "--model", "mnasnet"]
    assert asked("run_standalone_train_gpu.sh 0 data", NETWORK="spos_oneshot").name == "spos_oneshot_gpu_4p"
    options = asked("train_oneshot.sh data", CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert options.variables == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    options = asked("test/train_full_8p.sh --data_path=data", RANK_TABLE_FILE="table.json")
    assert (options.launcher, options.rank_table) == ("rank_table", str(place / "table.json"))


SHARED = [
    "run_standalone_train_gpu.sh 0 data",
    "run_standalone_train_gpu.sh 0 data digits --epochs 3",
]


@pytest.mark.parametrize("line", SHARED)
def test_a_name_that_originals_share_asks_which_of_them_is_meant(line):
    with pytest.raises(UsageError) as caught:
        asked(line)
    theirs = [f"bash scripts/{network}/{line}" for network in ("spnasnet", "shufflenetv1")]
    ours = f"bash scripts/{line} --model NAME, where NAME is {', '.join(networks())}"
    assert str(caught.value) == f"which network? Type: {' or '.join([*theirs, ours])}"
    for command in theirs:
        assert read(command.removeprefix("bash scripts/")).network == command.split("/")[1]


@pytest.mark.parametrize("line", ["run_standalone_train_cpu.sh data", "run_distribute_train_cpu.sh 2 data"])
def test_a_name_of_ours_asks_for_the_network(line):
    with pytest.raises(UsageError) as caught:
        asked(line)
    assert str(caught.value).startswith(
        f"which network? Type: bash scripts/{line} --model NAME, where NAME is mnasnet,"
    )


def test_no_script_of_an_original_trains_another_network():
    """Whatever names one: a flag, the environment, a recipe."""
    theirs = [script for script in SCRIPTS.values() if script.network]
    assert len(theirs) > 50
    for script in theirs:
        words = {"DATA_PATH": "data", "CHECKPOINT": "net", "RANK_TABLE_FILE": "table.json", "DEVICE_ID": "0"}
        words |= {"DEVICE_NUM": "8", "RANK_SIZE": "8", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
        other = "mnasnet" if script.network != "mnasnet" else "spnasnet"
        typed = shlex.split(script.line(words))[2:]
        assert scripts.read(script, script.path, typed, {}).network == script.network
        plain = [] if script.form.startswith("--") else [([*typed, f"{other}_gpu_1p"], {})]
        for line, environment in ([*typed, "--model", other], {}), (typed, {"NETWORK": other}), *plain:
            with pytest.raises(UsageError) as caught:
                scripts.read(script, script.path, line, environment)
            said, _, command = str(caught.value).partition("; type: bash ")
            assert said == f"{script.path} is of {script.network}, and {other} is named"
            path, *rest = shlex.split(command)
            assert scripts.read(SCRIPTS[path], path, rest, {}).network == other


def test_two_networks_are_one_too_many():
    with pytest.raises(UsageError, match="--model tiny and the recipe mnasnet_gpu_1p name different networks"):
        asked("run_standalone_train_gpu.sh 0 data mnasnet_gpu_1p --model tiny")
    with pytest.raises(UsageError, match="NETWORK=spnasnet and --model mnasnet name different"):
        asked("run_standalone_train_gpu.sh 0 data --model mnasnet", NETWORK="spnasnet")
    assert asked("run_standalone_train_cpu.sh data mnasnet_cpu", NETWORK="mnasnet").name == "mnasnet_cpu"


@pytest.mark.parametrize(
    ("line", "whose", "theirs", "own"),
    [
        (
            "run_distribute_train_for_gpu.sh 8 data",
            "8 data are the words of shufflenetv1's",
            "shufflenetv1/run_distribute_train_gpu.sh 8 data",
            "proxylessnas_mobile: bash scripts/run_distribute_train_for_gpu.sh data",
        ),
        (
            "run_distribute_train.sh table.json 8 data",
            "table.json 8 data are the words of spnasnet's",
            "spnasnet/run_distribute_train_ascend.sh table.json 8 data",
            "shufflenetv1: bash scripts/run_distribute_train.sh table.json data",
        ),
        (
            "test/train_full_1p.sh 0 data",
            "0 data are the words of spnasnet's",
            "spnasnet/run_standalone_train_ascend.sh 0 data",
            "mnasnet: bash test/train_full_1p.sh --data_path=data --device_id=0",
        ),
        (
            "run_standalone_train.sh --data_path=data",
            "--data_path=data are the words of mnasnet's",
            "mnasnet/test/train_full_1p.sh --data_path=data --device_id=0",
            "shufflenetv1: bash scripts/run_standalone_train.sh DEVICE_ID data",
        ),
    ],
)
def test_the_words_of_another_originals_script_are_told_whose_they_are(line, whose, theirs, own):
    with pytest.raises(UsageError) as caught:
        asked(line)
    assert str(caught.value) == f"{whose} script; type: bash scripts/{theirs}, or for {own}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run_distribute_train_cpu.sh two data", "RANK_NUM must be a whole number, not 'two'"),
        ("run_distribute_train_cpu.sh 0 data", "RANK_NUM must be at least 1"),
        ("run_distribute_train_gpu.sh 0,1 two data", "DEVICE_NUM must be a whole number, not 'two'"),
        ("run_standalone_train_ascend.sh 01 data", "DEVICE_ID must be a whole number, not '01'"),
        (
            "run_distribute_train_cpu.sh 2 nowhere",
            "there is no folder 'nowhere'; type: bash scripts/run_distribute_train_cpu.sh 2 DATA_PATH",
        ),
        ("run_distribute_train_gpu.sh '0;1' 2 data", "CUDA_VISIBLE_DEVICES must be a list"),
        ("run_eval_cpu.sh data none.ckpt", "there is no file or folder 'none.ckpt'"),
        ("run_eval_for_ascend.sh 7 nowhere net", "DATA_PATH: there is no folder 'nowhere'"),
        (
            "run_distribute_train_ascend.sh none.json 2 data --model mnasnet",
            "do without: bash scripts/run_distribute_train_ascend.sh msrun 2 data --model mnasnet",
        ),
        (
            "run_distribute_train_gpu.sh 0,1 4 data digits --lr 1",
            "CUDA_VISIBLE_DEVICES names 2; type: bash scripts/run_distribute_train_gpu.sh 0,1 2 data digits --lr 1"
            " --model spnasnet",
        ),
        (
            "train_oneshot-s+_mobilenetv3.sh",
            "there are 3 GPU devices here; type: bash scripts/run_distribute_train_gpu.sh 0,1,2,3 3"
            f" {{place}}/home/imagenet {V2} --model spos_oneshot_s_plus",
        ),
        (
            "train_supernet.sh data",
            "type: bash scripts/run_distribute_train_gpu.sh 0,1,2,3 3 data spos_supernet_plus_gpu_4p",
        ),
        (
            "run_distribute_train.sh msrun data",
            "there are 2 Ascend devices here; type: bash scripts/run_distribute_train_ascend.sh msrun 2 data"
            " --model shufflenetv1",
        ),
        (
            "run_distribute_train_ascend.sh table.json 2 data",
            "2 ranks, but table.json names 8 cards of this machine; type: bash"
            " scripts/run_distribute_train_ascend.sh table.json 8 data --model spnasnet",
        ),
        ("run_standalone_train_cpu.sh data missing_8p", "there is no configuration 'missing_8p'"),
        ("run_standalone_train_cpu.sh data --model unheard_of", "there is no recipe of unheard_of; give one"),
        # too few words, and too many
        (
            "test/train_full_1p.sh",
            "DATA_PATH must be given; type: bash test/train_full_1p.sh --data_path=DATA_PATH",
        ),
        (
            "run_standalone_train_gpu.sh 0",
            "DATA_PATH must be given; type: bash scripts/run_standalone_train_gpu.sh 0 DATA_PATH",
        ),
        (
            "run_standalone_train_gpu.sh data",
            "DEVICE_ID must be given; type: bash scripts/run_standalone_train_gpu.sh DEVICE_ID data",
        ),
        ("run_distribute_train_gpu.sh", "CUDA_VISIBLE_DEVICES and DEVICE_NUM and DATA_PATH must be given"),
        ("run_distribute_train_cpu.sh 2 --lr data", "type: bash scripts/run_distribute_train_cpu.sh 2 DATA_PATH"),
        (
            "run_eval_ascend.sh 0 data",
            "CHECKPOINT must be given; type: bash scripts/run_eval_ascend.sh 0 data CHECKPOINT",
        ),
        (
            "run_distribute_train_cpu.sh 2 data digits surplus",
            "2 data digits surplus are too many words; type: bash scripts/run_distribute_train_cpu.sh 2 data",
        ),
    ],
)
def test_wrong_words_are_told_what_is_right(place, line, said):
    for name in ("davinci0", "davinci1", "davinci_manager"):
        if "table.json" not in line:
            (place / "dev" / name).touch()
    smi = place / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf 'GPU 0: x\\nGPU 1: x\\nGPU 2: x\\n'\n")
    smi.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        asked(line)
    assert said.format(place=place) in str(caught.value)


def test_the_help_shows_the_form_and_whose_it_is(capsys, monkeypatch):
    monkeypatch.setattr(scripts, "ROOT", ROOT)
    said = {
        "run_distribute_train_gpu.sh": ("[CUDA_VISIBLE_DEVICES] [DEVICE_NUM] [DATA_PATH]", "--model NAME"),
        "spos/train_oneshot.sh": ("[DATA_PATH]", "It is of spos_oneshot."),
        "run_distribute_train.sh": ("[RANK_TABLE_FILE|msrun] [DATA_PATH]", "It is of shufflenetv1."),
    }
    for script, (form, whose) in said.items():
        scripts.main([f"{ROOT}/scripts/{script}", "--help"])
        shown = capsys.readouterr().out
        assert shown.startswith(f"Usage: bash {ROOT}/scripts/{script} {form} [CONFIG_PATH] [--key value ...]\n")
        assert whose in shown


def test_a_number_is_a_number_beside_a_folder_of_that_name(place):
    (place / "2").mkdir()
    options = asked("run_distribute_train_ascend.sh msrun 2 data --lr 1")
    assert (options.ranks, options.name, flags_of(options)["data_path"]) == (
        2,
        "spnasnet_ascend_8p",
        str(place / "data"),
    )
    options = asked("run_eval_for_ascend.sh 2 net")
    assert (flags_of(options)["device_id"], flags_of(options)["val_data_path"]) == ("0", str(place / "2"))


def test_what_is_ours_among_the_flags_does_not_reach_the_program():
    options = asked("run_eval_cpu.sh data net --ranks 3 --background --launcher=mpirun --json r.json")
    assert (options.ranks, options.background, options.launcher) == (3, True, "mpirun")
    assert options.command[-2:] == ["--json", "r.json"] and "--ranks" not in options.command


@pytest.mark.parametrize(
    ("line", "environment", "ranks"),
    [
        ("run_distribute_train_ascend.sh msrun 2 data", {}, 2),
        ("run_distribute_train_ascend.sh msrun 2 data", {"NODE_NUM": "3", "MASTER_ADDR": "a"}, 6),
        ("run_distribute_train_ascend.sh two.json 8 data", {}, 16),  # all servers of the table
        ("run_standalone_train_gpu.sh 0 data spnasnet_gpu_8p", {"NODE_NUM": "3", "MASTER_ADDR": "a"}, 1),
        ("run_standalone_train_gpu.sh 0 data spnasnet_gpu_1p --ranks 4", {}, 4),
        ("shufflenetv1/run_distribute_train_gpu.sh 2 data", {}, 2),
    ],
)
def test_a_launch_counts_the_ranks_of_the_whole_job(place, line, environment, ranks):
    def servers(start: int) -> dict:
        return {"device": [{"device_id": str(device), "rank_id": str(start + device)} for device in range(8)]}

    (place / "two.json").write_text(str({"server_list": [servers(0), servers(8)]}).replace("'", '"'))
    options = asked(f"{line} --lr_scaling_base 7", **environment)
    assert options.about.split(" on ")[1].split()[0] == str(ranks)
    config = parse_arguments(options.command[1:], "train")
    assert (config.lr_scaling, config.lr_scaling_base) == ("linear", 7)  # what is typed wins
    assert config.lr == load_config(config.recipe).lr


def test_the_rate_that_is_typed_is_taken_at_its_word():
    for flag in ("--lr 1", "--lr=1", "--lr-scaling none", "--lr_max=1"):
        assert "--lr_scaling_base" not in asked(f"run_distribute_train_ascend.sh msrun 4 data {flag}").command
    assert scaled("spnasnet_ascend_8p", 4, ()) == {"lr_scaling": "linear", "lr_scaling_base": 1024}


def test_a_flag_without_its_value_is_not_given():
    command = asked("test/train_eval_8p.sh --data_path=data --checkpoint_path= --batch_size=").command
    assert command[command.index("--checkpoint_path") + 1].endswith("runs/mnasnet_gpu_1p-1")
    assert "--checkpoint_path=" not in command
    assert command[-1] == "--batch_size="  # not the script's to judge


def test_a_checkpoint_by_another_name_is_not_joined_by_the_newest_runs():
    command = asked("test/train_eval_8p.sh --data_path=data --ckpt_path=net").command
    assert command[-1] == "--ckpt_path=net" and "--checkpoint_path" not in command


# -- the files -----------------------------------------------------------------------------------------------


def test_every_path_of_the_table_is_a_script_and_every_script_is_in_the_table():
    own = {f"scripts/{name}" for name in ("launch.sh", "infer.sh", "cluster/node.sh")}
    infer = {"run_infer_310.sh", "run_infer_cpp.sh", "run_onnx.sh"}
    found = [
        path for folder in ("scripts", "test") for path in (ROOT / folder).rglob("*") if path.suffix in ("", ".sh")
    ]
    files = {path.relative_to(ROOT).as_posix(): path for path in found if path.is_file()}
    assert {path for path in files if Path(path).name not in infer} - own == set(SCRIPTS) and len(SCRIPTS) > 60
    for name, script in SCRIPTS.items():
        up = "../scripts/" if name.startswith("test/") else "../" * (name.count("/") - 1)
        assert files[name].read_text() == f'#!/bin/sh\nexec sh "$(dirname -- "$0")/{up}launch.sh" "$0" "$@"\n'
        assert script.path == name
    for path, file in files.items():
        if Path(path).name in infer and path.count("/") == 2:
            assert file.read_text() == f'#!/bin/sh\nexec bash "$(dirname -- "$0")/../{file.name}" "$@"\n'
    programs = [path for path in files.values() if path.read_text().startswith("#!")]
    assert [path for path in programs if not path.stat().st_mode & 0o111] == []


def test_the_list_names_every_script_once(capsys):
    scripts.main([])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(listed) == sorted(SCRIPTS)
    with pytest.raises(UsageError, match=r"did you mean 'scripts/run_eval\.sh'"):
        scripts.main([f"{ROOT}/scripts/run_evl.sh"])
