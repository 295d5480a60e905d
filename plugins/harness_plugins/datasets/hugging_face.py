"""A Hugging Face data set in a local folder: what `save_to_disk` wrote, or a repository's Parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.label_files import PARTS, Samples, classes_of, found_folder, hugging_face_files
from harness_plugins.datasets.own import own_splits
from harness_plugins.datasets.own_words import own_words
from harness_plugins.datasets.table import as_inputs, columns_of_features, word_of
from harness_plugins.datasets.tokens import text_data

WHERE = "datasets.hugging_face"
MOST_BYTES = 4 * 2**30


@describe(
    Declares(
        later=("trusted",),
        content="harness_plugins.datasets.label_files:of_hugging_face",
        places=("root",),
    )
)
def hugging_face(
    root: str,
    inputs: str | None = None,
    label: str = "label",
    clean: str = "clean",
    size: Count = 64,
    tokenizer: str = "",
    length: Count = 256,
    trusted: bool = False,
) -> DataSplits:
    """A Hugging Face data set in a folder: `save_to_disk`'s Arrow files, or the Parquet files of its repository
    (`hf download --repo-type dataset OWNER/NAME --local-dir ROOT` gets these where there is a network).

    Its splits `train` and `test` are used; without `test` a stratified fifth of `train` is held out, the same every time. The
    column of inputs holds images, texts or lists of numbers; without one that does, all columns of numbers are features. All
    images are kept in memory. A trial's id knows the content of the files, and not where they lie.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        inputs: the column of inputs; without it the first one of images, else of texts, else all columns of numbers.
        label, clean: names of the columns of labels and of true labels, which may be empty in some rows.
        size: side in pixels of the square images.
        tokenizer: of texts, as in `text_csv`; `""`: their own words.
        length: most tokens of a text.
        trusted: whether the test labels are known to be right.
    """
    folder = found_folder(root, WHERE)
    where = f"{WHERE}: {folder}"
    files = hugging_face_files(folder, where)
    tables = {part: read(paths, where) for part, paths in files.items()}
    names = class_names(folder, tables["train"], label)
    columns: dict[str, list[Any]] = {name: [] for name in tables["train"].column_names}
    for table in tables.values():
        if table.column_names != list(columns):
            raise DataError("train and test have other columns", where, "give both alike")
        for name in columns:
            columns[name] += table.column(name).to_pylist()
    if label not in columns:
        raise DataError(f"has no column {label!r}, but {', '.join(columns)}"[:300], where, "name it: label = ...")
    tests = [part == "test" for part, table in tables.items() for _ in range(table.num_rows)]
    known = columns.pop(clean, None)
    samples = Samples(
        [_named(value, names) for value in columns.pop(label)],
        None if known is None else [_named(value, names) for value in known],
        tests if "test" in tables else None,
    )
    classes = classes_of(samples, where)
    chosen = inputs or _first(columns)
    if chosen is not None and chosen not in columns:
        raise DataError(f"has no column {chosen!r}, but {', '.join(columns)}"[:300], where, "name it: inputs = ...")
    vocabulary = None
    if chosen is None:
        numbers = {name: values for name, values in columns.items() if isinstance(values[0], (int, float, bool))}
        made = columns_of_features(numbers, where)
    elif isinstance(columns[chosen][0], str):
        if tokenizer:
            data = text_data(columns[chosen], torch.tensor(classes.given), classes.names, tokenizer, length, WHERE)
            assert isinstance(data.inputs, Tensor)
            made, vocabulary = data.inputs, data.vocabulary
        else:
            made, vocabulary = own_words(columns[chosen], length)
    elif isinstance(columns[chosen][0], Mapping):
        made = pictures(columns[chosen], size, where)
    else:
        made = as_inputs(np.array(columns[chosen], dtype=np.float32), where)
    return own_splits(made, classes, samples.tests, trusted, vocabulary)


def read(paths: Sequence[Path], where: str) -> Any:
    """The rows of Arrow or Parquet files as one Arrow table.

    Raises:
        DataError: for a file that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet

    found = []
    for path in paths:
        try:
            if path.suffix == ".parquet":
                found.append(pa.parquet.read_table(path))
            else:
                with pa.memory_map(str(path)) as file:
                    found.append(pa.ipc.open_stream(file).read_all())
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            said = " ".join(str(error).split())[:200]
            raise DataError(f"{path.name} cannot be read: {said}", where, "get or save it anew") from None
    return pa.concat_tables(found)


def class_names(folder: Path, table: Any, label: str) -> Sequence[str]:
    """The names of a `ClassLabel`; empty where labels are words or numbers of their own."""
    told = (table.schema.metadata or {}).get(b"huggingface")
    info = json.loads(told)["info"] if told else {}
    for path in (folder / "dataset_info.json", folder / PARTS[0] / "dataset_info.json"):
        if not info and path.is_file():
            info = json.loads(path.read_text(encoding="utf-8"))
    feature = (info.get("features") or {}).get(label) or {}
    names = feature.get("names") if isinstance(feature, Mapping) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _named(value: Any, names: Sequence[str]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and names:
        return names[value] if 0 <= value < len(names) else ""
    return word_of(value)


def _first(columns: Mapping[str, Sequence[Any]]) -> str | None:
    """The first column of images, else of texts, else of lists of numbers."""
    for kind in (Mapping, str, list):
        for name, values in columns.items():
            if isinstance(values[0], kind):
                return name
    return None


def pictures(cells: Sequence[Any], size: int, where: str) -> Tensor:
    """(N, C, size, size) uint8 images, scaled to the shorter side and cut at the centre; grey where all are.

    Raises:
        DataError: naming the row of one that cannot be read, and where all together are too large for memory.
    """
    if len(cells) * 3 * size**2 > MOST_BYTES:
        raise DataError(f"{len(cells)} images of side {size} do not fit into memory", where, "set a smaller size")
    made, grey = [], True
    for row, cell in enumerate(cells, 1):
        try:
            with Image.open(io.BytesIO(cell["bytes"])) as image:
                grey = grey and image.mode in ("1", "L")
                fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
            raise DataError(f"row {row} cannot be read as an image: {error}", where, "mend or remove it") from None
        made.append(torch.from_numpy(np.array(fitted)).permute(2, 0, 1))
    images = torch.stack(made)
    return images[:, :1].contiguous() if grey else images
