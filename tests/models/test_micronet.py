"""The MicroNet account of the published networks."""

import pytest
from mindspore import nn

from src.errors import UsageError
from src.models import create_model
from src.models.micronet import challenge_score, profile, table, table_csv, total


@pytest.fixture(scope="module")
def s_plus():
    return profile(create_model("spos_oneshot_s_plus"))


def test_s_plus_totals_are_the_published_ones(s_plus):
    quantizable, other, both = (total(s_plus, kind) for kind in (True, False, None))
    in_millions = [[part.params / 1e6, part.mults / 1e6, part.adds / 1e6] for part in (quantizable, other, both)]
    published = [[3.520, 292.82, 286.22], [0.132, 8.56, 2.105], [3.652, 301.38, 288.32]]
    for found, expected in zip(in_millions, published, strict=True):
        assert found == pytest.approx(expected, abs=5e-3)


def test_oneshot_plus_totals_are_the_published_ones():
    both = total(profile(create_model("spos_oneshot_plus")))
    assert both.params / 1e6 == pytest.approx(3.8515, abs=5e-5)
    assert (round(both.mults / 1e6, 2), round(both.adds / 1e6, 2)) == (306.52, 294.19)


@pytest.mark.parametrize(("precision", "published"), [("fp32", 1.03), ("fp16", 0.640), ("int8", 0.28)])
def test_challenge_score_of_s_plus(s_plus, precision, published):
    digits = 3 if precision == "fp16" else 2
    assert round(challenge_score(s_plus, precision), digits) == published


def test_unknown_precision_is_refused(s_plus):
    with pytest.raises(UsageError, match="fp32, fp16, int8"):
        challenge_score(s_plus, "fp8")


def test_table_ends_on_the_sums(s_plus):
    rows = table(s_plus)
    assert [row[0] for row in rows[-3:]] == ["total_quant", "total_no_quant", "total"]
    assert rows[-1][-1] == pytest.approx(589.7, abs=0.05)
    assert len(rows) == len(s_plus) + 3
    assert table_csv(s_plus).splitlines()[0].startswith("op_name,quantizable,inp_size")


def test_the_network_is_left_as_it_was():
    network = create_model("shufflenetv1", size="0.5x")
    network.set_train(True)
    before = [cell.training for _, cell in network.cells_and_names()]
    call = nn.Cell.__call__
    assert profile(network, 64)
    assert nn.Cell.__call__ is call
    assert [cell.training for _, cell in network.cells_and_names()] == before
