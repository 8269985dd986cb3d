"""Each cell against NumPy, and all of them through ONNX Runtime."""

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from mindspore import Tensor, nn
from mindspore.train.mind_ir_pb2 import ModelProto, TensorProto

from src.models import layers
from src.models.layers import BatchNorm, ConvNormAct, Dropout, InvertedBottleneck

RANDOM = np.random.default_rng(0)


def images(channels: int = 4, size: int = 8, batch: int = 2) -> np.ndarray:
    return RANDOM.standard_normal((batch, channels, size, size)).astype(np.float32)


def run(cell: nn.Cell, *inputs: np.ndarray) -> np.ndarray:
    return cell.set_train(False)(*map(Tensor, inputs)).asnumpy()


@pytest.fixture(params=[ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def mode(request):
    before = ms.get_context("mode")
    ms.set_context(mode=request.param)
    yield request.param
    ms.set_context(mode=before)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("hsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6),
        ("hswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ],
)
def test_activations(act, expected):
    x = np.linspace(-8, 8, 33, dtype=np.float32)
    np.testing.assert_allclose(run(layers.ACTIVATIONS[act](), x), expected(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_channel_shuffle_follows_its_formula(rows):
    x = images(channels=12, size=3)
    shuffled = run(layers.ChannelShuffle(12, rows), x)
    for a in range(12 // rows):
        for b in range(rows):
            np.testing.assert_array_equal(shuffled[:, a * rows + b], x[:, b * (12 // rows) + a])


def pooled(x: np.ndarray, pad_mode: str, reduce) -> np.ndarray:
    """3x3 windows at stride 2; the padding is NaN, which `reduce` treats as it likes."""
    size = x.shape[2]
    out = -(-size // 2)
    total = max((out - 1) * 2 + 3 - size, 0)
    before, after = (1, 1) if pad_mode == "symmetric" else (total // 2, total - total // 2)
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    return reduce(windows.reshape(*windows.shape[:4], 9)).astype(np.float32)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("pad_mode", ["symmetric", "same"])
def test_max_pool(pad_mode, size):
    x = np.abs(images(size=size))
    expected = pooled(x, pad_mode, lambda windows: np.nanmax(windows, axis=-1))
    np.testing.assert_array_equal(run(layers.MaxPool(pad_mode), x), expected)


@pytest.mark.parametrize("size", [7, 8])
def test_symmetric_average_pool_counts_the_padding(size):
    x = images(size=size)
    expected = pooled(x, "symmetric", lambda windows: np.nansum(windows, axis=-1) / 9)
    np.testing.assert_allclose(run(layers.AvgPool("symmetric"), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [7, 8])
def test_same_average_pool_does_not_count_the_padding(size):
    x = images(size=size)
    expected = pooled(x, "same", lambda windows: np.nanmean(windows, axis=-1))
    np.testing.assert_allclose(run(layers.AvgPool("same"), x), expected, rtol=1e-5, atol=1e-6)


def test_squeeze_excite():
    cell, x = layers.SqueezeExcite(4, 2), images()
    first, second = cell.reduce.conv, cell.expand.conv
    squeezed = np.maximum(x.mean((2, 3)) @ first.weight.asnumpy()[:, :, 0, 0].T + first.bias.asnumpy(), 0)
    gate = squeezed @ second.weight.asnumpy()[:, :, 0, 0].T + second.bias.asnumpy()
    expected = x * (np.clip(gate + 3, 0, 6) / 6)[:, :, None, None]
    np.testing.assert_allclose(run(cell, x), expected, rtol=1e-4, atol=1e-6)


def test_split_concat_and_add():
    x = images()
    first, second = layers.Split()(Tensor(x))
    np.testing.assert_array_equal(run(layers.Concat("relu"), second.asnumpy(), first.asnumpy()), relu_halves(x))
    np.testing.assert_array_equal(run(layers.Add("relu"), x, x), np.maximum(2 * x, 0))


def relu_halves(x: np.ndarray) -> np.ndarray:
    return np.maximum(np.concatenate([x[:, 2:], x[:, :2]], axis=1), 0)


def test_a_convolution_has_a_bias_exactly_where_nothing_normalises():
    assert ConvNormAct(3, 4).conv.has_bias
    assert not ConvNormAct(3, 4, norm=BatchNorm()).conv.has_bias


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (5, 1), (7, 2)])
def test_only_the_stride_changes_a_size(kernel, stride):
    for size in (8, 9):
        assert run(ConvNormAct(4, 4, kernel, stride, groups=4), images(size=size)).shape[2] == -(-size // stride)


def test_bottleneck_adds_its_input_where_it_fits():
    x = images()
    for out, stride, expand in ((4, 1, 3), (4, 1, 1), (4, 2, 3), (6, 1, 3)):
        cell = InvertedBottleneck(4, out, 3, stride, expand, BatchNorm(), "relu")
        body = run(nn.SequentialCell([cell.expand, cell.depthwise, cell.project]), x)
        np.testing.assert_allclose(run(cell, x), body + x if (out, stride) == (4, 1) else body, rtol=1e-6)


def test_bottleneck_stages_repeat_their_rows():
    rows = [layers.Bottlenecks(1, 3, 1, 8, 2, 1), layers.Bottlenecks(2, 5, 6, 16, 2, 2)]
    stages = layers.bottleneck_stages(rows, 4, BatchNorm(), "relu")
    convolutions = [unit.depthwise.conv for stage in stages.values() for unit in stage]
    assert list(stages) == ["stage1", "stage2"]
    assert [(c.in_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [(4, 3, 2), (48, 5, 2), (96, 5, 1)]


def test_batch_norm_momentum_is_the_share_of_the_old_statistic():
    norm, x = BatchNorm(momentum=0.75, beta=0.5, variance=4.0).build(4), images()
    norm.set_train()
    norm(Tensor(x))
    count = x.size / 4
    np.testing.assert_allclose(norm.moving_mean.asnumpy(), 0.25 * x.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    unbiased = x.var((0, 2, 3)) * count / (count - 1)
    np.testing.assert_allclose(norm.moving_variance.asnumpy(), 0.75 * 4.0 + 0.25 * unbiased, rtol=1e-4)
    np.testing.assert_array_equal(norm.beta.asnumpy(), np.full(4, 0.5, np.float32))


def test_batch_norm_without_affine_trains_nothing():
    assert BatchNorm(affine=False).build(4).trainable_params() == []
    assert len(BatchNorm().build(4).trainable_params()) == 2


def mask(size: int, rate: float, key: int, step: int) -> np.ndarray:
    """The dropout's definition in 64-bit arithmetic."""

    def mix(x):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = ((x ^ (x >> shift)) * factor) % 2**32
        return x ^ (x >> 16)

    bits = mix(np.arange(size, dtype=np.uint64).astype(object) ^ mix((step + key) % 2**32))
    uniform = (bits >> 8).astype(np.float32) * np.float32(2**-24)
    return (uniform >= np.float32(rate)) * np.float32(1 / (1 - rate))


def test_dropout_masks_are_its_formula_in_every_mode(mode):
    cell, x = Dropout(0.2, seed=7).set_train(), Tensor(np.ones((8, 160), np.float32))
    for step in (1, 2, 3):
        np.testing.assert_array_equal(cell(x).asnumpy(), mask(1280, 0.2, cell.key, step).reshape(8, 160))
    assert int(cell.steps.asnumpy()) == 3


def test_dropout_gradient_is_masked_like_the_output(mode):
    cell = Dropout(0.5, seed=1).set_train()

    def total(x):
        return (cell(x) * 3.0).sum()

    gradient = ms.grad(total)(Tensor(np.ones((4, 32), np.float32))).asnumpy()
    np.testing.assert_array_equal(gradient, 3 * mask(128, 0.5, cell.key, 1).reshape(4, 32))


def test_dropout_is_made_of_operators_and_types_that_every_device_has(tmp_path):
    # Types common to the lists of the first Ascend 910, of Atlas A2 and A3 and of the CPU.
    documented = {
        "Add": {"FLOAT", "INT32", "INT64"},
        "AssignAdd": {"FLOAT", "INT32", "INT64"},
        "BitwiseAnd": {"INT32", "INT64"},
        "BitwiseXor": {"INT32", "INT64"},
        "Cast": {"FLOAT", "INT32", "INT64"},
        "GreaterEqual": {"BOOL"},
        "Mul": {"FLOAT", "INT32", "INT64"},
        "Muls": {"FLOAT"},
        "Reshape": {"FLOAT"},
        "RightShift": {"INT32", "INT64"},
    }
    bookkeeping = {"Constant", "Depend", "Load", "UpdateState"}
    cell, file = Dropout(0.2, seed=7).set_train(), tmp_path / "dropout.mindir"
    ms.export(cell, Tensor(np.ones((8, 160), np.float32)), file_name=str(file), file_format="MINDIR")
    graph = ModelProto.FromString(file.read_bytes()).graph

    found: dict[str, set[str]] = {}
    constants: dict[str, int] = {}
    for node in graph.node:
        types = {TensorProto.DataType.Name(t.data_type) for a in node.attribute for t in a.tensors}
        assert not {kind for kind in types if kind.startswith("UINT")}, node.op_type
        operator = node.op_type.removeprefix("REF::").partition(":")[0]
        found.setdefault(operator, set()).update(types)
        if operator == "Constant" and types == {"INT64"}:
            constants[node.output[0]] = int(np.frombuffer(node.attribute[0].tensors[0].raw_data, np.int64)[0])
        if operator == "Mul" and types == {"INT64"}:  # of a word of 32 bits: nowhere does a product wrap around
            assert abs(constants[node.input[1]]) * (2**32 - 1) < 2**63
    assert found["Mul"] >= {"FLOAT", "INT64"}
    for operator in found.keys() - bookkeeping:
        assert found[operator] <= documented[operator], operator


def test_dropout_keeps_the_share_it_says_and_the_mean():
    cell, x = Dropout(0.2, seed=3).set_train(), Tensor(np.ones((64, 1280), np.float32))
    masks = [cell(x).asnumpy() for _ in range(4)]
    for one in masks:
        assert abs((one == 0).mean() - 0.2) < 0.006  # four standard deviations
        assert abs(one.mean() - 1.0) < 0.007
        for axis in (0, 1):  # no channel and no image is left out more often than chance has it
            share = (one == 0).mean(axis)
            assert share.var() == pytest.approx(0.2 * 0.8 / one.shape[axis], rel=0.6 if axis == 1 else 0.2)


def test_dropout_masks_are_independent_of_each_other_and_of_their_neighbours():
    x = Tensor(np.ones((64, 1280), np.float32))

    def drawn(seed: int, rank: int, step: int) -> np.ndarray:
        cell = Dropout(0.2, seed, rank).set_train()
        cell.steps.set_data(Tensor(step, ms.int32))
        return cell(x).asnumpy().reshape(-1) > 0

    first = drawn(3, 0, 0)
    keys = ((3, 0, 1), (3, 0, 2), (3, 1, 0), (4, 0, 0), (3, 8, 77))
    others = {f"seed, rank, step {key}": drawn(*key) for key in keys}
    others |= {f"{lag} elements further": np.roll(first, lag) for lag in (1, 2, 3, 16, 160, 1279, 1280, 1281)}
    for what, other in others.items():  # independent masks agree on 0.8**2 + 0.2**2 of the elements
        assert abs((first == other).mean() - 0.68) < 0.007, what


def test_dropout_streams_and_resume():
    x = Tensor(np.ones((4, 64), np.float32))

    def drawn(cell, forwards=3):
        cell.set_train()
        return np.stack([cell(x).asnumpy() for _ in range(forwards)])

    whole = drawn(Dropout(0.3, seed=5))
    np.testing.assert_array_equal(whole, drawn(Dropout(0.3, seed=5)))
    assert not np.array_equal(whole, drawn(Dropout(0.3, seed=6)))
    assert not np.array_equal(whole, drawn(Dropout(0.3, seed=5, rank=1)))

    resumed = Dropout(0.3, seed=5)
    resumed.steps.set_data(Tensor(2, ms.int32))
    np.testing.assert_array_equal(whole[2:], drawn(resumed, forwards=1))

    ms.set_seed(5)
    np.testing.assert_array_equal(whole, drawn(Dropout(0.3)))
    network = nn.SequentialCell([Dropout(0.3, seed=9)])
    layers.seed_dropout(network, seed=5)
    np.testing.assert_array_equal(whole, drawn(network))


def test_dropout_passes_its_input_on_outside_training():
    cell, x = Dropout(0.9), images()
    np.testing.assert_array_equal(run(cell, x), x)
    assert int(cell.steps.asnumpy()) == 0


def test_weights_are_all_but_the_dropout_counter():
    network = layers.Network({"stem": ConvNormAct(3, 4, 3, norm=BatchNorm())}, 4, 2, dropout=0.5)
    network.classifier.weight.requires_grad = False  # a frozen layer is still part of the network
    norm = [f"features.stem.norm.{name}" for name in ("moving_mean", "moving_variance", "gamma", "beta")]
    expected = ["features.stem.conv.weight", *norm, "classifier.weight", "classifier.bias"]
    assert list(layers.weights(network)) == expected
    assert "dropout.steps" in {name for name, _ in network.parameters_and_names()}


class Everything(nn.Cell):
    """Every cell that computes, in one small network."""

    def __init__(self):
        super().__init__()
        norm = BatchNorm()
        self.stem = ConvNormAct(3, 8, 3, 2, norm=norm, act="hswish")
        self.bottleneck = InvertedBottleneck(8, 8, 5, 1, 3, norm, "relu6")
        self.shuffle = nn.SequentialCell([layers.ChannelShuffle(8, 2), layers.Split()])
        self.se = layers.SqueezeExcite(4, 8)
        self.add, self.concat = layers.Add("relu"), layers.Concat("relu")
        pools = [pool(mode) for pool in (layers.MaxPool, layers.AvgPool) for mode in ("symmetric", "same")]
        self.pools = nn.SequentialCell(pools)
        self.network = layers.Network({"grouped": ConvNormAct(8, 8, groups=4, norm=norm)}, 8, 5, dropout=0.2)

    def construct(self, x):
        first, second = self.shuffle(self.bottleneck(self.stem(x)))
        return self.network(self.pools(self.concat(first, self.add(self.se(second), second))))


@pytest.mark.parametrize("batch", [2, None], ids=["static", "dynamic batch"])
def test_every_cell_exports_to_onnx(batch, tmp_path):
    net, x = Everything().set_train(False), images(channels=3, size=64)
    file = tmp_path / "everything.onnx"
    example = Tensor(shape=(batch, 3, 64, 64), dtype=ms.float32) if batch is None else Tensor(x)
    ms.onnx.export(net, example, file_name=str(file), input_names=["x"], output_names=["y"])
    session = onnxruntime.InferenceSession(str(file))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], run(net, x), rtol=1e-4, atol=1e-5)
