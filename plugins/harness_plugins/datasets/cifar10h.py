"""CIFAR-10H (Peterson et al., 2019): some fifty people's votes on each of CIFAR-10's 10,000 test images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from harness import DataSplits, Declares
from harness.errors import DataError
from harness_plugins.datasets.files import describe, not_fetched, torchvision_fetch
from harness_plugins.datasets.hate_speech import expanded_votes
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin
from harness_plugins.datasets.torchvision_images import CIFAR10_FILES, CIFAR10_MD5, cifar10

WHERE = "datasets.cifar10h"
FILE = "cifar-n/cifar10h-counts.npy"
SOURCE = "https://github.com/jcpeterson/cifar-10h/raw/master/data/cifar10h-counts.npy"
MD5 = "f1284b6fba48a67d3db69bbafb5685ad"
TEST = 10_000


def _fetch(folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    target = folder / FILE
    try:
        download_url(SOURCE, str(target.parent), target.name, MD5)
    except (OSError, RuntimeError) as error:
        raise not_fetched("cifar10h", folder, error) from None
    torchvision_fetch("cifar10h", "CIFAR10")(folder)


@describe(Declares(classes=10, files=(*CIFAR10_FILES, FILE)), fetch=_fetch, md5={**CIFAR10_MD5, FILE: MD5})
@origin(
    licence="CC BY-NC-SA 4.0",
    citation="Peterson et al., Human Uncertainty Makes Classification More Robust, ICCV 2019",
)
def cifar10h() -> DataSplits:
    """CIFAR-10H: CIFAR-10's 10,000 test images to train on, with the votes of 47 to 63 people on each.

    The noise `annotators` makes labels of the votes: one person's, the majority's, or Dawid and Skene's. Tested on the
    first 10,000 of CIFAR-10's training images, which nobody voted on.
    """
    folder = require("cifar10h", *CIFAR10_FILES, FILE)
    splits = cifar10()
    try:
        counts = np.load(folder / FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise DataError(f"{FILE} cannot be read", WHERE, "fetch it again: harness data fetch cifar10h") from None
    if counts.shape != (len(splits.test), 10):
        raise DataError(
            f"{FILE} has counts of shape {counts.shape}, not ({len(splits.test)}, 10)", WHERE,
            "fetch it again: harness data fetch cifar10h",
        )  # fmt: skip
    train = dataclasses.replace(splits.test, votes=expanded_votes(counts.astype(np.int64)))
    return DataSplits(train, dataclasses.replace(
        splits.train, inputs=splits.train.inputs[:TEST], targets=splits.train.targets[:TEST]  # type: ignore[index]
    ))  # fmt: skip
