"""What data sets share whose owners say in text files which image is of which class: `path class` a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from harness import DataSplits, LabelledData
from harness.errors import DataError
from harness_plugins.datasets.image_stream import Damaged, ImageFiles, Index, Names, cached_index

Listed = list[tuple[str, int]]
"""Paths relative to the data set's folder, with their classes."""


def listed_splits(
    folder: Path,
    lists: Sequence[Path],
    read: Callable[[], tuple[Listed, Listed]],
    classes: Sequence[str],
    where: str,
    size: int,
    damaged: Damaged,
    *key: object,
) -> DataSplits:
    """Streaming splits of what lists of a data set name; the index is kept in the cache until a list changes.

    Args:
        folder: that paths are relative to.
        lists: the files that `read` reads.
        read: gives training and test images.
        classes: their names.
        where: how errors name the data set.
        size: side in pixels.
        damaged: what becomes of an image that cannot be decoded.
        key: what else the index depends on.
    """

    def build() -> Index:
        train, test = read()
        for part, found in (("training", train), ("test", test)):
            if not found:
                raise DataError(f"the lists name no {part} images", where, f"copy the owner's lists into {folder}")
        everything = [*train, *test]
        labels = np.fromiter((label for _, label in everything), dtype=np.int32, count=len(everything))
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"a list names the class {int(labels.max())} of {len(classes)}", where, "copy the owner's lists again"
            )
        tests = np.arange(len(everything)) >= len(train)
        return Index(Names.of(path for path, _ in everything), labels, tests, tuple(classes))

    index = cached_index(lists, build, where, *key)
    for position in (0, len(index.names) - 1):
        if not (folder / index.names[position]).is_file():
            raise DataError(
                f"{folder / index.names[position]} is not there", where, "unpack the owner's archives there"
            )
    images = ImageFiles(folder, index.names, size, 3, where, damaged=damaged)
    targets = torch.from_numpy(index.labels.astype(np.int64))
    data = LabelledData(images, targets, len(classes), tuple(classes))
    tests = torch.from_numpy(index.tests)
    return DataSplits(data.subset(torch.nonzero(~tests).squeeze(1)), data.subset(torch.nonzero(tests).squeeze(1)))


def lines_of(path: Path, where: str) -> list[str]:
    """The lines of a list that are not empty.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"the list {path} is not there", where, "copy it from the owner's archive") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", where, "copy it from the owner's archive") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def pairs_of(path: Path, where: str) -> Listed:
    """`path class` of each line; a path may hold spaces.

    Raises:
        DataError: naming the line that is none.
    """
    found: Listed = []
    for number, line in enumerate(lines_of(path, where), 1):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise DataError(f"{path}: entry {number} is no path with a class", where, "copy the list again")
        found.append((name.strip(), int(label)))
    return found
