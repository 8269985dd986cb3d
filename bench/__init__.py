"""Speed of training and evaluation beside stock MindSpore, PyTorch and ONNX Runtime: `python -m bench --help`."""
