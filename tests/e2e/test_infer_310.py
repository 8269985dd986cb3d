"""From a checkpoint to the C++ application: the same answers as the Python pipeline, and every fault named.

These build ascend310_infer and fetch MindSpore Lite's wheel (169 MB, once) into the user's cache.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export
from src.data.classes import list_images
from src.data.dataset import EvalData
from src.export.parity import logits_of_network
from src.models import create_model
from src.preprocessing import Preprocessing
from tests.exported import checkpoint
from tests.images import encode, photo

pytestmark = pytest.mark.slow
CLASSES = ["class0", "class1", "class2"]


def shell(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command of the repository in ``folder``."""
    variables = {**os.environ, "DEVICE_TYPE": "CPU", **environment}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False)


def infer(root: Path, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return shell(folder, "bash", str(root / "scripts" / "run_infer_310.sh"), *arguments, **environment)


@pytest.fixture(scope="module")
def tests_folder(root: Path) -> Path:
    """The unit tests built under the sanitizers."""
    done = subprocess.run(
        ["bash", str(root / "ascend310_infer" / "build.sh"), "--sanitize"],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return root / "ascend310_infer" / "build" / "test-sanitize-ON"


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
    out = tmp_path / "pixels"
    command = [str(tests_folder / "preprocess_dump"), str(out), "64", "73", interpolation, kernel, *map(str, files)]
    subprocess.run(command, check=True, timeout=120)
    np.testing.assert_array_equal(np.fromfile(out, np.uint8).reshape(expected.shape), expected)


@pytest.mark.parametrize(
    ("model", "options", "batch"),
    [("shufflenetv1", {"size": "0.5x"}, "4"), ("spos_oneshot_plus", {}, "5"), ("mnasnet", {"alpha": 0.5}, "1")],
)
def test_results_equal_the_networks_image_by_image(root, tmp_path, photos, model, options, batch):
    path = checkpoint(tmp_path, model, CLASSES, **options)
    arguments = ["--mindir_for", "lite-2.0", "--batch_size", batch, "--file_name", str(tmp_path / "net")]
    export.main(["--checkpoint_path", str(path), "--image_path", str(photos / "val"), *arguments])
    done = infer(root, tmp_path, str(tmp_path / "net.mindir"), str(photos / "val"))
    assert done.returncode == 0, done.stdout + done.stderr

    files = list_images(photos / "val", {name: label for label, name in enumerate(CLASSES)})
    manifest = json.loads((tmp_path / "net.manifest.json").read_text())
    network = create_model(model, len(CLASSES), **options)
    from src.checkpoint import load_checkpoint

    load_checkpoint(path, network, model)
    preprocessing = Preprocessing.from_dict(manifest["preprocessing"])
    expected = logits_of_network(network, [file for file, _ in files], preprocessing, 13)
    index = [json.loads(line) for line in (tmp_path / "result_Files" / "index.jsonl").read_text().splitlines()]
    assert [entry["image"] for entry in index] == [str(file.relative_to(photos / "val")) for file, _ in files]
    actual = np.stack([np.fromfile(tmp_path / "result_Files" / f"{e['result']}_0.bin", np.float32) for e in index])
    assert np.abs(actual - expected).max() <= 1e-4 * max(1, np.abs(expected).max())

    hits = int((expected.argmax(1) == [label for _, label in files]).sum())
    assert (tmp_path / "acc.log").read_text() == f"Total data: 13, top1 accuracy: {hits / 13}, top5 accuracy: 1.0.\n"
    times = (tmp_path / "time_Result" / "test_perform_static.txt").read_text()
    assert times.startswith("NN inference cost average time: ")
    assert " ms of infer_count 13\n" in times


def test_bad_images_are_named_and_the_good_ones_predicted(root, tmp_path, photos):
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
