"""Anyone's table: a CSV, Parquet or NumPy file with a row of features and a label for each sample."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares
from harness.errors import DataError
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.label_files import Samples, classes_of, found_file, test_of
from harness_plugins.datasets.own import own_splits

WHERE = "datasets.table"
MOST_WORDS = 50
"""Different words of a column that become columns of 0 and 1 each; one with more is an id or a text."""


@describe(
    Declares(
        later=("trusted",),
        content="harness_plugins.datasets.label_files:of_file",
        corrected="harness_plugins.datasets.label_files:correct_file",
        places=("file",),
    )
)
def table(
    file: str,
    label: str = "label",
    split: str = "split",
    clean: str = "clean",
    features: list[str] | None = None,
    drop: list[str] = [],  # noqa: B006 -- read, never changed
    trusted: bool = False,
) -> DataSplits:
    """A table in a file: `.csv` (UTF-8, with a header), `.parquet`, or `.npz` with the arrays `X` and `y`.

    All columns but those of `label`, `split` (`train`, `test`), `clean` (the true label, empty where nobody knows it) and
    `drop` are features: numbers as they are, words as columns of 0 and 1. In a `.npz` file `X` is (N, D) numbers, (N, H, W) or
    (N, H, W, C) uint8 images, and `split` and `clean` are arrays of those names. Labels are any words or numbers; classes are
    their sorted values. Without a division a stratified fifth is held out for testing, the same every time. A trial's id
    knows the content of the file, and not where it lies.

    Args:
        file: a relative one lies under `HARNESS_DATA`, or else under the working directory.
        label, split, clean: names of the columns.
        features: the columns that are features, if not all others.
        drop: columns that are none.
        trusted: whether the test labels are known to be right.
    """
    path = found_file(file, WHERE)
    where = f"{WHERE}: {path}"
    columns = read_columns(path, where)
    if label not in columns:
        raise DataError(f"has no column {label!r}, but {', '.join(columns)}"[:300], where, "name it: label = ...")
    words = [word_of(value) for value in columns[label]]
    tests = None
    if split in columns:
        tests = [test_of(word_of(value), f"row {row}", where) for row, value in enumerate(columns[split], 1)]
    known = [word_of(value) for value in columns[clean]] if clean in columns else None
    classes = classes_of(Samples(words, known, tests), where)
    if "X" in columns and path.suffix == ".npz":
        inputs = as_inputs(columns["X"], where)
    else:
        others = [name for name in columns if name not in (label, split, clean, *drop)]
        for name in features or ():
            if name not in columns:
                raise DataError(f"has no column {name!r}, but {', '.join(columns)}"[:300], where, "mend features")
        inputs = columns_of_features({name: columns[name] for name in features or others}, where)
    return own_splits(inputs, classes, tests, trusted)


def read_columns(path: Path, where: str) -> dict[str, Any]:
    """The columns of a file by name: lists of values, or the arrays of a NumPy file, `y` as `label`.

    Raises:
        DataError: for a file that cannot be read as what its name says.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files}
            if not {"X", "y"} <= set(arrays):
                raise DataError("has no arrays X and y", where, "numpy.savez(FILE, X=..., y=...)")
            lengths = {name: len(array) for name, array in arrays.items()}
            for name, length in lengths.items():
                if length != lengths["X"]:
                    raise DataError(f"X has {lengths['X']} rows and {name} {length}", where, "give one of each")
            return {
                "X": arrays.pop("X"),
                "label": arrays.pop("y").tolist(),
                **{k: a.tolist() for k, a in arrays.items()},
            }
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return dict(pyarrow.parquet.read_table(path).to_pydict())
        if path.suffix == ".csv":
            import pyarrow.csv

            options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
            return dict(pyarrow.csv.read_csv(path, convert_options=options).to_pydict())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:  # pyarrow's errors are ValueErrors too
        said = " ".join(str(error).split())[:200]
        raise DataError(f"cannot be read: {said}", where, "save it anew") from None
    raise DataError(f"is no table: {path.suffix or 'no ending'}", where, "give a .csv, .parquet or .npz file")


def word_of(value: Any) -> str:
    """A label as a word; a whole number that a column with gaps holds as a fraction is the number."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def columns_of_features(columns: Mapping[str, Sequence[Any]], where: str) -> Tensor:
    """(N, D) float32 of named columns."""
    found = []
    for name, values in columns.items():
        gaps = [row for row, value in enumerate(values, 1) if value is None or value != value]
        if gaps:
            what = f"row {gaps[0]} has no {name!r}, and {len(gaps)} rows in all"
            raise DataError(what, where, f'fill it in, or leave the column out: drop = ["{name}"]')
        if all(isinstance(value, (int, float, bool)) for value in values):
            found.append(np.asarray(values, dtype=np.float32)[:, None])
            continue
        words, places = np.unique([str(value) for value in values], return_inverse=True)
        if len(words) > MOST_WORDS:
            what = f"column {name!r} holds {len(words)} different words"
            raise DataError(what, where, f'leave it out: drop = ["{name}"]')
        found.append(np.eye(len(words), dtype=np.float32)[places.reshape(-1)])
    if not found:
        raise DataError("has no columns of features", where, "add columns of numbers")
    rows = np.concatenate(found, axis=1)
    if not np.isfinite(rows).all():
        row = int(np.argwhere(~np.isfinite(rows))[0, 0]) + 1
        raise DataError(f"row {row} holds a number that is not finite", where, "mend or remove it")
    return torch.from_numpy(rows)


def as_inputs(array: np.ndarray, where: str) -> Tensor:
    """(N, D) float32 features, or (N, C, H, W) uint8 images, of an array.

    Raises:
        DataError: naming the row, for a number that is not finite; for an array of another shape.
    """
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        images = array[:, None] if array.ndim == 3 else array
        if images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
            images = images.transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(images))
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        what = f"X is {array.dtype} of shape {array.shape}"
        raise DataError(what, where, "give (N, D) numbers, or uint8 images (N, H, W) or (N, H, W, C)")
    rows = array.astype(np.float32)
    if not np.isfinite(rows).all():
        row = int(np.argwhere(~np.isfinite(rows))[0, 0]) + 1
        raise DataError(f"row {row} of X holds a number that is not finite", where, "mend or remove it")
    return torch.from_numpy(rows)
