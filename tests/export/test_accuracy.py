"""An exported file's images are counted as those of an evaluation."""

import numpy as np
import pytest

from src.errors import UsageError
from src.export.accuracy import Accuracy, count_hits
from src.training.metrics import HitCounter


def test_an_exported_file_is_counted_alike_and_must_know_every_class():
    random = np.random.default_rng(4)
    logits, labels = random.normal(size=(60, 9)).astype(np.float32), random.integers(0, 9, 60)
    counter = HitCounter(9)
    counter.add(logits, labels)
    assert count_hits(logits, labels.tolist()) == Accuracy(60, counter.top1, counter.top5)
    assert 0 < counter.top1 < counter.top5 < 60
    with pytest.raises(UsageError, match="have a class 9, the file only 9 classes"):
        count_hits(logits[:2], [3, 9])
