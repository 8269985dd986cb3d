"""Evaluation of an ONNX file in ONNX Runtime: python -m bench.onnx_engine FILE BATCH SIZE THREADS."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from bench.serve import serve


def main(file: str, batch: str, size: str, threads: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    shape = (int(batch), 3, int(size), int(size))
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    name = session.get_inputs()[0].name
    serve(lambda: session.run(None, {name: images}))


if __name__ == "__main__":
    main(*sys.argv[1:])
