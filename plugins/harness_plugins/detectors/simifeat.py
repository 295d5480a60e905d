"""SimiFeat: a sample is suspect when the labels of those that look like it say so. No network is trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError, NoiseReport
from harness.parameters import Count
from harness.training.noise_report import checked_samples, wrong_share
from harness_plugins.estimators.classes import among_all, present_classes
from harness_plugins.estimators.hoc import Parameters, count_consensus, fit, given_matrix, start
from harness_plugins.estimators.neighbours import Subsets, directions, nearest

LEAST_NEIGHBOURS = 3
EPS = 1e-8
SHIFT = 0.05
"""Half the width of what is added to each class's share of right labels, one draw an epoch."""
ROUNDS, SAMPLES, STEPS, LR = 10, 15000, 400, 0.1
LATER_STEPS, LATER_LR = 20, 0.01


def votes(features: Tensor, labels: Tensor, num_classes: int, neighbours: int) -> Tensor:
    """What the labels of the nearest say: (N, K) float64 rows of norm 1.

    ``h_j`` is the sum of ``1 - d`` over those of the ``k`` nearest, the sample itself among them, that are labelled ``j``.
    ``d`` is the cosine distance; the sample's own is ``2 d_2 - d_3``. A sample without any similar one has a row of 0.
    """
    similarities, index = nearest(directions(features), neighbours - 1)
    similar = similarities.double()
    own = 2 * similar[:, :1] - similar[:, 1:2]  # 1 - (2 d_2 - d_3)
    weights = torch.cat([own, similar], 1)
    voted = torch.cat([labels[:, None], labels[index.long()]], 1)
    found = torch.zeros(len(labels), num_classes, dtype=torch.float64).scatter_add_(1, voted, weights)
    return torch.nn.functional.normalize(found, dim=1)


def suspicion(voted: Tensor, labels: Tensor) -> Tensor:
    """(N,) ``-log(h_y + 1e-8)``; where the votes for the label are below 0 it is that of 0."""
    return -(voted.gather(1, labels[:, None]).squeeze(1).clamp_min(0) + EPS).log()


def above_percentiles(score: Tensor, labels: Tensor, right: Tensor) -> Tensor:
    """(N,) bool: of every class the share of samples with the highest scores that is taken to be wrong.

    Args:
        score: (N,).
        labels: (N,) classes.
        right: (K,) share of right labels among the labels of each class; the share of wrong ones, 1 less that, is .95
            where it is 1 or more and .05 where it is 0 or less, as in the code.
    """
    flags = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(right)):
        members = (labels == label).nonzero().squeeze(1)
        if not len(members):
            continue
        wrong = 1 - min(float(right[label]), 1.0)
        wrong = 0.95 if wrong >= 1 else 0.05 if wrong <= 0 else wrong
        flags[members] = score[members] >= np.percentile(score[members].numpy(), 100 * (1 - wrong))
    return flags


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a detector judges by.

    Attributes:
        epochs: (E, N, d) features.
        votes: of each epoch (N, K).
        scores: of each epoch (N,).
        labels: (N,) classes, of which each has a label.
        num_classes: ``K``.
    """

    epochs: Tensor
    votes: list[Tensor]
    scores: list[Tensor]
    labels: Tensor
    num_classes: int


class _SimiFeat(ABC):
    """What both detectors share: reading the features of one epoch or of several, and the majority over epochs."""

    name = ""

    def __init__(self, neighbours: Count = 10) -> None:
        if neighbours < LEAST_NEIGHBOURS:
            raise HarnessError(
                f"looks at {neighbours} neighbours",
                f"detectors.{self.name}.neighbours",
                f"choose {LEAST_NEIGHBOURS} or more",
            )
        self.neighbours = neighbours

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Flags, scores and suggestions, with the matrix, prior and rate that they go with.

        Args:
            features: (N, d), or (E, N, d) of ``E`` epochs of augmentation; then flags are those of more than half the
                epochs, scores and votes their means.
            labels: (N,) given classes.
            num_classes: ``K``.
            rng: draws what is drawn.

        Raises:
            HarnessError: for fewer samples than neighbours, or features and labels that do not fit.
        """
        where = f"detectors.{self.name}"
        rows, given = checked_samples(features, labels, num_classes, where, self.neighbours, epochs=True)
        epochs = rows if rows.ndim == 3 else rows[None]
        present, among = present_classes(given, num_classes)
        voted = [votes(epoch, among, len(present), self.neighbours) for epoch in epochs]
        scores = [suspicion(vote, among) for vote in voted]
        flags, matrix, prior = self.judge(Seen(epochs, voted, scores, among, len(present)), rng)
        whole, shares = among_all(matrix, prior, present, num_classes)
        return NoiseReport(
            whole,
            shares,
            wrong_share(whole, shares),
            flags.double().mean(0) > 0.5,
            torch.stack(scores).mean(0),
            present[torch.stack(voted).mean(0).argmax(1)],
        )

    @abstractmethod
    def judge(self, seen: Seen, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(E, N) flags, (K, K) matrix and (K,) prior."""


class SimiFeatVote(_SimiFeat):
    """SimiFeat-V (Zhu, Dong and Liu, ICML 2022; code: UCSC-REAL/SimiFeat 534af484f383): a sample is suspect when its
    neighbours' labels vote for another class.

    Features should be those of a pretrained network (the paper: CLIP ViT-B/32, 21 epochs of fresh augmentation). As in
    the code a sample votes for its own label, with the largest weight. Matrix and prior are counted from the votes: the
    share of each label among the samples that are voted into a class.

    Args:
        neighbours: `k`, the sample itself among them.
    """

    name = "simifeat_vote"

    def judge(self, seen: Seen, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Flags by the largest vote; matrix and prior by counting."""
        chosen = torch.stack([vote.argmax(1) for vote in seen.votes])
        k = seen.num_classes
        counts = torch.bincount((chosen * k + seen.labels).flatten(), minlength=k**2).double().reshape(k, k)
        members = counts.sum(1)
        kept = torch.eye(k, dtype=torch.float64)  # of a class that nothing is voted into
        matrix = torch.where(members[:, None] > 0, counts / members[:, None].clamp_min(1), kept)
        return chosen != seen.labels, matrix, members / members.sum()


class SimiFeatRank(_SimiFeat):
    """SimiFeat-R (Zhu, Dong and Liu, ICML 2022; code: UCSC-REAL/SimiFeat 534af484f383): of every class as many samples are
    suspect as HOC says are wrong, those with the fewest votes for their label.

    HOC is fitted to 10 subsets of 15,000 in 400 steps; each later epoch goes on from there by 20 steps at a rate of 0.01.

    Deviation: the code adds a draw from U(-.05, .05) to each class's share of right labels; here it is drawn by the
    stream, and is 0 with one epoch of features.

    Args:
        neighbours: `k`, the sample itself among them.
    """

    name = "simifeat_rank"

    def judge(self, seen: Seen, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Flags by the percentile of each class; matrix and prior by HOC, after the last epoch."""
        flags = []
        for found, score in zip(_fits(seen, rng), seen.scores, strict=True):
            right = given_matrix(found.matrix, found.prior, seen.labels).diagonal()
            if len(seen.epochs) > 1:
                right = right + torch.from_numpy(rng.uniform(-SHIFT, SHIFT, seen.num_classes))
            flags.append(above_percentiles(score, seen.labels, right))
        return torch.stack(flags), found.matrix, found.prior


def _fits(seen: Seen, rng: np.random.Generator) -> Iterator[Parameters]:
    """HOC on the features of epoch after epoch, each from where the last has ended."""
    found = start(seen.num_classes, rng)
    for number, features in enumerate(seen.epochs):
        counted = count_consensus(Subsets(features, SAMPLES, ROUNDS), seen.labels, seen.num_classes, rng)
        steps, lr = (LATER_STEPS, LATER_LR) if number else (STEPS, LR)
        found = fit(counted, found, steps, lr)
        yield found
