"""Rewrites a MindIR file of MindSpore 2.10 (version 3) as version 1, the newest that MindSpore Lite 2.0 reads.

Version 3 calls most operators as functions: what used to be attributes of a primitive are constant inputs of the
node. Here they become attributes again. Weights are not touched, so the file keeps its size and its numbers.

``python -m src.export.mindir_v1 FILE FOLDER`` writes FILE's network, and its manifest if it has one, into FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from google.protobuf.message import DecodeError

from src.errors import UsageError, run
from src.export.described import manifest_path, read_manifest
from src.files import replacing, sha256, write_sealed


def _schema() -> ModuleType:
    """MindSpore's classes of a MindIR file, read without the framework around them, which takes seconds to import.

    Raises:
        UsageError: there is no MindSpore on this machine.
    """
    package = importlib.util.find_spec("mindspore")
    if package is None or not package.submodule_search_locations:
        raise UsageError("a MindIR is rewritten with MindSpore's classes, and MindSpore is not installed here")
    file = Path(package.submodule_search_locations[0]) / "train" / "mind_ir_pb2.py"
    spec = importlib.util.spec_from_file_location("mind_ir_pb2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mind_ir = _schema()
VERSION = 1
READABLE = 3  # what MindSpore 2.10 writes
_REFERENCE = "REF::"
_VALUE = "value"
_FORMATS = {0: b"NCHW", 1: b"NHWC"}
_PAD_MODES = {1: b"SAME", 2: b"VALID"}

Attribute = mind_ir.AttributeProto


def _as_is(constant: Attribute) -> Attribute:
    return constant


def _name_from(names: dict[int, bytes]) -> Callable[[Attribute], Attribute]:
    def convert(constant: Attribute) -> Attribute:
        return Attribute(type=Attribute.STRING, s=names[constant.i])

    return convert


def _per_axis(constant: Attribute) -> Attribute:
    """(height, width) as the [N, C, H, W] that version 1 wants."""
    one = Attribute(type=Attribute.INT64, ints=[1])
    return Attribute(type=Attribute.TUPLE, values=[one, one, *constant.values])


_format, _pad_mode = _name_from(_FORMATS), _name_from(_PAD_MODES)

# Per operator, in the order of its inputs, the constants that become attributes. Other inputs stay.
_ATTRIBUTES: dict[str, dict[int, tuple[str, Callable[[Attribute], Attribute]]]] = {
    "Add": {},
    "AvgPool": {
        1: ("kernel_size", _per_axis),
        2: ("strides", _per_axis),
        3: ("pad_mode", _pad_mode),
        4: ("format", _format),
    },
    "BatchNorm": {
        5: ("is_training", _as_is),
        6: ("epsilon", _as_is),
        7: ("momentum", _as_is),
        8: ("format", _format),
    },
    "BiasAdd": {2: ("format", _format)},
    "Concat": {1: ("axis", _as_is)},
    "MatMul": {2: ("transpose_a", _as_is), 3: ("transpose_b", _as_is)},
    "Mul": {},
    "Muls": {},
    "ReLU": {},
    "ReLU6": {},
    "ReduceMean": {2: ("keep_dims", _as_is)},
    "Reshape": {},
    "Split": {1: ("axis", _as_is), 2: ("output_num", _as_is)},
    "Sub": {},
    "Transpose": {},
}


def rewrite_file(path: Path) -> None:
    """Replaces a MindIR file of version 3 by the same as version 1.

    Raises:
        UsageError: another version, or operators this module does not know; all of them are named.
    """
    _write(_rewritten(path), path)


def rewrite_into(path: Path, folder: Path) -> Path:
    """The same network as version 1 in a file of the same name in ``folder``, with a manifest if ``path`` has one.

    Raises:
        UsageError: as :func:`rewrite_file`; or ``path`` is not the file that its manifest describes.
    """
    described = read_manifest(path) if manifest_path(path).is_file() else None
    model = _rewritten(path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    _write(model, target)
    if described:
        manifest, entry = described
        entry |= {"bytes": target.stat().st_size, "sha256": sha256(target)}
        write_sealed(manifest_path(target), manifest)
    return target


def _rewritten(path: Path) -> mind_ir.ModelProto:
    model = mind_ir.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UsageError(f"{path} is no whole MindIR file") from error
    rewrite(model)
    return model


def _write(model: mind_ir.ModelProto, path: Path) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(model.SerializeToString())


def rewrite(model: mind_ir.ModelProto) -> None:
    """Rewrites ``model`` in place. Raises UsageError as :func:`rewrite_file` does, leaving ``model`` as it was."""
    if model.mind_ir_version != READABLE:
        raise UsageError(f"the MindIR file has version {model.mind_ir_version}, not the {READABLE} of MindSpore 2.10")
    if model.functions:
        raise UsageError("the MindIR file has sub-graphs, for which there is no rule")
    functions = {
        _REFERENCE + primitive.name: primitive.op_type
        for primitive in model.primitives
        if primitive.prim_type == mind_ir.PrimitiveProto.PRIMITIVE_FUNCTION
    }
    calls = [node for node in model.graph.node if node.op_type in functions]
    multiplied = [node for node in calls if functions[node.op_type] == "Muls"]
    unknown = {functions[node.op_type] for node in calls} - set(_ATTRIBUTES)
    if unknown:
        raise UsageError(f"MindIR version 1 cannot be written: no rule for {', '.join(sorted(unknown))}")

    constants = {node.output[0]: node.attribute[0] for node in model.graph.node if node.op_type == "Constant"}
    primitives: dict[bytes, mind_ir.PrimitiveProto] = {}
    for node in calls:
        _call_primitive(node, functions[node.op_type], constants, primitives)
    for node in multiplied:
        _number_to_tensor(node, model.graph, constants)
    _drop_unused_constants(model.graph)
    used = {node.op_type for node in model.graph.node}
    kept = [primitive for primitive in model.primitives if _REFERENCE + primitive.name in used]
    del model.primitives[:]
    model.primitives.extend([*kept, *primitives.values()])
    model.mind_ir_version = VERSION


def _call_primitive(
    node: mind_ir.NodeProto,
    op_type: str,
    constants: dict[str, Attribute],
    primitives: dict[bytes, mind_ir.PrimitiveProto],
) -> None:
    """Makes ``node`` call a primitive with attributes, one of ``primitives`` or a new one."""
    primitive = mind_ir.PrimitiveProto(op_type=op_type, prim_type=mind_ir.PrimitiveProto.PRIMITIVE)
    rules = _ATTRIBUTES[op_type]
    for position, (name, convert) in rules.items():
        attribute = primitive.attribute.add()
        attribute.CopyFrom(convert(constants[node.input[position]]))
        attribute.name = name
    kept = [name for position, name in enumerate(node.input) if position not in rules]
    del node.input[:]
    node.input.extend(kept)
    if op_type == "Muls":  # multiplication by a Python number, which version 1 does not have
        primitive.op_type = "Mul"
    shared = primitives.setdefault(primitive.SerializeToString(deterministic=True), primitive)
    shared.name = shared.name or f"{shared.op_type}:v1_{len(primitives)}"
    node.op_type = _REFERENCE + shared.name


def _number_to_tensor(node: mind_ir.NodeProto, graph: mind_ir.GraphProto, constants: dict[str, Attribute]) -> None:
    """Gives ``node`` its second input, a constant number, as a float32 tensor without dimensions.

    The number itself stays: a constant may serve several nodes.
    """
    number = constants[node.input[1]]
    name = f"{node.input[1]}:tensor"
    if name not in constants:
        value = np.float32(number.f if number.type == Attribute.FLOAT else number.i)
        tensor = mind_ir.TensorProto(name=f"{_VALUE}0", data_type=mind_ir.TensorProto.FLOAT, raw_data=value.tobytes())
        constants[name] = Attribute(name=_VALUE, type=Attribute.TENSORS, tensors=[tensor])
        graph.node.insert(0, mind_ir.NodeProto(name=name, op_type="Constant", output=[name]))
        graph.node[0].attribute.add().CopyFrom(constants[name])
    node.input[1] = name


def _drop_unused_constants(graph: mind_ir.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [node for node in graph.node if node.op_type != "Constant" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(kept)


def main(argv: list[str]) -> None:
    """The command line; see the module's description."""
    parser = argparse.ArgumentParser(prog="python -m src.export.mindir_v1", description=__doc__.split("\n\n")[0])
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    given = parser.parse_args(argv)
    if not given.file.is_file():
        raise UsageError(f"there is no file {given.file}")
    target = rewrite_into(given.file, given.folder)
    print(f"{given.file.name} is of MindSpore 2.10 and newer than this MindSpore Lite reads: rewritten as {target}")


if __name__ == "__main__":
    run(main)
