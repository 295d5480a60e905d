"""Labels of several annotators as noise: their majority, one vote, or what Dawid and Skene make of all."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness_plugins.noise.human import confusion_matrix
from harness_plugins.noise.matrix import classes_of

WHERE = "noise.annotators"
ROUNDS = 100
TOLERANCE = 1e-6


def vote_counts(votes: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, K) how many of (N, annotators) votes, -1 where there is none, are for each class."""
    rows, columns = np.nonzero(votes >= 0)
    flat = np.bincount(rows * num_classes + votes[rows, columns], minlength=len(votes) * num_classes)
    return flat.reshape(len(votes), num_classes)


def dawid_skene(
    votes: np.ndarray, num_classes: int, rounds: int = ROUNDS, smoothing: float = 0.01, *, silence: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dawid and Skene's (1979) EM estimates of the true classes, from the shares of votes on.

    The M step (their 2.3, 2.4) gives the class shares ``p_k`` and each annotator's confusion matrix, the E step (2.5)
    ``T_ik ~ p_k prod_a pi_a[k, v_ia]`` over the votes that were cast. It ends after ``rounds``, or when no posterior moves
    by more than 1e-6.

    Args:
        votes: (N, A) int64 classes, -1 where an annotator gave none.
        num_classes: K.
        rounds: most rounds.
        smoothing: added to every count of a confusion matrix, so that what was never seen is not impossible; none in the
            paper.
        silence: whether giving no vote is one more answer, the last; else it tells nothing, as in the paper.

    Returns:
        Posteriors (N, K), confusion matrices (A, K, answers) with rows the true class, class shares (K,).
    """
    shown = np.eye(num_classes + 1)[np.where(votes >= 0, votes, num_classes)]  # (N, A, answers)
    if not silence:
        shown = shown[:, :, :num_classes]
    counts = vote_counts(votes, num_classes).astype(np.float64)
    totals = counts.sum(1, keepdims=True)
    posterior = np.where(totals > 0, counts / np.maximum(totals, 1), 1 / num_classes)
    confusion, shares = np.empty(0), np.empty(0)
    for _ in range(rounds):
        shares = posterior.mean(0)
        confusion = np.einsum("nk,nal->akl", posterior, shown) + smoothing
        confusion /= confusion.sum(2, keepdims=True)
        log = np.log(np.maximum(shares, 1e-300)) + np.einsum("nal,akl->nk", shown, np.log(confusion))
        log -= log.max(1, keepdims=True)
        new = np.exp(log)
        new /= new.sum(1, keepdims=True)
        moved = float(np.abs(new - posterior).max(initial=0.0))
        posterior = new
        if moved <= TOLERANCE:
            break
    return posterior, confusion, shares


class Annotators:
    """The labels that annotators or labelling functions gave, in place of the clean ones.

    A sample without a vote gets any class with the same probability, as WRENCH's majority vote does. `wrench:NAME` leaves
    such samples out. There is no rate to refer to.

    Args:
        rule: `majority`: the class with most votes, one of them by chance where several have as many; `one`: a vote drawn
            from those of the sample; `dawid_skene`: the likeliest class by Dawid and Skene's EM (1979).
        annotator: with `one`, the vote of this annotator (a column of the data set's votes, from 0), and where it gave
            none a vote drawn from the others.
        silence: with `dawid_skene`, what it tells that an annotator gave no vote: `nothing`, as in the paper, or it is an
            `answer` like the classes. Labelling functions that vote for one class only (WRENCH) need the latter: whatever
            they vote, `nothing` would say that they always do.
    """

    declares = Declares()

    def __init__(
        self,
        rule: Literal["majority", "one", "dawid_skene"] = "majority",
        annotator: int | None = None,
        silence: Literal["nothing", "answer"] = "nothing",
    ) -> None:
        if annotator is not None and rule != "one":
            raise HarnessError(f"annotator means nothing to {rule!r}", f"{WHERE}.annotator", 'set rule = "one"')
        self.rule = rule
        self.annotator = annotator
        self.silence = silence

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        classes = classes_of(data, "annotators")
        if data.votes is None:
            raise HarnessError(
                "the data set has no votes of annotators", WHERE, "use hate_speech or wrench:youtube, or another noise"
            )
        votes = data.votes.numpy()
        if self.annotator is not None and not 0 <= self.annotator < votes.shape[1]:
            raise HarnessError(
                f"there is no annotator {self.annotator}",
                f"{WHERE}.annotator",
                f"choose one of 0 to {votes.shape[1] - 1}",
            )
        chances = self._chances(votes, classes)
        # the first of independent clocks of rates c_k to ring is k with probability c_k / sum c
        with np.errstate(divide="ignore"):
            chosen = (rng.exponential(size=chances.shape) / chances).argmin(1)
        if self.annotator is not None:
            own = votes[:, self.annotator]
            chosen = np.where(own >= 0, own, chosen)
        return torch.from_numpy(chosen.astype(np.int64))

    def _chances(self, votes: np.ndarray, classes: int) -> np.ndarray:
        """(N, K) weights by which a class is drawn; equal ones without a vote."""
        counts = vote_counts(votes, classes).astype(np.float64)
        chances = counts
        if self.rule == "dawid_skene":
            chances = dawid_skene(votes, classes, silence=self.silence == "answer")[0]
        if self.rule != "one":
            chances = (chances >= chances.max(1, keepdims=True) - 1e-12).astype(np.float64)
        return np.where(counts.sum(1, keepdims=True) > 0, chances, 1.0)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class: the shares among these very data, with one draw of what is left to chance."""
        noisy = self(data, rng=np.random.Generator(np.random.PCG64(0)))
        return torch.from_numpy(confusion_matrix(data.targets.numpy(), noisy.numpy(), classes_of(data, "annotators")))
