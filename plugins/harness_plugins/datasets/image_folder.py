"""Images in a folder with their labels in a CSV file: streamed, for data that do not fit into memory."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import (
    Damaged,
    ImageFiles,
    Index,
    Names,
    cached_index,
    found_folder,
    sorted_names,
)
from harness_plugins.datasets.split import stratified_holdout

WHERE = "datasets.image_folder"
TEST_SHARE = 0.2


@describe(Declares(later=("damaged",)))
def image_folder(
    root: str, csv: str = "labels.csv", size: Count = 224, channels: Literal[1, 3] = 3, damaged: Damaged = "fatal"
) -> DataSplits:
    """Images under `root`, with a CSV file of the columns `file`, `label` and perhaps `split` (`train` or `test`).

    Labels are any words or numbers; classes are their sorted values. Without a column `split` a stratified fifth is
    held out for testing, the same every time. A trial's id knows the paths, not the pixels: give a changed set another
    folder. What the CSV file says is kept in the cache until the file changes.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        csv: the label file, relative to `root`; files in it are relative to `root` too.
        size: side in pixels of the square images.
        channels: 3 (colour) or 1 (grey).
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = found_folder(root, WHERE)
    labels = folder / csv
    if not labels.is_file():
        raise DataError(
            "there is no such label file", f"{WHERE}: {labels}", "write one with the columns file,label[,split]"
        )
    index = cached_index([labels], lambda: read_index(labels), "image_folder")
    for position in (0, len(index.names) - 1):
        if not (folder / index.names[position]).is_file():
            raise DataError(
                f"{folder / index.names[position]} is not there", WHERE, f"check the column 'file' of {labels}"
            )
    return streamed(folder, index, size, channels, WHERE, damaged)


def streamed(root: Path, index: Index, size: int, channels: int, where: str, damaged: Damaged = "fatal") -> DataSplits:
    """The splits of an index, a stratified fifth held out for testing where it names none."""
    images = ImageFiles(root, index.names, size, channels, where, index.places, damaged)
    targets = torch.from_numpy(index.labels.astype(np.int64))
    data = LabelledData(images, targets, len(index.classes), index.classes)
    if not len(index.tests):
        train, test = stratified_holdout(targets, max(1, round(TEST_SHARE * len(targets))))
        return DataSplits(data.subset(train), data.subset(test))
    tests = torch.from_numpy(index.tests)
    return DataSplits(data.subset(torch.nonzero(~tests).squeeze(1)), data.subset(torch.nonzero(tests).squeeze(1)))


def read_index(path: Path) -> Index:
    """The index that a label file says.

    Raises:
        DataError: for a file that is no such CSV, naming the line.
    """
    where = f"{WHERE}: {path}"
    names, labels, tests = [], [], []
    split = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_format.reader(file)
            header = next(reader, [])
            missing = [column for column in ("file", "label") if column not in header]
            if missing:
                raise DataError(f"has no column {missing[0]!r}", where, "write the columns file,label[,split]")
            split = header.index("split") if "split" in header else None
            for line, row in _lines(reader):
                cells = [
                    row[place] if place < len(row) else "" for place in (header.index("file"), header.index("label"))
                ]
                if not all(cells):
                    raise DataError(f"line {line} lacks a file or a label", where, "complete or remove it")
                names.append(cells[0])
                labels.append(cells[1])
                if split is not None:
                    word = row[split] if split < len(row) else ""
                    if word not in ("train", "test"):
                        raise DataError(
                            f"line {line}: split {word!r} is neither 'train' nor 'test'", where, "mend the line"
                        )
                    tests.append(word == "test")
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(f"is no CSV file: {error}", where, "save it as UTF-8 text") from None
    if not names:
        raise DataError("has no rows", where, "write a row for each image")
    if split is not None and all(tests) | (not any(tests)):
        raise DataError("the column 'split' leaves train or test empty", where, "remove the column")
    classes = sorted_names(set(labels))
    number = {name: k for k, name in enumerate(classes)}
    return Index(
        Names.of(names),
        np.fromiter((number[label] for label in labels), dtype=np.int32, count=len(labels)),
        np.array(tests, dtype=bool),
        tuple(classes),
    )


def _lines(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows with something in them, numbered from the second line."""
    number = 1
    for row in reader:
        if row:
            number += 1
            yield number, row
