"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from torchvision's files under ``HARNESS_DATA``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness_plugins.datasets.location import require

_IDX = tuple(f"{split}-{part}-ubyte" for split in ("train", "t10k") for part in ("images-idx3", "labels-idx1"))
MNIST_FILES = tuple(f"MNIST/raw/{name}" for name in _IDX)
FASHION_FILES = tuple(f"FashionMNIST/raw/{name}" for name in _IDX)
CIFAR10_FILES = tuple(
    f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
)
CIFAR100_FILES = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))


def mnist() -> DataSplits:
    """MNIST: 60,000 training and 10,000 test digits of 28 x 28 (LeCun et al., 1998)."""
    return _load("mnist", "MNIST", MNIST_FILES, 10, tuple("0123456789"))


def fashion_mnist() -> DataSplits:
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 (Xiao et al., 2017)."""
    return _load("fashion_mnist", "FashionMNIST", FASHION_FILES, 10)


def cifar10() -> DataSplits:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in colour (Krizhevsky, 2009)."""
    return _load("cifar10", "CIFAR10", CIFAR10_FILES, 10)


def cifar100() -> DataSplits:
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 in colour, 100 classes in 20 super-classes."""
    return _load("cifar100", "CIFAR100", CIFAR100_FILES, 100)


mnist.declares = Declares(classes=10, files=MNIST_FILES)  # type: ignore[attr-defined]
fashion_mnist.declares = Declares(classes=10, files=FASHION_FILES)  # type: ignore[attr-defined]
cifar10.declares = Declares(classes=10, files=CIFAR10_FILES)  # type: ignore[attr-defined]
cifar100.declares = Declares(classes=100, files=CIFAR100_FILES)  # type: ignore[attr-defined]


def _load(
    name: str, torchvision_name: str, files: tuple[str, ...], classes: int, class_names: tuple[str, ...] = ()
) -> DataSplits:
    folder = require(name, *files)
    import torchvision

    try:
        parts = [getattr(torchvision.datasets, torchvision_name)(folder, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise DataError(str(error), f"datasets.{name}", f"fetch it again: harness data fetch {name}") from None
    names = class_names or tuple(parts[0].classes)
    train, test = (LabelledData(_images(part.data), torch.as_tensor(part.targets), classes, names) for part in parts)
    return DataSplits(train, test)


def _images(raw: Any) -> Tensor:
    """(N, C, H, W) uint8 from torchvision's (N, H, W) tensors or (N, H, W, C) arrays."""
    if isinstance(raw, np.ndarray):
        return torch.from_numpy(raw).permute(0, 3, 1, 2).contiguous()
    return torch.as_tensor(raw)[:, None].contiguous()
