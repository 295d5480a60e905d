"""A census of per-sample scores at chosen epochs: how many clean and corrupted samples lie in which range."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Declares, HarnessError, Run, hookimpl
from harness.errors import unknown
from harness.parameters import Count


def bin_of(scores: Tensor, edges: list[float]) -> Tensor:
    """(N,) the number of edges that lie below a score: 0 up to and with the first edge, ``len(edges)`` above the
    last."""
    return torch.bucketize(scores, torch.tensor(edges, dtype=scores.dtype, device=scores.device))


class ScoreCensus:
    """Hands the range that a score lies in to the evaluator, which counts clean and corrupted samples in each.

    A method cannot know which samples are corrupted, and the record holds the histogram of the last epoch only. This
    keeps further ones: `rrm.u@10` is the census of `rrm.u` after epoch 10, in the trial's `histograms`, by the number
    of the range. It changes nothing in training.

    Args:
        score: a score that another part of the stack hands over, such as `rrm.u`.
        epochs: the epochs to keep.
        edges: rising bounds of the ranges, each the closed upper end of one: n edges make n + 1 ranges.
    """

    declares = Declares(tasks=("classification", "regression"))

    def __init__(self, score: str, epochs: list[Count], edges: list[float]) -> None:
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise HarnessError("should rise", "algorithms.score_census.edges", "sort them and name each once")
        self.score = score
        self.epochs = epochs
        self.edges = edges

    @hookimpl(trylast=True)
    def epoch_end(self, run: Run) -> None:
        """Keeps the ranges, once the other parts have scored the epoch."""
        if run.epoch in self.epochs:
            if self.score not in run.sample_scores:
                raise HarnessError(unknown("score", self.score, run.sample_scores), "algorithms.score_census.score")
            scores, _ = run.sample_scores[self.score]
            run.score_samples(f"{self.score}@{run.epoch}", bin_of(scores, self.edges), detects=False)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """How many epochs the census holds so far."""
        return {"score_census.kept": float(sum(name.startswith(f"{self.score}@") for name in run.sample_scores))}
