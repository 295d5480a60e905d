"""scikit-learn's digits: 1,797 images of 8 x 8, no download, for tests and first steps."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData
from harness.errors import HarnessError
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.split import stratified_holdout


@describe(Declares(classes=10))
def digits() -> DataSplits:
    """UCI digits (8 x 8, 16 grey levels scaled to 0-255), stratified into 1,438 training and 359 test images.

    The split is fixed (seed 0), so every seed of a suite has the same test set.
    """
    with gzip.open(_file(), "rt") as file:
        table = np.loadtxt(file, delimiter=",")  # 64 grey levels and the digit
    images = torch.from_numpy(np.round(table[:, :64] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(table[:, 64].astype(np.int64))
    data = LabelledData(images, targets, 10, tuple("0123456789"))
    train, test = stratified_holdout(targets, 359)
    return DataSplits(data.subset(train), data.subset(test))


def _file() -> Path:
    """The file inside scikit-learn, which is not imported: ``sklearn.datasets`` costs a process seconds for this one."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise HarnessError("the data set digits is a file of scikit-learn", "sklearn", "pip install scikit-learn")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
