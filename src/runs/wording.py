"""The lines that users of the originals look for in a log, in the words of their network's document.

They stand beside our own. The one for the epoch takes the place of MindSpore's.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Wording(NamedTuple):
    """Lines with fields, as :func:`filled` fills them in; "" where a document shows none.

    Attributes:
        epoch: after the steps of an epoch. epoch (from 0), seconds, milliseconds, step_milliseconds, loss (their
            mean), images_per_second (without the step that compiles).
        validation: after an evaluation in training. epoch (from 0), loss and the accuracies.
        result: after the evaluation of a checkpoint. loss, checkpoint, milliseconds and the accuracies.
        result_file: in the working folder, to which ``result`` is appended.
        scores: of predicted results, in acc.log. images and the accuracies.
    """

    epoch: str = "epoch time: {milliseconds:.3f} ms, per step time: {step_milliseconds:.3f} ms"
    validation: str = ""
    result: str = ""
    result_file: str = ""
    scores: str = ""


_SPOS = Wording(
    epoch="[Epoch {epoch}] speed: {images_per_second:.0f} samples/sec\ttime cost: {seconds:f}",
    validation="[Epoch {epoch}] validation: err-top1={error1:f} err-top5={error5:f}",
)
WORDS = {
    "mnasnet": Wording(
        epoch=" * FPS@all {images_per_second:.3f}",
        validation=" * Acc@1 {percent1:.3f} Acc@5 {percent5:.3f}",
        result=" * Acc@1 {percent1:.3f} Acc@5 {percent5:.3f}",
    ),
    "proxylessnas_mobile": Wording(
        result="acc={percent1:.2f}%(TOP1)",
        scores="Top1 acc:  {top1}\nTop5 acc:  {top5}",
    ),
    "shufflenetv1": Wording(
        epoch="epoch time: {milliseconds:.3f}, per step time: {step_milliseconds:.3f}, avg loss: {loss:.3f}",
        result="result:{{'Loss': {loss}, 'Top_1_Acc': {top1}, 'Top_5_Acc': {top5}}}, ckpt:'{checkpoint}', "
        "time: {milliseconds}",
        result_file="eval_log.txt",
        scores="Top_1_Acc={top1:.4%}, Top_5_Acc={top5:.4%}",
    ),
    "spnasnet": Wording(
        result="model {checkpoint}'s accuracy is {{'top_1_accuracy': {top1}, 'top_5_accuracy': {top5}}}",
        scores="Total data: {images}, top1 accuracy: {top1}, top5 accuracy: {top5}.",
    ),
    **dict.fromkeys(("spos_oneshot", "spos_oneshot_plus", "spos_oneshot_s_plus"), _SPOS),
}


def wording_of(network: str) -> Wording:
    """The words of a network's document; those of MindSpore for a network that has none."""
    return WORDS.get(network, Wording())


def filled(line: str, *, top1: float = 0.0, top5: float = 0.0, **fields: Any) -> str:
    """``line`` with its fields: those given, and the accuracies as shares, in percent and as errors."""
    accuracies = {"top1": top1, "percent1": 100 * top1, "error1": 1 - top1}
    accuracies |= {"top5": top5, "percent5": 100 * top5, "error5": 1 - top5}
    return line.format(**accuracies, **fields)
