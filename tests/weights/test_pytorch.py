"""What is written for PyTorch, loaded by PyTorch's own networks; skipped where they are not installed."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor

from src.models import create_model
from src.models.layers import weights
from src.weights import convert
from src.weights.assignment import assign_weights
from tests.weights.rules import CLASSES, normalised, tensors

IMAGES = normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "model", "options"),
    [
        ("torchvision", "mnasnet", {"alpha": 0.5, "bn_eps": 1e-5}),
        ("timm", "mnasnet", {"alpha": 0.5, "bn_eps": 1e-5}),
        ("timm", "spnasnet", {}),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_pytorch_loads_it_strictly_and_computes_the_same(to, model, options, ending, tmp_path):
    torch = pytest.importorskip("torch", reason="a .pth is written and read by PyTorch, which is not installed")
    theirs = pytest.importorskip(to, reason=f"{to} is not installed")
    ours = create_model(model, CLASSES, **options).set_train(False)
    held = tensors({name: value.shape for name, value in weights(ours).items()}, model)
    assign_weights(ours, held)
    np.savez(tmp_path / "in.npz", **held)
    words = ["--model", model, "--model_options", str(options), "--num_classes", CLASSES, "--to", to]
    convert.main([str(word) for word in (tmp_path / "in.npz", tmp_path / f"out{ending}", *words)])
    if to == "torchvision":
        network = theirs.models.MNASNet(0.5, num_classes=CLASSES)
    else:
        network = theirs.create_model(
            {"mnasnet": "mnasnet_050", "spnasnet": "spnasnet_100"}[model], num_classes=CLASSES
        )
    network.load_state_dict(state_of(torch, tmp_path / f"out{ending}"), strict=True)
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(IMAGES)).numpy()
    expected = ours(Tensor(IMAGES)).asnumpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def state_of(torch, path):
    """As its own reader gives it; what runs no code (``weights_only``) is enough for a .pth."""
    if path.suffix == ".pth":
        return torch.load(path, weights_only=True)
    from collections import OrderedDict

    from safetensors.torch import load_file

    state = OrderedDict(load_file(path))
    state._metadata = {"": {"version": 2}}
    return state
