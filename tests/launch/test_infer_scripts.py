"""What the scripts of exported networks start: with programs in place of ours that only note how they were called."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Of the application's status alone the scripts make something.
PROGRAMS = {
    "build": ("ascend310_infer/build.sh", "0"),
    "main": ("ascend310_infer/out/main", "$(case $* in *lite_Model*) echo 0 ;; *) echo ${STATUS:-0} ;; esac)"),
    "python": ("../bin/python", "0"),
}


@pytest.fixture
def called(tmp_path):
    """``called(script, *words, **environment)``: exit status, and each program's words, in a folder with a network."""
    home, work, calls = tmp_path / "repository", tmp_path / "work", tmp_path / "calls"
    for folder in (home / "scripts", home / "ascend310_infer" / "out", tmp_path / "bin", work / "data"):
        folder.mkdir(parents=True)
    for name in ("infer.sh", "run_infer_310.sh", "run_infer_cpp.sh", "run_onnx.sh"):
        (home / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    for name, (place, status) in PROGRAMS.items():
        (home / place).write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\nexit {status}\n')
        (home / place).chmod(0o755)
    for name, text in (("net.mindir", ""), ("net.onnx", ""), ("pairs.txt", "1:0\n"), ("labels.json", '{"1.png": 0}')):
        (work / name).write_text(text)

    def run(script: str, *words: str, **environment: str) -> tuple[int, dict[str, list[str]]]:
        calls.unlink(missing_ok=True)
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **environment}
        command = ["bash", str(home / "scripts" / script), *words]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        lines = (
            (calls.read_text() if calls.exists() else "")
            .replace(f"{home}{os.sep}", "")
            .replace(f"{work}{os.sep}", "")
            .splitlines()
        )
        found: dict[str, list[str]] = {}
        for line in lines:
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
        return done.returncode, found

    return run


PREDICTED = "--mindir_path net.mindir --dataset_path data --result_path result_Files"
LABELS = "-m src.data.labels --img_path data --output_name imagenet_label.json"
SCORE = "postprocess.py --result_path result_Files"
# The flags by which postprocess.py knows whose words it is to use.
MADE = [LABELS, f"{SCORE} --label_path imagenet_label.json"]
PAIRS, JSON = f"{SCORE} --label_file pairs.txt", f"{SCORE} --label_file labels.json"
PREPROCESSED = "postprocess.py --result_dir result_Files --dataset_name imagenet2012"
PREPROCESS = [LABELS.replace("imagenet_label", "preprocess_Result/imagenet_label"), PREPROCESSED]


@pytest.mark.parametrize(
    ("words", "environment", "device", "python"),
    [
        ("net.mindir data", {}, "Ascend310 --device_id 0", MADE),
        ("net.mindir data 3", {"device_id": "5"}, "Ascend310 --device_id 3", MADE),
        ("net.mindir data", {"device_id": "5", "DEVICE_TYPE": "CPU"}, "CPU --device_id 5", MADE),
        ("net.mindir imagenet2012 data y 3", {"device_id": "5"}, "Ascend310 --device_id 3", PREPROCESS),
        ("net.mindir imagenet2012 data y", {"device_id": "5"}, "Ascend310 --device_id 5", PREPROCESS),
        ("net.mindir data pairs.txt 3", {"device_id": "5"}, "Ascend310 --device_id 3", [PAIRS]),
        ("net.mindir data labels.json", {"device_id": "5"}, "Ascend310 --device_id 5", [JSON]),
    ],
)
def test_each_originals_form_reaches_the_application(called, words, environment, device, python):
    status, found = called("run_infer_310.sh", *words.split(), **{"DEVICE_TYPE": "Ascend310", **environment})
    assert (status, found["main"], found["python"]) == (0, [f"{PREDICTED} --device_type {device}"], python)
    assert found["build"] == ["--fetch" if "CPU" in device else ""]  # the public package serves CPUs


def test_without_preprocessing_the_labels_are_those_that_are_there(called, tmp_path):
    words = ("run_infer_310.sh", "net.mindir", "imagenet2012", "data", "n")
    assert called(*words, DEVICE_TYPE="CPU") == (2, {})  # nothing was started
    folder = tmp_path / "work" / "preprocess_Result"
    folder.mkdir()
    (folder / "imagenet_label.json").write_text('{"1.png": 0}')
    assert called(*words, DEVICE_TYPE="CPU")[1]["python"] == [PREPROCESSED]


def test_a_machine_without_an_ascend_predicts_on_its_cpu(called):
    has_ascend = any(Path("/dev").glob("davinci[0-9]*"))
    found = called("run_infer_310.sh", "net.mindir", "data", "0")[1]
    assert found["main"] == [f"{PREDICTED} --device_type {'Ascend310' if has_ascend else 'CPU'} --device_id 0"]


def test_a_model_that_this_lite_cannot_build_is_rewritten_and_tried_once_more(called):
    status, found = called("run_infer_310.sh", "net.mindir", "data", STATUS="4", DEVICE_TYPE="CPU")
    on_cpu = "--device_type CPU --device_id 0"
    again = PREDICTED.replace("net.mindir", "lite_Model/net.mindir")
    assert (status, found["main"]) == (0, [f"{PREDICTED} {on_cpu}", f"{again} {on_cpu}"])
    assert found["python"] == ["-m src.export.mindir_v1 net.mindir lite_Model", *MADE]


def test_the_same_with_the_device_named(called):
    status, found = called("run_infer_cpp.sh", "net.mindir", "data", "", "GPU", "2")
    assert (status, found["main"], found["python"]) == (
        *(0, [f"{PREDICTED} --device_type GPU --device_id 2"]),
        [LABELS, f"{SCORE} --label_file imagenet_label.json"],
    )
    assert called("run_infer_cpp.sh", "net.mindir", "data", "pairs.txt", "CPU")[1]["python"] == [PAIRS]


def test_classes_are_numbered_as_the_export_numbers_them(called, tmp_path):
    (tmp_path / "work" / "net.manifest.json").write_text("{}")
    assert called("run_infer_310.sh", "net.mindir", "data")[1]["python"][0] == f"{LABELS} --class_map net.manifest.json"


def test_images_that_could_not_be_read_are_left_out_only_where_that_is_asked_for(called):
    for words, scored in (({}, None), ({"SKIP_BAD_IMAGES": "1"}, [f"{PAIRS} --skip_bad_images"])):
        status, found = called("run_infer_310.sh", "net.mindir", "data", "pairs.txt", STATUS="3", **words)
        assert (status, found.get("python")) == (0 if scored else 1, scored)
    assert called("run_infer_310.sh", "net.mindir", "data", STATUS="1", SKIP_BAD_IMAGES="1")[0] == 1


def test_onnx_runs_on_the_cpu_or_where_it_is_told(called):
    for words, device in (((), "CPU"), (("GPU",), "GPU")):
        status, found = called("run_onnx.sh", "net.onnx", "data", *words)
        assert status == 0
        assert found["python"] == [f"infer_onnx.py --onnx_path net.onnx --dataset_path data --device_target {device}"]
