"""Data that are handed over in Python, kept as a file that a suite can name: arrays, tensors, data frames and texts."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import DataError, writing
from harness.files import write_bytes

RESERVED = ("label", "split", "clean")
WHERE = "compare"


def keep(
    folder: Path, inputs: Any, labels: Any, *, test: tuple[Any, Any] | None = None, clean: Any = None
) -> tuple[str, Path]:
    """Write data into a file that is named by its content.

    Args:
        folder: where to.
        inputs, labels: N of each; labels may be the name of a column of inputs.
        test: inputs and labels of another M samples.
        clean: N true labels, ``None`` (or NaN) where nobody knows one.

    Returns:
        The kind of data, ``table`` or ``text``, and the file: ``.npz``, ``.parquet`` or ``.csv``.

    Raises:
        DataError: for data that are none of these, or of unequal lengths.
    """
    columns, given = _divided(inputs, labels)
    known = None if clean is None else [_word(value) for value in _listed(clean)]
    if known is not None and len(known) != len(given):
        raise DataError(f"{len(given)} labels but {len(known)} clean ones", f"{WHERE}.clean", "give one for each")
    split = None
    if test is not None:
        more, theirs = _divided(*test)
        split = ["train"] * len(given) + ["test"] * len(theirs)
        known = None if known is None else [*known, *[""] * len(theirs)]
        columns, given = _joined(columns, more), [*given, *theirs]
    further = {key: value for key, value in (("split", split), ("clean", known)) if value is not None}
    kind, ending, content = _written(columns, given, further)
    path = folder / f"data-{hashlib.sha256(content).hexdigest()[:12]}{ending}"
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return kind, path


def _divided(inputs: Any, labels: Any) -> tuple[Any, list[str]]:
    """Inputs as an array, a table of columns or a list of texts, and their labels as words."""
    found = _inputs(inputs)
    if isinstance(labels, str):
        if not isinstance(found, dict) or labels not in found:
            raise DataError(f"X has no column {labels!r}", f"{WHERE}.y", "give the labels, or the name of their column")
        given = [_word(value) for value in found.pop(labels)]
    else:
        given = [_word(value) for value in _listed(labels)]
    count = len(next(iter(found.values()), ())) if isinstance(found, dict) else len(found)
    if count != len(given):
        raise DataError(f"{count} inputs but {len(given)} labels", WHERE, "give one label for each input")
    if isinstance(found, dict):
        for name in RESERVED:
            if name in found:
                raise DataError(f"X has a column {name!r}", f"{WHERE}.X", "rename it, or name it as y")
    return found, given


def _inputs(inputs: Any) -> Any:
    if hasattr(inputs, "to_pandas") and hasattr(inputs, "features"):  # a Hugging Face data set
        inputs = inputs.to_pandas()
    if hasattr(inputs, "columns") and hasattr(inputs, "to_dict"):  # a data frame
        return {str(name): inputs[name].tolist() for name in inputs.columns}
    if hasattr(inputs, "detach"):  # a tensor
        inputs = inputs.detach().cpu().numpy()
    if isinstance(inputs, Sequence) and not isinstance(inputs, str) and inputs and isinstance(inputs[0], str):
        return list(inputs)
    array = np.asarray(inputs)
    if array.dtype.kind == "U" and array.ndim == 1:
        return array.tolist()
    if array.dtype.kind not in "biuf" or array.ndim < 2:
        what = f"X is {array.dtype} of shape {array.shape}"
        raise DataError(what, f"{WHERE}.X", "give (N, D) numbers, uint8 images, a data frame or texts")
    return array


def _listed(values: Any) -> list[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return found if isinstance(found, list) else [found]


def _word(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _joined(first: Any, second: Any) -> Any:
    if type(first) is not type(second):
        raise DataError("test inputs are of another kind than X", f"{WHERE}.test", "give both alike")
    if isinstance(first, dict):
        if list(first) != list(second):
            raise DataError("test inputs have other columns than X", f"{WHERE}.test", "give both alike")
        return {name: [*values, *second[name]] for name, values in first.items()}
    if isinstance(first, list):
        return [*first, *second]
    if first.shape[1:] != second.shape[1:]:
        what = f"X is of shape {first.shape}, the test inputs of {second.shape}"
        raise DataError(what, f"{WHERE}.test", "give both alike")
    return np.concatenate([first, second])


def _written(inputs: Any, labels: list[str], further: dict[str, list[str]]) -> tuple[str, str, bytes]:
    """Kind, ending and content of the file."""
    if isinstance(inputs, np.ndarray):
        buffer = io.BytesIO()
        arrays = {key: np.array(value) for key, value in further.items()}
        np.savez(buffer, X=inputs, y=np.array(labels), **arrays)  # type: ignore[arg-type]
        return "table", ".npz", buffer.getvalue()
    if isinstance(inputs, dict):
        import pyarrow as pa
        import pyarrow.parquet

        sink = pa.BufferOutputStream()
        pa.parquet.write_table(pa.table({**inputs, "label": labels, **further}), sink)
        return "table", ".parquet", bytes(sink.getvalue().to_pybytes())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["text", "label", *further])
    writer.writerows(zip(inputs, labels, *further.values(), strict=True))
    return "text", ".csv", text.getvalue().encode()
