"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 from torchvision's files under ``HARNESS_DATA``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness_plugins.datasets.cifar100_superclasses import SUPERCLASSES
from harness_plugins.datasets.files import describe, torchvision_fetch
from harness_plugins.datasets.location import require

MNIST_MD5 = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MD5 = {
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CIFAR10_MD5 = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
CIFAR100_MD5 = {
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
}
MNIST_FILES, FASHION_FILES = tuple(MNIST_MD5), tuple(FASHION_MD5)
CIFAR10_FILES, CIFAR100_FILES = tuple(CIFAR10_MD5), tuple(CIFAR100_MD5)
DIGITS = tuple("0123456789")


@describe(Declares(classes=10, files=MNIST_FILES), fetch=torchvision_fetch("mnist", "MNIST"), md5=MNIST_MD5)
def mnist() -> DataSplits:
    """MNIST: 60,000 training and 10,000 test digits of 28 x 28 (LeCun et al., 1998)."""
    return _load("mnist", "MNIST", MNIST_FILES, 10, DIGITS)


@describe(Declares(classes=3, files=MNIST_FILES), fetch=torchvision_fetch("mnist3", "MNIST"), md5=MNIST_MD5)
def mnist3() -> DataSplits:
    """MNIST-3, the digits 0, 1 and 2 of MNIST: 18,623 training and 3,147 test images (the RRM paper, appendix C)."""
    parts = []
    for part in (_part("mnist3", "MNIST", MNIST_FILES, train) for train in (True, False)):
        targets = torch.as_tensor(part.targets)
        kept = targets < 3
        parts.append(LabelledData(_images(part.data[kept]), targets[kept], 3, DIGITS[:3]))
    return DataSplits(*parts)


@describe(
    Declares(classes=10, files=FASHION_FILES), fetch=torchvision_fetch("fashion_mnist", "FashionMNIST"), md5=FASHION_MD5
)
def fashion_mnist() -> DataSplits:
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 (Xiao et al., 2017)."""
    return _load("fashion_mnist", "FashionMNIST", FASHION_FILES, 10)


@describe(Declares(classes=10, files=CIFAR10_FILES), fetch=torchvision_fetch("cifar10", "CIFAR10"), md5=CIFAR10_MD5)
def cifar10() -> DataSplits:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 in colour (Krizhevsky, 2009)."""
    return _load("cifar10", "CIFAR10", CIFAR10_FILES, 10)


@describe(
    Declares(classes=100, files=CIFAR100_FILES), fetch=torchvision_fetch("cifar100", "CIFAR100"), md5=CIFAR100_MD5
)
def cifar100() -> DataSplits:
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 in colour, 100 classes in 20 super-classes."""
    return _load("cifar100", "CIFAR100", CIFAR100_FILES, 100, superclasses=torch.tensor(SUPERCLASSES))


def _part(name: str, torchvision_name: str, files: tuple[str, ...], train: bool) -> Any:
    folder = require(name, *files)
    import torchvision

    try:
        return getattr(torchvision.datasets, torchvision_name)(folder, train=train)
    except (RuntimeError, ValueError, EOFError) as error:
        raise DataError(str(error), f"datasets.{name}", f"fetch it again: harness data fetch {name}") from None


def _load(
    name: str,
    torchvision_name: str,
    files: tuple[str, ...],
    classes: int,
    class_names: tuple[str, ...] = (),
    superclasses: Tensor | None = None,
) -> DataSplits:
    parts = [_part(name, torchvision_name, files, train) for train in (True, False)]
    names = class_names or tuple(parts[0].classes)
    train, test = (
        LabelledData(_images(part.data), torch.as_tensor(part.targets), classes, names, superclasses=superclasses)
        for part in parts
    )
    return DataSplits(train, test)


def _images(raw: Any) -> Tensor:
    """(N, C, H, W) uint8 from torchvision's (N, H, W) tensors or (N, H, W, C) arrays."""
    if isinstance(raw, np.ndarray):
        return torch.from_numpy(raw).permute(0, 3, 1, 2).contiguous()
    return torch.as_tensor(raw)[:, None].contiguous()
