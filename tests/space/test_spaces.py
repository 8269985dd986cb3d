"""The search space against the published tables of widths and choices."""

import argparse
import subprocess
import sys

import numpy as np
import pytest

from src.errors import UsageError
from src.space.blocks import SKIP
from src.space.spaces import (
    LAYOUTS,
    PUBLISHED,
    Architecture,
    Domain,
    Space,
    add_space_arguments,
    create_space,
    different_pairs,
    from_genes,
    space_of_arguments,
    to_genes,
)
from tests.skipping import SKIPPING

WIDTHS = {
    ("OneShot", 64): (
        [6, 12, 19, 25, 32, 38, 44, 51, 57, 64],
        [8, 16, 24, 32, 32, 40, 48, 56, 64, 64],
    ),
    ("OneShot", 160): ([16, 32, 48, 64, 80, 96, 112, 128, 144, 160],) * 2,
    ("OneShot", 320): (list(range(32, 321, 32)),) * 2,
    ("OneShot", 640): (list(range(64, 641, 64)),) * 2,
    ("ShuffleNetV2+", 48): ([4, 9, 14, 19, 24, 28, 33, 38, 43, 48], [8, 16, 16, 24, 24, 32, 40, 40, 48, 48]),
    ("ShuffleNetV2+", 128): (
        [12, 25, 38, 51, 64, 76, 89, 102, 115, 128],
        [16, 32, 40, 56, 64, 80, 96, 104, 120, 128],
    ),
    ("ShuffleNetV2+", 256): (
        [25, 51, 76, 102, 128, 153, 179, 204, 230, 256],
        [32, 56, 80, 104, 128, 160, 184, 208, 232, 256],
    ),
    ("ShuffleNetV2+", 512): (
        [51, 102, 153, 204, 256, 307, 358, 409, 460, 512],
        [56, 104, 160, 208, 256, 312, 360, 416, 464, 512],
    ),
}


@pytest.mark.parametrize(("layout", "channels"), WIDTHS)
def test_widths_are_the_published_ones(layout, channels):
    truncated, rounded = WIDTHS[layout, channels]
    space = LAYOUTS[layout]
    assert [space.mid_channels(channels, index) for index in range(10)] == truncated
    assert [space.mid_channels(channels, index, rounded=True) for index in range(10)] == rounded


def test_published_choices_have_the_published_widths():
    oneshot = [44, 38, 25, 38, 48, 112, 64, 80, 96, 192, 256, 192, 160, 224, 256, 160, 320, 384, 320, 256]
    s_plus = [57, 51, 44, 57, 96, 128, 64, 80, 96, 160, 96, 128, 160, 192, 224, 224, 256, 256, 320, 448]
    for name, mids in (("OneShot", oneshot), ("OneShot+", oneshot), ("OneShot-S+", s_plus)):
        space, path = PUBLISHED[name]
        assert space.check(path) is path
        assert space.mids(path) == mids


def test_rounded_widths_never_exceed_the_supernet():
    space = create_space("OneShot", stage_out_channels=(66, 160, 320, 640))
    widest = Architecture((0,) * 20, (9,) * 20)
    assert space.mids(widest, rounded=True) == space.mids(widest)


def test_positions_of_the_oneshot_layout():
    positions = LAYOUTS["OneShot"].positions()
    assert [position.stride for position in positions] == [2, 1, 1, 1] * 2 + [2] + [1] * 7 + [2, 1, 1, 1]
    assert [position.out_size for position in positions] == [56] * 4 + [28] * 4 + [14] * 8 + [7] * 4
    assert (positions[8].main_in, positions[8].main_out) == (160, 160)
    assert (positions[17].main_in, positions[17].main_out) == (320, 320)
    assert {type(width) for position in positions for width in (position.main_in, position.main_out)} == {int}
    se = create_space("OneShot", use_se=True).positions()
    assert [position.has_se for position in se] == [False] * 8 + [True] * 12
    assert [op.name for op in positions[0].ops] == ["SNB-3", "SNB-5", "SNB-7", "SXB-3"]
    assert {position.ops for position in positions} == {positions[0].ops}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (Architecture((0,) * 19, (0,) * 20), "20 block choices, not 19"),
        (Architecture((0,) * 20, (0,) * 21), "20 channel choices, not 21"),
        (Architecture((4,) * 20, (0,) * 20), "4 does not exist"),
        (Architecture((0,) * 20, (-1,) * 20), "-1 does not exist"),
    ],
)
def test_what_is_no_path_is_refused(path, message):
    with pytest.raises(UsageError, match=message):
        LAYOUTS["OneShot"].check(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage_repeats": (4, 4)},
        {"stage_out_channels": (64, 64, 320, 640)},
        {"stage_out_channels": (65, 160, 320, 640)},
        {"channel_scales": ()},
        {"channel_scales": (0.01,)},
        {"stage_repeats": (4, 0, 8, 4)},
    ],
)
def test_spaces_that_cannot_be_built_are_refused(changes):
    with pytest.raises(UsageError):
        create_space("OneShot", **changes)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'OneShot'"):
        create_space("Oneshot")
    with pytest.raises(UsageError, match="did you mean 'use_se'"):
        create_space("OneShot", use_es=True)


def test_flags_say_which_space():
    parser = argparse.ArgumentParser()
    add_space_arguments(parser)

    def space(line: str) -> Space:
        return space_of_arguments(parser.parse_args(line.split()))

    assert space("") == LAYOUTS["OneShot"] == create_space("OneShot", input_size=224, use_se=False)
    assert space("--layout digits") == create_space("digits", input_size=32, num_classes=10)
    assert space("--image_size 32 --use_se") == create_space("OneShot", input_size=32, use_se=True)
    assert space("--image_size 299 --last_conv_after_pooling") == create_space(
        "OneShot", input_size=299, last_conv_after_pooling=True
    )
    for size in (-1, 31, 300):
        with pytest.raises(UsageError, match=f"image_size is {size}; it must be from 32 to 299"):
            space(f"--image_size {size}")


def test_genes_and_paths_are_the_same_thing():
    paths = [PUBLISHED["OneShot"][1], PUBLISHED["OneShot-S+"][1]]
    assert from_genes(to_genes(paths)) == paths


def test_domain_draws_every_choice_and_keeps_what_is_fixed():
    space, rng = LAYOUTS["OneShot"], np.random.default_rng(3)
    genes = Domain.of(space).sample(rng, 400)
    assert all(set(genes[:, p]) == set(range(4)) for p in range(20))
    assert all(set(genes[:, 20 + p]) == set(range(10)) for p in range(20))
    blocks = PUBLISHED["OneShot"][1].blocks
    fixed = Domain.of(space, blocks=blocks)
    children = fixed.cross(rng, fixed.sample(rng, 50), fixed.sample(rng, 50), mutation=1.0)
    assert (children[:, :20] == blocks).all()
    assert fixed.size() == 10**20
    assert Domain.of(space, channels=(9,) * 20).size() == 4**20


def test_every_position_has_ops_of_its_own():
    assert SKIPPING.op_counts() == [3, 5, 3, 5]
    assert SKIPPING.positions()[3].ops[4] is SKIP
    domain = Domain.of(SKIPPING, channel_range=(1, 2))
    genes = domain.sample(np.random.default_rng(0), 500)
    assert [set(genes[:, p]) for p in range(4)] == [set(range(count)) for count in (3, 5, 3, 5)]
    assert domain.size() == 3 * 5 * 3 * 5 * 2**4
    path = Architecture((2, 4, 2, 4), (0, 0, 0, 0))
    assert SKIPPING.check(path) is path
    with pytest.raises(UsageError, match="block choices go from 0 to 2; 3 does not exist"):
        SKIPPING.check(Architecture((2, 4, 3, 4), (0, 0, 0, 0)))


def test_children_take_each_gene_from_a_parent():
    space, rng = LAYOUTS["OneShot"], np.random.default_rng(4)
    domain = Domain.of(space)
    mothers, fathers = domain.sample(rng, 30), domain.sample(rng, 30)
    children = domain.cross(rng, mothers, fathers, mutation=0.0)
    assert ((children == mothers) | (children == fathers)).all()
    differ = mothers != fathers
    assert 0.4 < (children == mothers)[differ].mean() < 0.6


def test_mutation_redraws_the_given_share():
    space, rng = LAYOUTS["OneShot"], np.random.default_rng(5)
    domain = Domain.of(space)
    zeros = np.zeros((500, 40), dtype=np.int8)
    changed = domain.mutate(rng, zeros, 0.1) != 0
    # A redraw keeps the old value with chance 1/4 or 1/10.
    assert changed[:, :20].mean() == pytest.approx(0.075, abs=0.01)
    assert changed[:, 20:].mean() == pytest.approx(0.09, abs=0.01)


def test_pairs_are_of_different_parents():
    parents = np.arange(3, dtype=np.int8)[:, None]
    mothers, fathers = different_pairs(np.random.default_rng(0), parents, 300)
    assert (mothers != fathers).all()
    assert {(int(m[0]), int(f[0])) for m, f in zip(mothers, fathers, strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }


def test_a_reduced_space_is_a_space_like_any_other():
    space = LAYOUTS["digits"]
    assert space.length == 6
    assert isinstance(space, Space)
    assert space.largest_mids() == [32, 32, 64, 64, 128, 128]


def test_what_decides_a_number_loads_without_the_framework(root):
    modules = "spaces, cost, score, sampler, evolution, constraints, journal"
    code = f"import sys; from src.space import {modules}; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
