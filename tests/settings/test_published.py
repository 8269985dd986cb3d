"""Which recipe a network trains by where none is named, and what a recipe becomes on other cards than its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.settings import recipes
from src.settings.command_line import parse_arguments
from src.settings.generate import default_config
from src.settings.published import Cards, fitted, recipe_for, scaled
from src.settings.recipes import RECIPE_FOLDER, named_network, networks, recipes_of

FIVE = ["mnasnet", "proxylessnas_mobile", "shufflenetv1", "spnasnet", "spos_oneshot"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of recipes, empty."""
    monkeypatch.setattr(recipes, "RECIPE_FOLDER", tmp_path)
    return tmp_path


# -- the choice ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "published", "chosen"),
    [(1, "1 8", 1), (2, "1 8", 8), (8, "1 4 8", 4), (1, "4 8", 4), (4, "1", 1), (9, "16", 16)],
)
def test_a_recipe_is_chosen_for_one_device_or_for_several(folder, count, published, chosen):
    for number in published.split():
        (folder / f"net_gpu_{number}p.yaml").touch()
    for other in ("net_plus_gpu_2p", "net_ascend_2p", "net_gpu_2p_published", "anet_gpu_2p"):
        (folder / f"{other}.yaml").touch()
    assert recipe_for("net", Cards("GPU", count)) == f"net_gpu_{chosen}p"


def test_a_platform_without_recipes_is_served_by_another(folder):
    for name in ("both_gpu_1p", "both_ascend_1p", "both_cpu", "gpu_gpu_4p", "ascend_ascend_8p", "cpu_cpu"):
        (folder / f"{name}.yaml").touch()
    chosen = {
        network: [recipe_for(network, Cards(target)) for target in ("Ascend", "GPU", "CPU")]
        for network in ("both", "gpu", "ascend", "cpu", "none")
    }
    assert chosen == {
        "both": ["both_ascend_1p", "both_gpu_1p", "both_gpu_1p"],
        "gpu": ["gpu_gpu_4p"] * 3,
        "ascend": ["ascend_ascend_8p"] * 3,
        "cpu": ["", "", "cpu_cpu"],
        "none": [""] * 3,
    }


def test_the_five_systems_train_by_what_was_published_for_their_cards():
    chosen = {(name, *cards): recipe_for(name, Cards(*cards)) for name in FIVE for cards in (("GPU", 1), ("Ascend", 8))}
    for (name, target, number), recipe in chosen.items():
        spos = name.startswith("spos")
        assert recipe == f"{name}_{'gpu' if spos else target.lower()}_{4 if spos else number}p"
        assert named_network(recipe) == name


# -- other cards -----------------------------------------------------------------------------------


def test_a_cpu_computes_in_float32_and_alone():
    keys = fitted("spnasnet_gpu_8p", Cards("CPU", 1), ())
    assert keys == {
        "device_target": "CPU",
        "is_distributed": False,
        "amp_level": "O0",
        "loss_scale_mode": "none",
        "lr_scaling": "linear",
        "lr_scaling_base": 1024,
    }
    assert fitted("spnasnet_gpu_8p", Cards("CPU", 2), ("amp_level", "device_target", "lr")) == {
        "is_distributed": True,
        "loss_scale_mode": "none",
    }
    assert fitted("spnasnet_gpu_8p", Cards("GPU", 8), ()) == {"device_target": "GPU", "is_distributed": True}


@pytest.mark.parametrize(
    ("recipe", "ranks", "given", "base"),
    [
        ("spnasnet_ascend_8p", 8, "", None),
        ("spnasnet_ascend_8p", 4, "", 8 * 128),
        ("spnasnet_ascend_8p.yaml", 16, "epochs batch_size", 8 * 128),
        (str(RECIPE_FOLDER / "mnasnet_ascend_8p.yaml"), 1, "", 8 * 512),
        ("spos_oneshot_gpu_4p", 8, "", 4 * 256),
        ("own_3p.yaml", 2, "", 3 * 32),  # a file of the user's that leaves the batch at its default
        ("own_16p.yaml", 1, "", 16 * 32),
        ("mnasnet_cpu", 2, "", None),
        ("own_8plus.yaml", 3, "", None),
        ("proxylessnas_mobile_ascend_8p_published", 4, "", None),
        *[("spnasnet_ascend_8p", 4, given, None) for given in ("lr", "epochs lr_scaling", "lr_max")],
        ("spnasnet_ascend_8p", 4, "lr_end lr_scaling_base lr_schedule", 8 * 128),
    ],
)
def test_the_rate_of_a_recipe_follows_the_total_batch(tmp_path, monkeypatch, recipe, ranks, given, base):
    monkeypatch.chdir(tmp_path)
    for number in ("3p", "16p", "8plus"):
        (tmp_path / f"own_{number}.yaml").write_text("model: mnasnet\n")
    expected = {} if base is None else {"lr_scaling": "linear", "lr_scaling_base": base}
    assert scaled(recipe, ranks, given.split()) == expected


# -- train.py --------------------------------------------------------------------------------------


def parsed(words: str, cards: Cards, capsys) -> tuple[dict, str]:
    """(the configuration train.py would have on ``cards``, what it says first)."""
    config = parse_arguments(
        words.split(), "train", lambda target: cards._replace(target=target) if target != "auto" else cards
    )
    return {"recipe": config.recipe, **dict(config)}, capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "cards", "wanted"),
    [
        ("", Cards("GPU"), {"recipe": "spnasnet_gpu_1p", "epochs": 180, "lr": 0.26, "batch_size": 128}),
        ("--epochs 2 --lr 3", Cards("GPU"), {"recipe": "spnasnet_gpu_1p", "epochs": 2, "lr": 3.0}),
        (
            "",
            Cards("Ascend", 8),
            {"recipe": "spnasnet_ascend_8p", "lr": 1.5, "is_distributed": True, "amp_level": "O2"},
        ),
        ("", Cards("Ascend", 4), {"recipe": "spnasnet_ascend_8p", "lr_scaling": "linear", "lr_scaling_base": 1024}),
        ("--lr 1", Cards("Ascend", 4), {"recipe": "spnasnet_ascend_8p", "lr": 1.0, "lr_scaling": "none"}),
        ("--device_target Ascend", Cards("GPU"), {"recipe": "spnasnet_ascend_1p", "device_target": "Ascend"}),
        ("", Cards("CPU"), {"recipe": "spnasnet_gpu_1p", "device_target": "CPU", "amp_level": "O0", "epochs": 180}),
        ("--amp_level O2", Cards("CPU"), {"recipe": "spnasnet_gpu_1p", "amp_level": "O2"}),
        ("--config_path digits", Cards("GPU"), {"recipe": "digits", "device_target": "CPU", "lr": 0.02}),
        ("--config_path default_config.yaml", Cards("GPU"), {"recipe": "spnasnet_gpu_1p", "lr": 0.26}),
        ("--_config_path default_config.yaml", Cards("GPU"), {"recipe": "spnasnet_gpu_1p", "lr": 0.26}),
        ("--model spos_oneshot --train_supernet", Cards("GPU"), {"recipe": "spos_supernet", "lr": 0.65}),
        ("--model spos_oneshot", Cards("GPU"), {"recipe": "spos_oneshot_gpu_4p", "is_distributed": False}),
        ("--model own", Cards("GPU"), {"recipe": "", "epochs": 1}),
    ],
)
def test_a_network_without_a_recipe_trains_by_its_own(words, cards, wanted, capsys):
    config, said = parsed(f"--model spnasnet {words}", cards, capsys)
    assert {key: config[key] for key in wanted} == wanted
    first = said.splitlines()[-1:]
    if "--config_path digits" in words:
        assert first == []
    else:
        assert first[0].startswith(
            f"{config['model']} on {cards.number} {config['device_target'].replace('auto', 'GPU')}: "
        )
        assert (f"recipe {config['recipe']} (" in first[0]) == bool(config["recipe"])


def test_other_programs_and_a_line_without_a_network_choose_nothing(capsys):
    assert parse_arguments(["--model", "spnasnet"], "eval").recipe == ""
    config, said = parsed("--data_path data", Cards("GPU"), capsys)
    assert (config["model"], config["recipe"], said) == ("", "", "")


def test_a_run_that_goes_on_keeps_its_own_configuration(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("model: spnasnet\nlr: 7\n")
    config, said = parsed(f"--resume {tmp_path} --model spnasnet", Cards("GPU"), capsys)
    assert (config["lr"], config["recipe"], said) == (7.0, tmp_path.name, "")


def test_what_is_changed_in_the_list_of_defaults_counts_above_the_recipe(tmp_path, capsys):
    edited = default_config().replace("model: ''", "model: spnasnet").replace("epochs: 1 ", "epochs: 7 ")
    (tmp_path / "default_config.yaml").write_text(edited)
    config, _ = parsed(f"--config_path {tmp_path}/default_config.yaml --batch_size 9", Cards("GPU"), capsys)
    assert [config[key] for key in ("recipe", "epochs", "lr", "batch_size")] == ["spnasnet_gpu_1p", 7, 0.26, 9]


# -- names -----------------------------------------------------------------------------------------


def test_the_networks_are_those_with_recipes_of_their_own_name():
    assert set(FIVE) < set(networks()) and "spos_supernet_plus" not in networks()
    assert "spos_supernet_plus_gpu_4p" in recipes_of("spos_oneshot") and "mnasnet_cpu" in recipes_of("mnasnet")
    assert recipes_of("spnasnet") == [
        *("spnasnet_ascend_1p", "spnasnet_ascend_8p", "spnasnet_cpu", "spnasnet_gpu_1p", "spnasnet_gpu_8p"),
    ]
    assert (named_network("digits"), named_network("spnasnet_cpu")) == ("", "spnasnet")
