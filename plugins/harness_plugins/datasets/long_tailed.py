"""Long-tailed class frequencies: another data set of which the classes keep ever fewer training samples."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge

import harness
from harness import DataSplits, Declares
from harness.errors import DataError
from harness_plugins.datasets.files import describe

WHERE = "datasets.long_tailed"


def long_tailed_counts(counts: np.ndarray, ratio: float) -> np.ndarray:
    """(K,) samples that classes keep: ``n_max ratio^(-k / (K - 1))``, rounded down, of class ``k``; at least one, and no more
    than there are (Cui et al., 2019, equation of their section 5.1, in the order of the classes).

    Args:
        counts: (K,) samples of each class.
        ratio: of the largest class to the smallest, at least 1.
    """
    exponents = np.arange(len(counts)) / max(1, len(counts) - 1)
    wanted = np.floor(counts.max() * float(ratio) ** -exponents + 1e-9).astype(np.int64)
    kept: np.ndarray = np.minimum(np.maximum(wanted, 1), counts)
    return kept


@describe(Declares())
def long_tailed(data: str, ratio: Annotated[float, Ge(1)] = 100.0, params: dict[str, Any] = {}) -> DataSplits:  # noqa: B006 -- read, never changed
    """Another data set with long-tailed classes: class `k` keeps `n_max ratio^(-k / (K - 1))` of its training samples.

    As in Cui et al. (2019). Which samples are kept is drawn once, the same for every seed, before any noise; the test data
    keep all of theirs. It is for any noise. A changed source of the other data set does not make trials stale.

    Args:
        data: the other data set's name, such as `cifar10`.
        ratio: of the largest class to the smallest, at least 1, which changes nothing in a balanced data set.
        params: the other data set's parameters.
    """
    splits: DataSplits = harness.create("dataset", data, **params)
    if splits.task != "classification":
        raise DataError(f"{data} is for {splits.task}", f"{WHERE}.data", "choose a classification data set")
    labels = splits.train.targets.numpy()
    kept = long_tailed_counts(np.bincount(labels, minlength=int(splits.train.num_classes or 0)), ratio)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    chosen = [order[labels[order] == k][:count] for k, count in enumerate(kept)]
    return DataSplits(splits.train.subset(torch.from_numpy(np.sort(np.concatenate(chosen)))), splits.test)
