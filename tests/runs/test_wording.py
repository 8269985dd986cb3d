"""Lines in the words of the originals' documents: with a document's figures each is the document's line."""

from __future__ import annotations

import logging

import pytest

from src.models import list_models
from src.runs.folder import RunFolder
from src.runs.results import say_in_their_words
from src.runs.wording import WORDS, Wording, filled, wording_of
from src.settings.config import load_config
from src.training.evaluation import Evaluation
from src.training.reporter import Reporter

CHECKPOINT = "/home/shufflenetv1/train_parallel0/checkpoint/shufflenetv1-250_1251.ckpt"
SHUFFLENET = {"loss": 2.0479587888106323, "top1": 0.7385817307692307, "top5": 0.9135817307692308}
RESULT = (
    "result:{'Loss': 2.0479587888106323, 'Top_1_Acc': 0.7385817307692307, 'Top_5_Acc': 0.9135817307692308}, "
    f"ckpt:'{CHECKPOINT}', time: 98560.63866615295"
)
EPOCH = {"epoch": 0, "seconds": 99.85498, "milliseconds": 99854.98, "step_milliseconds": 79.82, "loss": 4.093}
EPOCH["images_per_second"] = 14413.78


@pytest.mark.parametrize(
    ("network", "kind", "figures", "line"),
    [
        ("spnasnet", "scores", {"images": 50000, "top1": 0.74214, "top5": 0.91652},
         "Total data: 50000, top1 accuracy: 0.74214, top5 accuracy: 0.91652."),
        ("spnasnet", "result", {"loss": 2.0, "top1": 0.5, "top5": 0.75, "checkpoint": "a.ckpt", "milliseconds": 1.0},
         "model a.ckpt's accuracy is {'top_1_accuracy': 0.5, 'top_5_accuracy': 0.75}"),
        ("spnasnet", "epoch", EPOCH, "epoch time: 99854.980 ms, per step time: 79.820 ms"),
        ("proxylessnas_mobile", "scores", {"images": 50000, "top1": 0.75088, "top5": 0.92174},
         "Top1 acc:  0.75088\nTop5 acc:  0.92174"),
        ("proxylessnas_mobile", "result", {"top1": 0.7504}, "acc=75.04%(TOP1)"),
        ("shufflenetv1", "scores", {"images": 50000, "top1": 0.7385, "top5": 0.91526},
         "Top_1_Acc=73.8500%, Top_5_Acc=91.5260%"),
        ("shufflenetv1", "epoch", EPOCH, "epoch time: 99854.980, per step time: 79.820, avg loss: 4.093"),
        ("shufflenetv1", "result", {**SHUFFLENET, "checkpoint": CHECKPOINT, "milliseconds": 98560.63866615295}, RESULT),
        ("mnasnet", "result", {"top1": 0.73045, "top5": 0.9125}, " * Acc@1 73.045 Acc@5 91.250"),
        ("mnasnet", "validation", {"top1": 0.73045, "top5": 0.9125}, " * Acc@1 73.045 Acc@5 91.250"),
        ("mnasnet", "epoch", EPOCH, " * FPS@all 14413.780"),
        ("spos_oneshot_s_plus", "epoch", EPOCH, "[Epoch 0] speed: 14414 samples/sec\ttime cost: 99.854980"),
        ("spos_oneshot", "validation", {"epoch": 0, "top1": 0.75, "top5": 0.9375},
         "[Epoch 0] validation: err-top1=0.250000 err-top5=0.062500"),
    ],
)  # fmt: skip
def test_a_documents_figures_give_its_line(network, kind, figures, line):
    assert filled(getattr(wording_of(network), kind), **figures) == line


def test_words_are_those_of_networks_and_another_has_mindspores():
    assert WORDS.keys() <= set(list_models())
    assert wording_of("another") == Wording()


def said(caplog) -> list[str]:
    """The lines for a person."""
    return [entry.getMessage() for entry in caplog.records if entry.name != "src.records"]


@pytest.mark.parametrize(
    ("network", "lines"),
    [
        ("mnasnet", [" * FPS@all 64.000", " * Acc@1 50.000 Acc@5 75.000"]),
        ("shufflenetv1", ["epoch time: 3000.000, per step time: 1500.000, avg loss: 1.250"]),
        ("spos_oneshot", ["[Epoch 3] speed: 64 samples/sec\ttime cost: 3.000000",
                          "[Epoch 3] validation: err-top1=0.500000 err-top5=0.250000"]),
    ],
)  # fmt: skip
def test_training_says_an_epoch_in_their_words_and_then_in_ours(tmp_path, caplog, network, lines):
    row = {"epoch": 4, "step": 8, "lr": 0.1, "train_loss": 1.25, "images_per_second": 64.0, "seconds": 3.0}
    evaluation = Evaluation(2.5, 0.5, 0.75, 13, 13, 7.0, None)
    row |= {"val_loss": 2.5, "top1": 0.5, "top5": 0.75}
    reporter = Reporter(load_config("", {"model": network, "epochs": 5}), RunFolder(tmp_path), is_writing=False)
    ours = "epoch 4/5: loss 1.2500, lr 0.1, 64 images/s"
    with caplog.at_level(logging.INFO, logger="src"):
        reporter.epoch([row], evaluation, steps=2, overflows=0, is_best=True)
        whole = " | validation: loss 2.5000, top-1 50.00%, top-5 75.00%, 13 of 13 images (best)"
        assert said(caplog) == [*lines, ours + whole]
        caplog.clear()
        reporter.epoch([{**row, "train_loss": None, "top1": None}], None, steps=0, overflows=0, is_best=False)
    assert len(said(caplog)) == 2
    assert said(caplog)[-1] == ours.replace("1.2500", "-")


def test_a_result_is_said_and_appended_to_the_file_that_the_document_names(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    result = {"model": "shufflenetv1", **SHUFFLENET, "checkpoint": CHECKPOINT}
    with caplog.at_level(logging.INFO, logger="src"):
        for is_writing in (True, False, True):
            say_in_their_words(result, 98560.63866615295, is_writing)
        say_in_their_words({**result, "model": "another"}, 1.0, True)
    assert caplog.messages == [RESULT] * 3
    assert (tmp_path / "eval_log.txt").read_text() == f"{RESULT}\n{RESULT}\n"
    (tmp_path / "eval_log.txt").unlink()
    (tmp_path / "eval_log.txt").mkdir()
    say_in_their_words(result, 1.0, True)
    assert caplog.messages[-1] == "eval_log.txt cannot be written here: Is a directory"
