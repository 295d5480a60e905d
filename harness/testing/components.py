"""The other parts of a stack under test: small data, noise, a model and losses that the checks register for themselves.

It is a single-file plugin like any other, so that workers of every executor find it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import DataSplits, Declares, LabelledData, hookimpl
from harness.parameters import Count, Rate

if TYPE_CHECKING:
    from harness.registry import Register

CLASSES = 10
ALL = ("classification", "multilabel", "regression")


def classes(
    shape: list[Count] = [1, 8, 8],  # noqa: B006
    size: Count = 100,
    canary: int = 0,
    tokens: Annotated[int, Ge(2)] | None = None,
) -> DataSplits:
    """Ten classes of images (features, or texts), each around a prototype of its own.

    Args:
        shape: of one input; three numbers make uint8 images, one makes float features.
        size: training samples; there are half as many test samples.
        canary: 0 for labels that belong to the inputs. Otherwise a seed that permutes the *clean* labels only: two
            canaries differ in nothing that a method may see.
        tokens: for texts in place of features: their vocabulary.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(CLASSES, *shape))

    def draw(count: int) -> LabelledData:
        labels = np.arange(count) % CLASSES
        values = prototypes[labels] + 0.5 * rng.normal(size=(count, *shape))
        if canary:
            labels = np.random.default_rng(canary).permutation(labels)
        targets = torch.from_numpy(labels.astype(np.int64))
        other = torch.from_numpy((labels + 1) % CLASSES)
        human = {
            name: torch.where(torch.arange(count) % 3 == 0, other, targets) for name in ("worse", "aggregate", "noisy")
        }
        inputs: np.ndarray = values.astype(np.float32)
        if len(shape) == 3:
            inputs = np.clip(128 + 40 * values, 0, 255).astype(np.uint8)
        if tokens is not None:
            inputs = np.clip(tokens * (0.5 + 0.2 * values), 1, tokens - 1).astype(np.int64)
        return LabelledData(
            torch.from_numpy(inputs),
            targets,
            CLASSES,
            human=human,
            superclasses=torch.arange(CLASSES) // 2,
            votes=torch.stack([targets, human["worse"], human["worse"]], 1),
            vocabulary=tokens,
        )

    return DataSplits(draw(size), draw(size // 2))


classes.declares = Declares(classes=CLASSES)  # type: ignore[attr-defined]


def labels(shape: list[Count] = [1, 8, 8], size: Count = 100, canary: int = 0) -> DataSplits:  # noqa: B006
    """Samples of :func:`classes` with the labels of their class and of the next one.

    Args:
        shape: of one input.
        size: training samples; there are half as many test samples.
        canary: as in :func:`classes`.
    """
    made = classes(shape, size, canary)

    def several(data: LabelledData) -> LabelledData:
        own = functional.one_hot(data.targets, CLASSES)
        return LabelledData(data.inputs, own | own.roll(1, 1), CLASSES)

    return DataSplits(several(made.train), several(made.test))


labels.declares = Declares(tasks=("multilabel",), classes=CLASSES)  # type: ignore[attr-defined]


def values(shape: list[Count] = [6], size: Count = 100, canary: int = 0) -> DataSplits:  # noqa: B006
    """Regression: a linear function of normal features.

    Args:
        shape: of one input.
        size: training samples; there are half as many test samples.
        canary: as in :func:`classes`.
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=math.prod(shape))

    def draw(count: int) -> LabelledData:
        inputs = rng.normal(size=(count, *shape))
        targets = inputs.reshape(count, -1) @ weight
        if canary:
            targets = np.random.default_rng(canary).permutation(targets)
        return LabelledData(torch.from_numpy(inputs).float(), torch.from_numpy(targets).float())

    return DataSplits(draw(size), draw(size // 2))


values.declares = Declares(tasks=("regression",))  # type: ignore[attr-defined]


class Flip:
    """Classes are replaced by another class, and single labels flipped, with probability `rate`; numbers are moved by normal
    noise."""

    declares = Declares(tasks=ALL)

    def __init__(self, rate: Rate = 0.4) -> None:
        self.rate = rate

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """Noisy targets."""
        if data.num_classes is None:
            return data.targets + torch.from_numpy(rng.normal(size=tuple(data.targets.shape))).float()
        if data.targets.ndim == 2:
            return data.targets ^ torch.from_numpy(rng.random(tuple(data.targets.shape)) < self.rate).long()
        shift = torch.from_numpy(rng.integers(1, data.num_classes, len(data)))
        moved = torch.from_numpy(rng.random(len(data)) < self.rate)
        return torch.where(moved, (data.targets + shift) % data.num_classes, data.targets)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        count = int(data.num_classes or 0)
        return (1 - self.rate) * torch.eye(count) + self.rate / (count - 1) * (1 - torch.eye(count))


class Fixed:
    """Targets that depend on neither the clean ones nor the seed: what a canary is seen under."""

    declares = Declares(tasks=ALL, fixed_rate=0.5)

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """Noisy targets."""
        own = np.random.default_rng(1)
        if data.num_classes is None:
            return torch.from_numpy(own.normal(size=tuple(data.targets.shape))).to(data.targets.dtype)
        if data.targets.ndim == 2:
            return torch.from_numpy(own.integers(0, 2, tuple(data.targets.shape)))
        return torch.from_numpy(own.integers(0, data.num_classes, len(data)))

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K): any with an inverse; a method that corrects by it is given the same under both canaries."""
        count = int(data.num_classes or 0)
        return 0.5 * torch.eye(count) + 0.5 / count


def net(input_shape: tuple[int, ...], num_outputs: int, width: Count = 8) -> nn.Module:
    """A convolution with batch normalisation, pooling and a linear layer; a small perceptron on features."""
    if len(input_shape) == 3:
        return nn.Sequential(
            nn.Conv2d(input_shape[0], width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * width, num_outputs),
        )
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(input_shape), 4 * width), nn.BatchNorm1d(4 * width), nn.ReLU(),
        nn.Linear(4 * width, num_outputs),
    )  # fmt: skip


class CrossEntropy:
    """torch's cross entropy, by which costs are measured."""

    declares = Declares(soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        """(B,) losses."""
        return functional.cross_entropy(outputs, targets, reduction="none")


class BinaryCrossEntropy:
    """torch's binary cross entropy, mean over labels."""

    declares = Declares(tasks=("multilabel",), soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        """(B,) losses."""
        losses = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
        return losses.mean(1)


class Squared:
    """Squared error."""

    declares = Declares(tasks=("regression",), soft_targets=True)

    def __call__(self, outputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
        """(B,) losses."""
        return (outputs - targets.reshape(outputs.shape)).square().mean(1)


@hookimpl
def harness_register_datasets(register: Register) -> None:
    """Data."""
    register("testing.classes", classes)
    register("testing.labels", labels)
    register("testing.values", values)


@hookimpl
def harness_register_noise(register: Register) -> None:
    """Noise."""
    register("testing.flip", Flip)
    register("testing.fixed", Fixed)


@hookimpl
def harness_register_models(register: Register) -> None:
    """A model."""
    register("testing.net", net)


@hookimpl
def harness_register_losses(register: Register) -> None:
    """Losses."""
    register("testing.ce", CrossEntropy)
    register("testing.bce", BinaryCrossEntropy)
    register("testing.squared", Squared)
