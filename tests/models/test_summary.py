"""summary.py as a program."""

import json

import pytest

import summary
from src.errors import UsageError
from src.models import list_models


def output(capsys, *words: str) -> str:
    summary.main(list(words))
    return capsys.readouterr().out


def test_lists_every_network(capsys, monkeypatch):
    monkeypatch.setattr(summary, "list_models", lambda: list_models("m*"))
    text = output(capsys)
    assert "mnasnet: MnasNet" in text
    assert "alpha=0.5" in text
    assert "2,218,512 parameters" in text
    assert "104,455,968 MACs" in text
    assert "73.46% / 91.51%  alpha 1.0 (torchvision)" in text


def test_prints_the_layers_and_totals(capsys):
    lines = output(capsys, "--model", "mnasnet").splitlines()
    stem = "features.stem conv 3x3 2x2 1 3 32 112x112 928 10,838,016"
    assert lines[1].split() == stem.split()
    assert lines[-2].split() == ["total", "4,383,312", "314,415,872"]
    assert lines[-1].endswith("314,479,592")


def test_prints_the_table_and_scores_of_the_micronet_challenge(capsys):
    lines = output(capsys, "--model", "spos_oneshot_s_plus", "--micronet").splitlines()
    assert lines[-4] == "total,,,,,,3.652225,301.383552,288.32256,589.706112"
    scores = [float(line.rpartition(" ")[2]) for line in lines[-3:]]
    assert scores == pytest.approx([1.03, 0.640, 0.28], abs=0.005)  # published


@pytest.mark.parametrize(
    "words",
    [("--alpha", "0.5"), ("--alpha=0.5",), ("--model_options.alpha", "0.5"), ("--model_options", "{alpha: 0.5}")],
)
def test_takes_options_in_every_form(capsys, words):
    counted = json.loads(output(capsys, "--model", "mnasnet", "--num_classes", "10", *words, "--json"))
    assert counted["options"] == {"alpha": 0.5}
    assert counted["params"] == 2_218_512 - 990 * 1281


def test_json_goes_to_a_file(capsys, tmp_path):
    file = tmp_path / "cost.json"
    assert output(capsys, "--model", "spnasnet", "--image_size", "64", "--json", str(file)) == ""
    counted = json.loads(file.read_text())
    assert counted["model"] == "spnasnet"
    assert counted["image_size"] == 64
    assert counted["macs"] == sum(layer["macs"] for layer in counted["layers"]) < 333_467_072
    assert counted["params"] == 4_421_616
    assert counted["macs_with_pooling_and_bias"] == counted["macs"] + 1280 * 2 * 2 + 1000
    assert counted["layers"][0]["output_size"] == [32, 32]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "mnasnett"], "did you mean 'mnasnet'"),
        (["--model", "mnasnet", "--alpha", "0.6"], "there are 0.5, 0.75, 1.0, 1.3"),
        (["--model", "mnasnet", "--alfa", "0.5"], "did you mean 'alpha'"),
        (["--model", "mnasnet", "--alpha"], "'--alpha' is not understood"),
        (["--model", "mnasnet", "0.5"], "'0.5' is not understood"),
        (["--model", "mnasnet", "--alpha", "[1"], "cannot be read"),
        (["--model", "mnasnet", "--model_options", "5"], "must be a mapping"),
        (["--model", "mnasnet", "--image_size", "8"], "must be 32 to 299"),
        (["--model", "mnasnet", "--num_classes", "ten"], "invalid int value"),
        (["--model", "mnasnet", "--num_classes", "0"], "at least 1"),
        (["--json"], "say which network"),
        (["--alpha", "0.5"], "say which network"),
    ],
)
def test_wrong_usage(words, message):
    with pytest.raises(UsageError, match=message):
        summary.main(words)
