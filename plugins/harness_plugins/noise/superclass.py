"""Super-class label noise: a class is mistaken for the next one of its own super-class (CIFAR-100 in the KPD paper)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness.parameters import Rate
from harness_plugins.noise.matrix import Count, classes_of, corrupt_by_map, mapped_matrix

BLOCK = 5


def circular_map(groups: np.ndarray) -> dict[int, int]:
    """The next class of the same group, by class index, the last one going on to the first.

    Args:
        groups: (K,) the group of each class.

    Returns:
        class -> next class; a class alone in its group is left out.
    """
    mapping: dict[int, int] = {}
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            mapping.update(zip(members.tolist(), np.roll(members, -1).tolist(), strict=True))
    return mapping


def paired_map(classes: int, draw: int) -> dict[int, int]:
    """Two classes of each block of five class indices, drawn at random, each of which becomes the other.

    Args:
        classes: their number, a multiple of five.
        draw: the seed of the pairs.

    Returns:
        class -> its partner; the three others of a block are left out.
    """
    rng = np.random.default_rng(draw)
    mapping: dict[int, int] = {}
    for first in range(0, classes, BLOCK):
        one, other = (first + rng.choice(BLOCK, 2, replace=False)).tolist()
        mapping |= {one: other, other: one}
    return mapping


class Superclass:
    """Class `j(i)` becomes `j(i + 1)`, circular inside its super-class `j`, with probability `rate` (KPD, 5.2).

    `map="semantic"` uses the data's true super-classes, in order of the class index. `map="block"` is what the code of
    Patrini, APL, ALFs, CDR and eps-softmax does instead: it shifts inside blocks [5i, 5i + 4] of class indices,
    although CIFAR-100's indices are alphabetical, so that 94 of 100 classes leave their super-class. `map="pairs"` is
    CIFAR-100's asymmetric noise in the code of SOP and SCE: in each such block one random pair of classes is swapped, so
    that 40 of 100 classes are noisy. Deviation: that code draws the pairs anew in every run; here they are of the
    setting, so that all seeds and methods face one transition matrix.

    Args:
        rate: probability in [0, 1].
        map: `semantic`, `block` or `pairs`.
        count: `binomial` or `exact` (`int(rate * members)` of each class).
        pairs: which draw of the pairs, for that map.
    """

    declares = Declares(later=("pairs",))

    def __init__(
        self,
        rate: Rate,
        map: Literal["semantic", "block", "pairs"] = "semantic",
        count: Count = "binomial",
        pairs: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.rate = rate
        self.map = map
        self.count: Count = count
        self.pairs = pairs

    def mapping(self, data: LabelledData) -> dict[int, int]:
        """The map in force for some data.

        Data with 100 classes that name neither classes nor super-classes are taken for CIFAR-100.

        Raises:
            HarnessError: when the data have no super-classes, or do not divide into blocks of five.
        """
        classes = classes_of(data, "superclass")
        if self.map != "semantic":
            if classes % BLOCK:
                raise HarnessError(
                    f"{classes} classes do not divide into blocks of {BLOCK}",
                    "noise.superclass.map",
                    "choose 'semantic'",
                )
            if self.map == "pairs":
                return paired_map(classes, self.pairs)
            return circular_map(np.arange(classes) // BLOCK)
        groups = data.superclasses
        if groups is None and classes == 100 and not data.class_names:
            from harness_plugins.datasets.cifar100_superclasses import SUPERCLASSES

            groups = torch.tensor(SUPERCLASSES)
        if groups is None:
            raise HarnessError(
                "the data set has no super-classes",
                "noise.superclass.map",
                "choose a data set with them, such as cifar100",
            )
        if len(groups) != classes:
            raise HarnessError(f"{len(groups)} super-classes are given for {classes} classes", "noise.superclass.map")
        return circular_map(groups.numpy())

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        classes = classes_of(data, "superclass")
        return corrupt_by_map(data.targets, self.mapping(data), classes, self.rate, rng, count=self.count)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        return torch.from_numpy(mapped_matrix(self.rate, self.mapping(data), classes_of(data, "superclass")))
