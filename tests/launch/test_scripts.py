"""What each script of scripts/ asks the launcher for: read here without starting anything."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from src.errors import UsageError
from src.launch import recipes, scripts
from src.launch.launcher import Options
from src.launch.recipes import rate_flags, recipe_for
from src.settings.command_line import parse_arguments
from src.settings.config import load_config
from tests.launch.conftest import ROOT

SE = "--model_options.use_se true --model_options.last_conv_after_pooling true"
SE += " --channel_start_epoch 0 --channel_warm_up false"
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
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi tells this machine's cards
    monkeypatch.setattr(scripts, "ROOT", tmp_path)
    return tmp_path


def asked(line: str, **environment: str) -> Options:
    """What the line, a script and its words, asks for."""
    script, *words = shlex.split(line)
    environment = {"LAUNCH_DEVICE_FOLDER": "dev", **environment}
    call = scripts.read(scripts.SCRIPTS[script], f"scripts/{script}", words, environment)
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
        ("run_distribute_train_cpu.sh 2 data", "CPU", 2, "msrun", "spnasnet_cpu", ""),
        ("run_standalone_train_ascend.sh 3 data", "Ascend", 1, "none", "spnasnet_ascend_1p", "--device_id 3"),
        ("run_standalone_train_gpu.sh 3 data", "GPU", 1, "none", "spnasnet_gpu_1p", "--device_id 3"),
        ("run_standalone_train_cpu.sh data digits --epochs 2", "CPU", 1, "none", "digits", "--epochs 2"),
        # the names that two originals share, beside our own words and alone
        ("run_distribute_train_ascend.sh msrun data", "Ascend", 8, "msrun", "proxylessnas_mobile_ascend_8p", ""),
        ("run_distribute_train_gpu.sh 8 data", "GPU", 8, "mpirun", "shufflenetv1_gpu_8p", ""),
        ("compat/run_standalone_train_gpu.sh 0 data", "GPU", 1, "none", "shufflenetv1_gpu_1p", "--device_id 0"),
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
            "--epochs 6 --device_id 2",
        ),
        ("test/train_performance_8p.sh --data_path=data", "Ascend", 8, "msrun", "mnasnet_ascend_8p", "--epochs 6"),
        # SPOS
        ("train_oneshot.sh data", "GPU", 4, "mpirun", "spos_oneshot_gpu_4p", ""),
        ("train_oneshot+.sh data", "GPU", 4, "mpirun", "spos_oneshot_plus_gpu_4p", ""),
        ("train_oneshot-s+.sh data", "GPU", 4, "mpirun", "spos_oneshot_s_plus_gpu_4p", ""),
        ("train_oneshot-s+_mobilenetv3.sh data", "GPU", 4, "mpirun", "spos_oneshot_s_plus_gpu_4p", V2),
        ("train_supernet.sh data", "GPU", 1, "none", "spos_supernet", "--device_id 0"),
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
    expected = {"config_path": recipe, "data_path": str(place / "data"), "device_target": target}
    assert flags_of(options) == {**expected, "is_distributed": distributed, **given(more.format(place=place))}
    config = parse_arguments(options.command[1:], "train")
    assert config.train_supernet == (recipe == "spos_supernet") and config.lr_scaling == "none"


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
        ("compat/run_eval_gpu.sh 1 data net", "GPU", "shufflenetv1", "1"),
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
    assert flags_of(asked(f"{line} --batch_size 3", NETWORK="mnasnet")) == {
        **flags_of(options),
        "model": "mnasnet",
        "batch_size": "3",
    }


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


def test_the_environment_chooses_network_cards_and_table(place):
    assert asked("run_standalone_train_gpu.sh 0 data", NETWORK="mnasnet").name == "mnasnet_gpu_1p"
    assert asked("run_standalone_train_cpu.sh data", NETWORK="tiny").name == "tiny_cpu"
    assert asked("run_transfer.sh data net digits", NETWORK="mnasnet").name == "digits"
    assert asked("run_transfer.sh data net", NETWORK="shufflenetv1").name == "shufflenetv1_transfer"
    options = asked("train_oneshot.sh data", CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert options.variables == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    options = asked("test/train_full_8p.sh --data_path=data", RANK_TABLE_FILE="table.json")
    assert (options.launcher, options.rank_table) == ("rank_table", str(place / "table.json"))
    with pytest.raises(UsageError, match="no recipe of spos_oneshot for ascend"):
        asked("run_standalone_train_ascend.sh 0 data", NETWORK="spos_oneshot")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run_distribute_train_cpu.sh two data", "RANK_NUM must be a whole number, not 'two'"),
        ("run_distribute_train_cpu.sh 0 data", "RANK_NUM must be at least 1"),
        ("run_distribute_train_gpu.sh 0,1 two data", "DEVICE_NUM must be a whole number, not 'two'"),
        ("run_standalone_train_gpu.sh 01 data", "DEVICE_ID must be a whole number, not '01'"),
        ("run_distribute_train_cpu.sh 2 nowhere", "DATA_PATH: there is no folder 'nowhere'"),
        ("run_distribute_train_gpu.sh '0;1' 2 data", "CUDA_VISIBLE_DEVICES must be a list"),
        ("run_eval_cpu.sh data none.ckpt", "there is no file or folder 'none.ckpt'"),
        ("run_eval_for_ascend.sh 7 nowhere net", "DATA_PATH: there is no folder 'nowhere'"),
        (
            "run_distribute_train_ascend.sh none.json 2 data",
            "bash {place}/scripts/run_distribute_train_ascend.sh msrun 2 data",
        ),
        (
            "run_distribute_train_gpu.sh 0,1 4 data digits --lr 1",
            "CUDA_VISIBLE_DEVICES names 2; type: bash {place}/scripts/run_distribute_train_gpu.sh 0,1 2 data digits"
            " --lr 1",
        ),
        (
            "train_oneshot-s+_mobilenetv3.sh",
            "there are 3 GPU devices here; type: NETWORK=spos_oneshot_s_plus bash"
            f" {{place}}/scripts/run_distribute_train_gpu.sh 0,1,2,3 3 {{place}}/home/imagenet {V2}",
        ),
        (
            "run_distribute_train.sh msrun data",
            "there are 2 Ascend devices here; type: NETWORK=shufflenetv1 bash"
            " {place}/scripts/run_distribute_train_ascend.sh msrun 2 data",
        ),
        ("run_transfer.sh 'my flowers/' net", "python -m src.data.split 'my flowers/' 'my flowers_split'"),
        ("test/train_full_1p.sh", "bash scripts/test/train_full_1p.sh --data_path=DATA_PATH"),
        ("run_standalone_train_cpu.sh data missing_8p", "there is no configuration 'missing_8p'"),
    ],
)
def test_wrong_words_are_told_what_is_right(place, line, said):
    (place / "my flowers").mkdir()
    for name in ("davinci0", "davinci1", "davinci_manager"):
        (place / "dev" / name).touch()
    smi = place / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf 'GPU 0: x\\nGPU 1: x\\nGPU 2: x\\n'\n")
    smi.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        asked(line)
    assert said.format(place=place) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("run_distribute_train_ascend.sh t.json 8", "[RANK_TABLE_FILE|msrun] [DEVICE_NUM] [DATA_PATH]"),
        ("run_distribute_train_gpu.sh --help", "[CUDA_VISIBLE_DEVICES] [DEVICE_NUM] [DATA_PATH]"),
        ("run_distribute_train_cpu.sh 2", "[RANK_NUM] [DATA_PATH]"),
        ("run_distribute_train_cpu.sh 2 data digits surplus", "[RANK_NUM] [DATA_PATH]"),
        ("run_distribute_train_cpu.sh 2 --lr data", "[RANK_NUM] [DATA_PATH]"),
        ("run_standalone_train_gpu.sh 0", "[DEVICE_ID] [DATA_PATH]"),
        ("run_eval_ascend.sh 0 data", "[DEVICE_ID] [DATA_PATH] [CHECKPOINT]"),
        ("train_oneshot.sh -h", "[DATA_PATH]"),
    ],
)
def test_other_words_than_the_forms_are_shown_the_form(line, form, capsys):
    with pytest.raises(SystemExit) as left:
        asked(line)
    assert left.value.code == 2
    script = line.split()[0]
    assert capsys.readouterr().err.startswith(f"Usage: bash scripts/{script} {form} [CONFIG_PATH] [--key value ...]\n")


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


# -- the learning rate and the number of devices -----------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "ranks", "typed", "base"),
    [
        ("spnasnet_ascend_8p", 8, "", None),
        ("spnasnet_ascend_8p", 4, "", 8 * 128),
        ("spnasnet_ascend_8p.yaml", 16, "--epochs 2 --batch_size 64", 8 * 128),
        (str(ROOT / "configs" / "mnasnet_ascend_8p.yaml"), 1, "", 8 * 512),
        ("spos_oneshot_gpu_4p", 8, "", 4 * 256),
        ("own_3p.yaml", 2, "", 3 * 32),  # a file of the user's that leaves the batch at its default
        ("spnasnet_cpu", 2, "", None),
        ("proxylessnas_mobile_ascend_8p_published", 4, "", None),
        *[("spnasnet_ascend_8p", 4, typed, None) for typed in ("--lr 1", "--lr=1", "--lr-scaling none", "--lr_max=1")],
        ("spnasnet_ascend_8p", 4, "--lr_end 0 --lr_scaling_base 3", 8 * 128),
    ],
)
def test_the_rate_of_a_recipe_follows_the_total_batch(place, recipe, ranks, typed, base):
    (place / "own_3p.yaml").write_text("model: mnasnet\n")
    expected = [] if base is None else ["--lr_scaling", "linear", "--lr_scaling_base", str(base)]
    assert rate_flags(recipe, ranks, typed.split()) == expected


@pytest.mark.parametrize(
    ("line", "environment", "ranks"),
    [
        ("run_distribute_train_ascend.sh msrun 2 data", {}, 2),
        ("run_distribute_train_ascend.sh msrun 2 data", {"NODE_NUM": "3", "MASTER_ADDR": "a"}, 6),
        ("run_distribute_train_ascend.sh two.json 8 data", {}, 16),  # all servers of the table
        ("run_standalone_train_gpu.sh 0 data spnasnet_gpu_8p", {"NODE_NUM": "3", "MASTER_ADDR": "a"}, 1),
        ("run_standalone_train_gpu.sh 0 data --ranks 4", {}, 4),
        ("compat/run_distribute_train_gpu.sh 2 data", {}, 2),
    ],
)
def test_a_launch_counts_the_ranks_of_the_whole_job(place, line, environment, ranks, monkeypatch):
    def servers(start: int) -> dict:
        return {"device": [{"device_id": str(device), "rank_id": str(start + device)} for device in range(8)]}

    (place / "two.json").write_text(str({"server_list": [servers(0), servers(8)]}).replace("'", '"'))
    counted = []

    def note(recipe: str, ranks: int, typed: list[str]) -> list[str]:
        counted.append(ranks)
        return rate_flags(recipe, ranks, typed)

    monkeypatch.setattr(scripts, "rate_flags", note)
    options = asked(f"{line} --lr_scaling_base 7", **environment)
    assert counted == [ranks]
    config = parse_arguments(options.command[1:], "train")
    assert (config.lr_scaling, config.lr_scaling_base) == ("linear", 7)  # what is typed wins
    assert config.lr == load_config(config.recipe).lr


def test_a_flag_without_its_value_is_not_given():
    command = asked("test/train_eval_8p.sh --data_path=data --checkpoint_path= --batch_size=").command
    assert command[command.index("--checkpoint_path") + 1].endswith("runs/mnasnet_gpu_1p-1")
    assert "--checkpoint_path=" not in command
    assert command[-1] == "--batch_size="  # not the script's to judge


@pytest.mark.parametrize(
    ("count", "published", "chosen"),
    [(1, "1 8", 1), (2, "1 8", 8), (8, "1 4 8", 4), (1, "4 8", 4), (4, "1", 1), (9, "16", 16)],
)
def test_a_recipe_is_chosen_for_one_device_or_for_several(tmp_path, monkeypatch, count, published, chosen):
    for number in published.split():
        (tmp_path / f"net_gpu_{number}p.yaml").touch()
    for other in ("net_plus_gpu_2p", "net_ascend_2p", "net_gpu_2p_published", "anet_gpu_2p"):
        (tmp_path / f"{other}.yaml").touch()
    monkeypatch.setattr(recipes, "RECIPES", tmp_path)
    assert recipe_for("net", "gpu", count) == f"net_gpu_{chosen}p"
    assert recipe_for("net", "cpu", count) == "net_cpu"


# -- the files -----------------------------------------------------------------------------------------------


def test_every_name_of_the_table_is_a_script_and_every_script_is_in_the_table():
    own = {"launch.sh", "infer.sh", "run_infer_310.sh", "run_infer_cpp.sh", "run_onnx.sh", "cluster/node.sh"}
    files = {path.relative_to(ROOT / "scripts").as_posix(): path for path in (ROOT / "scripts").rglob("*.sh")}
    assert set(files) - own == set(scripts.SCRIPTS) and len(scripts.SCRIPTS) > 60
    for name in scripts.SCRIPTS:
        up = "../" * name.count("/")
        assert files[name].read_text() == f'#!/bin/sh\nexec sh "$(dirname -- "$0")/{up}launch.sh" "$0" "$@"\n'
    programs = [path for path in files.values() if path.read_text().startswith("#!")]
    assert [path for path in programs if not path.stat().st_mode & 0o111] == []


def test_the_list_names_every_script_once(capsys):
    scripts.main([])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(listed) == sorted(name for name in scripts.SCRIPTS if not name.startswith("compat/"))
    with pytest.raises(UsageError, match=r"did you mean 'run_eval\.sh'"):
        scripts.main(["scripts/run_evl.sh"])
