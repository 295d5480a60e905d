"""DISC (Li et al., CVPR 2023): thresholds for each sample, from two views, divide the data; hard ones and mixtures join in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from harness import Declares, HarnessError, Run, Step
from harness.parameters import NonNegative, Rate
from harness_plugins.algorithms.mixup import draw_beta, mix
from harness_plugins.losses.labels import of_target

Q = 0.7
SMALLEST = 1e-7
CONCENTRATION = 5.0
MOST = 0.99


class Selection(NamedTuple):
    """What an epoch's end divides the samples into, (N,) each.

    Attributes:
        clean: both views are surer of the label than the sample's thresholds.
        hard: one of them is.
        mixed: clean, hard or purified: those that are mixed.
        labels: as given where clean or hard; the prediction where purified.
    """

    clean: Tensor
    hard: Tensor
    mixed: Tensor
    labels: Tensor


def select(
    weak: Tensor, strong: Tensor, targets: Tensor, weak_threshold: Tensor, strong_threshold: Tensor, sigma: float
) -> Selection:
    """Divide samples by their predictions on two views.

    Args:
        weak, strong: (N, K) probabilities.
        targets: (N,) int64 noisy classes.
        weak_threshold, strong_threshold: (N,) of each sample.
        sigma: how far above the mean threshold a prediction must be to purify a sample.
    """
    by_weak = weak.gather(1, targets[:, None]).squeeze(1) > weak_threshold
    by_strong = strong.gather(1, targets[:, None]).squeeze(1) > strong_threshold
    surest, predicted = ((weak + strong) / 2).max(1)
    purified = ~(by_weak | by_strong) & (surest > ((weak_threshold + strong_threshold) / 2 + sigma).clamp(max=MOST))
    hard = by_weak ^ by_strong
    clean = by_weak & by_strong
    return Selection(clean, hard, clean | hard | purified, torch.where(purified, predicted, targets))


def generalized_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """``(1 - p_y ** 0.7) / 0.7`` per sample, ``p_y`` at least 1e-7, of (B, K) logits and (B,) classes."""
    return (1 - of_target(outputs.softmax(1), targets, "disc").clamp_min(SMALLEST) ** Q) / Q


class DISC:
    """Weak and strong views, thresholds that follow each sample's own confidence, three losses (Li et al., 2023).

    Follows the official code (JackYFL/DISC, a21e910bffeb). A step has one forward pass over both views in train mode. For
    `warmup` epochs it is cross entropy of both; then cross entropy of clean samples, `lam_h` times GCE (q = 0.7) of hard
    ones, and mixup of clean, hard and purified ones, for each view its own mixture and forward pass. At the end of every epoch
    samples are divided anew by their last predictions; a threshold moves to the largest probability, not that of the label,
    after the division, and starts at 1/N, so that nearly all samples are clean after the first epoch. Weights of samples
    (RRM) act on the first two losses. A batch without any such sample takes no step. How many rows are mixed is known on the
    device only, which waits once in a step.

    By data set: `warmup, momentum, lam_h`: CIFAR symmetric 20, 0.99, 1, asymmetric 20, 0.95, 1, instance (ResNet-34) 15, 0.99, 1, at
    60 and 80 % 0.95 and 0.2; Tiny-ImageNet 15, 0.99 (0.95), 1; Clothing1M, Food-101N 10, 0.95, 1; Animal-10N 10, 0.99, 1; WebVision 15,
    0.99, 1. CIFAR and Tiny-ImageNet ResNet-18, SGD 0.1 without momentum, weight decay 1e-3, a tenth after 80 and 160 of 200 epochs, batch
    128 (80 %: Adam 0.001, from epoch 120 on linear to 0). FixMatch's RandAugment there, here the harness's strong view.

    `sigma`: the paper has 0.3 at low and 0.5 at high noise, the code 0.5 throughout (for a replay); take 0.5 above 50 %.

    Args:
        warmup: epochs of cross entropy.
        momentum: of the thresholds.
        lam_h: weight of GCE.
        sigma: how far above its thresholds a prediction must be to replace a label.
    """

    declares = Declares(
        replaces="ce", needs_per_sample=True, sample_state=True, own_step=True, descends=True, views=("strong",)
    )

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 20,
        momentum: Rate = 0.99,
        lam_h: NonNegative = 1.0,
        sigma: Rate = 0.3,
    ) -> None:
        self.warmup = warmup
        self.momentum = momentum
        self.lam_h = lam_h
        self.sigma = sigma

    def setup(self, run: Run) -> None:
        """Predictions of 0, thresholds of 1/N, and nothing selected."""
        size = (run.num_samples, run.num_outputs)
        self.weak, self.strong = (torch.zeros(size, device=run.device, dtype=run.dtype) for _ in range(2))
        start = torch.full((run.num_samples,), 1 / run.num_samples, device=run.device, dtype=run.dtype)
        self.weak_threshold, self.strong_threshold = start, start.clone()
        none = torch.zeros(run.num_samples, device=run.device, dtype=torch.bool)
        self.selection = Selection(none, none, none, run.targets)

    def train_step(self, run: Run, step: Step) -> bool:
        """A step on both views, and on what is mixed of them."""
        if not step.inputs.is_floating_point():
            raise HarnessError(
                "mixes real-valued inputs, these are tokens", "algorithms.disc", "remove it from the stack"
            )
        views = step.inputs, run.view(step.index, "strong")
        rows, batch = torch.cat(views), step.index
        outputs = run.forward(rows, run.of(step.network).model)
        for kept, found in zip((self.weak, self.strong), outputs.detach().softmax(1).chunk(2), strict=True):
            kept.index_copy_(0, batch, found)
        targets = step.targets.repeat(2)
        losses = functional.cross_entropy(outputs, targets, reduction="none")
        run.divisor(step)
        step.index, step.outputs = batch.repeat(2), outputs
        if run.epoch <= self.warmup:
            step.losses = losses
            run.descend(step)
            return True
        chosen = self.selection.mixed[batch].nonzero()[:, 0]
        if not len(chosen):
            return True
        hard = self.lam_h * generalized_cross_entropy(outputs, targets)
        nothing = torch.zeros_like(losses)
        step.losses = torch.where(
            self.selection.clean[step.index], losses, torch.where(self.selection.hard[step.index], hard, nothing)
        )
        labels = functional.one_hot(self.selection.labels[batch[chosen]], run.num_outputs).to(run.dtype)
        seen = outputs.chunk(2)
        mixtures = [
            self.mixture_loss(run, step, view[chosen], labels, own[chosen])
            for view, own in zip(views, seen, strict=True)
        ]
        step.penalty = mixtures[0] + mixtures[1]
        run.descend(step)
        return True

    def mixture_loss(self, run: Run, step: Step, inputs: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
        """Mean cross entropy of mixtures of (n, ...) inputs to those of (n, K) labels, in a pass of its own; of one
        row, which batch normalisation could make no statistics of, that of the outputs (1, K) seen already."""
        if len(inputs) == 1:
            return functional.cross_entropy(seen, labels)
        generator = run.generator("algorithm")
        lam = draw_beta(CONCENTRATION, generator)
        lam = max(lam, 1 - lam)
        partners = torch.randperm(len(inputs), generator=generator).to(run.device, non_blocking=True)
        outputs = run.forward(mix(inputs, partners, lam), run.of(step.network).model)
        return functional.cross_entropy(outputs, mix(labels, partners, lam))

    def epoch_end(self, run: Run) -> None:
        """Divides the samples, then moves the thresholds, and scores samples by how unsure both views are of the label."""
        self.selection = select(
            self.weak, self.strong, run.targets, self.weak_threshold, self.strong_threshold, self.sigma
        )
        self.weak_threshold = torch.lerp(self.weak.amax(1), self.weak_threshold, self.momentum)
        self.strong_threshold = torch.lerp(self.strong.amax(1), self.strong_threshold, self.momentum)
        sure = (self.weak + self.strong).gather(1, run.targets[:, None]).squeeze(1)
        run.score_samples("disc.doubt", 2 - sure)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Shares of clean, hard and purified samples for the next epoch, and the mean of the weak view's thresholds."""
        clean, hard, mixed, _ = self.selection
        return {
            "disc.clean_share": float(clean.double().mean()),
            "disc.hard_share": float(hard.double().mean()),
            "disc.purified_share": float((mixed & ~clean & ~hard).double().mean()),
            "disc.threshold": float(self.weak_threshold.mean()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Predictions, thresholds and the division."""
        return {
            "weak": self.weak,
            "strong": self.strong,
            "thresholds": [self.weak_threshold, self.strong_threshold],
            "selection": list(self.selection),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        device = self.weak.device
        self.weak, self.strong = (state[name].to(device, copy=True) for name in ("weak", "strong"))
        self.weak_threshold, self.strong_threshold = (value.to(device, copy=True) for value in state["thresholds"])
        self.selection = Selection(*(value.to(device, copy=True) for value in state["selection"]))
