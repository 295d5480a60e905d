"""CAL (Zhu, Liu and Liu, CVPR 2021): the covariance of losses and labels, estimated by a sieve, is taken from the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive
from harness_plugins.algorithms.forward import TWICE
from harness_plugins.losses.peer import expected_peer, label_prior, smoothed_cross_entropy
from harness_plugins.planned_rates import PlannedRates

SECOND = "cal"
"""The name of the network of stage 2, and the label of its passes."""
SMALL, SMALLER = 1e-5, 1e-8
START, RAMP = 10, 30


def scheduled_alpha(alpha: float, epoch: int) -> float:
    """0 through epoch 11, then even steps to ``alpha`` at epoch 41, then ``alpha``; ``epoch`` counts from 1."""
    return alpha * min(max(epoch - 1 - START, 0) / RAMP, 1.0)


def sieve_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) ``l_y - mean_k l_k``, ``l_k = -log(p_k + 1e-8)``: low where the label is more probable than others are."""
    losses = -(outputs.softmax(1) + SMALLER).log()
    return losses.gather(1, targets[:, None]).squeeze(1) - losses.mean(1)


def distilled(outputs: Tensor, targets: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """``D`` (B,): the label where the score is below the threshold, else the prediction; and weights (B,) bool, false where
    the score is the threshold itself."""
    return torch.where(scores < threshold, targets, outputs.argmax(1)), scores != threshold


def label_shares(distilled: Tensor, targets: Tensor, weights: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """``That`` (K, K), the distribution of labels given ``D``, and ``P`` (K,), the shares of ``D``, float64, both of the samples
    that count.

    Args:
        distilled, targets: (N,) int64 classes.
        weights: (N,) bool: which samples count.
        num_classes: ``K``; the row of a class without samples is 0.
    """
    counts = torch.zeros(num_classes, num_classes, dtype=torch.float64, device=targets.device)
    counts.index_put_((distilled, targets), weights.double(), accumulate=True)
    sizes = counts.sum(1)
    return counts / sizes.clamp_min(1)[:, None], sizes / sizes.sum().clamp_min(1)


def covariance(
    losses: Tensor, targets: Tensor, distilled: Tensor, weights: Tensor, that: Tensor, shares: Tensor, means: Tensor
) -> Tensor:
    """``sum_d P_d / n_d sum_{i: D_i = d} sum_j (1[y_i = j] - That_dj)(l_ij - M_dj)`` of a batch, a scalar.

    Args:
        losses: (B, K) of each label.
        targets, distilled: (B,) int64 classes.
        weights: (B,) bool: which samples count; ``n_d`` is their number, at least 1.
        that: (K, K).
        shares: (K,) ``P``.
        means: (K, K) ``M``.
    """
    counted = weights.to(losses.dtype)
    numbers = torch.zeros_like(shares).index_add_(0, distilled, counted).clamp_min(1)
    labels = torch.nn.functional.one_hot(targets, losses.shape[1]).to(losses.dtype)
    rows = ((labels - that[distilled]) * (losses - means[distilled])).sum(1)
    return (counted * (shares / numbers)[distilled] * rows).sum()


class CAL:
    """CORES's loss, a sieve, then a new network whose loss is free of the covariance that the noise brings (Zhu et al., 2021).

    Follows the official code (UCSC-REAL/CAL, bdb376bb0300). Stage 1 trains by `CE - alpha R`, `R` the loss expected under labels by
    the square roots of their shares; in its last epoch each sample gets a distilled label D as it is trained: its own where
    `CE - mean_k CE_k < -8`, else the prediction. Stage 2 trains a new network by `CE - alpha R - CAL`, `R` under the shares
    themselves, CAL the covariance of labels and losses within each class of D, whose means are those of the last epoch. The
    regulariser and CAL are of the batch as a whole: weights of samples (RRM) act on CE. Learning rates are divided by
    `1 + alpha`. Stage 1's network predicts until stage 2 begins.

    Deviations: the code trains stage 1 to epoch 100 after the sieve, which nothing uses. As the code, not the paper: one
    threshold for both sides, so that every sample has a D, and weights of 0 or 1.

    By data set, instance noise: CIFAR-10 `alpha1 = 2`, `alpha2 = 1`; CIFAR-100 1, 1 and `prior_scale = 10`. ResNet-34, SGD 0.1, a
    tenth after 60, weight decay 5e-4, 100 epochs of stage 2.

    Args:
        stage1: its epochs, the last of which sieves; 66. The rest is stage 2.
        alpha1, alpha2: of the two stages: 0 for 11 epochs, then rising to this at epoch 41.
        threshold: of the sieve.
        prior_scale: times the prior of stage 1.
        optimizer: of stage 2: `official`, SGD 0.1, momentum 0.9, weight decay 5e-4, a tenth after 60 epochs of it; or the `setting`'s.
    """

    declares = Declares(
        replaces="ce",
        needs_per_sample=True,
        sample_state=True,
        whole_batch="always",
        refuses=dict.fromkeys(("forward", "vol_min_net"), TWICE),
    )

    def __init__(
        self,
        stage1: Count = 66,
        alpha1: NonNegative = 2.0,
        alpha2: NonNegative = 1.0,
        threshold: float = -8.0,
        prior_scale: Positive = 1.0,
        optimizer: Literal["official", "setting"] = "official",
    ) -> None:
        self.stage1 = stage1
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.threshold = threshold
        self.prior_scale = prior_scale
        self.official = optimizer == "official"
        self.rates = PlannedRates()

    def setup(self, run: Run) -> None:
        """The priors, the distilled labels, the means of losses, and the network of stage 2."""
        epochs, classes = max(1, run.epochs - self.stage1), run.num_outputs
        if self.official:
            sgd = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
            run.new_network(SECOND, sgd, {"name": "step", "milestones": [60], "gamma": 0.1}, epochs)
        else:
            run.new_network(SECOND, epochs=epochs)
        self.prior = label_prior(run.targets, classes, run.dtype)
        roots = self.prior.sqrt()
        self.root_prior = self.prior_scale * roots / roots.sum()
        self.distilled = run.targets.clone()
        self.counted = torch.ones_like(run.targets, dtype=torch.bool)
        self.scores = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)
        self.means = torch.zeros(classes, classes, device=run.device, dtype=run.dtype)
        self.sums, self.numbers = torch.zeros_like(self.means), torch.zeros_like(self.prior)
        self.predicts = False
        self.estimate(run)

    def estimate(self, run: Run) -> None:
        """The distribution of labels given the distilled ones, and their shares."""
        found = label_shares(self.distilled, run.targets, self.counted, run.num_outputs)
        self.that, self.shares = (value.to(run.dtype) for value in found)

    def second(self, run: Run) -> bool:
        """Whether the epoch under way is one of stage 2."""
        return run.epoch > self.stage1

    def alpha(self, run: Run) -> float:
        """Alpha in the epoch under way, of its stage's own count of epochs."""
        if self.second(run):
            return scheduled_alpha(self.alpha2, run.epoch - self.stage1)
        return scheduled_alpha(self.alpha1, run.epoch)

    def trained(self, run: Run) -> Any:
        """The network that the epoch trains."""
        return run.of(SECOND if self.second(run) else "")

    def epoch_start(self, run: Run) -> None:
        """The learning rate over `1 + alpha`, and empty sums of losses."""
        self.rates.scale(self.trained(run), 1 / (1 + self.alpha(run)))
        self.sums, self.numbers = torch.zeros_like(self.sums), torch.zeros_like(self.numbers)

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """All samples, in stage 2 for its network."""
        if number:
            return None
        return Pass(network=SECOND, label=SECOND) if self.second(run) else Pass()

    def compute_losses(self, run: Run, step: Step) -> bool:
        """Cross entropy of each sample, and beside it what is of the batch; in the last epoch of stage 1 the distilled labels."""
        assert step.outputs is not None
        step.losses = smoothed_cross_entropy(step.outputs, step.targets, SMALLER)
        if step.phase == "train" and run.epoch <= self.stage1:
            outputs = step.outputs.detach()
            scores = sieve_scores(outputs, step.targets)
            self.scores.index_copy_(0, step.index, scores)
            if run.epoch == self.stage1:
                labels, counted = distilled(outputs, step.targets, scores, self.threshold)
                self.distilled.index_copy_(0, step.index, labels)
                self.counted.index_copy_(0, step.index, counted)
        if step.phase in ("train", "again"):
            self.penalise(run, step, step.outputs)
        return True

    def penalise(self, run: Run, step: Step, outputs: Tensor) -> None:
        """Takes the regulariser, and in stage 2 the covariance, from what is differentiated."""
        second, alpha = self.second(run), self.alpha(run)
        penalty = -alpha * expected_peer(outputs, self.prior if second else self.root_prior, SMALL).mean()
        if second:
            losses = -(outputs.softmax(1) + SMALL).log()
            classes, counted = self.distilled[step.index], self.counted[step.index]
            penalty = penalty - covariance(losses, step.targets, classes, counted, self.that, self.shares, self.means)
            if step.phase == "train":
                self.sums.index_add_(0, classes, losses.detach())
                self.numbers.index_add_(0, classes, torch.ones_like(losses[:, 0].detach()))
        step.penalty = penalty if step.penalty is None else step.penalty + penalty

    def epoch_end(self, run: Run) -> None:
        """The schedule's learning rate again; means of losses, or what the sieve has found; scores of samples."""
        self.rates.restore(self.trained(run))
        if self.second(run):
            self.means = self.sums / self.numbers.clamp_min(1)[:, None]
        elif run.epoch == self.stage1:
            self.estimate(run)
        self.predicts = self.second(run)
        run.score_samples("cal.sieve", self.scores)

    def predict(self, run: Run, inputs: Tensor) -> Tensor | None:
        """By the network of stage 2, once it is trained."""
        if not self.predicts:
            return None
        return run.forward(inputs, run.of(SECOND).model).log_softmax(1)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Alpha of the epoch, and from the sieve on the share of samples whose distilled label is the given one."""
        found = {"cal.alpha": self.alpha(run)}
        if run.epoch >= self.stage1:
            found["cal.kept_share"] = float((self.distilled == run.targets).double().mean())
        return found

    def state_dict(self) -> dict[str, Any]:
        """Distilled labels, scores, means of losses and the sums of the epoch so far."""
        return {
            "distilled": self.distilled,
            "counted": self.counted,
            "scores": self.scores,
            "that": self.that,
            "shares": self.shares,
            "means": self.means,
            "sums": self.sums,
            "numbers": self.numbers,
            "predicts": self.predicts,
            **self.rates.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name in ("distilled", "counted", "scores", "that", "shares", "means", "sums", "numbers"):
            setattr(self, name, state[name].to(getattr(self, name).device, copy=True))
        self.predicts = bool(state["predicts"])
        self.rates.load_state_dict(state)
