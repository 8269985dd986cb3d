"""From training to the C++ application: the same answers as the Python pipeline, and every fault named.

These build ascend310_infer, run its unit tests, and fetch MindSpore Lite's wheel (169 MB, once) into the user's cache.
Where the compiler, a library or the wheel cannot be had, they are skipped with build.sh's own words.
"""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

import eval as evaluation
import export
import train
from src.data.dataset import EvalData
from src.data.folders import list_images
from src.data.preprocessing import Preprocessing
from src.data.sample import write_sample
from src.export import lite
from src.export.described import read_manifest
from src.export.mindir_v1 import rewrite_into
from src.export.parity import logits_of_network, some_images
from src.models import create_model
from src.weights.loading import load_checkpoint
from tests.exported import checkpoint
from tests.images import SIDE, accepted_files, encode, photo, refused_files, write_files

CLASSES = ["class0", "class1", "class2"]
PLAIN = "as typed, é"
LACKING = 3  # build.sh's exit status when this machine cannot build it


def shell(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command of the repository in ``folder``, `python` being this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "DEVICE_TYPE": "CPU", **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)


def infer(root: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return shell(folder, "bash", str(root / "scripts" / "run_infer_310.sh"), *arguments, **environment)


def build(root: Path, *flags: str) -> Path:
    """Runs build.sh, or skips the test where the machine lacks something."""
    done = shell(root, "bash", str(root / "ascend310_infer" / "build.sh"), *flags)
    if done.returncode == LACKING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root / "ascend310_infer"


@pytest.fixture(scope="module")
def application(root: Path) -> Path:
    """The folder of the built programs."""
    return build(root, "--fetch") / "out"


@pytest.fixture(scope="module")
def tests_folder(root: Path) -> Path:
    """Where the C++ unit tests and what belongs to them are built; they have run and passed."""
    return build(root, "--test") / "build" / "release"


def results(folder: Path) -> dict[str, np.ndarray]:
    """Image path to logits."""
    index = [json.loads(line) for line in (folder / "result_Files" / "index.jsonl").read_text().splitlines()]
    return {
        entry["image"]: np.fromfile(folder / "result_Files" / f"{entry['result']}_0.bin", np.float32)
        for entry in index
        if "result" in entry
    }


def network_logits(checkpoint_path: Path, manifest: dict, files: list[Path]) -> np.ndarray:
    """What the network of a checkpoint answers for images, in Python."""
    network = create_model(manifest["model"], manifest["num_classes"], **manifest["model_options"])
    load_checkpoint(checkpoint_path, network, manifest["model"])
    return logits_of_network(network, files, Preprocessing.from_dict(manifest["preprocessing"]), 24)


@pytest.fixture(scope="module")
def trained(application: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits, a run of two epochs on them, its network exported as it is by default into ``as typed, é``,
    and the MindIR of that for Lite.

    All in this process: test_failures.py and test_interruption.py start programs as their users do.
    """
    folder = tmp_path_factory.mktemp("trained")
    write_sample(folder / "digits")
    words = (
        f"--config_path digits --model {tiny_model} --model_options.channels 64 --epochs 2 --lr 0.1 --warmup_epochs 0"
    )
    train.main(f"{words} --data_path {folder}/digits --run_dir {folder}/run".split())
    ms.set_context(mode=ms.PYNATIVE_MODE)
    words = f"--checkpoint_path {folder}/run --file_format MINDIR ONNX --file_name".split()
    export.main([*words, str(folder / PLAIN / "net")])
    rewrite_into(folder / PLAIN / "net.mindir", folder)
    return folder


def test_each_image_gets_the_class_that_evaluation_gives_it(root, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for eval_log.txt
    digits = trained / "digits"
    words = f"--checkpoint_path {trained}/run --json {tmp_path}/eval.json --per_class --mode pynative"
    evaluation.main(words.split())
    # Without an Ascend and with what plain export.py writes, which the only Lite that can be had does not read.
    file = trained / PLAIN / "net.mindir"
    done = infer(root, tmp_path, str(file), str(digits / "val"), "0", DEVICE_TYPE="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no Ascend here: predicting on the CPU" in done.stdout
    assert "net.mindir is of MindSpore 2.10 and newer than this MindSpore Lite reads" in done.stdout
    assert (tmp_path / "lite_Model" / "net.mindir").read_bytes() == (trained / "net.mindir").read_bytes()

    evaluated = json.loads((tmp_path / "eval.json").read_text())
    assert 0.2 < evaluated["top1"] < 1, "two epochs tell the digits apart, not all of them"
    accuracies = f"top1 accuracy: {evaluated['top1']}, top5 accuracy: {evaluated['top5']}."
    assert (tmp_path / "acc.log").read_text() == f"Total data: 360, {accuracies}\n"

    manifest, _ = read_manifest(trained / "net.mindir")
    answers = results(tmp_path)
    files = [path for path, _ in list_images(digits / "val", {name: int(name) for name in manifest["classes"]})]
    expected = network_logits(Path(evaluated["checkpoint"]), manifest, files)
    actual = np.stack([answers[str(path.relative_to(digits / "val"))] for path in files])
    assert np.abs(actual - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    np.testing.assert_array_equal(actual.argmax(1), expected.argmax(1))
    with (tmp_path / "per_class.csv").open(newline="") as table:
        hits = [round(int(row["images"]) * float(row["top1"])) for row in csv.DictReader(table)]
    labels = np.array([int(path.parent.name) for path in files])
    np.testing.assert_array_equal(np.bincount(labels[actual.argmax(1) == labels], minlength=10), hits)


def test_the_application_says_what_it_did_and_refuses_what_it_must(trained, application, tmp_path):
    """Its exit statuses, files and lines over a folder of six images, two of them bad."""
    model, data, manifest = tmp_path / "net.mindir", tmp_path / "images", tmp_path / "net.manifest.json"
    model.write_bytes((trained / "net.mindir").read_bytes())
    data.mkdir()
    for i in range(4):
        (data / f"{i}.png").write_bytes(encode(photo(i, 40, 57), "PNG"))
    (data / "empty.png").write_bytes(b"")
    (data / "line\nbreak.jpg").write_bytes(b"text")

    def main(name: str, *more: str) -> subprocess.CompletedProcess:
        paths = ["--mindir_path", str(model), "--dataset_path", str(data), "--result_path", str(tmp_path / name)]
        paths += ["--threads", "1"]
        return shell(tmp_path, str(application / "main"), *paths, *more)

    # Without a manifest ImageNet's preprocessing, at the model's size: a short side of 256/224 of it.
    assumed = json.loads((trained / "net.manifest.json").read_text())
    side = assumed["preprocessing"]["image_size"]
    done = main("assumed")
    assert done.returncode == 3
    assert f"no {manifest}: ImageNet's preprocessing is assumed" in done.stderr
    assert "cannot read empty.png: it is empty\n" in done.stderr
    assert r'cannot read "line\nbreak.jpg": it is neither JPEG nor PNG' in done.stderr
    assert done.stderr.endswith("error: 2 of 6 images could not be read\n")
    index = [json.loads(line) for line in (tmp_path / "assumed" / "index.jsonl").read_text().splitlines()]
    assert [entry.get("error", entry.get("result")) for entry in index] == [
        *"0123",
        "it is empty",
        "it is neither JPEG nor PNG",
    ]
    times = (tmp_path / "time_Result" / "test_perform_static.txt").read_text().splitlines()
    assert re.fullmatch(r"NN inference cost average time: [0-9.e-]+ ms of infer_count 4", times[0])
    assert times[1].startswith("predict, ms per batch of ")
    for image in ("empty.png", "line\nbreak.jpg"):
        (data / image).unlink()

    assumed["preprocessing"] |= {"resize": round(side * 256 / 224), "interpolation": "bilinear"}
    assumed["preprocessing"] |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assumed["preprocessing"]["resize_kernel"] = "mindspore"
    manifest.write_text(json.dumps(assumed))
    assert main("written").returncode == 0
    for i in range(4):
        both = [(tmp_path / name / f"{i}_0.bin").read_bytes() for name in ("assumed", "written")]
        assert both[0] == both[1]
        assert len(both[0]) == 4 * assumed["num_classes"]

    done = main("written")
    assert (done.returncode, "is not empty" in done.stderr) == (2, True)
    done = main("timed", "--benchmark", "3")
    assert (done.returncode, (tmp_path / "timed").exists()) == (0, False)
    text = manifest.read_text()
    for damaged, said in [
        (text.replace(f'"image_size": {side}', f'"image_size": {side - 1}'), f"image_size is {side - 1}"),
        (text[:-2], f"net.manifest.json: not JSON at byte {len(text) - 2}"),
        (text.replace('"resize_kernel": "mindspore"', '"resize_kernel": 3'), "resize_kernel must be a string"),
        (text.replace(hashlib.sha256(model.read_bytes()).hexdigest(), "0" * 64), "checksum of the model is another"),
    ]:
        manifest.write_text(damaged)
        done = main("refused")
        assert done.returncode == 2, said
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "refused").exists()


def test_lites_own_converter_makes_the_same_of_the_onnx_file(trained, tmp_path):
    lite.convert(trained / PLAIN / "net.onnx", tmp_path / "net.mindir")
    manifest = json.loads((trained / "net.manifest.json").read_text())
    entry = next(entry for entry in manifest["files"] if entry["format"] == "MINDIR")
    entry["sha256"] = hashlib.sha256((tmp_path / "net.mindir").read_bytes()).hexdigest()
    (tmp_path / "net.manifest.json").write_text(json.dumps(manifest))
    images = some_images(trained / "digits" / "val", 20)
    ours, theirs = (
        lite.logits_of_lite(at / "net.mindir", at / "net.manifest.json", images) for at in (trained, tmp_path)
    )
    assert np.abs(ours - theirs).max() < 1e-4 * max(1, np.abs(ours).max())


@pytest.mark.slow
def test_int8_through_lites_converter(application, tmp_path, photos):
    path = checkpoint(tmp_path, "mnasnet", CLASSES, alpha=0.5)
    flags = ["--quantize", "int8", "--calibration_path", str(photos / "train"), "--calibration_images", "8"]
    common = ["--checkpoint_path", str(path), "--val_data_path", str(photos / "val"), "--batch_size", "2"]
    export.main([*common, *flags, "--file_name", str(tmp_path / "net")])
    manifest, entry = read_manifest(tmp_path / "net_int8.mindir")
    assert (manifest["merged_batch_norms"] > 0, entry["format"], entry["input"]["shape"][0]) == (True, "MINDIR", 2)
    cost = entry["quantization"]
    assert entry["bytes"] < 0.9 * cost["float_bytes"]
    assert cost["accuracy"]["images"] == cost["float_accuracy"]["images"] == 13
    assert 0 < entry["parity"]["largest_difference"] < 0.5 * entry["parity"]["largest_logit"]


@pytest.mark.parametrize("kernel", ["mindspore", "pil"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_equal_the_python_pipelines(tests_folder, tmp_path, kernel, interpolation):
    files = []
    for seed, (width, height) in enumerate([(640, 427), (300, 500), (64, 146), (33, 35), (1, 9), (500, 90)]):
        for form in ("JPEG", "PNG"):
            files.append(tmp_path / f"{seed}.{form.lower()}")
            files[-1].write_bytes(encode(photo(seed, height, width), form))
    files.append(tmp_path / "gray.jpg")
    files[-1].write_bytes(encode(Image.fromarray(photo(9)).convert("L"), "JPEG"))
    files.append(tmp_path / "alpha.png")
    files[-1].write_bytes(encode(Image.fromarray(photo(10)).convert("RGBA"), "PNG"))
    preprocessing = Preprocessing(
        image_size=64, resize=73, interpolation=interpolation, resize_kernel=kernel, mean=(0,) * 3, std=(1 / 255,) * 3
    )
    batches = [images.asnumpy() for images, _, _ in EvalData([(path, 0) for path in files], preprocessing, 1, 1)]
    expected = np.rint(np.concatenate(batches)).astype(np.uint8).transpose(0, 2, 3, 1)
    done, pixels = dump(tests_folder, tmp_path, "64", "73", interpolation, kernel, *files)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(pixels.reshape(expected.shape), expected)


def test_what_training_reads_is_read_and_what_it_refuses_is_refused(tests_folder, tmp_path):
    """Every odd file of the tests of `src.data`. BMP and WebP are named; a strip's side has no limit here."""
    accepted, refused = accepted_files(), {name: file for name, file in refused_files().items() if name != "strip.png"}
    write_files(tmp_path, accepted | refused)
    side = str(SIDE)
    for name in accepted | refused:
        done, pixels = dump(tests_folder, tmp_path, side, side, "bilinear", "pil", tmp_path / name)
        if name in refused:
            assert done.returncode == 1, name
            assert done.stderr.startswith("error: "), name
            assert done.stderr.count("\n") == 1, name
        elif accepted[name].content.startswith((b"BM", b"RIFF")):
            assert "BMP or WebP" in done.stderr, name
        else:
            expected = np.broadcast_to(accepted[name].pixels, (SIDE, SIDE, 3))
            np.testing.assert_array_equal(pixels.reshape(expected.shape), expected, name)


def dump(tests_folder: Path, folder: Path, *arguments: str | Path) -> tuple[subprocess.CompletedProcess, np.ndarray]:
    """A run of preprocess_dump, and the bytes that it wrote."""
    out = folder / "pixels"
    out.unlink(missing_ok=True)
    command = [str(tests_folder / "preprocess_dump"), str(out), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done, np.fromfile(out, np.uint8) if out.exists() else np.zeros(0, np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options", "batch", "form", "line"),
    [
        ("shufflenetv1", {"size": "0.5x"}, "4", "{data} {labels} 0", "Top_1_Acc={0:.4%}, Top_5_Acc=100.0000%\n"),
        ("spos_oneshot_plus", {}, "5", "{data}", "Total data: 13, top1 accuracy: {0}, top5 accuracy: 1.0.\n"),
        ("mnasnet", {"alpha": 0.5}, "1", "imagenet2012 {data} y", "Top1 acc:  {0}\nTop5 acc:  1.0\n"),
    ],
)
def test_results_equal_the_networks_image_by_image(
    root, application, tmp_path, photos, model, options, batch, form, line
):
    """In the form, and in the words, of each original."""
    path = checkpoint(tmp_path, model, CLASSES, **options)
    arguments = ["--batch_size", batch, "--file_name", str(tmp_path / "net")]
    export.main(["--checkpoint_path", str(path), "--image_path", str(photos / "val"), *arguments])
    files = list_images(photos / "val", {name: label for label, name in enumerate(CLASSES)})
    labels = {str(file.relative_to(photos / "val")): label for file, label in files}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    words = form.format(data=photos / "val", labels=tmp_path / "labels.json").split()
    done = infer(root, tmp_path, str(tmp_path / "net.mindir"), *words)
    assert done.returncode == 0, done.stdout + done.stderr

    manifest, _ = read_manifest(tmp_path / "net.mindir")
    expected = network_logits(path, manifest, [file for file, _ in files])
    answers = results(tmp_path)
    assert list(answers) == [str(file.relative_to(photos / "val")) for file, _ in files]
    actual = np.stack(list(answers.values()))
    assert np.abs(actual - expected).max() <= 1e-4 * max(1, np.abs(expected).max())

    hits = int((expected.argmax(1) == [label for _, label in files]).sum())
    assert (tmp_path / "acc.log").read_text() == line.format(hits / 13)
    times = (tmp_path / "time_Result" / "test_perform_static.txt").read_text()
    assert times.startswith("NN inference cost average time: ")
    assert " ms of infer_count 13\n" in times


@pytest.mark.slow
def test_bad_images_are_named_and_the_good_ones_predicted(root, application, tmp_path, photos):
    path = checkpoint(tmp_path, "mnasnet", CLASSES, alpha=0.5)
    export.main(["--checkpoint_path", str(path), "--mindir_for", "lite-2.0", "--file_name", str(tmp_path / "net")])
    data = tmp_path / "odd data"
    for label, name in enumerate(CLASSES):
        (data / name).mkdir(parents=True)
        (data / name / "same.jpg").write_bytes(encode(photo(label), "JPEG"))
    (data / "class1" / "-dash $(x); 'q'.PNG").write_bytes(encode(photo(7), "PNG"))
    (data / "class1" / "two.dots.in name.jpeg").write_bytes(encode(photo(8), "JPEG"))
    (data / "class1" / "empty.jpg").write_bytes(b"")
    (data / "class2" / "cut.jpg").write_bytes(encode(photo(9), "JPEG")[:300])
    (data / "class2" / "text.png").write_text("no image")

    done = infer(root, tmp_path, str(tmp_path / "net.mindir"), str(data))
    assert done.returncode == 1
    assert "execute inference failed" in done.stderr
    log = (tmp_path / "infer.log").read_text()
    for name in ("class1/empty.jpg: it is empty", "class2/cut.jpg: it is truncated", "class2/text.png: it is neither"):
        assert f"error: cannot read {name}" in log
    assert len(list((tmp_path / "result_Files").glob("*_0.bin"))) == 5

    done = infer(root, tmp_path, str(tmp_path / "net.mindir"), str(data), SKIP_BAD_IMAGES="1")
    assert done.returncode == 0, done.stderr
    assert "Total data: 5, " in (tmp_path / "acc.log").read_text()
    assert (tmp_path / "result_Files.1").is_dir()  # the first run's results are kept

    (tmp_path / "net.mindir").write_bytes((tmp_path / "net.mindir").read_bytes()[:-1] + b"x")
    done = infer(root, tmp_path, str(tmp_path / "net.mindir"), str(data))
    assert done.returncode == 1
    assert "checksum" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Usage"),
        (("only",), "Usage"),
        (("no.mindir", "."), "no file 'no.mindir'"),
        (("a.mindir", "nowhere"), "no folder"),
        (("a.mindir", ".", "nolabels", "0"), "LABEL_FILE"),
        (("a.mindir", "imagenet2012", ".", "maybe"), "NEED_PREPROCESS"),
    ],
)
def test_wrong_arguments_are_named(root, tmp_path, arguments, message):
    (tmp_path / "a.mindir").write_bytes(b"")
    done = infer(root, tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
