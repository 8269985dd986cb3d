"""The cost counter against published tables: every variant's totals, and tables row by row."""

import functools

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.models import create_model, get_entry, list_models, tracing
from src.models.layers import weights
from src.settings.recipes import RECIPE_FOLDER
from src.settings.yaml_text import read_yaml
from src.space.spaces import ONESHOT

# Network and options: parameters, MACs at 224, trainable tensors, statistics' tensors and values.
TOTALS = {
    ("spnasnet",): (4_421_616, 333_467_072, 194, 128, 39_504),
    ("proxylessnas_mobile",): (4_080_512, 320_427_584, 185, 122, 34_496),
    ("mnasnet",): (4_383_312, 314_415_872, 158, 104, 37_920),
    ("mnasnet", ("alpha", 0.5)): (2_218_512, 104_455_968, 158, 104, 20_624),
    ("mnasnet", ("alpha", 0.75)): (3_170_208, 215_493_104, 158, 104, 29_808),
    ("mnasnet", ("alpha", 1.3)): (6_282_256, 526_362_432, 158, 104, 48_816),
    # One tensor for each grouped convolution: fewer than upstream, whose groups are convolutions.
    ("shufflenetv1",): (5_450_776, 524_045_184, 149, 98, 48_960),
    ("shufflenetv1", ("groups", 3), ("size", "0.5x")): (718_324, 37_589_856, 149, 98, None),
    ("shufflenetv1", ("groups", 3), ("size", "1.0x")): (1_865_728, 137_460_672, 149, 98, None),
    ("shufflenetv1", ("groups", 3), ("size", "1.5x")): (3_442_168, 292_443_552, 149, 98, None),
    ("shufflenetv1", ("groups", 8), ("size", "0.5x")): (1_011_448, 40_469_760, 149, 98, None),
    ("shufflenetv1", ("groups", 8), ("size", "1.0x")): (2_434_768, 138_365_952, 149, 98, None),
    ("shufflenetv1", ("groups", 8), ("size", "1.5x")): (4_269_952, 290_188_800, 149, 98, None),
    ("shufflenetv1", ("groups", 8), ("size", "2.0x")): (6_522_232, 521_942_016, 149, 98, None),
    ("spos_oneshot",): (3_433_579, 327_857_920, None, None, None),
    ("spos_oneshot_plus",): (3_742_955, 296_707_840, None, None, None),
    ("spos_oneshot_s_plus",): (3_541_829, 291_125_760, None, None, None),
}
WITH_POOLING_AND_BIAS = {"spos_oneshot_plus": 297_058_024, "spos_oneshot_s_plus": 291_475_944}

# Beginning of the layers' names: parameters, MACs.
ROWS = {
    "spnasnet": {
        "features.stem": (928, 10_838_016),
        "features.stage0.0.": (896, 10_035_200),
        "features.stage1.0.": (2_592, 14_601_216),
        "features.stage1.1.": (4_440, 12_870_144),
        "features.stage1.2.": (4_440, 12_870_144),
        "features.stage2.0.": (13_472, 18_176_256),
        "features.stage2.1.": (11_240, 8_373_120),
        "features.stage2.2.": (11_240, 8_373_120),
        "features.stage2.3.": (11_240, 8_373_120),
        "features.stage3.0.": (35_920, 12_465_600),
        "features.stage3.1.": (41_680, 7_949_760),
        "features.stage3.2.": (41_680, 7_949_760),
        "features.stage3.3.": (41_680, 7_949_760),
        "features.stage4.0.": (98_592, 18_910_080),
        "features.stage4.1.": (63_840, 12_249_216),
        "features.stage4.2.": (63_840, 12_249_216),
        "features.stage4.3.": (63_840, 12_249_216),
        "features.stage4.4.": (182_976, 16_962_624),
        "features.stage4.5.": (476_160, 23_087_232),
        "features.stage4.6.": (476_160, 23_087_232),
        "features.stage4.7.": (476_160, 23_087_232),
        "features.stage5.0.": (605_440, 29_409_408),
        "features.head": (412_160, 20_070_400),
        "classifier": (1_281_000, 1_280_000),
    },
    "proxylessnas_mobile": {
        "features.stem": (928, 10_838_016),
        "features.stage1.0.": (896, 10_035_200),
        "features.stage2.0.": (3_760, 18_213_888),
        "features.stage2.1.": (7_456, 21_977_088),
        "features.stage3.0.": (12_080, 16_332_288),
        "features.stage3.1.": (11_240, 8_373_120),
        "features.stage3.2.": (13_160, 9_878_400),
        "features.stage3.3.": (13_160, 9_878_400),
        "features.stage4.0.": (41_680, 13_594_560),
        "features.stage4.1.": (45_520, 8_702_400),
        "features.stage4.2.": (45_520, 8_702_400),
        "features.stage4.3.": (45_520, 8_702_400),
        "features.stage4.4.": (98_592, 18_910_080),
        "features.stage4.5.": (63_840, 12_249_216),
        "features.stage4.6.": (63_840, 12_249_216),
        "features.stage4.7.": (63_840, 12_249_216),
        "features.stage5.0.": (196_800, 17_640_000),
        "features.stage5.1.": (503_808, 24_441_984),
        "features.stage5.2.": (252_096, 12_220_992),
        "features.stage5.3.": (252_096, 12_220_992),
        "features.stage5.4.": (651_520, 31_667_328),
        "features.head": (412_160, 20_070_400),
        "classifier": (1_281_000, 1_280_000),
    },
    "shufflenetv1": {
        "features.stem": (1_392, 16_257_024),
        "features.pool": (0, 0),
        "features.stage1.0.": (25_464, 32_457_600),
        **{f"features.stage1.{unit}.": (40_920, 30_952_320) for unit in (1, 2, 3)},
        "features.stage2.0.": (80_880, 38_055_360),
        **{f"features.stage2.{unit}.": (158_640, 30_528_960) for unit in range(1, 8)},
        "features.stage3.0.": (315_360, 37_843_680),
        **{f"features.stage3.{unit}.": (624_480, 30_317_280) for unit in (1, 2, 3)},
        "classifier": (1_921_000, 1_920_000),
    },
    "mnasnet": {
        "features.stem": (928, 10_838_016),
        "features.stage0.": (896, 10_035_200),
        "features.stage1.": (11_472, 40_341_504),
        "features.stage2.": (33_096, 28_844_928),
        "features.stage3.": (217_680, 47_275_200),
        "features.stage4.": (209_184, 40_096_896),
        "features.stage5.": (1_611_456, 86_224_320),
        "features.stage6.": (605_440, 29_409_408),
        "features.head": (412_160, 20_070_400),
        "classifier": (1_281_000, 1_280_000),
    },
}
SPOS_BLOCKS = {  # twenty blocks, then what follows them but for the classifier
    "spos_oneshot": (
        *((3_948, 17_950_464), (2_990, 8_699_264), (3_291, 9_291_968), (3_598, 10_605_952)),
        *((15_216, 18_652_928), (21_328, 16_244_480), (11_232, 8_479_744), (14_000, 10_599_680)),
        *((70_208, 22_529_024), (64_256, 12_380_928), (95_808, 18_514_944), (67_328, 12_983_040)),
        *((56_160, 10_819_200), (74_912, 14_444_416), (95_808, 18_514_944), (53_600, 10_317_440)),
        *((341_760, 31_642_240), (257_536, 12_512_640), (319_680, 15_476_160), (178_048, 8_642_816)),
        (657_408, 32_112_640),
    ),
    "spos_oneshot_plus": (
        *((3_948, 17_950_464), (2_990, 8_699_264), (3_291, 9_291_968), (3_598, 10_605_952)),
        *((15_216, 18_652_928), (21_328, 16_244_480), (11_232, 8_479_744), (14_000, 10_599_680)),
        *((83_208, 22_541_824), (77_256, 12_393_728), (108_808, 18_527_744), (80_328, 12_995_840)),
        *((69_160, 10_832_000), (87_912, 14_457_216), (108_808, 18_527_744), (66_600, 10_330_240)),
        *((393_360, 31_693_440), (309_136, 12_563_840), (371_280, 15_527_360), (229_648, 8_694_016)),
        (656_384, 655_360),
    ),
    "spos_oneshot_s_plus": (
        *((4_949, 22_883_392), (3_991, 11_675_328), (3_452, 10_072_832), (5_365, 15_908_928)),
        *((21_728, 30_833_152), (22_304, 16_959_488), (12_256, 9_282_560), (14_000, 10_599_680)),
        *((85_192, 13_761_024), (73_000, 11_584_640), (45_288, 6_203_264), (57_992, 8_668_160)),
        *((73_000, 11_584_640), (84_936, 13_899_008), (91_496, 15_159_680), (96_872, 16_213_376)),
        *((325_968, 25_393_216), (219_408, 8_192_256), (274_000, 10_854_720), (344_784, 14_298_048)),
        (656_384, 655_360),
    ),
}
for _name, _blocks in SPOS_BLOCKS.items():
    _units = [
        f"features.stage{stage}.{unit}." for stage, repeats in enumerate((4, 4, 8, 4), 1) for unit in range(repeats)
    ]
    _tail = "features.head" if _name == "spos_oneshot" else "hidden.conv"
    ROWS[_name] = {
        "features.stem": (464, 5_419_008),
        **dict(zip([*_units, _tail], _blocks, strict=True)),
        "classifier": (1_025_000, 1_024_000),
    }


@functools.cache
def built(name: str, *options: tuple) -> tuple[nn.Cell, tracing.Cost]:
    net = create_model(name, **dict(options))
    return net, tracing.count(net)


def variants() -> list[tuple]:
    return [(name, *options.items()) for name in list_models() for options in get_entry(name).variants]


@pytest.mark.parametrize("variant", TOTALS, ids=str)
def test_published_totals(variant):
    params, macs, tensors, statistics, values = TOTALS[variant]
    net, counted = built(*variant)
    assert (counted.params, counted.macs) == (params, macs)
    trained = {parameter.name for parameter in net.trainable_params()}
    moving = [value.size for name, value in weights(net).items() if name not in trained]
    if tensors is not None:
        assert (len(trained), len(moving)) == (tensors, statistics)
    if values is not None:
        assert sum(moving) == values


@pytest.mark.parametrize("variant", variants(), ids=str)
def test_rows_add_up_to_the_totals(variant):
    net, counted = built(*variant)
    assert sum(layer.params for layer in counted.layers) == counted.params
    assert sum(layer.macs for layer in counted.layers) == counted.macs
    assert net.options.items() >= set(variant[1:])


@pytest.mark.parametrize("name", ROWS)
def test_published_rows(name):
    layers = list(built(name)[1].layers)
    for beginning, expected in ROWS[name].items():
        unit = [layer for layer in layers if layer.name.startswith(beginning)]
        assert (sum(layer.params for layer in unit), sum(layer.macs for layer in unit)) == expected, beginning
        layers = [layer for layer in layers if layer not in unit]
    assert [layer.name for layer in layers] == ["pool"]  # nothing else is left but the global pool


@pytest.mark.parametrize("recipe", sorted(RECIPE_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_state_the_counted_costs(recipe):
    content = read_yaml(recipe)
    reference = content.get("reference", {})
    if "macs" in reference:
        counted = built(content["model"], *content.get("model_options", {}).items())[1]
        assert (counted.params, counted.macs) == (reference["params"], reference["macs"])


@pytest.mark.parametrize("name", WITH_POOLING_AND_BIAS)
def test_second_convention(name):
    assert built(name)[1].macs_with_pooling_and_bias == WITH_POOLING_AND_BIAS[name]


def test_other_spos_sizes():
    def counted(name, **options):
        result = tracing.count(create_model(name, **options))
        return result.params, result.macs

    plain = {"use_se": False, "last_conv_after_pooling": False}
    params, macs = counted("spos_oneshot_s_plus", **plain)
    assert (params, round(macs / 1e6, 2)) == (3_232_453, 322.28)
    v2 = {"layout": "ShuffleNetV2+", "last_conv_after_pooling": False}
    assert counted("spos_oneshot_s_plus", **v2) == (3_707_885, 208_817_058)
    megvii = "2,1,0,1,2,0,2,0,2,0,2,3,0,0,0,0,3,2,3,3"
    params, macs = counted("spos_oneshot", block_choices=megvii, channel_choices=[4] * 20)
    assert (params - 1000, round(macs / 1e6, 2)) == (3_558_464, 322.92)  # theirs has no classifier bias
    for choice, expected in enumerate((295.84, 313.65, 340.37, 358.83)):
        path = {"block_choices": [choice] * 20, "channel_choices": [4] * 20}
        assert round(counted("spos_oneshot", **path)[1] / 1e6, 2) == expected
    assert counted("spos_oneshot", block_choices=ONESHOT.blocks) == (3_433_579, 327_857_920)


def test_a_row_tells_its_layer():
    layers = {layer.name: layer for layer in built("shufflenetv1")[1].layers}
    assert layers["features.stage1.0.project"] == tracing.Layer(
        "conv", "features.stage1.0.project", (1, 1), (1, 1), 3, 120, 432, (28, 28), 18_144, 13_547_520, 13_547_520
    )
    assert layers["features.stage2.0.depthwise"] == tracing.Layer(
        "depthwise", "features.stage2.0.depthwise", (3, 3), (2, 2), 240, 240, 240, (14, 14), 2_640, 423_360, 423_360
    )
    assert layers["features.stage1.0.shortcut"] == tracing.Layer(
        "avg_pool", "features.stage1.0.shortcut", (3, 3), (2, 2), 1, 48, 48, (28, 28), 0, 0, 0
    )
    assert layers["pool"] == tracing.Layer(
        "global_pool", "pool", (7, 7), (1, 1), 1, 1920, 1920, (1, 1), 0, 0, 1920 * 49
    )
    assert layers["classifier"].macs_with_pooling_and_bias == 1_921_000


class Odd(nn.Cell):
    """Layers that the networks here do not have: any padding, dilation, a shared convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.same = nn.Conv2d(3, 4, 3, 2, pad_mode="same", has_bias=True)
        self.valid = nn.Conv2d(4, 4, (3, 5), pad_mode="valid", dilation=2)
        self.uneven = nn.Conv2d(4, 4, 3, 2, pad_mode="pad", padding=(1, 0, 2, 1), group=2)
        self.dense = nn.Dense(4, 6)

    def construct(self, x):
        x = self.uneven(self.uneven(self.valid(self.same(self.norm(x)))))
        return self.dense(x.mean((2, 3)))


@pytest.mark.parametrize("size", [33, 64])
def test_any_cell_and_size(size):
    net = Odd()
    counted = tracing.count(net, size)
    shapes = {}
    for name, cell in net.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.register_forward_hook(lambda _, __, y, name=name: shapes.setdefault(name, []).append(y.shape[2:]))
    net(Tensor(np.zeros((1, 3, size, size), np.float32)))
    rows = [layer for layer in counted.layers if layer.op == "conv"]
    assert [layer.output_size for layer in rows] == [*shapes["same"], *shapes["valid"], *shapes["uneven"]]
    assert [layer.params for layer in rows] == [112, 240, 72, 0]  # shared weights count once
    assert [layer.op for layer in counted.layers] == ["norm", "conv", "conv", "conv", "conv", "dense"]
    assert counted.params == 6 + 112 + 240 + 72 + 30
    area = [height * width for height, width in (layer.output_size for layer in rows)]
    assert [layer.macs for layer in rows] == [108 * area[0], 240 * area[1], 72 * area[2], 72 * area[3]]
    assert counted.macs_with_pooling_and_bias == counted.macs + 4 * area[0] + 6


def test_counting_leaves_the_network_as_it_was():
    net, _ = built("mnasnet")
    before = {name: value.asnumpy() for name, value in net.parameters_dict().items()}
    net.set_train()
    net.features.stem.set_train(False)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        assert tracing.count(net, 64).params == 4_383_312
        assert ms.get_context("mode") == ms.GRAPH_MODE
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert net.training
    assert net.classifier.training
    assert not net.features.stem.norm.training
    after = net.parameters_dict()
    assert all(np.array_equal(value, after[name].asnumpy()) for name, value in before.items())
