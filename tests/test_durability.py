"""Files are whole or absent: every one that is promised to survive is flushed before it gets its name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import onnx
import pytest
from mindspore import nn

from src.cpu import build
from src.data.check import check_folder
from src.data.labels import main as write_labels
from src.data.preprocessing import Preprocessing
from src.export import lite
from src.export.formats import write as write_graph
from src.export.graph import INPUT_NAME, graph_of
from src.export.manifest import write_manifest
from src.export.mindir_v1 import rewrite_file
from src.export.quantize import quantize_int8
from src.launch.rank_tables import write_table
from src.runs import results
from src.runs.curves import draw_curves
from src.runs.folder import METRICS, RunFolder
from src.settings.config import load_config
from src.space.cost import write_lookup_table
from src.space.spaces import LAYOUTS, Architecture
from src.supernet import latency, search_report
from src.supernet.searching import Candidate, tables_of
from tests.durability import assert_survives, names_given, recorded

ROOT = Path(__file__).resolve().parents[1]
ROW = {**dict.fromkeys(METRICS, 0.5), "epoch": 1}
RESULT = {
    **dict.fromkeys(results.COLUMNS, 1),
    "preprocessing": Preprocessing().to_dict(),
}


# -- every file that is promised to survive ------------------------------------------------------


def candidates() -> list[Candidate]:
    return [
        Candidate(index, 0, Architecture((0, 1, 2, 3, 0, index), (1, 2, 3, 4, 0, 1)), 0.5 - index / 10)
        for index in range(3)
    ]


def run_folder(folder: Path) -> list[str]:
    run = RunFolder(folder)
    run.write_config(load_config("", {"model": "mnasnet"}))
    run.write_json("classes.json", {"a": 0})
    run.write_json("result.json", {"top1": 0.5})
    run.write_metrics([ROW])
    draw_curves([ROW], folder / "curves.png", "net")
    return ["config.yaml", "classes.json", "result.json", "metrics.csv", "curves.png"]


def evaluation(folder: Path) -> list[str]:
    results.write_json([RESULT], RESULT, folder / "eval.json")
    results.write_csv([RESULT], folder / "eval.csv")
    results.write_per_class(np.eye(2, dtype=int), ["a", "b"], folder)
    return ["eval.json", "eval.csv", "per_class.csv", "confusion.png"]


def finished_search(folder: Path) -> list[str]:
    config = load_config("", {"model": "spos_oneshot", "model_options": {"layout": "digits"}, "search_top": 2})
    tables = tables_of(config, LAYOUTS["digits"])
    with pytest.MonkeyPatch.context() as patch:
        for picture in ("generations", "cloud", "path", "choices"):  # drawn by curves.save_picture like those of a run
            patch.setattr(search_report, f"draw_{picture}", lambda *_: None)
        search_report.write_results(
            folder, config, config, LAYOUTS["digits"], tables, candidates(), candidates(), "3 images"
        )
    return ["candidates.csv", "best.yaml", "top2.yaml", "index.html"]


def latency_table(folder: Path) -> list[str]:
    check = {"paths": 1, "rank_correlation": 1.0, "rank_correlation_of_macs": 1.0, "mean_relative_error": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "measure_table", lambda *_: {"header": {}, "check": check})
        patch.setattr(latency, "set_up", lambda *_: "CPU")
        latency.main([str(folder / "latency.json"), "--layout", "digits"])
    return ["latency.json"]


def lookup_table(folder: Path) -> list[str]:
    return [write_lookup_table(LAYOUTS["digits"], folder).name]


class _Net(nn.Cell):
    """A convolution and a classifier, the parts that are quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.classifier = nn.Conv2d(3, 4, 3), nn.Dense(4, 2)

    def construct(self, images: ms.Tensor) -> ms.Tensor:
        return self.classifier(self.convolution(images).mean((2, 3)))


def exported(file_format: str) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        name = f"net.{file_format.lower()}"
        write_graph(graph_of(_Net(), Preprocessing(8, 8), 1, False), folder / name, file_format)
        return [name]

    return write


def older_mindir(folder: Path) -> list[str]:
    cell = nn.Dense(4, 2)
    ms.export(cell, ms.Tensor(np.zeros((1, 4), np.float32)), file_name=str(folder / "net"), file_format="MINDIR")
    (folder / "net.mindir").chmod(0o600)
    rewrite_file(folder / "net.mindir")
    return ["net.mindir"]


def int8(folder: Path) -> list[str]:
    exported("ONNX")(folder)
    quantize_int8(folder / "net.onnx", folder / "int8.onnx", [np.ones((1, 3, 8, 8), np.float32)])
    onnx.checker.check_model(onnx.load(folder / "int8.onnx"))
    assert onnx.load(folder / "int8.onnx").graph.input[0].name == INPUT_NAME
    return ["int8.onnx"]


def int8_of_lite(folder: Path) -> list[str]:
    def converter(program: str, source: Path, output: Path, *settings: Path, seconds: float) -> str:
        output.with_suffix(".mindir").write_bytes(b"converted")
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lite, "_run", converter)
        lite.convert(folder / "net.onnx", folder / "net.mindir")
    return ["net.mindir"]


def manifest(folder: Path) -> list[str]:
    source = SimpleNamespace(
        model="net", model_options={}, num_classes=2, classes=("a", "b"), checkpoint=Path("net.ckpt"),
        preprocessing=Preprocessing(),
    )  # fmt: skip
    write_manifest(folder / "net.manifest.json", source, [], 0)
    return ["net.manifest.json"]


def operator_library(folder: Path) -> list[str]:
    sources = folder / "sources"
    sources.mkdir()
    (sources / "one.cc").write_text('extern "C" int one() { return 1; }\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SOURCES", sources)
        return [build._build(build.find_compiler(), folder, "key").name]


def check_result(folder: Path) -> list[str]:
    (folder / "train" / "cat").mkdir(parents=True)
    (folder / "train" / "cat" / "bad.jpg").touch()
    with recorded() as events:
        check_folder(folder / "train", {"cat": 0}, cache=folder)
    (name,) = names_given(events)
    assert name.endswith(".json")
    return [name]


def rank_table(folder: Path) -> list[str]:
    write_table({"server_list": []}, folder / "hccl.json")
    return ["hccl.json"]


def labels(folder: Path) -> list[str]:
    (folder / "images" / "cat").mkdir(parents=True)
    (folder / "images" / "cat" / "1.png").touch()
    for flag, name in (("--img_path", "labels.json"), ("--dataset_path", "labels.txt")):
        write_labels([flag, str(folder / "images"), "--output_name", str(folder / name)])
    return ["labels.json", "labels.txt"]


WRITERS = {
    "run folder": run_folder,
    "evaluation": evaluation,
    "search": finished_search,
    "latency table": latency_table,
    "lookup table": lookup_table,
    "ONNX": exported("ONNX"),
    "MindIR": exported("MINDIR"),
    "MindIR of version 1": older_mindir,
    "int8 ONNX": int8,
    "int8 MindIR": int8_of_lite,
    "manifest": manifest,
    "library of operators": operator_library,
    "result of a check": check_result,
    "rank table": rank_table,
    "labels": labels,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path, what):
    with recorded() as events:
        names = WRITERS[what](tmp_path)
    for name in names:
        assert_survives(tmp_path / name, events)
    assert not list(tmp_path.rglob(".writing-*"))
    assert names_given(events)[-len(names) :] == names


# -- nothing goes past them ----------------------------------------------------------------------

# Of no use after the process that wrote them: who waits for a download, ids and exit statuses of running ranks.
BY_HAND = {("machine/modelarts.py", "open"), ("launch/rank.py", "write_text")}
WRITING = {"write_text", "write_bytes", "savefig", "save_checkpoint", "export"}
SAFE = {"replacing", "TemporaryDirectory"}


def _name(call: ast.expr) -> str:
    function = call.func if isinstance(call, ast.Call) else call
    return getattr(function, "attr", getattr(function, "id", ""))


def _opens_to_write(call: ast.Call) -> bool:
    words = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    return _name(call) == "open" and any(set(mode) <= set("rwxb+t") and set(mode) & set("wx") for mode in modes)


def _writes(node: ast.AST, is_safe: bool = False) -> list[str]:
    """Methods that write a file, outside of a block whose result is put in its place whole."""
    found = []
    if isinstance(node, ast.With):
        is_safe = is_safe or any(_name(item.context_expr) in SAFE for item in node.items)
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if is_method and not is_safe and (_name(node) in WRITING or _opens_to_write(node)):
        found.append(_name(node))
    return found + [name for child in ast.iter_child_nodes(node) for name in _writes(child, is_safe)]


def test_no_file_is_written_in_place():
    found = set()
    for path in [*(ROOT / "src").rglob("*.py"), *ROOT.glob("*.py")]:
        name = str(path.relative_to(ROOT)).removeprefix("src/")
        found |= {(name, written) for written in _writes(ast.parse(path.read_text(encoding="utf-8")))}
    assert found == BY_HAND
