"""Command lines of the original repositories, read as ours."""

import shlex

import pytest

from src.errors import UsageError
from src.settings.command_line import parse_arguments
from src.settings.config import DEFAULTS, load_config
from src.settings.upstream_flags import flags_of

DATA = "/data/imagenet"
# Of the flags that change nothing, those that may stand without a value.
IDLE_SWITCHES = {"save_checkpoint", "enable_graph_kernel", "enable_reduce_precision", "enable_profiling", "run_prof"}
IDLE_SWITCHES |= {"enable_checkpoint_dir", "enable_eval_on_train_dataset"}


def changed(config, recipe: str) -> dict:
    """What a command line changed in ``recipe``."""
    base = load_config(recipe)
    return {key: value for key, value in config.values().items() if value != base[key]}


README_LINES = {
    "spnasnet train": (
        "train",
        "spnasnet_ascend_1p",
        "--dataset_name imagenet --filter_prefix huawei --device_id=3 --device_target=Ascend "
        "--data_path=/data/imagenet/train",
        {"device_id": 3, "data_path": f"{DATA}/train"},
    ),
    "spnasnet eval": (
        "eval",
        "spnasnet_gpu_1p",
        "--checkpoint_path ./ckpt_0 --device_id 1 --device_target Ascend "
        "--val_data_path /data/imagenet/val --dataset_name imagenet",
        {"checkpoint_path": "./ckpt_0", "device_id": 1, "device_target": "Ascend", "val_data_path": f"{DATA}/val"},
    ),
    "spnasnet export": (
        "export",
        "spnasnet_ascend_1p",
        "--device_id 0 --batch_size 1 --ckpt_file single-path-nas.ckpt --device_target GPU",
        {"batch_size": 1, "checkpoint_path": "single-path-nas.ckpt", "device_target": "GPU"},
    ),
    "proxylessnas train, eight Ascends": (
        "train",
        "proxylessnas_mobile_ascend_8p",
        "--device_id=5 --device_target=Ascend --is_distributed=True --dataset_path=/data/imagenet",
        {"device_id": 5, "data_path": DATA},
    ),
    "proxylessnas train, one GPU": (
        "train",
        "proxylessnas_mobile_gpu_1p",
        "--is_distributed=False --device_target=GPU --device_id=0 --drop_remainder=True "
        "--dataset_path=/data/imagenet/train",
        {"data_path": f"{DATA}/train"},
    ),
    "proxylessnas train, every key": (
        "train",
        "proxylessnas_mobile_ascend_1p",
        "--num_classes 1000 --rank 0 --group_size 1 --epoch_size 3 --keep_checkpoint_max 80 --save_ckpt_path ./out/ "
        "--save_checkpoint_epochs 2 --save_checkpoint True --is_distributed False --resume r.ckpt --resume_epoch 1 "
        "--random_seed 7 --work_nums 4 --cutout False --cutout_length 40 --amp_level O0 --enable_graph_kernel False "
        "--enable_reduce_precision True --scale_factor 4 --scale_window 1000 --train_batch_size 64 "
        "--train_mini_steps 8 --val_batch_size 50 --enable_eval_on_train_dataset False --drop_remainder True "
        "--lr_init 0.1 --enable_label_smooth True --label_smooth_factor 0.2 --weight_decay 4e-5 --momentum 0.8 "
        "--use_pynative_mode True --checkpoint c.ckpt --enable_checkpoint_dir False --checkpoint_dir d "
        "--file_name f --file_format MINDIR",
        {
            "num_classes": 1000,
            "epochs": 3,
            "run_dir": "./out/",
            "save_checkpoint_epochs": 2,
            "resume": "r.ckpt",
            "seed": 7,
            "workers": 4,
            "cutout": False,
            "cutout_length": 40,
            "amp_level": "O0",
            "scale_factor": 4,
            "scale_window": 1000,
            "batch_size": 64,
            "eval_batch_size": 50,
            "drop_remainder": True,
            "lr": 0.1,
            "label_smoothing": 0.2,
            "weight_decay": 4e-5,
            "momentum": 0.8,
            "mode": "pynative",
        },
    ),
    "proxylessnas eval": (
        "eval",
        "proxylessnas_mobile_ascend_1p",
        "--device_target Ascend --device_id 0 --dataset_path /data/imagenet --checkpoint ./ckpt_0/a.ckpt",
        {"val_data_path": DATA, "checkpoint_path": "./ckpt_0/a.ckpt"},
    ),
    "proxylessnas eval of a folder": (
        "eval",
        "proxylessnas_mobile_ascend_1p",
        "--enable_checkpoint_dir True --checkpoint_dir ./ckpt_0 --checkpoint= --dataset_path /data/imagenet/val",
        {"val_data_path": f"{DATA}/val", "checkpoint_path": "./ckpt_0"},
    ),
    "proxylessnas export": (
        "export",
        "proxylessnas_mobile_ascend_1p",
        "--device_target=Ascend --device_id=0 --checkpoint=./a.ckpt",
        {"checkpoint_path": "./a.ckpt"},
    ),
    "shufflenetv1 train, eight Ascends": (
        "train",
        "shufflenetv1_ascend_8p",
        "--is_distributed=True --device_target=Ascend --train_dataset_path=/data/imagenet/train",
        {"data_path": f"{DATA}/train"},
    ),
    "shufflenetv1 train, every key": (
        "train",
        "shufflenetv1_gpu_1p",
        "--model_size 1.0x --train_dataset_path /data/imagenet/train --eval_dataset_path /data/imagenet/val "
        "--epoch_size 9 --decay_method steps_decay --lr_init 0.01 --lr_max 0.4 --lr_end 0.001 --warmup_epochs 3 "
        "--loss_scale 512 --save_ckpt_path ./ --ckpt_path x.ckpt --label_smooth_factor 0.05",
        {
            "model_options": {"pooling": "same", "size": "1.0x"},
            "data_path": f"{DATA}/train",
            "val_data_path": f"{DATA}/val",
            "epochs": 9,
            "lr_schedule": "steps_decay",
            "lr_init": 0.01,
            "lr": 0.4,
            "lr_end": 0.001,
            "warmup_epochs": 3,
            "loss_scale": 512.0,
            "label_smoothing": 0.05,
        },
    ),
    "shufflenetv1 eval": (
        "eval",
        "shufflenetv1_gpu_1p",
        "--device_target=GPU --eval_dataset_path=/data/imagenet/val --ckpt_path=shufflenetv1-250_1251.ckpt",
        {"val_data_path": f"{DATA}/val", "checkpoint_path": "shufflenetv1-250_1251.ckpt"},
    ),
    "mnasnet train, one Ascend": (
        "train",
        "mnasnet_ascend_1p",
        "/data/imagenet --device npu --npu 2 -a resnet18 -j 16 -b 512 -p 10 --epochs 6 --warmup 5 --lr 0.7 "
        "--momentum 0.9 --wd 1e-5 --label-smoothing 0.1 --start-epoch 0 --world-size 1 --rank 0 "
        "--dist-url tcp://127.0.0.1:29688 --dist-backend hccl --device-list 2 --local_rank 0 --seed 9 "
        "--run-prof --print-freq=20",
        {"data_path": DATA, "device_id": 2, "workers": 16, "log_steps": 20, "epochs": 6, "seed": 9},
    ),
    "mnasnet, the MindSpore port": (
        "train",
        "mnasnet_gpu_8p",
        "--device_target GPU --dataset_path /data/imagenet --run_distribute True --device_id 0",
        {"data_path": DATA},
    ),
}


@pytest.mark.parametrize("line", README_LINES)
def test_a_command_line_of_upstream_means_what_it_meant(line):
    program, recipe, words, keys = README_LINES[line]
    config = parse_arguments(["--config_path", recipe, *words.split()], program)
    assert changed(config, recipe) == keys


# What the five READMEs show to be typed, with a network named where the original had only one.
TYPED = {
    "spnasnet": """
        train.py --device_id=0 --device_target="Ascend" --data_path=/imagenet/train
        train.py --device_id=0 --device_target="GPU" --data_path=/imagenet/train
        eval.py --checkpoint_path=./ckpt_0 --val_data_path=/imagenet/val --device_id=0 --device_target="Ascend"
        eval.py --device_target="GPU" --device_id=0 --val_data_path="/path/to/imagenet/val/" --checkpoint_path ./ckpt_0
        export.py --ckpt_file [CKPT_FILE] --device_target Ascend""",
    "proxylessnas_mobile": """
        export.py --device_target GPU --checkpoint [CHECKPOINT_FILE] --file_format ONNX --file_name [NAME]""",
    "shufflenetv1": """
        train.py --train_dataset_path /home/DataSet/ImageNet_Original/train
        train.py --config_path ./gpu_default_config.yaml --device_target GPU --train_dataset_path [TRAIN_DATA_DIR]
        train.py --config_path ./gpu_default_config.yaml --train_dataset_path [TRAIN_DATA_DIR] --is_distributed=True \\
            --device_target=GPU
        train.py --config_path=./transfer_config.yaml
        eval.py --eval_dataset_path /home/validation_preprocess --ckpt_path /home/ckpt/shufflenetv1-250_1251
        eval.py --config_path ./gpu_default_config.yaml --eval_dataset_path [DATA_DIR] --ckpt_path [PATH_CHECKPOINT]
        eval.py --config_path=./transfer_config.yaml
        export.py --ckpt_path [CKPT_PATH] --device_target CPU --file_format MINDIR --batch_size 1""",
    "mnasnet": """
        train.py /data/imagenet --device npu --npu 0""",
}
LINES = [(model, line) for model, text in TYPED.items() for line in text.replace("\\\n", " ").strip().splitlines()]


@pytest.mark.parametrize(("model", "line"), LINES)
def test_what_a_readme_shows_is_understood_to_the_last_word(model, line, capsys):
    program, *words = shlex.split(line)
    if "config_path" not in line:
        words = ["--model", model, *words]
    if program == "export.py":
        pytest.importorskip("mindspore", reason="export.py reads its own flags beside what exports")
        from src.export.options import parse as read
    else:

        def read(argv):
            return None, parse_arguments(argv, program[:-3])

    config = read(words)[1]
    assert config.model == model
    given = " ".join(words).replace("=", " ").split()
    for key in ("device_target", "is_distributed"):
        assert f"--{key}" not in given or str(config[key]) == given[given.index(f"--{key}") + 1]
    data = config.data_path if program == "train.py" else config.checkpoint_path
    assert bool(data) == ("transfer" not in line)
    assert capsys.readouterr().out == ""


def test_a_flag_without_its_equals_sign_is_named():
    """Single-Path-NAS's README has it so."""
    with pytest.raises(UsageError, match=r"no flag '--val_data_path/imagenet/val' \(did you mean 'val_data_path'"):
        parse_arguments(["--checkpoint_path=./ckpt_0", "--val_data_path/imagenet/val"], "eval")


def test_a_network_named_by_model_serves_as_well():
    config = parse_arguments(["--model", "spnasnet", "--device_target=Ascend", "--data_path=/data"], "train")
    assert (config.model, config.device_target, config.data_path) == ("spnasnet", "Ascend", "/data")


@pytest.mark.parametrize("order", [1, -1])
def test_switching_off_wins_in_any_order(order):
    words = ["--enable_label_smooth=False", "--label_smooth_factor=0.2"][::order]
    assert parse_arguments(words, "train").label_smoothing == 0


def test_an_own_key_wins_over_an_alias():
    assert parse_arguments(["--epochs=3", "--epoch_size=4"], "train").epochs == 3


@pytest.mark.parametrize("switch", ["--enable_label_smooth", "--enable_label_smooth=True"])
def test_a_switch_that_is_on_leaves_the_recipe_alone(switch):
    assert changed(parse_arguments(["--config_path=spnasnet_gpu_1p", switch], "train"), "spnasnet_gpu_1p") == {}


@pytest.mark.parametrize(
    ("words", "lr", "lr_init"),
    [
        ("--model proxylessnas_mobile --lr_init 0.2", 0.2, 0.0),
        ("--model proxylessnas_mobile --lr_init 0.2 --lr 0.5", 0.5, 0.2),
        ("--model proxylessnas_mobile --lr_init 0.2 --lr_max 0.5", 0.5, 0.2),
        ("--config_path proxylessnas_mobile_cpu --lr_init 0.2", 0.2, 0.0),
        ("--model shufflenetv1 --lr_init 0.01 --lr_max 0.5", 0.5, 0.01),
        ("--model shufflenetv1 --lr_init 0.01", DEFAULTS["lr"], 0.01),
        ("--model spnasnet --lr_init 0.01", DEFAULTS["lr"], 0.01),
    ],
)
def test_lr_init_is_the_peak_in_proxylessnas_only(words, lr, lr_init):
    config = parse_arguments(words.split(), "train")
    assert (config.lr, config.lr_init) == (lr, lr_init)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("--decay_method steps", "lr_schedule", "steps"),
        ("--lr_decay_mode other", "lr_schedule", "linear"),
        ("--lr_scheduler cosine_annealing", "lr_schedule", "cosine_epoch"),
        ("--lr_scheduler exponential", "lr_schedule", "milestone"),
        ("--eta_min 0.001", "lr_end", 0.001),
        ("--is_dynamic_loss_scale 1", "loss_scale_mode", "dynamic"),
        ("--is_dynamic_loss_scale 0", "loss_scale_mode", "fixed"),
        ("--use_pynative_mode", "mode", "pynative"),
        ("--image_height 96 --image_width 96", "image_size", 96),
        ("--multiprocessing-distributed", "is_distributed", True),
        ("--device gpu", "device_target", "GPU"),
    ],
)
def test_meanings(words, key, value):
    assert parse_arguments(words.split(), "train")[key] == value


@pytest.mark.parametrize(
    ("file", "devices", "recipe"),
    [
        ("./transfer_config.yaml", "1", "shufflenetv1_transfer"),
        ("gpu_default_config.yaml", "1", "shufflenetv1_gpu_1p"),
        ("./gpu_default_config.yaml", "8", "shufflenetv1_gpu_8p"),
        ("gpu_default_config.yaml", "many", "shufflenetv1_gpu_1p"),
    ],
)
def test_shufflenets_configuration_files_are_known_by_name(monkeypatch, file, devices, recipe):
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK_SIZE", devices)
    assert dict(parse_arguments([f"--config_path={file}"], "train")) == dict(load_config(recipe))


@pytest.mark.parametrize("flag", ["--dataset_path=", "--train_dataset_path=", "--eval_dataset_path="])
def test_an_empty_path_was_not_given(tmp_path, flag):
    """The originals' scripts hand on what was not typed as an empty text."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{data_path: here, val_data_path: there}")
    config = parse_arguments([f"--config_path={recipe}", flag], "train")
    assert (config.data_path, config.val_data_path) == ("here", "there")


def test_a_file_of_the_users_wins_over_a_name_of_shufflenets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "transfer_config.yaml").write_text("model: mnasnet\n")
    assert load_config("./transfer_config.yaml").model == "mnasnet"


def test_a_total_batch_is_shared_out(monkeypatch):
    monkeypatch.delenv("OMPI_COMM_WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK_SIZE", "8")
    assert parse_arguments(["-b", "4096"], "train").batch_size == 512
    with pytest.raises(UsageError, match="multiple of their number, 8"):
        parse_arguments(["-b", "100"], "train")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert parse_arguments(["-b", "4096"], "train").batch_size == 1024


@pytest.mark.parametrize(
    ("program", "words", "said"),
    [
        ("train", "DATA --evaluate", "use python eval.py"),
        ("train", "DATA -e", "use python eval.py"),
        ("eval", "--enable_eval_on_train_dataset True", "--val_data_path DIR/train"),
        ("train", "--pretrained", "--pretrained needs a value"),
        ("train", "--decay_method sometimes", "lr_schedule"),
    ],
)
def test_what_cannot_be_done_says_what_can(program, words, said):
    with pytest.raises(UsageError, match=said):
        parse_arguments(words.split(), program)


@pytest.mark.parametrize("flag", ["multiprocessing-distributed", "run_distribute"])
def test_one_process_can_be_asked_for_whatever_the_recipe_says(tmp_path, flag):
    (tmp_path / "recipe.yaml").write_text("is_distributed: true\n")
    words = ["--config_path", str(tmp_path / "recipe.yaml")]
    assert parse_arguments([*words, f"--{flag}=False"], "train").is_distributed is False
    assert parse_arguments([*words, f"--{flag}"], "train").is_distributed is True


@pytest.mark.parametrize("program", ["train", "eval", "export"])
def test_a_flag_that_changes_nothing_says_so(program, capsys):
    idle = 0
    for name, flag in flags_of(program).items():
        if not flag.note:
            continue
        idle += 1
        shown = f"{'-' if len(name) == 1 else '--'}{name}"
        assert parse_arguments([shown, "1"], program).values() == DEFAULTS
        assert capsys.readouterr().out == f"note: {shown}: {flag.note}\n"
        if name in IDLE_SWITCHES:
            assert parse_arguments([shown, "--seed", "3"], program).seed == 3
            capsys.readouterr()
        else:
            with pytest.raises(UsageError, match=f"{shown} needs a value"):
                parse_arguments([shown, "--seed", "3"], program)
    assert idle > 5


def test_a_flag_with_a_meaning_is_quiet(capsys):
    parse_arguments(["--dataset_path=/data", "--epoch_size=3", "--config_path=proxylessnas_mobile_gpu_1p"], "train")
    assert capsys.readouterr().out == ""


def test_aliases_shadow_no_key_but_where_upstream_meant_another():
    shadowed = set(DEFAULTS) & {name for program in ("train", "eval", "export") for name in flags_of(program)}
    assert shadowed == {"data_path"}
