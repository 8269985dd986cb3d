"""``python -m tests.golden.check_authors FOLDER ...``: logits.json against the networks' authors' own code.

FOLDER is a checkout of one of these, whose last path component says which it is:

=================================================  ========  ================================  ====================
repository                                         commit    networks                          needs
=================================================  ========  ================================  ====================
mit-han-lab/proxylessnas                           bf58b5c   proxylessnas_mobile               torch 2.14, and the
                                                                                               configuration; below
megvii-model/ShuffleNet-Series                     aa91feb   shufflenetv1, its own shuffle     torch 2.14
CanyonWind/Single-Path-One-Shot-NAS-MXNet          364cd33   spos, but the small layout        mxnet 1.9.1 with
                                                                                               numpy 1.23.5
=================================================  ========  ================================  ====================

proxyless_mobile.config of han-cai/files (a7c9bcd, folder proxylessnas) has to lie in the first one's top folder.
Only the classifier's width and bias, and pooling over maps smaller than 7 x 7, are changed in them. MindSpore
upstream's ``pooling: same`` has no code here to compare with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from tests.golden.formulas import CLASSES, Formula, images

FORMS = json.loads(Path(__file__).with_name("logits.json").read_text(encoding="utf-8"))


def proxylessnas(folder: Path, options: dict, formula: Formula) -> np.ndarray:
    from proxyless_nas.nas_modules import ProxylessNASNets

    config = json.loads((folder / "proxyless_mobile.config").read_text())
    config["classifier"]["out_features"] = CLASSES
    network = ProxylessNASNets.build_from_config(config)
    network.set_bn_param(config["bn"]["momentum"], config["bn"]["eps"])
    return _of_torch(network, formula)


def shufflenetv1(folder: Path, options: dict, formula: Formula) -> np.ndarray:
    import torch

    sys.path.insert(0, str(folder / "ShuffleNetV1"))
    from network import ShuffleNetV1

    network = ShuffleNetV1(n_class=CLASSES, model_size=options.get("size", "2.0x"), group=options.get("groups", 3))
    network.globalpool = torch.nn.AdaptiveAvgPool2d(1)
    network.classifier[0].bias = torch.nn.Parameter(torch.zeros(CLASSES))
    return _of_torch(network, formula)


def _of_torch(network, formula: Formula) -> np.ndarray:
    from tests.golden.make_references import of_torch

    return of_torch(network, formula)


def spos(folder: Path, options: dict, formula: Formula) -> np.ndarray:
    import mxnet
    from oneshot_nas_network import get_shufflenas_oneshot

    from tests.golden import plain

    # logits.json names only what differs from the network's own.
    blocks, channels = plain.S_PLUS if options["network"].endswith("s_plus") else plain.ONESHOT
    has_tail = options["network"] != "spos_oneshot"
    network = get_shufflenas_oneshot(
        list(blocks),
        list(channels),
        n_class=CLASSES,
        use_se=options.get("use_se", has_tail),
        last_conv_after_pooling=options.get("last_conv_after_pooling", has_tail),
        channels_layout=options.get("layout", "OneShot"),
    )
    network.initialize()
    network.cast("float64")
    batch = mxnet.nd.array(images(), dtype="float64")
    network(batch)  # finds the shapes of parameters
    convs = norms = 0
    leaves = list(_leaves(mxnet.gluon.nn, [network.features, network.output]))
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, mxnet.gluon.nn.BatchNorm):
            values = formula.norm(norms, leaf.gamma.shape[0]).values()
            parts = (leaf.gamma, leaf.beta, leaf.running_mean, leaf.running_var)
            norms += 1
        elif number < len(leaves) - 1:
            values = (formula.conv(convs, leaf.weight.shape), formula.bias(convs, leaf.weight.shape[0]))
            parts = (leaf.weight, *([leaf.bias] if leaf.bias is not None else []))
            convs += 1
        else:
            weight, bias = formula.classifier(*leaf.weight.shape[:2])
            values, parts = (weight[:, :, None, None], bias), (leaf.weight, leaf.bias)
        for part, value in zip(parts, values, strict=False):  # a bias only where there is one
            part.set_data(mxnet.nd.array(value, dtype="float64"))
    return network(batch).asnumpy()


def _leaves(nn, cells):
    """Convolutions and batch-norms, the shortcut of a block before its body."""
    for cell in cells:
        if isinstance(cell, (nn.Conv2D, nn.BatchNorm)):
            yield cell
        else:
            yield from _leaves(nn, sorted(cell._children.values(), key=lambda child: child is not _shortcut(cell)))


def _shortcut(cell):
    return getattr(cell, "proj_branch", None)


AUTHORS = {
    "proxylessnas": ("proxylessnas_mobile", proxylessnas),
    "ShuffleNet-Series": ("shufflenetv1", shufflenetv1),
    "Single-Path-One-Shot-NAS-MXNet": ("spos", spos),
}


def theirs(name: str, options: dict) -> bool:
    """Whether the authors' code has this form of the network."""
    if name == "shufflenetv1":
        return options.get("shuffle") == "after" and "pooling" not in options
    return options.get("layout") != "digits"


def main(folders: list[str]) -> None:
    for folder in map(Path, folders):
        network, forward = AUTHORS[folder.name]
        sys.path.insert(0, str(folder))
        for form in FORMS:
            if form["network"].startswith(network) and theirs(form["network"], form["options"]):
                expected = np.array(form["logits"])
                found = forward(folder, {"network": form["network"], **form["options"]}, Formula(form["gain"]))
                distance = np.abs(found - expected).max() / np.abs(expected).max()
                print(f"{form['network']} {form['options']}: {distance:.1e} of the largest logit")
                assert distance < 1e-8


if __name__ == "__main__":
    main(sys.argv[1:])
