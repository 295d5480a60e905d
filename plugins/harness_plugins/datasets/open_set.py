"""Open-set noise: another data set of which some training images are of no class."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

import harness
from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.parameters import Rate
from harness_plugins.datasets.files import describe

WHERE = "datasets.open_set"


def keep_classes(data: LabelledData, kept: Tensor) -> LabelledData:
    """The samples of some classes (n,), which are counted anew in that order; human labels and votes, which may be of other
    classes, are left out."""
    numbers = torch.full((int(data.num_classes or 0),), -1, dtype=torch.int64)
    numbers[kept] = torch.arange(len(kept))
    chosen = data.subset(torch.nonzero(numbers[data.targets] >= 0).squeeze(1))
    return dataclasses.replace(
        chosen,
        targets=numbers[chosen.targets],
        num_classes=len(kept),
        class_names=tuple(data.class_names[k] for k in kept.tolist()) if data.class_names else (),
        human={},
        votes=None,
        superclasses=None if data.superclasses is None else data.superclasses[kept],
    )


def with_outside(data: LabelledData, pool: LabelledData, rate: float, rng: np.random.Generator) -> LabelledData:
    """The data with ``round(rate N)`` of their inputs replaced by different ones of a pool, each under the label of the one
    that it replaces.

    Raises:
        DataError: for inputs that stream or do not fit each other, and a pool of too few.
    """
    count = round(rate * len(data))
    if count > len(pool):
        most = int(1000 * len(pool) / len(data)) / 1000
        raise DataError(
            f"{count} samples of no class are wanted of {len(pool)}", f"{WHERE}.rate", f"set at most {most}"
        )
    if data.views or pool.views:
        raise DataError("features with stored views cannot be replaced", f"{WHERE}.data", "embed open_set itself")
    own, others = data.inputs, pool.inputs
    if not isinstance(own, Tensor) or not isinstance(others, Tensor):
        what = "its samples stream, and where one lies would tell which are of no class"
        raise DataError(what, f"{WHERE}.data", "choose data that are kept in memory")
    if own.shape[1:] != others.shape[1:] or own.dtype != others.dtype or data.vocabulary != pool.vocabulary:
        words = [f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape[1:])}" for one in (own, others)]
        raise DataError(
            f"inputs are {words[0]} and of no class {words[1]}", f"{WHERE}.source", "choose a source of the same kind"
        )
    places = torch.from_numpy(rng.permutation(len(data))[:count])
    inputs = own.clone()
    inputs[places] = others[torch.from_numpy(rng.permutation(len(pool))[:count])]
    outside = torch.zeros(len(data), dtype=torch.bool) if data.outside is None else data.outside.clone()
    outside[places] = True
    return dataclasses.replace(data, inputs=inputs, outside=outside, human={}, votes=None)


@describe(Declares())
def open_set(
    data: str,
    rate: Rate = 0.2,
    source: str | None = None,
    left_out: list[int] | None = None,
    params: dict[str, Any] = {},  # noqa: B006 -- read, never changed
    source_params: dict[str, Any] = {},  # noqa: B006
) -> DataSplits:
    """Another data set with open-set noise: a share of its training images shows none of the classes (Wang et al., CVPR 2018).

    Such an image lies in the place, and under the label, of one of the data set's own, so that sizes and class frequencies
    stay. It comes from the training part of another data set (`source`, as CIFAR-100's images in CIFAR-10), or from classes
    of the same (`left_out`), which then are no classes: training and test data lose their samples, and the others are
    counted anew. Which images are replaced is drawn once, the same for every seed, before any noise; a noise then changes
    labels as ever, those of such images too, and `noise.rate` is its rate alone. A test sample is always of a class.

    What is measured of corrupted samples takes these as such where scores are judged (`detection_auroc`) and leaves them out
    where a true label is needed (`memorisation`, `recovery`, `clean_accuracy`). `[evaluation] metrics = ["open_set_auroc",
    "open_set_precision", "open_set_recall"]` measures how well they are detected. A changed source of the other data sets
    does not make trials stale. Human labels and votes are left out, and data that stream are refused.

    Args:
        data: the other data set's name, such as `cifar10`.
        rate: share of the training samples that are of no class, rounded to whole samples.
        source: the data set that shows none of the classes, of inputs of the same shape, such as `cifar100`; or
        left_out: classes of `data` that are none here.
        params, source_params: parameters of the two.
    """
    if bool(source) == bool(left_out):
        raise DataError("takes images of no class from one place", WHERE, "give source or left_out, one of them")
    splits: DataSplits = harness.create("dataset", data, **params)
    if splits.task != "classification":
        raise DataError(f"{data} is for {splits.task}", f"{WHERE}.data", "choose a classification data set")
    train, test = splits.train, splits.test
    if train.clean is not None:
        raise DataError(f"nobody knows all true classes of {data}", f"{WHERE}.data", "choose data of true labels")
    if source:
        pool = harness.create("dataset", source, **source_params).train
    else:
        train, test, pool = _without(splits, left_out or [])
    return DataSplits(with_outside(train, pool, rate, np.random.Generator(np.random.PCG64(0))), test)


def _without(splits: DataSplits, left_out: list[int]) -> tuple[LabelledData, LabelledData, LabelledData]:
    """Training and test data without some classes, and the training samples of these."""
    classes = torch.arange(int(splits.train.num_classes or 0))
    chosen = torch.isin(classes, torch.tensor(left_out))
    if len(set(left_out)) != int(chosen.sum()) or int((~chosen).sum()) < 2:
        raise DataError(
            f"cannot leave {left_out} out of {len(classes)} classes", f"{WHERE}.left_out", "leave two or more of them"
        )
    train, test = (keep_classes(part, classes[~chosen]) for part in (splits.train, splits.test))
    pool = splits.train.subset(torch.nonzero(chosen[splits.train.targets]).squeeze(1))
    return train, test, pool
