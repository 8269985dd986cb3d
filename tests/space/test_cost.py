"""Costs against every published anchor and total, and scores against the published scores."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from src.errors import UsageError
from src.space import cost, extent, score
from src.space.cost import cost_tables, lookup_table, lookup_table_name, supernet_params, write_lookup_table
from src.space.score import COMPARISONS, normalized_score, qualifies, ratio_tables, score_table, sum_score
from src.space.spaces import LAYOUTS, PUBLISHED, Architecture, Domain, create_space, to_genes
from tests.skipping import SKIPPING

PLUS = PUBLISHED["OneShot+"][0]
SEARCH_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
# FLOPs (M) at channel index 0, 4, 9 of SNB-3, SNB-5, SNB-7, SXB-3; squeeze-excite, last convolution after pooling.
ANCHORS = {
    0: [
        (3.531136, 13.396992, 25.539584),
        (4.635008, 15.80544, 29.553664),
        (6.290816, 19.418112, 35.574784),
        (3.361792, 13.146112, 31.008768),
    ],
    1: [
        (1.373568, 7.325696, 14.651392),
        (1.674624, 8.931328, 17.862656),
        (2.126208, 11.339776, 22.679552),
        (2.558976, 12.343296, 30.205952),
    ],
    4: [
        (8.191232, 26.304768, 48.946688),
        (9.194752, 28.111104, 51.756544),
        (10.700032, 30.820608, 55.971328),
        (6.547968, 20.296192, 46.513152),
    ],
    5: [
        (2.119936, 10.59968, 21.19936),
        (2.32064, 11.6032, 23.2064),
        (2.621696, 13.10848, 26.21696),
        (2.998016, 16.74624, 42.9632),
    ],
    8: [
        (10.418248, 30.71444, 56.08468),
        (11.02036, 31.71796, 57.58996),
        (11.923528, 33.22324, 59.84788),
        (7.94708, 21.24372, 46.8962),
    ],
    9: [
        (2.107848, 10.3618, 20.67924),
        (2.2082, 10.86356, 21.68276),
        (2.358728, 11.6162, 23.18804),
        (2.64724, 15.94388, 41.59636),
    ],
    16: [
        (10.271824, 30.45512, 55.68424),
        (10.57288, 30.95688, 56.43688),
        (11.024464, 31.70952, 57.56584),
        (7.631312, 20.70216, 46.0724),
    ],
    17: [
        (2.102544, 10.2436, 20.41992),
        (2.15272, 10.49448, 20.92168),
        (2.227984, 10.8708, 21.67432),
        (2.472592, 15.54344, 40.91368),
    ],
}


def costs(space, path):
    return {name: table.totals(to_genes([path]))[0] for name, table in cost_tables(space).items()}


@pytest.mark.parametrize("block", ANCHORS)
def test_lookup_table_has_the_published_entries(block):
    entries = np.array(lookup_table(PLUS)["flops"]["nas_block"])
    assert entries.shape == (20, 4, 10)
    np.testing.assert_allclose(entries[block][:, [0, 4, 9]], ANCHORS[block], rtol=0, atol=1e-9)


def test_lookup_table_file_has_upstreams_layout_and_name(tmp_path):
    path = write_lookup_table(PLUS, tmp_path)
    assert path.name == "lookup_table_se_lastConvAfterPooling_OneShot.json"
    content = json.loads(path.read_text())
    assert list(content) == ["config", "flops", "macs", "params"]
    assert set(content["config"]) == {
        "use_se",
        "last_conv_after_pooling",
        "channels_layout",
        "stage_repeats",
        "stage_out_channels",
        "channel_scales",
        "first_conv_out_channel",
        "input_size",
        "last_conv_out_channel",
    }
    assert (content["flops"]["input_block"], content["params"]["input_block"]) == (5.419008, 0.000464)
    assert (content["flops"]["output_block"], content["params"]["output_block"]) == (1.712744, 1.681384)
    assert lookup_table_name(LAYOUTS["ShuffleNetV2+"]) == "lookup_table_ShuffleNetV2+.json"


@pytest.mark.parametrize(
    ("space", "extras"),
    [
        # An element that enters a pooling, an output of a layer with bias: head of 1024 channels, 1000 classes, 7 x 7.
        (LAYOUTS["OneShot"], 1024 * 49 + 1000),
        (create_space("OneShot", stage_repeats=(1, 1, 1, 1)), 1024 * 49 + 1000),
        (create_space("OneShot", last_conv_after_pooling=True), 640 * 49 + 1024 + 1000),
        # A gate on 768 channels with 192 inside it, whose own pooling sees one element a channel.
        (create_space("OneShot", use_se=True), 768 * 49 + 768 + 192 + 768 + 1024 + 1000),
    ],
)
def test_upstreams_counter_adds_biases_and_poolings_of_the_tail(space, extras):
    table = lookup_table(space)
    added = (table["flops"]["output_block"] - table["macs"]["output_block"]) * 1e6
    assert added == pytest.approx(extras, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "flops", "macs", "params"),
    [
        ("OneShot", None, 327.857920, 3.433579),
        ("OneShot+", 297.058024, 296.707840, 3.742955),
        ("OneShot-S+", 291.475944, 291.125760, 3.541829),
    ],
)
def test_totals_of_the_published_paths(name, flops, macs, params):
    found = costs(*PUBLISHED[name])
    assert (found["macs"], found["params"]) == (macs, params)
    assert flops is None or found["flops"] == flops


@pytest.mark.parametrize(
    ("changes", "macs", "params"),
    [({}, 322.275840, 3.232453), ({"channels_layout": "ShuffleNetV2+", "use_se": True}, 208.817058, 3.707885)],
)
def test_totals_of_s_plus_choices_in_other_settings(changes, macs, params):
    found = costs(create_space(changes.pop("channels_layout", "OneShot"), **changes), PUBLISHED["OneShot-S+"][1])
    assert (found["macs"], found["params"]) == (macs, params)


@pytest.mark.parametrize(
    ("space", "params"),
    [
        (PLUS, 17_180_248),
        (LAYOUTS["OneShot"], 15_939_672),
        (create_space("OneShot", last_conv_after_pooling=True), 15_938_648),
        (create_space("OneShot", use_se=True), 18_100_248),
        (create_space("ShuffleNetV2+", use_se=True, last_conv_after_pooling=True), 11_598_160),
        (
            create_space(
                "OneShot",
                use_se=True,
                last_conv_after_pooling=True,
                channel_scales=LAYOUTS["OneShot"].channel_scales[:9],
            ),
            15_586_208,
        ),
    ],
)
def test_supernet_sizes(space, params):
    assert supernet_params(space) == params


@pytest.mark.parametrize(
    ("block", "channel", "macs", "params"),
    [(0, 0, 70.74, 2.403), (0, 2, 167.71, 2.934), (3, 9, 810.70, 7.480)],
)
def test_uniform_paths(block, channel, macs, params):
    found = costs(PLUS, Architecture((block,) * 20, (channel,) * 20))
    assert (round(found["macs"], 2), round(found["params"], 3)) == (macs, params)
    plain = [costs(LAYOUTS["OneShot"], Architecture((kind,) * 20, (4,) * 20))["macs"] for kind in range(4)]
    assert [round(value, 2) for value in plain] == [295.84, 313.65, 340.37, 358.83]


def test_a_million_paths_cost_less_than_a_second():
    genes = Domain.of(PLUS).sample(np.random.default_rng(0), 1_000_000)
    tables = cost_tables(PLUS)
    seconds = []
    for _ in range(3):
        start = time.process_time()  # not what else the machine does
        flops, params = tables["flops"].totals(genes), tables["params"].totals(genes)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.0
    for index in (0, 123_456, 999_999):
        one = genes[index : index + 1]
        assert (flops[index], params[index]) == (tables["flops"].totals(one)[0], tables["params"].totals(one)[0])


def test_range_is_that_of_all_paths():
    space = create_space("digits", stage_repeats=(1, 1), stage_out_channels=(32, 64))
    domain, table = Domain.of(space), cost_tables(space)["flops"]
    grid = np.array(np.meshgrid(*[range(4)] * 2, *[range(5)] * 2)).reshape(4, -1).T.astype(np.int8)
    every = table.totals(grid)
    assert table.range(domain) == (every.min(), every.max())
    part = Domain.of(space, blocks=(2, 3), channel_range=(1, 2))
    inside = (grid[:, :2] == (2, 3)).all(axis=1) & ((grid[:, 2:] >= 1) & (grid[:, 2:] <= 2)).all(axis=1)
    assert table.range(part) == (every[inside].min(), every[inside].max())


def test_a_skipped_unit_costs_nothing_and_an_op_that_a_position_lacks_is_never_counted():
    tables, counts = cost_tables(SKIPPING), (3, 5, 3, 5)
    skipping = to_genes([Architecture((1, 4, 2, 4), (2, 3, 1, 0)), Architecture((1, 4, 2, 0), (2, 0, 1, 3))])
    every = np.stack(np.meshgrid(*map(np.arange, (*counts, 5, 5, 5, 5))), axis=-1).reshape(-1, 8).astype(np.int8)
    for table in tables.values():
        strided = table.choices[0, 1, 2] + table.choices[2, 2, 1]
        others = table.totals(skipping) * table.divisor - table.fixed - strided
        np.testing.assert_allclose(others, [0, table.choices[3, 0, 3]], rtol=0, atol=1e-6)
        paths = table.totals(every)
        assert table.range(Domain.of(SKIPPING)) == (paths.min(), paths.max())
    params = tables["params"]
    widest = [params.choices[p, op, -1] for p, count in enumerate(counts) for op in range(count)]
    assert supernet_params(SKIPPING) == params.fixed + sum(widest)


@pytest.mark.parametrize(
    ("name", "score", "is_qualified"),
    [("OneShot+", 1.00327, False), ("OneShot-S+", 0.96518, True)],
)
def test_qualifying_rule(name, score, is_qualified):
    found = costs(*PUBLISHED[name])
    assert normalized_score(found["flops"], found["params"]) == pytest.approx(score, abs=5e-6)
    assert qualifies(found["flops"], found["params"]) == is_qualified


def test_qualifying_limits():
    assert not qualifies(330, 2.0)
    assert qualifies(330, 2.0, flop_max=-1)
    assert not qualifies(200, 3.5, param_max=1)
    assert qualifies(200, 3.5)


def test_sums_as_in_upstreams_table():
    sums = {
        name: round(sum_score(*[costs(*PUBLISHED[name])[key] for key in ("flops", "params")]), 4) for name in PUBLISHED
    }
    # Upstream prints 2 for its own OneShot; exact counts give the others.
    assert sums["OneShot+"] == 2.0065
    assert sums["OneShot-S+"] == 1.9304
    assert round(sum_score(217, 5.4), 2) == 2.25
    assert round(sum_score(585, 6.9), 2) == 3.81


def test_sums_of_the_others_follow_from_their_figures():
    """In the comparison table of docs/search.md, but for one and the last digit of another."""
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \|.*\| ([\d.]+) \|$", SEARCH_PAGE, re.MULTILINE)
    sums = {name: (sum_score(float(flops), float(params)), total) for name, flops, params, total in rows}
    assert len(sums) == 15
    wrong = {name for name, (found, said) in sums.items() if f"{found:.{len(said.partition('.')[2])}f}" != said}
    assert wrong == {"FBNet-B", "OneShot+ supernet"}
    assert [round(sums[name][0], 2) for name in ("FBNet-B", "OneShot+ supernet")] == [2.22, 7.1]


def test_the_extents_of_the_spaces_are_those_that_the_page_has(capsys):
    extent.main([])
    assert capsys.readouterr().out in SEARCH_PAGE
    with pytest.raises(UsageError, match="takes no arguments"):
        extent.main(["plain"])
    # Upstream's ends, 168M and 841.9M, of two paths of two spaces.
    plain, plus = (dict(extent.rows_of(space)) for space in extent.SPACES.values())
    assert plus["MFLOPs of SNB-3 at 0.6 everywhere"] == "168.1"
    assert plain["MFLOPs of SXB-3 at 2.0 everywhere"] == "841.9"


def test_running_statistics_are_two_a_channel_of_each_batch_norm():
    """As many as there are scales and shifts: 159,584 of the 17,180,248 that upstream's supernet trains."""
    assert (supernet_params(PLUS), extent.statistics(PLUS)) == (17_180_248, 159_584)


@pytest.mark.parametrize(
    ("model", "flops", "params"),
    [
        ("SinglePathOneShot", 328, 3.4),
        ("MobileNetV3_large", 217, 5.4),
        ("MobileNetV2_1.4", 585, 6.9),
        ("ShuffleNetV2+_medium", 222, 5.6),
    ],
)
def test_a_comparison_model_scores_1_beside_itself(model, flops, params):
    assert normalized_score(flops, params, model) == 1
    assert normalized_score(2 * flops, params, model) == normalized_score(flops, 2 * params, model) == 1.5


@pytest.mark.parametrize("model", COMPARISONS)
def test_score_table_is_the_score(model):
    genes = Domain.of(PLUS).sample(np.random.default_rng(1), 20)
    tables = cost_tables(PLUS)
    expected = [
        normalized_score(flops, params, model)
        for flops, params in zip(tables["flops"].totals(genes), tables["params"].totals(genes), strict=True)
    ]
    np.testing.assert_allclose(score_table(PLUS, model).totals(genes), expected, rtol=1e-12)


def test_ratio_tables_are_costs_over_the_comparison_models():
    genes, costs = Domain.of(PLUS).sample(np.random.default_rng(1), 20), cost_tables(PLUS)
    ratios = ratio_tables(PLUS, "MobileNetV3_large")
    np.testing.assert_allclose(ratios["flops_ratio"].totals(genes), costs["flops"].totals(genes) / 217, rtol=1e-12)
    np.testing.assert_allclose(ratios["params_ratio"].totals(genes), costs["params"].totals(genes) / 5.4, rtol=1e-12)


def test_unknown_comparison_is_refused():
    with pytest.raises(UsageError, match="did you mean 'MobileNetV3_large'"):
        normalized_score(1, 1, "MobileNetV3large")


def test_the_commands_write_the_tables_and_print_the_scores(tmp_path, capsys):
    cost.main([str(tmp_path), "--layout", "ShuffleNetV2+", "--use_se"])
    printed = capsys.readouterr().out
    written = tmp_path / "lookup_table_se_ShuffleNetV2+.json"
    assert printed == f"{written}\n"
    assert json.loads(written.read_text()) == lookup_table(create_space("ShuffleNetV2+", use_se=True))
    with pytest.raises(UsageError, match="there is no folder"):
        cost.main([str(tmp_path / "missing")])

    score.main([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(" | ")[-4:] == [f"score to {name}" for name in COMPARISONS]
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in lines[2:]}
    assert rows["OneShot+"][:5] == ["297.058", "296.708", "3.743", "2.0065", "1.0033"]
    assert rows["OneShot-S+"][3:5] == ["1.9304", "0.9652*"]
