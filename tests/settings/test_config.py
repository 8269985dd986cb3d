"""The schema, what a recipe file may hold, and how a command line is read."""

from pathlib import Path

import pytest

from src.errors import UsageError
from src.settings.config import (
    CHOICES,
    LENGTHS,
    RANGES,
    SCHEMA_FILE,
    Config,
    coerce,
    load_config,
    parse_arguments,
    read_yaml,
    schema,
)
from src.training.lr_schedule import SCHEDULES


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe file and returns its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        load_config(path)
    return str(error.value)


def test_every_key_is_documented():
    lines = SCHEMA_FILE.read_text(encoding="utf-8").splitlines()
    undocumented = {line.partition(":")[0] for line in lines if line and "#" not in line}
    assert undocumented <= {"momentum", "epochs", "max_steps"}


def test_choices_ranges_and_lengths_are_of_keys_and_hold_the_defaults():
    defaults = schema()
    assert not (set(CHOICES) | set(RANGES) | set(LENGTHS)) - set(defaults)
    for key, value in defaults.items():
        assert coerce(key, value, "schema") == value


def test_lr_schedules_are_those_that_exist():
    assert set(CHOICES["lr_schedule"]) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("weight_decay: 1e-5", "weight_decay", 1e-5),
        ("weight_decay: 1E-5", "weight_decay", 1e-5),
        ("lr: 1", "lr", 1.0),
        ("lr: .5", "lr", 0.5),
        ("epochs: 012", "epochs", 12),
        ("epochs: 3.0", "epochs", 3),
        ("cutout: yes", "cutout", True),
        ("cutout: No", "cutout", False),
        ("sink: on", "sink", "on"),
        ("sink: off", "sink", "off"),
        ("data_path: 2020-01-01", "data_path", "2020-01-01"),
        ("data_path: null", "data_path", ""),
        ("lr_epochs: [1, 2]", "lr_epochs", [1, 2]),
        ("mean: [1e-1, 0, 1]", "mean", [0.1, 0.0, 1.0]),
        (
            "model_options: {alpha: 5e-1, size: 2.0x, pooling: yes}",
            "model_options",
            {"alpha": 0.5, "size": "2.0x", "pooling": "yes"},
        ),
    ],
)
def test_a_value_has_the_type_of_its_default(recipe, line, key, value):
    read = load_config(recipe(line + "\n"))[key]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 3:25", "whole number"),
        ("epochs: 0x10", "whole number"),
        ("epochs: 1.5", "whole number"),
        ("epochs: true", "whole number"),
        ("epochs: 0", "at least 1"),
        ("epochs: " + "9" * 5000, "YAML"),
        ("epochs:", "whole number"),
        ("lr: fast", "a number"),
        ("lr: .nan", "a number"),
        ("lr: inf", "a number"),
        ("lr: -1", "at least 0"),
        ("cutout: maybe", "True or False"),
        ("data_path: [a, b]", "text"),
        ("mean: [0.5]", "3 numbers"),
        ("crop_scale: 0.5", "a list"),
        ("color_jitter: [0.4, 0.4, 0.4]", "4 numbers"),
        ("image_size: 16", "at least 32"),
        ("image_size: 512", "from 0 to 299"),
        ("model_options: 2.0x", "mapping"),
        ("optimizer: momentun", "did you mean 'momentum'"),
        ("lr_schedule: cosin", "did you mean 'cosine'"),
        ("learning_rate: 0.1", "there is no key 'learning_rate'"),
        ("weight_decy: 0.1", "did you mean 'weight_decay'"),
        ("epochs: 1\nlr: 0.1\nepochs: 2", "'epochs' is written twice"),
        ("model_options: {alpha: 1, alpha: 2}", "'alpha' is written twice"),
        ("1: a\n'1': b", "'1' is written twice"),
        ("[a]: b", "a key must be one word"),
        ("- epochs", "key: value"),
        ("epochs", "key: value"),
        ("epochs: [", "not valid YAML"),
        ("epochs: 1\n---\nepochs: 2", "not valid YAML"),
        ("model: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("lr_epochs: &a [1]\nmean: *a", "not allowed"),
        ("lr_epochs: " + "[" * 20000, "nested too deeply"),
        (b"model: \xff\xfe", "UTF-8"),
        ("#" * (1 << 17) + "\n", "larger than"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(recipe, text, said):
    message = refusal(recipe(text))
    assert said in message
    assert "recipe.yaml" in message


def test_a_file_that_is_not_there_names_its_nearest_recipe():
    with pytest.raises(UsageError, match="did you mean 'spnasnet_cpu'"):
        load_config("spnasnet_cp")
    for elsewhere in ("/nowhere/at/all_cpu.yaml", "/nowhere/spnasnet_cpu.yaml", "nowhere/spnasnet_cpu", "spos_cpu"):
        with pytest.raises(UsageError, match="there is no configuration"):
            load_config(elsewhere)
    with pytest.raises(UsageError, match="cannot read"):
        read_yaml(Path("/nowhere/at/all.yaml"))


def test_a_recipe_is_found_by_name_and_path_from_anywhere(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    for name in (
        "spnasnet_cpu",
        "spnasnet_cpu.yaml",
        "configs/spnasnet_cpu.yaml",
        root / "configs" / "spnasnet_cpu.yaml",
    ):
        config = load_config(name)
        assert (config.recipe, config.model) == ("spnasnet_cpu", "spnasnet")
    (tmp_path / "spnasnet_cpu").write_text("model: mnasnet")
    assert load_config("spnasnet_cpu").model == "mnasnet"  # a file here comes first, as with every name


def test_command_line_over_recipe_over_default(recipe):
    path = recipe("epochs: 7\nlr: 0.3\nmodel_options: {size: 1.0x, groups: 8}\n")
    config = parse_arguments(["--config_path", str(path), "--lr", "0.2", "--model_options.groups=3"], "train")
    assert (config.epochs, config.lr, config.seed) == (7, 0.2, schema()["seed"])
    assert config.model_options == {"size": "1.0x", "groups": 3}
    assert load_config().model_options == {}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--cutout"], True),
        (["--cutout", "True"], True),
        (["--cutout=True"], True),
        (["--cutout=1"], True),
        (["--cutout", "false"], False),
        (["--cutout=False"], False),
        (["--cutout", "no"], False),
        (["--cutout", "--seed", "3"], True),
        (["--cutout", "--cutout=False"], False),
    ],
)
def test_booleans_with_and_without_the_word(words, value):
    assert parse_arguments(words, "train").cutout is value


def test_forms_of_a_command_line():
    config = parse_arguments(
        [
            *("--batch-size", "4", "--weight_decay=1e-4", "--color_jitter", "0.1,0.2,0.3,0", "--crop_scale=[0.5, 1]"),
            *("--model_options", "{alpha: 0.5}", "--model_options.dropout", "1e-1", "--data_path", "a b;$(c)=d"),
        ],
        "train",
    )
    assert (config.batch_size, config.weight_decay) == (4, 1e-4)
    assert (config.color_jitter, config.crop_scale) == ([0.1, 0.2, 0.3, 0.0], [0.5, 1.0])
    assert config.model_options == {"alpha": 0.5, "dropout": 0.1}
    assert config.data_path == "a b;$(c)=d"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch_sise", "4"], "did you mean 'batch_size'"),
        (["--config-pat", "x"], "did you mean 'config_path'"),
        (["--epochs"], "--epochs needs a value"),
        (["--epochs", "--seed", "1"], "--epochs needs a value"),
        (["-j"], "-j needs a value"),
        (["-z", "3"], "there is no flag '-z'"),
        (["one", "two"], "'two' stands alone"),
        (["--epochs", "many"], "whole number"),
        (["--train_batch_size", "many"], "--train_batch_size: batch_size must be a whole number"),
        (["--model_options.alpha", "["], "cannot be read"),
        (["--model_options", "{a: 1"], "cannot be read"),
        (["--cutout=perhaps"], "True or False"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(words, said):
    with pytest.raises(UsageError) as error:
        parse_arguments(words, "train")
    assert said in str(error.value)


def test_a_bare_argument_means_nothing_to_eval():
    with pytest.raises(UsageError, match="stands alone"):
        parse_arguments(["somewhere"], "eval")


def test_help_holds_every_key_and_upstream_flag(capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--epochs", "3", "--help"], "train")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"\n{key}:" in printed for key in schema())
    assert "--train_dataset_path" in printed
    assert "-j" in printed.split()


def test_the_saved_configuration_reloads_to_an_equal_one(tmp_path):
    odd_texts = {
        "data_path": "1e-5",
        "val_data_path": "012",
        "run_dir": "on: # x",
        "resume": "ünïcode\n'\"",
        "csv": "null",
    }
    config = load_config(
        "proxylessnas_mobile_ascend_8p_published", {**odd_texts, "model_options": {"size": "1.0", "a": [1, 0.5]}}
    )
    shared = [0.5, 0.5, 0.5]
    config = Config({**config, "mean": shared, "std": shared}, config.recipe, config.notes)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(path)
    assert dict(again) == dict(config)
    assert again.notes == config.notes
    assert again.recipe == tmp_path.name


def test_a_configuration_does_not_change_but_can_be_replaced():
    config = load_config("", {"epochs": 3})
    with pytest.raises(AttributeError):
        config.epochs = 4
    with pytest.raises(AttributeError):
        _ = config.epoch
    assert (config.replace(epochs="4").epochs, config.epochs) == (4, 3)
    with pytest.raises(UsageError, match="replace"):
        config.replace(epoch=4)
