"""Exports a checkpoint: python export.py --checkpoint_path FILE_OR_RUN --file_format MINDIR ONNX [--batch_size N]."""

from __future__ import annotations

import argparse
import sys

from src.errors import RunFailed, UsageError, run
from src.export.described import SUFFIX
from src.export.formats import FORMATS, runner, write
from src.export.graph import graph_of
from src.export.int8 import check_int8, export_int8
from src.export.manifest import file_entry, write_manifest
from src.export.merge_bn import merge_batch_norm
from src.export.mindir_v1 import rewrite_file
from src.export.options import name_of, parse
from src.export.parity import compare, logits_of_file, logits_of_network, some_images
from src.export.source import Source, source_of
from src.machine.device import set_up
from src.machine.modelarts import on_modelarts
from src.runs.folder import checkpoints_of


def main(argv: list[str]) -> None:
    options, config = parse(argv)
    checkpoints = checkpoints_of(config.checkpoint_path)
    if len(checkpoints) > 1:
        raise UsageError(
            f"{config.checkpoint_path} holds {len(checkpoints)} checkpoints: name one of them, or a run folder"
        )
    target = set_up(config.device_target, config.device_id, "graph", deterministic=True, seed=config.seed)
    source = source_of(checkpoints[0], config)
    print(f"{source.model} of {source.checkpoint}, {source.num_classes} classes")
    print(f"preprocessing: {source.preprocessing}")
    export(source, options, target)


def export(source: Source, options: argparse.Namespace, target: str) -> None:
    name = name_of(options, source.model)
    if options.quantize:
        check_int8(source, options)
    images = some_images(options.image_path or source.val_data_path, options.check_images)
    expected = logits_of_network(source.network(), images, source.preprocessing, options.batch_size)

    network = source.network()
    merged = merge_batch_norm(network) if options.merge_bn else 0
    if merged:
        print(f"{merged} batch normalisations folded into their convolutions")
    graph = graph_of(network, source.preprocessing, options.batch_size, options.preprocess)

    files = []
    for file_format in dict.fromkeys(options.file_format):
        path = name.with_name(name.name + FORMATS[file_format])
        write(graph, path, file_format, target)
        parity = None
        if file_format == "AIR":
            print(f"{path}: written; AIR cannot be read back for a check")
        else:
            parity = compare(expected, logits_of_file(runner(path, file_format), images, source.preprocessing, graph))
            print(f"{path}: {path.stat().st_size:,} bytes; {parity}")
            try:
                parity.require(options.tolerance, str(path))
            except RunFailed:
                path.unlink()
                raise
        if file_format == "MINDIR" and options.mindir_for == "lite-2.0":
            # After the check: MindSpore 2.10 itself does not run every operator in its older form.
            rewrite_file(path)
            print(f"{path}: rewritten as MindIR version 1 for MindSpore Lite 2.0")
        files.append(file_entry(path, file_format, graph, source.num_classes, parity))
    if options.quantize:
        export_int8(source, options, name)
    manifest = name.with_name(name.name + SUFFIX)
    write_manifest(manifest, source, files, merged)
    print(f"{manifest}: names, shapes, preprocessing, classes, checksums")


if __name__ == "__main__":
    run(on_modelarts(main, "export"), sys.argv[1:])
