"""Speed of training and evaluation beside stock MindSpore, PyTorch and ONNX Runtime: `python -m bench --help`."""

import src  # noqa: F401 - before MindSpore, as in every entry point
