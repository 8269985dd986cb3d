"""Every recipe of configs/: it parses, names a network, differs from the defaults, and gives the published rates."""

import re

import numpy as np
import pytest

from src.settings.config import DEFAULTS, RECIPE_NOTES, load_config
from src.settings.recipes import RECIPE_FOLDER
from src.settings.yaml_text import read_yaml
from src.training.lr_schedule import learning_rates

CONFIGS = {path.stem: load_config(path) for path in sorted(RECIPE_FOLDER.glob("*.yaml"))}
# Recipes named after a job, not after one network on one platform.
JOBS = {
    "digits": "train.py --model NAME",
    "quickstart": "make quickstart",
    "shufflenetv1_transfer": "scripts/run_transfer.sh",
    "spos_supernet": "train.py --train_supernet",
    "spos_supernet_plus_gpu_4p": "scripts/train_supernet.sh",
    "spos_supernet_digits": "make spos-tutorial",
    "spos_search": "search.py",
    "spos_search_digits": "make spos-tutorial",
    "transfer": "train.py --model NAME --pretrained FILE",
    "transfer_digits": "make transfer-tutorial",
}
SUPERNETS = [recipe for recipe, config in CONFIGS.items() if config.train_supernet]
NETWORKS = {recipe: config for recipe, config in CONFIGS.items() if config.model and recipe not in SUPERNETS}
PLATFORM = re.compile(r"_(?:cpu|(?:ascend|gpu)_(?:1|4|8)p)(?:_published)?$")
REFERENCE = {
    "params": int,
    "macs": int,
    "top1": float,
    "top5": float,
    "images": int,
    "time": str,
    "source": str,
    "remarks": list,
}


@pytest.fixture(params=CONFIGS)
def recipe(request):
    return request.param


def test_a_recipe_holds_only_what_differs_from_the_defaults(recipe):
    defaults = DEFAULTS
    config = CONFIGS[recipe]
    keys = [key for key in read_yaml(RECIPE_FOLDER / f"{recipe}.yaml") if key not in RECIPE_NOTES]
    assert [key for key in keys if config[key] == defaults[key]] == []
    assert keys == sorted(keys, key=list(defaults).index), "keys stand in the order of default_config.yaml"


def test_a_recipe_is_named_after_its_network_and_platform(recipe):
    if recipe in JOBS:
        return
    config = CONFIGS[recipe]
    platform = PLATFORM.search(recipe)
    assert platform, recipe
    assert recipe.removesuffix(platform[0]) == config.model
    words = platform[0].split("_")[1:]
    assert config.device_target.lower() == words[0]
    assert config.is_distributed == (words[0] != "cpu" and words[1] != "1p")


def test_a_recipe_says_what_it_is_and_gives_its_reference_figures(recipe):
    notes = CONFIGS[recipe].notes
    assert isinstance(notes["description"], str)
    reference = notes["reference"]
    size = {"params", "macs"} if recipe in NETWORKS else {"params"} if recipe in SUPERNETS else set()
    assert size | {"source"} <= set(reference) <= set(REFERENCE)
    assert [key for key, value in reference.items() if not isinstance(value, REFERENCE[key])] == []
    assert 0 < reference.get("top1", 0.5) < reference.get("top5", 1) <= 1
    assert 0 < reference.get("images", 50000) <= 50000
    assert all(isinstance(remark, str) for remark in reference.get("remarks", []))


@pytest.mark.parametrize("model", sorted({config.model for config in NETWORKS.values()}))
def test_reference_parameters_are_the_networks(model):
    from src.models import create_model

    recipes = [config for config in NETWORKS.values() if config.model == model]
    options = {tuple(config.model_options.items()) for config in recipes}
    counts = {
        sum(parameter.size for parameter in create_model(model, **dict(chosen)).trainable_params())
        for chosen in options
    }
    assert {config.notes["reference"]["params"] for config in recipes} == counts


@pytest.mark.parametrize("recipe", SUPERNETS)
def test_reference_parameters_are_the_supernets(recipe):
    from src.space.cost import supernet_params
    from src.supernet.path_parts import space_of

    config = CONFIGS[recipe]
    space = space_of(config, 10 if "digits" in recipe else 1000, config.image_size)
    assert config.notes["reference"]["params"] == supernet_params(space)


def test_every_network_has_recipes():
    from src.models import list_models

    for model in list_models():
        platforms = {recipe.removeprefix(f"{model}_") for recipe in CONFIGS if CONFIGS[recipe].model == model}
        trained_at_scale = {"gpu_4p"} if model.startswith("spos_") else {"ascend_1p", "ascend_8p", "gpu_1p", "gpu_8p"}
        assert trained_at_scale <= platforms, model


def test_every_network_trains_on_the_digits_by_its_own_name():
    from src.models import list_models

    digits = load_config("digits")
    for model in list_models():
        config = load_config(f"{model}_cpu")
        differing = {key: value for key, value in config.values().items() if value != digits[key]}
        assert differing == {"model": model, **({"epochs": 20} if model == "mnasnet" else {})}
        assert config.recipe == f"{model}_cpu"


def test_the_published_forms_are_offered_by_name():
    ours, published = (CONFIGS[f"proxylessnas_mobile_ascend_8p{form}"] for form in ("", "_published"))
    differing = {key for key, value in ours.values().items() if value != published[key]}
    assert differing == {"weight_decay_on", "lr_schedule", "epochs"}
    assert (published.weight_decay_on, published.lr_schedule) == ("all", "two_phase_cosine")
    for name, config in CONFIGS.items():
        assert (config.weight_decay_on == "weights") != name.endswith("_published")


def rates(recipe: str, steps_per_epoch: int, **changes) -> np.ndarray:
    return learning_rates(load_config(recipe, changes), steps_per_epoch)


@pytest.mark.parametrize(
    ("recipe", "steps_per_epoch", "changes", "expected"),
    [
        ("spos_supernet", 20018, {}, {0: 0.65 / (5 * 20018), 5 * 20018 - 1: 0.65, 1251125: 0.325}),
        (
            "spnasnet_ascend_8p",
            1251,
            {},
            {0: 1.5, 1250: 1.5, 1251: 1.4998858, 112590: 0.75, 180 * 1251 - 1: 1.1422863e-4},
        ),
        (
            "spnasnet_ascend_8p",
            10,
            {"epochs": 20, "warmup_epochs": 5},
            {0: 0.03, 48: 1.47, 49: 1.5, 50: 1.28033, 60: 1.19084, 199: 0.0092337},
        ),
        (
            "spnasnet_gpu_8p",
            10,
            {"lr_schedule": "milestone"},
            {0: 1.5, 299: 1.5, 300: 0.45, 600: 0.135, 900: 0.0405},
        ),
        ("spnasnet_ascend_1p", 10009, {}, {0: 0.26, 90 * 10009: 0.13}),
        (
            "proxylessnas_mobile_ascend_8p_published",
            1223,
            {},
            {
                0: 3.2706459e-5,
                1: 6.5412918e-5,
                6114: 0.2,
                6115: 0.19986296,
                183450: 0.1,
                366899: 5.4830634e-6,
                366900: 8.9665796e-11,
                373014: 5.4830633e-7,
                373015: 5.389648e-7,
                360 * 1223 - 1: 3.757174e-10,
            },
        ),
        (
            "proxylessnas_mobile_ascend_8p",
            1223,
            {},
            {0: 3.2706459e-5, 6114: 0.2, 6115: 0.19986296, 183450: 0.1, 300 * 1223 - 1: 5.4830634e-6},
        ),
        (
            "shufflenetv1_ascend_8p",
            1251,
            {},
            {
                0: 9.992006e-5,
                5003: 0.5,
                5004: 0.5,
                6255: 0.49997962,
                156375: 0.25638467,
                311499: 2.0386e-5,
                250 * 1251 - 1: 1.3026e-11,
            },
        ),
        (
            "mnasnet_gpu_8p",
            625,
            {"epochs": 250},
            {0: 1e-4, 1: 1.6396798e-4, 3124: 0.19993603, 3125: 0.2, 78125: 0.10204571, 250 * 625 - 1: 1.1306e-5},
        ),
        (
            "mnasnet_ascend_8p",
            312,
            {},
            {
                epoch * 312: 1.4 * (0.1 + 0.9 * epoch / 5 if epoch < 5 else (1 + np.cos(np.pi * (epoch - 5) / 295)) / 2)
                for epoch in (0, 1, 4, 5, 6, 150, 299)
            },
        ),
        ("mnasnet_ascend_1p", 2502, {}, {0: 0.07, 2501: 0.07, 2502: 0.196, 5 * 2502: 0.7}),
        ("spos_oneshot_plus_gpu_4p", 1251, {}, {0: 1.3 / (5 * 1251), 5 * 1251 - 1: 1.3, 5 * 1251: 1.3}),
    ],
)
def test_published_learning_rates_come_out_of_the_recipe(recipe, steps_per_epoch, changes, expected):
    got = rates(recipe, steps_per_epoch, **changes)
    np.testing.assert_allclose(got[list(expected)], list(expected.values()), rtol=5e-5)
