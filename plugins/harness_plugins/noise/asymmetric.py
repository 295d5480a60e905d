"""Asymmetric label noise: some classes are mistaken for a look-alike, by named maps."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import Declares, HarnessError, LabelledData
from harness.parameters import Rate
from harness_plugins.noise.matrix import Count, classes_of, corrupt_by_map, mapped_matrix

MAPS: dict[str, dict[int, int]] = {
    "mnist_patrini": {7: 1, 2: 7, 5: 6, 6: 5, 3: 8},
    "mnist_cdr": {2: 7, 5: 6, 6: 5, 3: 8},
    "fashion_mnist_cdr": {0: 6, 2: 4, 5: 7, 7: 5},
    "fashion_mnist_eps_softmax": {7: 1, 2: 7, 5: 6, 6: 5, 3: 8},
    "fashion_mnist_gce": {9: 7, 7: 5, 2: 6, 4: 3, 3: 4},
    "cifar10_patrini": {9: 1, 2: 0, 3: 5, 5: 3, 4: 7},
    "cifar10_dmi": {9: 1, 2: 0, 4: 7, 3: 5},
}
"""Source class -> target class, by torchvision's class indices.

`mnist_patrini` is also that of SCE, APL and ALFs, `mnist_cdr` (without 7 to 1) also that of the CDR+AUX report.
`fashion_mnist_eps_softmax` is the digits' index map put on clothes, as the eps-softmax repository does;
`fashion_mnist_gce` is from memory of the GCE paper and unverified. `cifar10_dmi` is Patrini's without dog to cat.
"""
CLASSES = 10
Map = Literal[
    "auto",
    "mnist_patrini",
    "mnist_cdr",
    "fashion_mnist_cdr",
    "fashion_mnist_eps_softmax",
    "fashion_mnist_gce",
    "cifar10_patrini",
    "cifar10_dmi",
]
_BY_CLASSES: dict[tuple[str, ...], str] = {
    ("0", "1", "2"): "mnist_patrini",
    ("T-shirt/top", "Trouser", "Pullover"): "fashion_mnist_cdr",
    ("airplane", "automobile", "bird"): "cifar10_patrini",
}


def asymmetric_matrix(rate: float, mapping: dict[int, int], num_classes: int) -> np.ndarray:
    """(K, K): a source class keeps its label with ``1 - rate`` and becomes its target with ``rate``."""
    return mapped_matrix(rate, mapping, num_classes)


class Asymmetric:
    """Source classes become their look-alike with probability `rate`, drawn from the clean labels.

    Deviation: the code of CDR, SOP, ELR and APL flips CIFAR-10 in place, cat to dog first, and then treats those as
    dogs, so that its real rate of cat to dog is `rate (1 - rate)`; here every draw is from the clean label (as in
    Patrini, SCE).

    `rate` is that of the source classes; the share of corrupted labels in the whole set is lower (`rate / 2` for five
    sources of ten). For CIFAR-100 see `superclass`.

    Args:
        rate: probability in [0, 1] for each sample of a source class.
        map: a named map; `auto` chooses by the data's class names: digits `mnist_patrini`, Fashion-MNIST
            `fashion_mnist_cdr`, CIFAR-10 `cifar10_patrini`.
        count: `binomial` or `exact` (`int(rate * members)` of each source class).
    """

    declares = Declares(classes_for={f"map={name}": CLASSES for name in MAPS})

    def __init__(self, rate: Rate, map: Map = "auto", count: Count = "binomial") -> None:
        self.rate = rate
        self.map = map
        self.count: Count = count

    def mapping(self, data: LabelledData) -> dict[int, int]:
        """The map in force for some data.

        Raises:
            HarnessError: when the map is for another number of classes, or none is known for the data.
        """
        name: str | None = self.map
        if name == "auto":
            name = _BY_CLASSES.get(tuple(data.class_names[:3]))
        classes = classes_of(data, "asymmetric")
        if name is None or (self.map == "auto" and classes != CLASSES):
            raise HarnessError(
                "no map is known for these classes",
                "noise.asymmetric.map",
                f"choose one of {', '.join(MAPS)}, or the noise superclass or pairflip",
            )
        if classes != CLASSES:
            raise HarnessError(
                f"map {name!r} is for {CLASSES} classes, the data have {classes}",
                "noise.asymmetric.map",
                "choose the noise superclass or pairflip",
            )
        return MAPS[name]

    def __call__(self, data: LabelledData, *, rng: np.random.Generator) -> Tensor:
        """(N,) noisy classes."""
        return corrupt_by_map(data.targets, self.mapping(data), CLASSES, self.rate, rng, count=self.count)

    def transition_matrix(self, data: LabelledData) -> Tensor:
        """(K, K), rows are the clean class."""
        return torch.from_numpy(asymmetric_matrix(self.rate, self.mapping(data), CLASSES))
