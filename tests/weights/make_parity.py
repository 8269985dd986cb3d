"""``python -m tests.weights.make_parity FRAMEWORK [FOLDER ...]``: the logits of others' own code for weights by rule.

Run from the top folder, once in an environment of each framework; the entries of the others stay. parity.json, beside
this file, then holds for every source and variant the number of tensors, a digest of their names and shapes, and the
logits of two photos, computed in float64 from weights that float32 holds.

===========  ==========================================  =============================================================
FRAMEWORK    needs                                       FOLDER: checkouts, which the last part of the path tells
===========  ==========================================  =============================================================
torch        tests/golden/requirements.txt               mit-han-lab/proxylessnas (with proxyless_mobile.config of
                                                         han-cai/files in it), megvii-model/ShuffleNet-Series,
                                                         megvii-model/SinglePathOneShot
mxnet        mxnet 1.9.1, numpy 1.23.5                   CanyonWind/Single-Path-One-Shot-NAS-MXNet
mindcv       mindcv 0.3.0 beside this project's own
===========  ==========================================  =============================================================

Classifiers of ten classes, and pooling over whatever size the last maps have, are all that is changed in them.
Upstream's three MindSpore networks have no code here; tests/weights/test_loading.py compares them with plain NumPy.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.plain import ONESHOT, S_PLUS
from tests.weights.rules import CLASSES, digest, normalised, tensors

RESULTS = Path(__file__).with_name("parity.json")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BYTES = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
MXNET = (123.68 / 255, 116.779 / 255, 103.939 / 255), (58.393 / 255, 57.12 / 255, 57.375 / 255)
MEGVII_SEARCHED = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
SIZES = ("0.5x", "1.0x", "1.5x", "2.0x")

Row = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


def row(source: str, model: str, options: Row, shapes: Shapes, logits: np.ndarray, **more: Any) -> Row:
    values = [[float(f"{value:.9g}") for value in image] for image in logits]
    return {
        "source": source,
        "model": model,
        "options": options,
        "tensors": len(shapes),
        "digest": digest(shapes),
        **more,
        "logits": values,
    }


def of_torch(
    make: Callable[[], Any], source: str, model: str, options: Row, images: np.ndarray, blocks: tuple[int, ...] = ()
) -> Row:
    """``blocks``: of the path through a supernet."""
    import torch

    network = make()
    state = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    values = {name: torch.from_numpy(value) for name, value in tensors(shapes, model).items()}
    network.double().eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(values[name])
        logits = network(torch.from_numpy(images).double(), *([blocks] if blocks else [])).numpy()
    path = {"path": [blocks, (0,) * len(blocks)]} if blocks else {}
    return row(source, model, options, shapes, logits, **path)


def torch_rows(folders: Mapping[str, Path]) -> Iterator[Row]:
    import timm
    import torchvision

    rgb = normalised(*IMAGENET)
    for alpha in (0.5, 0.75, 1.0, 1.3):
        make = functools.partial(torchvision.models.MNASNet, alpha, num_classes=CLASSES)
        yield of_torch(make, "torchvision", "mnasnet", {"alpha": alpha}, rgb)
    for name, alpha in (("mnasnet_050", 0.5), ("mnasnet_075", 0.75), ("mnasnet_100", 1.0), ("mnasnet_140", 1.4)):
        make = functools.partial(timm.create_model, name, num_classes=CLASSES)
        yield of_torch(make, "timm", "mnasnet", {"alpha": alpha}, rgb)
    make = functools.partial(timm.create_model, "spnasnet_100", num_classes=CLASSES)
    yield of_torch(make, "timm", "spnasnet", {}, rgb)
    yield of_torch(functools.partial(proxylessnas, folders), "proxylessnas", "proxylessnas_mobile", {}, rgb)
    yield from megvii_rows(folders)


def proxylessnas(folders: Mapping[str, Path]) -> Any:
    folder = folders["proxylessnas"]
    module = _module(folder, "proxyless_nas.nas_modules")
    config = json.loads((folder / "proxyless_mobile.config").read_text())
    config["classifier"]["out_features"] = CLASSES
    network = module.ProxylessNASNets.build_from_config(config)
    network.set_bn_param(config["bn"]["momentum"], config["bn"]["eps"])
    return network


def megvii_rows(folders: Mapping[str, Path]) -> Iterator[Row]:
    import torch

    bgr = normalised(*BYTES, is_bgr=True)

    def pooled(network: Any) -> Any:
        network.globalpool = torch.nn.AdaptiveAvgPool2d(1)
        return network

    module = _module(folders["ShuffleNet-Series"] / "ShuffleNetV1", "network")
    for groups in (3, 8):
        for size in SIZES:
            options = {"groups": groups, "size": size, "shuffle": "after"}
            make = functools.partial(module.ShuffleNetV1, n_class=CLASSES, model_size=size, group=groups)
            yield of_torch(lambda make=make: pooled(make()), "megvii", "shufflenetv1", options, bgr)
    module = _module(folders["SinglePathOneShot"] / "src/Evaluation/template", "network")
    for blocks, channels in (ONESHOT, (MEGVII_SEARCHED, (4,) * 20)):
        options = {"block_choices": _text(blocks), "channel_choices": _text(channels), "shuffle": "megvii"}
        scales = [round(0.2 * (index + 1), 1) for index in channels]
        make = functools.partial(
            module.ShuffleNetV2_OneShot, n_class=CLASSES, architecture=list(blocks), channels_scales=scales
        )
        yield of_torch(lambda make=make: pooled(make()), "megvii", "spos_oneshot", options, bgr)
    module = _module(folders["SinglePathOneShot"] / "src/Supernet", "network")
    options = {"layout": "blocks", "shuffle": "megvii"}
    make = functools.partial(module.ShuffleNetV2_OneShot, n_class=CLASSES)
    yield of_torch(lambda: pooled(make()), "megvii", "spos_oneshot", options, bgr, ONESHOT[0])


def mxnet_rows(folders: Mapping[str, Path]) -> Iterator[Row]:
    import mxnet

    module = _module(folders["Single-Path-One-Shot-NAS-MXNet"], "oneshot_nas_network")
    tail = {"use_se": True, "last_conv_after_pooling": True}
    for model, path, form in (
        ("spos_oneshot", ONESHOT, {}),
        ("spos_oneshot_plus", ONESHOT, tail),
        ("spos_oneshot_s_plus", S_PLUS, tail),
        ("spos_oneshot", S_PLUS, {"use_se": True, "layout": "ShuffleNetV2+"}),
    ):
        layout = form.get("layout", "OneShot")
        flags = {key: value for key, value in form.items() if key != "layout"}
        network = module.get_shufflenas_oneshot(*map(list, path), n_class=CLASSES, channels_layout=layout, **flags)
        network.initialize()
        network.cast("float64")
        images = mxnet.nd.array(normalised(*MXNET), dtype="float64")
        network(images)  # finds the shapes of parameters
        parameters = network._collect_params_with_prefix()
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        for name, value in tensors(shapes, model).items():
            parameters[name].set_data(mxnet.nd.array(value, dtype="float64"))
        network.hybridize()
        logits = network(images).asnumpy()
        options = (
            {}
            if path is ONESHOT or model == "spos_oneshot_s_plus"
            else {**form, "block_choices": _text(path[0]), "channel_choices": _text(path[1])}
        )
        yield row("mxnet", model, options, shapes, logits, exported=_exported(network, shapes))
    yield from mxnet_supernet_rows(module)


def mxnet_supernet_rows(module: Any) -> Iterator[Row]:
    """A path of all ops and many widths, under the mask that the search gives it."""
    import mxnet

    for options, (blocks, channels) in (
        ({}, ONESHOT),
        ({"use_se": True, "last_conv_after_pooling": True}, ONESHOT),
        ({"use_se": True, "layout": "ShuffleNetV2+"}, S_PLUS),
    ):
        layout = options.get("layout", "OneShot")
        flags = {key: value for key, value in options.items() if key != "layout"}
        network = module.get_shufflenas_oneshot(n_class=CLASSES, channels_layout=layout, **flags)
        network.initialize()
        network.cast("float64")
        widths, scales = np.repeat(network.stage_out_channels, network.stage_repeats), network.candidate_scales
        mids = [int(width // 2 * scales[index]) for width, index in zip(widths, channels, strict=True)]
        mask = (np.arange(widths[-1]) < np.array(mids)[:, None]).astype(np.float64)
        images = mxnet.nd.array(normalised(*MXNET), dtype="float64")
        for op in range(4):  # finds the shapes of parameters
            network(images, mxnet.nd.array([op] * len(blocks)), mxnet.nd.array(mask, dtype="float64"))
        parameters = network._collect_params_with_prefix()
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        for name, value in tensors(shapes, "spos_oneshot").items():
            parameters[name].set_data(mxnet.nd.array(value, dtype="float64"))
        logits = network(images, mxnet.nd.array(blocks), mxnet.nd.array(mask, dtype="float64")).asnumpy()
        yield row("mxnet", "spos_oneshot", options, shapes, logits, path=[blocks, channels])


def _exported(network: Any, shapes: Shapes) -> str:
    """The digest of the names and shapes that HybridBlock.export writes, less the number of the network."""
    import tempfile

    import mxnet

    with tempfile.TemporaryDirectory() as folder:
        network.export(f"{folder}/net", epoch=0)
        held = mxnet.nd.load(f"{folder}/net-0000.params")
    number = next(iter(held)).split(":")[1].split("_")[0]
    return digest({name.split(":")[1].replace(number, "shufflenasoneshotfix0"): a.shape for name, a in held.items()})


def mindcv_rows(folders: Mapping[str, Path]) -> Iterator[Row]:
    import mindspore
    from mindcv.models import mnasnet, shufflenetv1

    cases = [
        ("mnasnet", {"alpha": alpha, "bn_eps": 1e-3}, functools.partial(mnasnet.Mnasnet, alpha))
        for alpha in (0.5, 0.75, 1.0, 1.3, 1.4)
    ]
    cases += [
        (
            "shufflenetv1",
            {"groups": groups, "size": size, "pooling": "same"},
            functools.partial(shufflenetv1.ShuffleNetV1, model_size=size, group=groups),
        )
        for groups in (3, 8)
        for size in SIZES
    ]
    for model, options, make in cases:
        network = make(num_classes=CLASSES).set_train(False)
        held = dict(network.parameters_and_names())
        shapes = {name: tuple(value.shape) for name, value in held.items()}
        for name, value in tensors(shapes, model).items():
            held[name].set_data(mindspore.Tensor(value))
        logits = network(mindspore.Tensor(normalised(*IMAGENET))).asnumpy()
        yield row("mindcv", model, options, shapes, logits.astype(np.float64))


def _text(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def _module(folder: Path, name: str) -> Any:
    """A module of a checkout, whose neighbours have the names of other checkouts' modules."""
    for other in ("network", "blocks"):
        sys.modules.pop(other, None)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


FRAMEWORKS = {"torch": torch_rows, "mxnet": mxnet_rows, "mindcv": mindcv_rows}
SOURCES_OF = {
    "torch": ("torchvision", "timm", "proxylessnas", "megvii"),
    "mxnet": ("mxnet",),
    "mindcv": ("mindcv",),
}


def main(framework: str, *folders: str) -> None:
    named = {Path(folder).name: Path(folder) for folder in folders}
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    kept = [entry for entry in kept if entry["source"] not in SOURCES_OF[framework]]
    rows = kept + list(FRAMEWORKS[framework](named))
    order = [source for sources in SOURCES_OF.values() for source in sources]
    rows.sort(key=lambda entry: order.index(entry["source"]))
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in rows) + "\n]\n", encoding="utf-8")
    print(f"{RESULTS.name}: {len(rows)} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
