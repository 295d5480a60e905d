"""Training and test data of people's own samples, of whose labels nobody knows which are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness import DataSplits, LabelledData
from harness_plugins.datasets.label_files import UNKNOWN, Classes
from harness_plugins.datasets.split import stratified_holdout

TEST_SHARE = 0.2


def own_splits(
    inputs: Tensor | Dataset[Any],
    classes: Classes,
    tests: Any,
    trusted: bool,
    vocabulary: int | None = None,
    files: Sequence[str] | None = None,
) -> DataSplits:
    """The splits of one's own samples.

    Args:
        inputs: N inputs.
        classes: their labels.
        tests: (N,) bool, which are for testing; ``None``: a stratified fifth, always the same of the same labels.
        trusted: whether the test labels are known to be right. They are where every one has a clean label, which then stands
            for the given one.
        vocabulary: of texts.
        files: their names, where they are files.
    """
    targets = torch.tensor(classes.given, dtype=torch.int64)
    clean = None if classes.clean is None else torch.tensor(classes.clean, dtype=torch.int64)
    origin = torch.arange(len(targets))
    data = LabelledData(
        inputs,
        targets,
        len(classes.names),
        classes.names,
        vocabulary=vocabulary,
        clean=clean,
        origin=origin,
        files=files,
    )
    if tests is None:
        train, test = stratified_holdout(targets, max(1, round(TEST_SHARE * len(targets))))
    else:
        chosen = torch.as_tensor(tests, dtype=torch.bool)
        train, test = torch.nonzero(~chosen).squeeze(1), torch.nonzero(chosen).squeeze(1)
    shown = data.subset(test)
    if shown.clean is not None:
        known = bool((shown.clean != UNKNOWN).all())
        shown = dataclasses.replace(shown, clean=None, targets=shown.clean if known else shown.targets)
        trusted = trusted or known
    return DataSplits(data.subset(train), shown, trusted=trusted)
