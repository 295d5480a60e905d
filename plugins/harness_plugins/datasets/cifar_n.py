"""CIFAR-10N and CIFAR-100N: CIFAR with labels from people (Wei et al., 2022), read under ``weights_only``."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares
from harness.errors import DataError
from harness_plugins.datasets.files import describe, not_fetched, torchvision_fetch
from harness_plugins.datasets.location import require
from harness_plugins.datasets.torchvision_images import (
    CIFAR10_FILES,
    CIFAR10_MD5,
    CIFAR100_FILES,
    CIFAR100_MD5,
    cifar10,
    cifar100,
)

SOURCE = "https://github.com/UCSC-REAL/cifar-10-100n/raw/main/data"
CIFAR10N_FILE = "cifar-n/CIFAR-10_human.pt"
CIFAR100N_FILE = "cifar-n/CIFAR-100_human.pt"
LABELS_MD5 = {
    CIFAR10N_FILE: "96644db5574813cae939af5f7f2a0aec",
    CIFAR100N_FILE: "a67b45c1d7992051865b5c755bd68bb1",
}
CIFAR10N_KEYS = {
    "aggregate": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worse": "worse_label",
}
CIFAR100N_KEYS = {"noisy": "noisy_label"}
"""Our name of the labels -> their key in the file. CIFAR-100N's coarse labels are of 20 classes and left out."""


def read_labels(path: Path, name: str) -> dict[str, Tensor]:
    """The label arrays of a CIFAR-N file, (N,) int64 each, by their keys.

    The files hold numpy arrays. They load under ``weights_only=True`` with just numpy's array constructor, array type
    and dtypes allowed.

    Raises:
        DataError: for a file that is damaged or holds anything else.
    """
    reconstruct = np.empty(0).__reduce__()[0]
    allowed: list[Any] = [
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return {key: torch.as_tensor(np.asarray(labels, dtype=np.int64)) for key, labels in content.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path} cannot be read: {first}", f"datasets.{name}", f"fetch it again: harness data fetch {name}"
        ) from None


def with_human_labels(
    splits: DataSplits, labels: Mapping[str, Tensor], keys: Mapping[str, str], name: str
) -> DataSplits:
    """Splits whose training data carry human labels.

    Raises:
        DataError: when a key is missing, or the file's clean labels are not those of the data set, sample by sample.
    """
    for key in ("clean_label", *keys.values()):
        if key not in labels:
            raise DataError(f"the label file has no {key!r}", f"datasets.{name}", f"harness data fetch {name}")
    clean = splits.train.targets
    if not torch.equal(labels["clean_label"], clean):
        same = len(labels["clean_label"]) == len(clean)
        found = (
            f"{int((labels['clean_label'] != clean).sum())} differ" if same else f"{len(labels['clean_label'])} labels"
        )
        raise DataError(
            f"the label file's clean labels are not those of the {len(clean)} training images ({found})",
            f"datasets.{name}",
            "use the files in torchvision's order",
        )
    human = {ours: labels[theirs] for ours, theirs in keys.items()}
    return DataSplits(dataclasses.replace(splits.train, human=human), splits.test)


def _fetch(name: str, torchvision_name: str, file: str) -> Callable[[Path], None]:
    images = torchvision_fetch(name, torchvision_name)

    def fetch(folder: Path) -> None:
        from torchvision.datasets.utils import download_url

        target = folder / file
        try:
            download_url(f"{SOURCE}/{target.name}", str(target.parent), target.name, LABELS_MD5[file])
        except (OSError, RuntimeError) as error:
            raise not_fetched(name, folder, error) from None
        images(folder)

    return fetch


@describe(
    Declares(classes=10, files=(*CIFAR10_FILES, CIFAR10N_FILE)),
    fetch=_fetch("cifar10n", "CIFAR10", CIFAR10N_FILE),
    md5={**CIFAR10_MD5, CIFAR10N_FILE: LABELS_MD5[CIFAR10N_FILE]},
)
def cifar10n() -> DataSplits:
    """CIFAR-10N: CIFAR-10 with human labels `aggregate`, `random1`, `random2`, `random3`, `worse` (Wei et al.)."""
    folder = require("cifar10n", *CIFAR10_FILES, CIFAR10N_FILE)
    labels = read_labels(folder / CIFAR10N_FILE, "cifar10n")
    return with_human_labels(cifar10(), labels, CIFAR10N_KEYS, "cifar10n")


@describe(
    Declares(classes=100, files=(*CIFAR100_FILES, CIFAR100N_FILE)),
    fetch=_fetch("cifar100n", "CIFAR100", CIFAR100N_FILE),
    md5={**CIFAR100_MD5, CIFAR100N_FILE: LABELS_MD5[CIFAR100N_FILE]},
)
def cifar100n() -> DataSplits:
    """CIFAR-100N: CIFAR-100 with human labels `noisy`, one person for each image (Wei et al., 2022)."""
    folder = require("cifar100n", *CIFAR100_FILES, CIFAR100N_FILE)
    labels = read_labels(folder / CIFAR100N_FILE, "cifar100n")
    return with_human_labels(cifar100(), labels, CIFAR100N_KEYS, "cifar100n")
