"""scikit-learn's digits: 1,797 images of 8 x 8, no download, for tests and first steps."""

from __future__ import annotations

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.split import stratified_holdout


@describe(Declares(classes=10))
def digits() -> DataSplits:
    """UCI digits (8 x 8, 16 grey levels scaled to 0-255), stratified into 1,438 training and 359 test images.

    The split is fixed (seed 0), so every seed of a suite has the same test set.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    targets = torch.from_numpy(bunch.target.astype(np.int64))
    data = LabelledData(images, targets, 10, tuple("0123456789"))
    train, test = stratified_holdout(targets, 359)
    return DataSplits(data.subset(train), data.subset(test))
