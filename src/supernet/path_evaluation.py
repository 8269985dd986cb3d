"""The supernet's evaluation during training: a fixed set of paths, each with batch-norm statistics of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from src.data.dataset import EvalData
from src.space.cost import cost_tables
from src.space.spaces import Domain
from src.supernet.network import Supernet
from src.supernet.recalibration import Recalibration, keep_in_memory
from src.training.evaluation import Evaluation, Evaluator

_log = logging.getLogger(__name__)
RANDOM_PATHS = 3


class SupernetEvaluator:
    """Validation during training: the mean over a fixed set of paths, so that epochs can be compared.

    The smallest and the largest path that the last epoch may draw, and RANDOM_PATHS random ones.

    Args:
        evaluator: of the supernet, whatever its path.
        supernet: whose path is set.
        calibration: images for the batch-norm statistics.
        domain: of the last epoch.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        supernet: Supernet,
        calibration: EvalData,
        domain: Domain,
        seed: int,
    ):
        self._evaluator, self._supernet = evaluator, supernet
        self._recalibration = Recalibration(supernet, keep_in_memory(calibration, supernet.space.input_size))
        self._tables = cost_tables(supernet.space)
        flops = self._tables["flops"]
        drawn = domain.sample(np.random.default_rng(seed), RANDOM_PATHS)
        self.paths = {
            "smallest": flops.extreme(domain, largest=False),
            "largest": flops.extreme(domain, largest=True),
            **{f"random {number}": genes for number, genes in enumerate(drawn, start=1)},
        }

    def run(self, data: EvalData, before_batch: Callable[[], None] = lambda: None) -> Evaluation:
        """Evaluates every path on ``data``; loss, top-1 and top-5 are means over the paths.

        Args:
            before_batch: as of :meth:`src.training.evaluation.Evaluator.run`.
        """
        found = []
        for name, genes in self.paths.items():
            with self._recalibration.of_path(genes) as images:
                result = self._evaluator.run(data, before_batch=before_batch)
            found.append(result)
            cost = self._tables["flops"].totals(genes[None])[0]
            _log.info(f"path {name} ({cost:.4g} MFLOPs): loss {result.loss:.4f}, top-1 {result.top1:.2%}")
        _log.info(f"batch-norm statistics from {images} images for each path")
        means = {key: float(np.mean([getattr(result, key) for result in found])) for key in ("loss", "top1", "top5")}
        return Evaluation(
            **means,
            images=found[0].images,
            total=found[0].total,
            images_per_second=float(np.mean([result.images_per_second for result in found])),
            confusion=None,
        )
