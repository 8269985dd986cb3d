"""Which device, and whether it sinks data."""

import logging

import mindspore as ms
import pytest

from src.errors import UsageError
from src.machine.device import (
    choose_target,
    describe_device,
    present_targets,
    quiet_framework,
    set_up,
    uses_sink,
    versions,
)


@pytest.mark.parametrize(
    ("wanted", "present", "chosen"),
    [
        ("auto", ["CPU"], "CPU"),
        ("auto", ["GPU", "CPU"], "GPU"),
        ("auto", ["CPU", "GPU", "Ascend"], "Ascend"),
        ("CPU", ["Ascend", "CPU"], "CPU"),
        ("GPU", ["GPU", "CPU"], "GPU"),
    ],
)
def test_the_target_is_the_wanted_one_or_the_fastest(wanted, present, chosen):
    assert choose_target(wanted, present) == chosen


def test_an_absent_target_is_refused():
    with pytest.raises(UsageError, match=r"--device_target Ascend.* no Ascend here, only CPU; .* --device_target CPU$"):
        choose_target("Ascend", ["CPU"])


@pytest.mark.parametrize(
    ("sink", "target", "used"),
    [
        ("auto", "Ascend", True),
        ("auto", "GPU", True),
        ("auto", "CPU", False),
        ("on", "Ascend", True),
        ("on", "GPU", True),
        ("off", "Ascend", False),
        ("off", "GPU", False),
        ("off", "CPU", False),
    ],
)
def test_data_is_sunk_where_the_device_can(sink, target, used):
    assert uses_sink(sink, target) is used


def test_the_cpu_cannot_sink():
    with pytest.raises(UsageError, match="use --sink auto"):
        uses_sink("on", "CPU")


def test_looking_for_devices_warns_of_nothing(capfd):
    assert "CPU" in present_targets()
    assert capfd.readouterr() == ("", "")


def test_the_framework_speaks_again_after_it_was_quiet():
    logger = ms.log._get_logger()
    level = logger.level
    with pytest.raises(ValueError), quiet_framework():
        assert logger.level > logging.CRITICAL
        raise ValueError
    assert logger.level == level


def test_a_process_may_be_set_up_again():
    for mode, expected in (("pynative", ms.PYNATIVE_MODE), ("graph", ms.GRAPH_MODE)):
        assert set_up("CPU", 0, mode, True, 5) == "CPU"
        assert ms.get_context("mode") == expected
        assert ms.get_seed() == 5
    ms.set_context(mode=ms.PYNATIVE_MODE)


def test_results_name_device_and_versions():
    assert describe_device("CPU").startswith("CPU, ")
    assert describe_device("Ascend") == f"Ascend, MindSpore {ms.__version__}"
    assert versions().keys() == {"mindspore", "numpy", "python"}
