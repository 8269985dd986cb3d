"""The schema, what a recipe file may hold, and how a command line is read."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from src.errors import UsageError
from src.settings import generate
from src.settings.command_line import COMMANDS, answer_help, parse_arguments, split_command
from src.settings.config import DEFAULTS, Config, choices_of, coerce, load_config, saved_config
from src.settings.recipes import RECIPE_FOLDER
from src.settings.sections import PROGRAMS, SECTIONS, Schedule
from src.settings.yaml_text import read_yaml


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


def test_every_key_stands_in_one_section_with_its_meaning():
    keys = [key for section in SECTIONS for key in section.model_fields]
    assert len(keys) == len(set(keys)) == len(Config.model_fields)
    assert [key for section in SECTIONS for key, field in section.model_fields.items() if not field.description] == []
    assert {section for sections in PROGRAMS.values() for section in sections} == set(SECTIONS)


def test_every_default_is_a_value_of_its_key():
    for key, value in DEFAULTS.items():
        again = coerce(key, value, "schema")
        assert again == value
        assert type(again) is type(value)


def test_a_part_takes_its_section_and_a_configuration_is_every_section():
    config = load_config("", {"lr": "2"})
    assert all(isinstance(config, section) for section in SECTIONS)
    assert Schedule(lr=1.5).lr == 1.5
    with pytest.raises(ValidationError):
        Schedule(lr=-1)
    with pytest.raises(ValidationError):
        Schedule(momentum=0.5)


def test_what_is_generated_from_the_schema_is_up_to_date():
    """python -m src.settings.generate writes both anew."""
    assert generate.DEFAULT_CONFIG.read_text(encoding="utf-8") == generate.default_config()
    assert json.loads(generate.RECIPE_SCHEMA.read_text(encoding="utf-8")) == generate.recipe_schema()
    assert read_yaml(generate.DEFAULT_CONFIG) == DEFAULTS
    assert max(map(len, generate.default_config().splitlines())) <= 120


def test_recipes_name_the_schema_that_editors_complete_from():
    schema = generate.recipe_schema()["properties"]
    for path in RECIPE_FOLDER.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n"), path
        assert read_yaml(path).keys() <= schema.keys()
    assert schema["lr_schedule"]["enum"] == list(choices_of("lr_schedule"))
    assert (schema["label_smoothing"]["minimum"], schema["label_smoothing"]["exclusiveMaximum"]) == (0, 1)
    kinds = [schema[key]["type"] for key in ("crop_scale", "cutout", "seed", "lr", "model_options")]
    assert kinds == ["array", "boolean", "integer", "number", "object"]


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
        ("cutout: maybe", "must be true or false"),
        ("data_path: [a, b]", "text"),
        ("mean: [0.5]", "3 numbers"),
        ("crop_scale: 0.5", "a list"),
        ("color_jitter: [0.4, 0.4, 0.4]", "4 numbers"),
        ("color_jitter: [0.4, 0.4, 0.4, 0.6]", "0.5, half the circle"),
        ("color_jitter: [0.4, -0.1, 0.4, 0.1]", "none is below 0"),
        ("crop_scale: [1.0, 0.08]", "the smallest, above 0, and the largest"),
        ("crop_scale: [0, 1]", "the smallest, above 0, and the largest"),
        ("crop_scale: [0.5, 1.1]", "no share is above 1"),
        ("crop_ratio: [1.5, 0.5]", "the smallest, above 0, and the largest"),
        ("mean: [124, 116, 104]", "divide by 255"),
        ("mean: [-0.1, 0.5, 0.5]", "none can be below 0"),
        ("std: [58, 57, 57]", "divide by 255"),
        ("std: [0.2, 0, 0.2]", "none can be 0"),
        ("lr_epochs: [60, 30]", "each above the one before"),
        ("lr_epochs: [0, 30]", "epochs from 1 on"),
        ("flops_bins: [360, 290, 10]", "a higher, and a width"),
        ("flops_bins: [290, 360, 0]", "a width that fits"),
        ("fixed_block_choices: [0, -1]", "counted from 0"),
        ("batch_size: 2000000", "from 1 to 1048576"),
        ("eval_resize: 100000", "from 0 to 4096"),
        ("image_size: 16", "0 or from 32 to 299"),
        ("image_size: 512", "0 or from 32 to 299"),
        ("label_smoothing: 1", "at least 0 and below 1"),
        ("rms_epsilon: 0", "above 0"),
        ("lr_epochs: [1.5]", "whole number"),
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


def test_a_recipe_has_128_kib_and_20_levels_at_most(recipe):
    assert read_yaml(recipe("#" * (1 << 17))) == {}
    for ahead in ("", "1, 2, 3, "):  # levels count, not items
        read_yaml(recipe(f"a: [{ahead}" + "[" * 18 + "]" * 19))
        with pytest.raises(UsageError, match="nested too deeply"):
            read_yaml(recipe(f"a: [{ahead}" + "[" * 19 + "]" * 20))


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
    for name in ("spnasnet_cpu", "spnasnet_gpu_8p", "spnasnet_gpu_8p.yaml"):
        (tmp_path / name).write_text("model: mnasnet")
        assert load_config(name).model == "mnasnet"  # a file here comes first, as with every name


def test_command_line_over_recipe_over_default(recipe):
    path = recipe("epochs: 7\nlr: 0.3\nmodel_options: {size: 1.0x, groups: 8}\n")
    config = parse_arguments(["--config_path", str(path), "--lr", "0.2", "--model_options.groups=3"], "train")
    assert (config.epochs, config.lr, config.seed) == (7, 0.2, DEFAULTS["seed"])
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
        (["--cutout", "off"], False),
        (["--cutout", "ON"], True),
        (["--cutout=0"], False),
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
        (["--cutout=perhaps"], "must be true or false"),
        (["--cutout", "none"], "--cutout must be true or false (yes, no, on, off, 1, 0 too), not 'none'"),
        (["--cutout", "n", "--seed", "3"], "not 'n'"),
        (["--cutout=n"], "not 'n'"),
        (["--run_distribute", "None"], "--run_distribute must be true or false"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(words, said):
    with pytest.raises(UsageError) as error:
        parse_arguments(words, "train")
    assert said in str(error.value)


def test_a_bare_argument_means_nothing_to_eval():
    with pytest.raises(UsageError, match="stands alone"):
        parse_arguments(["somewhere"], "eval")


def test_a_foreign_key_is_refused_with_the_program_it_belongs_to():
    for words, program, said in (
        ("--search_population 3", "train", "--search_population belongs to search.py; train.py has no use for it"),
        ("--per_class", "train", "belongs to eval.py; train.py"),
        ("--epochs 3", "search", "belongs to train.py; search.py"),
        ("--lr=1", "eval", "belongs to train.py; eval.py"),
        ("--label_smoothing 0.2", "export", "belongs to train.py and eval.py; export.py"),
        ("--run_dir x", "eval", "belongs to train.py and search.py; eval.py"),
        ("--export_subnet x", "train", "--export_subnet belongs to search.py; train.py"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            parse_arguments(words.split(), program)
    parse_arguments(["--config_path", "spnasnet_gpu_8p"], "eval")  # a recipe serves every program


@pytest.mark.parametrize("program", ["train", "search"])
def test_a_run_that_is_resumed_keeps_its_own_configuration(program, tmp_path):
    (tmp_path / "config.yaml").write_text("model: spos_oneshot\nseed: 5\nsearch_top: 2\nlr: 0.5\n")
    for words in (["--resume", str(tmp_path)], ["--run_dir", str(tmp_path), "--resume", "auto"]):
        config = parse_arguments([*words, "--batch_size", "7"], program)
        assert (config.model, config.seed, config.search_top, config.lr) == ("spos_oneshot", 5, 2, 0.5)
        assert config.batch_size == 7


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_holds_every_key_of_the_program_and_no_other(program, capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(["--seed", "3", "--help"], program)
    assert end.value.code == 0
    printed = capsys.readouterr().out
    own = {key for section in PROGRAMS[program] for key in section.model_fields} | COMMANDS.get(program, {}).keys()
    assert set(re.findall(r"^  --(\w+)", printed, re.MULTILINE)) == own
    assert max(map(len, printed.splitlines())) <= 170


def test_help_is_answered_only_where_it_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["--help", "--seed", "3"])
    answer_help("train")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.argv", ["train.py", "--seed", "3", "-h"])
    with pytest.raises(SystemExit) as end:
        answer_help("train")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python train.py")


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        ("--resume run", 7),
        ("--resume run/checkpoints/3.ckpt", 7),
        ("--resume auto --run_dir run", 7),
        ("--resume auto --run_dir run --epochs 9", 9),
        ("--resume auto --run_dir new", DEFAULTS["epochs"]),
        ("--run_dir run", DEFAULTS["epochs"]),
        ("--resume new --run_dir run", DEFAULTS["epochs"]),
        ("--resume run --config_path other.yaml", 8),
    ],
)
def test_a_run_goes_on_under_its_own_configuration(tmp_path, monkeypatch, words, epochs):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/config.yaml").write_text("epochs: 7\n")
    Path("other.yaml").write_text("epochs: 8\n")
    assert parse_arguments(words.split(), "train").epochs == epochs


def test_help_says_kind_default_meaning_limits_and_upstreams_flags(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["-h"], "train")
    printed = " ".join(capsys.readouterr().out.split())
    assert "--grad_clip NUMBER largest global L2 norm of the unscaled gradient (0: off) [0.0; at least 0]" in printed
    assert "--amp_level O0|O1|O2|O3 " in printed
    assert "--horizontal_flip NUMBER probability [0.5; from 0 to 1]" in printed
    assert "--cutout black out one random square of each training image [false]" in printed
    assert "--train_dataset_path" in printed
    assert "-j" in printed.split()


@pytest.mark.parametrize(
    ("words", "command", "rest"),
    [
        ("--export_subnet a.yaml --seed 3", ("export_subnet", "a.yaml"), "--seed 3"),
        ("--seed 3 --export-subnet=a.yaml", ("export_subnet", "a.yaml"), "--seed 3"),
        ("--export_subnet a.yaml --plot_samplers no --export_subnet b.yaml", ("export_subnet", "b.yaml"), ""),
        ("--model x --plot_samplers --seed 3", ("plot_samplers", "True"), "--model x --seed 3"),
        ("--plot-samplers on --seed 3", ("plot_samplers", "on"), "--seed 3"),
        ("--plot_samplers=1", ("plot_samplers", "1"), ""),
        ("--plot_samplers False --is_distributed true", ("", ""), "--is_distributed true"),
        ("--resume runs/search", ("", ""), "--resume runs/search"),
    ],
)
def test_a_command_of_a_program_is_taken_off_its_line(words, command, rest):
    assert split_command(words.split(), "search") == (*command, rest.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--export_subnet x --plot_samplers", "--export_subnet and --plot_samplers are asked for; search.py does one"),
        ("--seed 3 --export_subnet", "--export_subnet needs a value"),
        ("--export_subnet --seed 3", "--export_subnet needs a value"),
        ("--plot_samplers=none", "--plot_samplers must be"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(words, said):
    with pytest.raises(UsageError, match=said):
        split_command(words.split(), "search")


def test_configurations_saved_when_commands_were_keys_still_load(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("export_subnet: ''\nplot_samplers: false\nsearch_top: 4\n")
    assert load_config(path).search_top == 4
    assert saved_config({"export_subnet": "", "plot_samplers": False, "search_top": 4}, "net.ckpt").search_top == 4
    for text in ("export_subnet: best.yaml", "plot_samplers: true"):
        path.write_text(text)
        with pytest.raises(UsageError, match="there is no key"):
            load_config(path)


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
    config = config.replace(mean=shared, std=shared)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(path)
    assert again.values() == config.values()
    assert again.notes == config.notes
    assert "ünïcode" in path.read_text(encoding="utf-8")
    assert again.recipe == tmp_path.name


def test_an_older_run_with_operators_that_are_no_more_still_loads(recipe, capsys):
    assert load_config(recipe("cpu_operators: rewritten\n")).cpu_operators == "standard"
    assert capsys.readouterr().out == "note: recipe.yaml: cpu_operators rewritten is no more; standard stands for it\n"
    assert saved_config({"cpu_operators": "rewritten"}, "net.ckpt").cpu_operators == "standard"
    assert load_config(recipe("cpu_operators: fused\n")).cpu_operators == "fused"
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError, match="'rewritten'; it can be auto, fused, standard"):
        load_config("", {"cpu_operators": "rewritten"})


def test_a_configuration_does_not_change_but_can_be_replaced():
    config = load_config("", {"epochs": 3})
    with pytest.raises(ValidationError):
        config.epochs = 4
    with pytest.raises(AttributeError):
        _ = config.epoch
    assert (config.replace(epochs="4").epochs, config.epochs) == (4, 3)
    with pytest.raises(UsageError, match="replace"):
        config.replace(epoch=4)
