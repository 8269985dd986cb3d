"""``python -m tests.golden.make_references``: the logits and the update that the tests hold our networks to.

Run from the top folder in an environment of its own, made from tests/golden/requirements.txt; takes half a minute and
writes logits.json and update.npz beside this file. All is computed in float64 by code that is not ours:

- MnasNet by torchvision, spnasnet by timm (`spnasnet_100`);
- the others by plain.py, which check_authors.py compares with the code of their authors (and this script, on spnasnet,
  with timm).

Nothing of `src` is imported, here or there.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision

from tests.golden import plain
from tests.golden.formulas import CLASSES, UPDATE, Formula, distances, images, sketch, update_batch, velocity

FOLDER = Path(__file__).parent

DIGITS = {"block_choices": [0, 2, 3, 1, 1, 3], "channel_choices": [0, 1, 2, 3, 4, 2]}
# Network of `src.models`, its options, gain of the formula: such that activations stay between 0.3 and 30.
FORMS = (
    *(("mnasnet", {"alpha": alpha}, 0.65) for alpha in (0.5, 0.75, 1.0, 1.3, 1.4)),
    ("spnasnet", {}, 0.65),
    ("proxylessnas_mobile", {}, 0.75),
    *(("shufflenetv1", {"groups": groups, "size": size}, 0.52) for groups, size in plain.SHUFFLENET_CHANNELS),
    ("shufflenetv1", {"size": "0.5x", "pooling": "same"}, 0.52),
    ("shufflenetv1", {"pooling": "same"}, 0.52),
    ("shufflenetv1", {"size": "0.5x", "shuffle": "after"}, 0.52),
    ("shufflenetv1", {"groups": 8, "size": "1.0x", "shuffle": "after"}, 0.52),
    ("shufflenetv1", {"groups": 8, "size": "0.5x", "pooling": "same", "shuffle": "after"}, 0.52),
    ("spos_oneshot", {}, 0.71),
    ("spos_oneshot", {"last_conv_after_pooling": True, "layout": "ShuffleNetV2+"}, 0.71),
    ("spos_oneshot", {"layout": "digits", **DIGITS}, 0.7),
    ("spos_oneshot", {"layout": "digits", "use_se": True, **DIGITS}, 0.74),
    ("spos_oneshot_plus", {}, 0.75),
    ("spos_oneshot_plus", {"layout": "digits", **DIGITS}, 0.74),
    ("spos_oneshot_s_plus", {}, 0.72),
    ("spos_oneshot_s_plus", {"layout": "ShuffleNetV2+", "last_conv_after_pooling": False}, 0.72),
)

TAIL = {"use_se": True, "last_conv_after_pooling": True}
SPOS = {
    "spos_oneshot": {},
    "spos_oneshot_plus": TAIL,
    "spos_oneshot_s_plus": {"block_choices": plain.S_PLUS[0], "channel_choices": plain.S_PLUS[1], **TAIL},
}


def logits(network: str, options: dict, gain: float) -> np.ndarray:
    """[images, classes], float64."""
    formula = Formula(gain)
    if network == "mnasnet":
        return of_torch(torchvision.models.MNASNet(num_classes=CLASSES, **options), formula)
    if network == "spnasnet":
        found = of_torch(timm.create_model("spnasnet_100", num_classes=CLASSES), formula)
        np.testing.assert_allclose(plain.spnasnet(formula, images(), CLASSES), found, rtol=1e-9)
        return found
    if network in SPOS:
        return plain.spos(formula, images(), CLASSES, **{**SPOS[network], **options})
    forward = {"proxylessnas_mobile": plain.proxylessnas, "shufflenetv1": plain.shufflenetv1}[network]
    return forward(formula, images(), CLASSES, **options)


def of_torch(network: torch.nn.Module, formula: Formula) -> np.ndarray:
    fill(network, formula).eval()
    with torch.no_grad():
        return network(torch.from_numpy(images())).numpy()


def fill(network: torch.nn.Module, formula: Formula) -> torch.nn.Module:
    """``network`` in float64, with the formula's values in the order of its modules."""
    network.double()
    convs = norms = 0
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(torch.from_numpy(formula.conv(convs, module.weight.shape)))
                convs += 1
            elif isinstance(module, torch.nn.BatchNorm2d):
                values = formula.norm(norms, module.num_features).values()
                parts = (module.weight, module.bias, module.running_mean, module.running_var)
                for part, value in zip(parts, values, strict=True):
                    part.copy_(torch.from_numpy(value))
                norms += 1
            elif isinstance(module, torch.nn.Linear):
                parts = module.weight, module.bias
                for part, value in zip(parts, formula.classifier(*module.weight.shape), strict=True):
                    part.copy_(torch.from_numpy(value))
    return network


def update(dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Sketches of what one step of SGD moves: every parameter, and every batch-norm statistic.

    It starts from numbers that float32 holds, so that only the arithmetic differs between the two types.
    """
    network = torchvision.models.MNASNet(UPDATE["alpha"], num_classes=CLASSES, dropout=0.0)
    fill(network, Formula(UPDATE["gain"])).float().to(dtype).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    batch, labels = update_batch()
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, **{key: UPDATE[key] for key in ("lr", "momentum", "weight_decay")})
    for number, parameter in enumerate(parameters):
        start = torch.from_numpy(velocity(number, parameter.shape)).float().to(dtype)
        optimizer.state[parameter]["momentum_buffer"] = start
    statistics = [value for name, value in network.named_buffers() if "running" in name]
    before = [value.detach().double().numpy().copy() for value in (*parameters, *statistics)]
    logits = network(torch.from_numpy(batch).float().to(dtype))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=UPDATE["smoothing"])
    loss.backward()
    optimizer.step()
    after = [value.detach().double().numpy() for value in (*parameters, *statistics)]
    moved = np.array([sketch(new - old) for new, old in zip(after, before, strict=True)], np.float32)
    return {"parameters": moved[: len(parameters)], "statistics": moved[len(parameters) :], "loss": loss.item()}


def main() -> None:
    lines = []
    for network, options, gain in FORMS:
        values = [[float(f"{value:.9g}") for value in row] for row in logits(network, options, gain)]
        lines.append(json.dumps({"network": network, "options": options, "gain": gain, "logits": values}))
    (FOLDER / "logits.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    exact, single = update(torch.float64), update(torch.float32)
    theirs = {key: np.median(distances(single[key], exact[key])) for key in ("parameters", "statistics")}
    print("float32 of PyTorch, median relative distance:", theirs)
    np.savez_compressed(FOLDER / "update.npz", **exact, **{f"float32_{key}": value for key, value in theirs.items()})


if __name__ == "__main__":
    main()
