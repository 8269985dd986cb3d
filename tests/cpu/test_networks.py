"""Networks with the CPU operators inside: the same values, gradients, statistics and names as the standard cells."""

import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from src import cpu
from src.cpu import build, inference, use_operators
from src.errors import UsageError
from src.models import create_model
from src.models.layers import (
    Add,
    AvgPool,
    BatchNorm,
    ChannelShuffle,
    Concat,
    ConvNormAct,
    InvertedBottleneck,
    MaxPool,
    Network,
    ShuffledHalves,
    Split,
    SqueezeExcite,
)
from src.runs.log import logged
from src.settings.sections import Optimizer, Update
from src.training.loss import LabelSmoothedCrossEntropy
from src.training.one_pass import optimizer_for
from src.training.optimizer import create_optimizer
from src.training.step import TrainStep

NORM = BatchNorm(eps=1e-3)


class Branches(nn.Cell):
    """One of each cell: shuffle, split, squeeze-excite, concatenation, sum, pooling."""

    def __init__(self, channels):
        super().__init__()
        self.shuffle, self.split, self.halves = ChannelShuffle(channels, 2), Split(), ShuffledHalves(channels, 2)
        self.body = ConvNormAct(channels // 2, channels // 2, norm=NORM, act="hswish")
        self.se = SqueezeExcite(channels // 2, 8)
        self.join = Concat("relu")
        self.mix = ConvNormAct(channels, channels, groups=2, norm=NORM)
        self.add, self.pool = Add("relu"), AvgPool("same")

    def construct(self, x):
        passing, entering = self.split(self.shuffle(x))
        passing, entering = self.halves(self.join(passing, self.se(self.body(entering))))
        x = self.join(passing, entering)
        return self.pool(self.add(x, self.mix(x)))


def small_net(mode):
    ms.set_seed(3)
    features = {
        "stem": ConvNormAct(3, 16, kernel=3, stride=2, norm=NORM, act="hswish"),
        "pool": MaxPool(),
        "unit1": InvertedBottleneck(16, 20, 5, 2, 3, NORM, "relu6"),
        "unit2": InvertedBottleneck(20, 20, 3, 1, 3, NORM, "relu"),
        "branches": Branches(20),
    }
    net = Network(features, 20, 5)
    assert use_operators(net, mode) == mode
    return net


def images(size=32, n=6):
    rng = np.random.default_rng(0)
    return Tensor(rng.normal(size=(n, 3, size, size)).astype(np.float32)), Tensor([0, 1, 2, 3, 4, 0][:n], ms.int32)


def step(net, graph):
    """Loss and gradients of one training step, the statistics it leaves, and logits of evaluation after it."""
    x, labels = images()
    loss = nn.CrossEntropyLoss()
    net.set_train(True)

    def forward(x):
        return loss(net(x), labels)

    gradient = ops.value_and_grad(forward, 0, net.trainable_params())
    value, (dx, gradients) = (ms.jit(gradient) if graph else gradient)(x)
    statistics = {p.name: p.asnumpy() for p in net.get_parameters() if "moving" in p.name}
    net.set_train(False)
    return {"loss": value.asnumpy(), "logits": net(x).asnumpy(), "dx": dx.asnumpy(), **statistics} | {
        p.name: g.asnumpy() for p, g in zip(net.trainable_params(), gradients, strict=True)
    }


@pytest.fixture(scope="module")
def standard():
    return step(small_net("standard"), graph=False)


@pytest.mark.parametrize("graph", [False, True])
def test_equals_the_standard_cells(standard, graph):
    own = step(small_net("fused"), graph)
    assert own.keys() == standard.keys()
    # Gradients that are zero but for rounding (a shift in front of a normalisation) are measured by the others.
    largest = max(np.abs(g).max() for name, g in standard.items() if name.endswith((".weight", ".gamma", ".beta")))
    for name, exact in standard.items():
        scale = largest if name.endswith(("gamma", "beta", "weight", "bias")) else np.abs(exact).max() + 1e-3
        np.testing.assert_allclose(own[name] / scale, exact / scale, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("graph", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("frozen", [pytest.param("all", marks=pytest.mark.slow), "some"])
def test_gradients_with_frozen_statistics(graph, frozen):
    def gradients(mode):
        net = small_net(mode)
        rng = np.random.default_rng(5)
        for name, cell in net.cells_and_names():
            if isinstance(cell, nn.BatchNorm2d):
                cell.moving_mean.set_data(Tensor(rng.normal(size=cell.num_features).astype(np.float32)))
                cell.set_train(frozen == "some" and "unit1" not in name)
        x, labels = images()
        loss = nn.CrossEntropyLoss()

        def forward(x):
            return loss(net(x), labels)

        gradient = ops.grad(forward, 0, net.trainable_params())
        dx, others = (ms.jit(gradient) if graph else gradient)(x)
        return [dx.asnumpy(), *[d.asnumpy() for d in others]]

    standard, own = gradients("standard"), gradients("fused")
    largest = max(np.abs(d).max() for d in standard[1:])
    for i, (a, b) in enumerate(zip(own, standard, strict=True)):
        scale = largest if i else np.abs(b).max()
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=1e-4)


def test_the_update_in_one_pass_is_neither_lost_nor_made_where_it_must_not():
    """In the one branch of a compiled training step: a graph knows of the update only that it has an effect."""
    x, labels = images()
    infinite = Tensor(np.full(x.shape, np.inf, np.float32))
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    found = []
    for is_one_pass in (False, True):
        net = small_net("fused")
        params, keys = net.trainable_params(), Optimizer(weight_decay=1e-3)
        optimizer, all_finite = create_optimizer(params, keys, 0.05), ms.amp.all_finite
        if is_one_pass:
            optimizer, all_finite = optimizer_for(net, params, keys, 0.05)
        loss = LabelSmoothedCrossEntropy(5, 0.1, "uniform")
        train = TrainStep(net, loss, optimizer, Update(), all_finite=all_finite).set_train(True)
        losses = []
        for batch in (x, x, infinite, x):
            before = {p.name: p.asnumpy().copy() for p in optimizer.get_parameters()}
            losses.append(train(batch, labels)[0].asnumpy())
            changed = {p.name for p in optimizer.get_parameters() if (p.asnumpy() != before[p.name]).any()}
            assert bool(changed) == (batch is x)
            if batch is infinite:  # its statistics are not protected, and the next losses would be NaN
                for parameter in net.get_parameters():
                    if "moving" in parameter.name:
                        ops.assign(parameter, ops.ones_like(parameter))
        found.append(losses)
        assert int(train.gradients.overflow_count.asnumpy()) == 1
    ms.set_context(mode=mode)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert found[0][3] < found[0][0]


def test_two_runs_are_equal_to_the_bit():
    first, second = (step(small_net("fused"), graph=False) for _ in range(2))
    for name in first:
        assert (first[name] == second[name]).all(), name


def test_operators_come_and_go_and_leave_the_parameters_as_they_were():
    net = create_model("mnasnet", 7, alpha=0.5)
    net.set_train(False)
    x, _ = images(32, 2)
    names = [p.name for p in net.get_parameters()]
    exact = net(x).asnumpy().copy()
    assert use_operators(net, "fused") == "fused"
    whole = inference(net)
    assert whole is not net
    for fused in (net, whole):
        np.testing.assert_allclose(fused(x).asnumpy(), exact, atol=1e-4 * np.abs(exact).max())
        assert [p.name for p in net.get_parameters()] == names
    use_operators(net, "standard")
    assert inference(net) is net
    assert (net(x).asnumpy() == exact).all()


class TestInference:
    """A network's evaluation as one operator."""

    @pytest.mark.parametrize("graph", [False, True])
    def test_equals_the_cells_and_sees_new_parameters(self, graph):
        ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)
        try:
            net = small_net("fused")
            whole = inference(net)
            net.set_train(True)  # what the network itself is doing does not matter
            exact = small_net("standard")
            exact.set_train(False)
            x, _ = images()
            for _ in range(2):
                np.testing.assert_allclose(whole(x).asnumpy(), exact(x).asnumpy(), atol=1e-5)
                for name in ("features.unit1.expand.norm.moving_mean", "features.branches.mix.conv.weight"):
                    for each in (net, exact):
                        parameter = each.parameters_dict()[name]
                        ops.assign(parameter, parameter * 2 + 0.25)
        finally:
            ms.set_context(mode=ms.PYNATIVE_MODE)

    def test_an_image_in_any_batch_gives_the_same_bits(self):
        whole = inference(small_net("fused"))
        x, _ = images(40)
        together = whole(x).asnumpy()
        for i in range(len(x)):
            assert (whole(x[i : i + 1]).asnumpy() == together[i]).all()

    def test_what_has_no_program_stays_as_it_is(self):
        net = small_net("fused")
        net.hidden = SqueezeExcite(20, 8)
        assert inference(net) is net
        assert inference(net.features) is net.features


def test_strides_on_inputs_of_one_shape():
    """PyNative must not take the output shape of one stride for that of another."""
    for stride in (1, 2):
        features = {
            "stem": ConvNormAct(3, 8, kernel=3, norm=NORM),
            "depthwise": ConvNormAct(8, 8, kernel=3, stride=stride, groups=8, norm=NORM),
        }
        net = Network(features, 8, 2)
        net.set_train(False)
        x, _ = images(6, 2)
        exact = net(x).asnumpy()
        use_operators(net, "fused")
        np.testing.assert_allclose(net(x).asnumpy(), exact, atol=1e-5)


def test_unknown_mode():
    with pytest.raises(UsageError, match="auto, fused, standard"):
        use_operators(small_net("standard"), "fastest")


def test_a_convolution_the_operators_lack(capsys):
    net = Network({"stem": ConvNormAct(3, 8, kernel=3, norm=NORM), "dense": ConvNormAct(8, 8, 3, norm=NORM)}, 8, 2)
    with logged():
        assert use_operators(net, "auto") == "standard"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "features.dense" in said


class TestBuild:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch, tmp_path, capsys):
        self.capsys = capsys
        monkeypatch.setenv("NAS_CPU_CACHE", str(tmp_path / "cache"))
        build.library.cache_clear()
        yield
        build.library.cache_clear()

    def fallback(self):
        net = small_net("standard")
        with logged():
            assert use_operators(net, "fused") == "standard"
        return self.capsys.readouterr().out.splitlines()[-1]

    def test_without_a_compiler(self, monkeypatch):
        monkeypatch.setattr(build.shutil, "which", lambda name: None)
        assert "no C++ compiler" in self.fallback()

    def test_on_another_processor(self, monkeypatch):
        monkeypatch.setattr(build.platform, "machine", lambda: "riscv64")
        assert "riscv64" in self.fallback()

    def test_a_compiler_that_fails(self, monkeypatch, tmp_path):
        broken = tmp_path / "broken"
        broken.write_text("#!/bin/sh\ncase \"$*\" in *-shared*) echo 'error: no luck' >&2; exit 1;; esac\necho fine\n")
        broken.chmod(0o755)
        monkeypatch.setenv("CXX", str(broken))
        assert "error: no luck" in self.fallback()
        assert list((tmp_path / "cache").iterdir()) == []

    def test_a_cache_that_cannot_be_written(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("NAS_CPU_CACHE", str(tmp_path / "file"))
        assert "file" in self.fallback()

    @pytest.mark.slow
    def test_two_processes_at_once(self, tmp_path):
        code = "from src.cpu.build import library; print(library())"
        root = Path(cpu.__file__).parents[2]
        both = [
            subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        paths = {process.communicate()[0].splitlines()[-1] for process in both}
        assert [process.returncode for process in both] == [0, 0]
        assert paths == {str(next((tmp_path / "cache").iterdir()))}
        assert len(list((tmp_path / "cache").iterdir())) == 1
