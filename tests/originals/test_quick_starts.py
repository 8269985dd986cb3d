"""The quick starts of the five documents, typed line by line in a fresh clone, on the digits.

What asks for an Ascend or a GPU is typed as it stands and gets as far as that. The document's steps are also typed with
the CPU in the device's place, made short by flags behind them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.cpu.build import cache_folder
from src.data.sample import write_sample
from tests.originals.table import ROOT, Item, all_items
from tests.originals.typed import as_typed

pytestmark = pytest.mark.slow
# Behind a line that trains: three steps on small images.
SHORT = "--epochs 1 --max_steps 3 --batch_size 8 --image_size 32 --workers 1 --cutout False --lr 0.01 "
SHORT += "--amp_level O0 --loss_scale_mode none"
# A document's training, with the CPU in the device's place.
TRAINING = {
    "spnasnet": "python train.py --device_id=0 --device_target=CPU --data_path=data/train --model spnasnet",
    "proxylessnas_mobile": "bash scripts/run_standalone_train_cpu.sh data --model proxylessnas_mobile",
    "shufflenetv1": "python train.py --train_dataset_path data/train --model shufflenetv1",
    "mnasnet": "bash ./test/train_full_1p.sh --data_path=data --device_target CPU",
    "spos": "bash scripts/run_standalone_train_cpu.sh data spos_supernet_digits",
}
# Beginning as the scripts name them, which look for the newest.
RUNS = {document: f"{'spos_supernet' if document == 'spos' else document}_short" for document in TRAINING}
MORE = {"mnasnet": "--max_steps 0 --batch_size 240"}  # a whole epoch, whose end has lines of its own
LACKING = 3  # build.sh's exit status when this machine cannot build the C++ application
# What the documents' authors had, and a reader has.
READERS = {
    r"~/hccl_8p.json|/home/hccl_8p_01234567.json": "table.json",
    r"/home/DataSet/ImageNet_Original/train|/imagenet/train": "data/train",
    r"/home/DataSet/ImageNet_Original/validation_preprocess|/path/to/imagenet/val/|/imagenet/val|/dataset\b": "data",
}
CHECKPOINT = r"(\./)?ckpt_0|net\.ckpt|\S*/shufflenetv1-250_1251|\S*/proxylessnas-mobile-rank3-328_1223\.ckpt"


class Clone:
    """A fresh clone with the digits in ``data``, and a home with an ImageNet: the same."""

    def __init__(self, folder: Path):
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        write_sample(folder / "data")
        devices = [{"device_id": f"{n}", "device_ip": f"10.0.0.{n}", "rank_id": f"{n}"} for n in range(8)]
        server = {"server_id": "10.0.0.9", "device": devices, "host_nic_ip": "reserve"}
        table = {"version": "1.0", "server_count": "1", "server_list": [server], "status": "completed"}
        (folder / "table.json").write_text(json.dumps(table))
        (folder / "home").mkdir()
        (folder / "home" / "imagenet").symlink_to(folder / "data")
        caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        with (folder / "gpu_default_config.yaml").open("a") as file:  # as a reader edits it
            file.write("train_dataset_path: data/train\n")
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # `python` is this one
            "VIRTUAL_ENV": sys.prefix,
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": caches,
            "NAS_CPU_CACHE": str(cache_folder()),
            "DEVICE_TYPE": "CPU",
        }
        self.trained: dict[str, str] = {}

    def typed(self, line: str) -> subprocess.CompletedProcess:
        """What a shell makes of a line."""
        command, at = ["bash", "-c", line], self.folder
        return subprocess.run(command, cwd=at, env=self.environment, capture_output=True, text=True, timeout=900)

    def works(self, line: str) -> str:
        """The output of a line that must end well."""
        done = self.typed(line)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def refused(self, line: str) -> str:
        """What a line that must be refused says."""
        done = self.typed(line)
        assert done.returncode == 2, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout + done.stderr

    def train(self, document: str) -> str:
        """The output of a document's training, which is done once; its checkpoint is ``checkpoint(document)``."""
        if document not in self.trained:
            line, run = TRAINING[document], RUNS[document]
            short = "--epochs 1 --max_steps 4" if document == "spos" else SHORT
            self.trained[document] = self.works(f"{line} {short} --run_dir runs/{run} {MORE.get(document, '')}")
        return self.trained[document]

    def checkpoint(self, document: str) -> Path:
        self.train(document)
        (found,) = (self.folder / "runs" / RUNS[document] / "checkpoints").glob("*.ckpt")
        return found.relative_to(self.folder)

    def predict(self, words: str, said: str) -> None:
        """run_infer_310.sh, where the C++ application can be built, ends with these words in acc.log."""
        if self.typed("bash ascend310_infer/build.sh --fetch").returncode != LACKING:
            self.works(f"bash scripts/run_infer_310.sh {words}")
            assert re.fullmatch(said, (self.folder / "acc.log").read_text().strip())


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone") / "mobile-nas")


def test_single_path_nas(clone):
    asked = clone.refused(TRAINING["spnasnet"].removesuffix(" --model spnasnet"))
    assert "python train.py --model NAME" in asked
    folder = clone.checkpoint("spnasnet").parent
    evaluate = f"python eval.py --checkpoint_path=./{folder} --val_data_path=data/val --device_id=0"
    clone.works(f"{evaluate} --device_target=CPU > ./eval.log 2>&1")
    said = (clone.folder / "eval.log").read_text()
    assert "360 of 360 images" in said and "top_1_accuracy" in said
    clone.works(f"python export.py --ckpt_file {clone.checkpoint('spnasnet')} --device_target CPU")
    clone.predict("spnasnet.mindir data/val 0", r"Total data: 360, top1 accuracy: [\d.]+, top5 accuracy: [\d.]+\.")


def test_proxylessnas(clone):
    assert "proxylessnas_mobile on 1 CPU" in clone.train("proxylessnas_mobile")
    checkpoint = clone.checkpoint("proxylessnas_mobile")
    said = clone.works(f"cd scripts && bash run_eval_cpu.sh ../data/val ../{checkpoint}")
    assert re.search(r"acc=\d+\.\d\d%\(TOP1\)", said)
    for file_format in ("ONNX", "MINDIR"):
        flags = f"--device_target CPU --checkpoint {checkpoint} --file_format {file_format} --file_name proxyless"
        clone.works(f"python export.py {flags}")
    assert (clone.folder / "proxyless.onnx").is_file()
    clone.predict("proxyless.mindir imagenet2012 data/val y 0", r"Top1 acc:  [\d.]+\nTop5 acc:  [\d.]+")


def test_shufflenet_learns_other_classes_by_the_file_that_its_document_edits(clone):
    settings = clone.folder / "transfer_config.yaml"
    text = settings.read_text()
    hub = "from mindspore_hub_conf import create_network; import mindspore"
    save = "mindspore.save_checkpoint(create_network('shufflenetv1', 1000, pooling='same'), 'imagenet.ckpt')"
    clone.works(f'python -c "{hub}; {save}"')  # in place of the download
    text = text.replace('resume: ""', "resume: imagenet.ckpt").replace('dataset_path: ""', "dataset_path: data/val")
    settings.write_text(text)
    said = clone.works(f"python train.py --config_path=./transfer_config.yaml {SHORT} --run_dir runs/flowers")
    assert "290 training images" in said and "70 validation images" in said  # 80 to 20, class by class
    said = clone.works("python eval.py --config_path=./transfer_config.yaml --checkpoint_path runs/flowers")
    assert "70 of 70 images" in said and "'Top_1_Acc'" in said
    clone.works("python predict.py data/val/3 --checkpoint_path runs/flowers --sheet flowers.png")
    assert (clone.folder / "flowers.png").is_file()


def test_mnasnet(clone):
    full = clone.train("mnasnet")
    assert "FPS" in full and "Acc@1" in full
    performance = "bash ./test/train_performance_1p.sh --data_path=data --device_target CPU"
    said = clone.works(f"{performance} {SHORT}")
    assert re.search(r"FPS: [\d.]+ images/s", said) and "Acc@1" not in said
    flags = "--device cpu --workers 1 --epochs 1 --batch-size 8 --lr 0.1 --momentum 0.9 --weight-decay 0.0001"
    clone.works(f"python train.py data --model mnasnet {flags} --max_steps 2 --image_size 32")


def test_spos(clone):
    clone.train("spos")
    small = "--search_population 2 --search_retain 2 --search_generations 1 --calibration_images 64"
    search = "bash scripts/run_search_cpu.sh data spos_search_digits --supernet runs/spos_supernet_short"
    clone.works(f"{search} {small} --run_dir runs/search")
    clone.works("python train.py --config_path runs/search/best.yaml --data_path data --epochs 1 --max_steps 3")


# mpirun's own line needs OpenMPI and eight GPUs before anything is read.
STARTS = [item for item in all_items() if item.kind == "starts" and not item.words.startswith("mpirun")]
FOR_A_DEVICE = [item for item in STARTS if item.target in ("Ascend", "GPU")]


@pytest.mark.parametrize("item", FOR_A_DEVICE, ids=[f"{item.document}: {item.words}" for item in FOR_A_DEVICE])
def test_a_line_for_a_device_gets_as_far_as_asking_for_it(clone, item):
    if item.expected != "train":  # an evaluation, export or search reads its checkpoint first
        clone.train(item.document)
    said = clone.refused(line_of(item, clone))
    needs_mpirun = item.target == "GPU" and item.details.get("ranks") and not shutil.which("mpirun")
    assert ("mpirun is not on PATH" if needs_mpirun else f"finds no {item.target} here") in said


def line_of(item: Item, clone: Clone) -> str:
    """The line of a document as it is typed at the top of the clone."""
    line = as_typed(item.words, item.target)
    for authors, readers in READERS.items():
        line = re.sub(authors, readers, line)
    if re.search(CHECKPOINT, line):
        line = re.sub(CHECKPOINT, str(clone.checkpoint(item.document)), line)
    if line.startswith(("python", "bash ./test/")):
        return f"{line} {item.details.get('add', '')}"
    return re.sub(r"^(ba)?sh (\./)?(scripts/)?", f"bash scripts/{item.document}/", line)
