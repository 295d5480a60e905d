"""Human label noise: the labels that people gave (CIFAR-10N, CIFAR-100N)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness_plugins.noise.matrix import classes_of


def confusion_matrix(clean: np.ndarray, noisy: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) share of each noisy class among the samples of a clean class; a class without samples keeps its label."""
    counts = np.bincount(clean * num_classes + noisy, minlength=num_classes**2).reshape(num_classes, num_classes)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.eye(num_classes))


class Human:
    """The data set's own human labels in place of the clean ones: no chance, the same under every seed.

    CIFAR-10N (Wei et al., 2022) has `aggregate` (noise rate 0.0901), `random1` (0.1723), `random2` (0.1812), `random3`
    (0.1764) and `worse` (0.4021), which the authors call "worst" too: `labels = "worst"` is the same trial; CIFAR-100N has `noisy` (0.4020). There is no rate to refer to: a method that needs
    one is given a number in the suite.

    Args:
        labels: which labels, by the data set's name for them.
    """

    declares = Declares(aliases={"labels=worst": "worse"})

    def __init__(self, labels: str = "worse") -> None:
        self.labels = labels

    def _human(self, data: LabelledData) -> Tensor:
        classes_of(data, "human")
        if not data.human:
            raise HarnessError("the data set has no human labels", "noise.human", "use cifar10n or cifar100n")
        if self.labels not in data.human:
            raise HarnessError(
                f"the data set has no human labels {self.labels!r}",
                "noise.human.labels",
                f"choose one of {', '.join(data.human)}",
            )
        return data.human[self.labels]

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        return self._human(data).clone()

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class: the measured shares, exact for these very data."""
        classes = classes_of(data, "human")
        return torch.from_numpy(confusion_matrix(data.targets.numpy(), self._human(data).numpy(), classes))
