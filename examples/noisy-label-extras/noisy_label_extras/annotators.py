"""Labels as several annotators give them: real mistakes of weak classifiers, and the model of Dawid and Skene (1979)."""

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares, LabelledData
from harness.parameters import Count, NonNegative, Rate

ANNOTATORS = 5
CLASSES = 10


def weak_labels(images: np.ndarray, labels: np.ndarray, reference: int, rows: tuple[int, ...]) -> np.ndarray:
    """Labels by the nearest class centroid, seen through some rows of the image only.

    Args:
        images: (N, H, W) grey levels.
        labels: (N,) classes.
        reference: how many of the first images the annotator has learnt the centroids from.
        rows: which rows it looks at.

    Returns:
        (N,) classes, with the mistakes of that annotator.
    """
    seen = images[:, rows].reshape(len(images), -1).astype(np.float64)
    known, classes = seen[:reference], labels[:reference]
    centroids = np.stack([known[classes == label].mean(axis=0) for label in range(CLASSES)])
    distances = ((seen[:, None] - centroids[None]) ** 2).sum(axis=2)
    return distances.argmin(axis=1)


def majority(votes: np.ndarray, num_classes: int = CLASSES) -> np.ndarray:
    """The class with most votes of (A, N) votes, the smallest of equals."""
    counts = np.stack([(votes == label).sum(axis=0) for label in range(num_classes)])
    return counts.argmax(axis=0)


def annotated_digits(test_share: Rate = 0.2) -> DataSplits:
    """scikit-learn's digits (8 x 8) with the labels of five weak annotators and their majority.

    The targets are the true ones; the annotators' labels are in `human`, as `annotator0` ... `annotator4` and
    `majority`, for the noise `human`. Their mistakes depend on the image, as people's do.

    Args:
        test_share: share of the images, the last ones, that is test data.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images, bunch.target.astype(np.int64)
    watched = [tuple(range(start, start + 2)) for start in (1, 2, 3, 4, 5)]
    votes = np.stack([weak_labels(images, labels, 300, rows) for rows in watched])
    given = {f"annotator{number}": vote for number, vote in enumerate(votes)} | {"majority": majority(votes)}
    human = {name: torch.from_numpy(vote.astype(np.int64)) for name, vote in given.items()}
    pixels = torch.from_numpy(np.round(images * (255 / 16)).astype(np.uint8))[:, None]
    data = LabelledData(pixels, torch.from_numpy(labels), CLASSES, tuple("0123456789"), human=human)
    order = torch.arange(len(data))
    first = len(data) - round(test_share * len(data))
    return DataSplits(data.subset(order[:first]), data.subset(order[first:]))


annotated_digits.declares = Declares(classes=CLASSES)


def confusion_matrices(annotators: int, num_classes: int, rate: float, spread: float) -> np.ndarray:
    """(A, K, K) confusion matrices: annotator `a` errs with probability `rate (1 + spread s_a)`, `s_a` evenly from -1 to
    1, each wrong class alike."""
    skill = np.linspace(-1, 1, annotators) if annotators > 1 else np.zeros(1)
    errs = np.clip(rate * (1 + spread * skill), 0, 1)[:, None, None]
    return (1 - errs) * np.eye(num_classes) + errs * (1 - np.eye(num_classes)) / (num_classes - 1)


class DawidSkene:
    """Each sample is labelled by one of several annotators, who err at different rates (Dawid and Skene, 1979).

    Args:
        rate: mean probability of an error.
        annotators: how many there are; each labels as many samples as another, on average.
        spread: how much their rates differ: from `rate (1 - spread)` to `rate (1 + spread)`.
    """

    def __init__(self, rate: Rate = 0.3, annotators: Count = 5, spread: NonNegative = 0.5) -> None:
        self.rate = rate
        self.annotators = annotators
        self.spread = spread

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes, drawn from the clean ones."""
        matrices = confusion_matrices(self.annotators, data.num_classes, self.rate, self.spread)
        who = rng.integers(self.annotators, size=len(data))
        rows = matrices[who, data.targets.numpy()].cumsum(axis=1)
        drawn = (rng.random(len(data))[:, None] > rows).sum(axis=1)
        return torch.from_numpy(np.minimum(drawn, data.num_classes - 1))

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class: the mean of the annotators' confusion matrices."""
        matrices = confusion_matrices(self.annotators, data.num_classes, self.rate, self.spread)
        return torch.from_numpy(matrices.mean(axis=0))
