"""Images in a folder with their labels in a CSV file, or in a folder for each class: streamed, for data that do not fit into
memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged, ImageFiles, Index, Names, cached_index
from harness_plugins.datasets.label_files import Classes, classes_of, found_folder, labelled_images
from harness_plugins.datasets.own import own_splits

WHERE = "datasets.image_folder"


@describe(
    Declares(
        later=("damaged", "trusted", "resident"),
        content="harness_plugins.datasets.label_files:of_images",
        corrected="harness_plugins.datasets.label_files:correct_images",
        places=("root",),
    )
)
def image_folder(
    root: str,
    csv: str | None = None,
    size: Count = 224,
    channels: Literal[1, 3] = 3,
    damaged: Damaged = "fatal",
    trusted: bool = False,
    resident: bool = False,
) -> DataSplits:
    """Images under `root`, with a CSV file of the columns `file`, `label` and perhaps `split` (`train` or `test`) and `clean`
    (the true label, empty where nobody knows it); without one in a folder for each class, `CLASS/...`, or `train/CLASS/...`
    and `test/CLASS/...`.

    Labels are any words or numbers; classes are their sorted values. Without a division a stratified fifth is held out for
    testing, the same every time. A trial's id knows the content of the label file and of every image, and not where they
    lie: a changed label makes other data.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        csv: the label file, relative to `root`; files in it are relative to `root` too. `labels.csv` where it is there.
        size: side in pixels of the square images.
        channels: 3 (colour) or 1 (grey).
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
        trusted: whether the test labels are known to be right.
        resident: all images are decoded once and kept in memory, which is much faster where they fit.
    """
    if resident and damaged == "skip":
        raise DataError(
            "damaged images are left out where they stream", f"{WHERE}.resident", "remove resident or damaged"
        )
    folder = found_folder(root, WHERE)
    labels = folder / (csv or "labels.csv")

    def check_there(names: Sequence[str]) -> None:
        for position in (0, len(names) - 1):
            if not (folder / names[position]).is_file():
                remedy = f"check the column 'file' of {labels}"
                raise DataError(f"{folder / names[position]} is not there", WHERE, remedy)

    def read(which: Literal["given", "clean"]) -> Index:
        samples = labelled_images(folder, csv, WHERE)
        check_there(samples.names)
        classes = classes_of(samples, f"{WHERE}: {labels if samples.unit else folder}")
        chosen = classes.given if which == "given" else classes.clean or []
        tests = np.array(samples.tests if samples.tests is not None else [], dtype=bool)
        return Index(Names.of(samples.names), np.array(chosen, dtype=np.int32), tests, classes.names)

    if labels.is_file():  # what it says is kept in the cache until it changes
        index, clean = (
            cached_index([labels], lambda which=which: read(which), "image_folder 2", which)  # type: ignore[misc]
            for which in ("given", "clean")
        )
    else:
        index = read("given")
        clean = Index(index.names, np.empty(0, dtype=np.int32), index.tests, index.classes)
    check_there(index.names)
    known = clean.labels.tolist() if len(clean.labels) else None
    return streamed(folder, index, size, channels, WHERE, damaged, trusted, known, resident=resident)


def streamed(
    root: Path,
    index: Index,
    size: int,
    channels: int,
    where: str,
    damaged: Damaged = "fatal",
    trusted: bool = False,
    clean: list[int] | None = None,
    *,
    resident: bool = False,
) -> DataSplits:
    """The splits of an index, a stratified fifth held out for testing where it names none."""
    images: ImageFiles | Tensor = ImageFiles(root, index.names, size, channels, where, index.places, damaged)
    if resident:
        images = torch.stack([images[position] for position in range(len(images))])
    files = index.names if not len(index.places) else None
    tests = torch.from_numpy(index.tests) if len(index.tests) else None
    classes = Classes(index.classes, index.labels.tolist(), clean)
    return own_splits(images, classes, tests, trusted, files=files)
