"""Loss and area under the margin: what a small network says of its own training samples while it learns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import NoiseReport
from harness.parameters import Count, Positive
from harness.training.noise_report import checked_samples
from harness_plugins.algorithms.semi_supervised import mixture_posterior
from harness_plugins.detectors.unanimous import nothing_suspect
from harness_plugins.estimators.classes import present_classes

BATCH = 64
LEAST_SAMPLES = 2
PERCENTILE = 0.99
"""Of the margins of threshold samples: a wrong label's is below it."""


class Followed(NamedTuple):
    """Means over the epochs of a training.

    Attributes:
        measure: (N,) float64.
        probabilities: (N, K) float64.
    """

    measure: Tensor
    probabilities: Tensor


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) logit of the label less the largest other one (Pleiss et al., 2020, eq. 1), of (N, K) logits."""
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) cross entropies of (N, K) logits."""
    return functional.cross_entropy(logits, labels, reduction="none")


def standardised(rows: Tensor) -> Tensor:
    """(N, d) float32 features of mean 0 and variance 1; one that is constant becomes 0."""
    wide = rows.double()
    deviation = wide.std(0, correction=0)
    return ((wide - wide.mean(0)) / deviation.where(deviation > 0, 1.0)).float()


def small_network(width: int, hidden: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """A network with one hidden layer, whose weights the generator draws (He et al., 2015). The last layer's are 0: what is
    averaged over the epochs then holds no random logits of the first."""
    first = nn.utils.skip_init(nn.Linear, width, hidden)
    last = nn.utils.skip_init(nn.Linear, hidden, outputs)
    nn.init.kaiming_uniform_(first.weight, nonlinearity="relu", generator=generator)
    for zeros in (first.bias, last.weight, last.bias):
        nn.init.zeros_(zeros)
    return nn.Sequential(first, nn.ReLU(), last)


class Trained:
    """A detector that trains a network on all samples: its parameters, and how the samples are followed."""

    name = ""

    def __init__(self, hidden: Count = 128, epochs: Count = 20, lr: Positive = 0.001) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.lr = lr

    def follow(
        self,
        rows: Tensor,
        labels: Tensor,
        outputs: int,
        measure: Callable[[Tensor, Tensor], Tensor],
        rng: np.random.Generator,
    ) -> Followed:
        """Train by Adam on batches of 64 and measure every sample once an epoch, before the step that it is part of.

        Args:
            rows: (N, d) float32.
            labels: (N,) classes.
            outputs: of the network.
            measure: (B, outputs) logits and (B,) labels to (B,) numbers.
            rng: draws weights and order.
        """
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        inputs = standardised(rows)
        network = small_network(rows.shape[1], self.hidden, outputs, generator)
        optimizer = torch.optim.Adam(network.parameters(), self.lr)
        total = torch.zeros(len(rows), dtype=torch.float64)
        shares = torch.zeros(len(rows), outputs, dtype=torch.float64)
        with torch.enable_grad():
            for _ in range(self.epochs):
                for batch in torch.randperm(len(rows), generator=generator).split(BATCH):
                    logits = network(inputs[batch])
                    optimizer.zero_grad()
                    functional.cross_entropy(logits, labels[batch]).backward()
                    optimizer.step()
                    seen = logits.detach()
                    total[batch] += measure(seen, labels[batch])
                    shares[batch] += seen.softmax(1)
        return Followed(total / self.epochs, shares / self.epochs)


class Loss(Trained):
    """The mean loss over the epochs (O2U-Net: Huang et al., ICCV 2019): wrong labels are learnt late.

    A small network is trained on standardised features. Two Gaussians are fitted to the means, scaled to [0, 1], and a
    sample is flagged that more probably is of the upper one (as in DivideMix: Li, Socher and Hoi, ICLR 2020). Suggested
    is the class of the largest mean probability in training.

    Deviation: O2U-Net trains a deep network by a cyclical learning rate and is told the rate; here it is constant.

    Args:
        hidden: units of the network's hidden layer.
        epochs: of training.
        lr: learning rate of Adam.
    """

    name = "loss"

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Flags, scores and suggestions, of (N, d) features and (N,) given classes.

        Raises:
            HarnessError: for fewer than two samples, or features and labels that do not fit.
        """
        rows, given = checked_samples(features, labels, num_classes, f"detectors.{self.name}", LEAST_SAMPLES)
        present, among = present_classes(given, num_classes)
        score, shares = self.follow(rows, among, len(present), losses, rng)
        least, most = score.aminmax()
        scaled = (score - least) / (most - least).clamp_min(torch.finfo(score.dtype).tiny)
        right = mixture_posterior(scaled, int(rng.integers(2**31)))
        return NoiseReport(flags=right < 0.5, score=score, suggested=present[shares.argmax(1)])


class AreaUnderMargin(Trained):
    """AUM (Pleiss et al., NeurIPS 2020): a wrong label's margin, the mean over the epochs, is small.

    The margin is the logit of the given label less the largest other one. A small network is trained on standardised
    features. `N / (K + 1)` threshold samples get a class of their own, which nothing supports; what has a smaller area
    than the 99th percentile of theirs is flagged. This is done twice, with other threshold samples. The score is the
    percentile less the area, the mean over the trainings in which a sample kept its label: flagged is what is at least
    0. Suggested is the class of the largest mean probability in training.

    Deviation: the paper trains a deep network by SGD up to the first drop of the learning rate; here it is Adam, for a
    fixed number of epochs.

    Args:
        hidden: units of the network's hidden layer.
        epochs: of training.
        lr: learning rate of Adam.
    """

    name = "aum"

    def __call__(self, features: Any, labels: Any, num_classes: int, *, rng: np.random.Generator) -> NoiseReport:
        """Flags, scores and suggestions, of (N, d) features and (N,) given classes.

        Raises:
            HarnessError: for fewer than two samples, or features and labels that do not fit.
        """
        rows, given = checked_samples(features, labels, num_classes, f"detectors.{self.name}", LEAST_SAMPLES)
        present, among = present_classes(given, num_classes)
        samples, classes = len(given), len(present)
        if classes == 1:
            return nothing_suspect(samples, int(present))
        excess = torch.zeros(samples, dtype=torch.float64)
        shares = torch.zeros(samples, classes, dtype=torch.float64)
        times = torch.zeros(samples)
        size = max(1, samples // (classes + 1))
        drawn = torch.from_numpy(rng.permutation(samples))[: 2 * size]
        for chosen in drawn.split(size):
            told = among.clone()
            told[chosen] = classes
            kept = told != classes
            area, probabilities = self.follow(rows, told, classes + 1, margins, rng)
            excess[kept] += area[chosen].quantile(PERCENTILE) - area[kept]
            shares[kept] += probabilities[kept, :classes]
            times += kept
        score = excess / times
        return NoiseReport(flags=score >= 0, score=score, suggested=present[shares.argmax(1)])
