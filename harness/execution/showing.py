"""What a person looks at to judge the label of a sample: its file, its image, or its row in a table of numbers or texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.foreign import shortened
from harness.paths import own_path
from harness.results.suspects import Showing
from harness.suite.grid import Choice
from harness.training.data import LabelledData

MOST_ROWS = 20_000
"""Suspects whose rows are kept with the list, the first ones: nobody looks at more."""
MOST_PICTURES = 2_000
SIDE = 96
LONGEST_TEXT = 2_000
NO_FEATURES = ("label", "split", "clean")
"""Parameters of data sets that name a column which says something of a sample, and is no part of it."""


def showing(dataset: Choice, parts: Sequence[LabelledData], order: Sequence[int]) -> Showing:
    """What can be shown of suspects.

    Args:
        dataset: of the setting.
        parts: its samples, N in all.
        order: which of these the suspects are, the most suspicious first.
    """
    place = next((found for value in dataset.places.values() if (found := own_path(str(value)))), None)
    if all(data.files is not None for data in parts):
        return Showing(folder="" if place is None else str(place))
    if all(_is_images(data.inputs) for data in parts):
        return Showing(pictures=_pictures(parts, order[:MOST_PICTURES]))
    if place is not None and place.is_file() and all(data.origin is not None for data in parts):
        origin = torch.cat([data.origin for data in parts if data.origin is not None])
        hidden = {str(dataset.params.get(key, key)) for key in NO_FEATURES}
        return Showing(words=_words(place, [int(origin[i]) for i in order[:MOST_ROWS]], hidden))
    return Showing()


def _is_images(inputs: Any) -> bool:
    return isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and inputs.ndim == 4 and inputs.shape[1] in (1, 3)


def _pictures(parts: Sequence[LabelledData], order: Sequence[int]) -> list[bytes]:
    """Small JPEG files of images in memory."""
    from PIL import Image

    places = [(data, i) for data in parts for i in range(len(data))]
    found = []
    for one in order:
        data, i = places[one]
        assert isinstance(data.inputs, Tensor)
        array = data.inputs[i].permute(1, 2, 0).numpy()
        image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        image.thumbnail((SIDE, SIDE))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def _words(file: Path, rows: Sequence[int], hidden: set[str]) -> list[str]:
    """Rows of a CSV or Parquet file, counted from 0, as text; none of another file."""
    if file.suffix == ".csv":
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                header, *cells = [row for row in csv.reader(lines) if row]
        except (csv.Error, UnicodeDecodeError):
            return []  # the data set has read it by a reader that takes more; the list is of use without
        return [_text(dict(zip(header, cells[row], strict=False)), hidden) for row in rows]
    if file.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(file)
        return [_text(row, hidden) for row in table.take(list(rows)).to_pylist()]
    return []


def _text(row: Mapping[str, Any], hidden: set[str]) -> str:
    """A row in words: the value where there is one column, else each by its name."""
    shown = {name: value for name, value in row.items() if name not in hidden}
    lines = (f"{name}: {value}" for name, value in shown.items()) if len(shown) > 1 else map(str, shown.values())
    return shortened("\n".join(lines), LONGEST_TEXT)
