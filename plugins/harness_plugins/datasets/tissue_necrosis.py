"""Necrosis in images of tissue, with the weak labels of the slides they were cut from (RRM paper, appendix E.3)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged, ImageFiles, Names
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin

WHERE = "datasets.tissue_necrosis"
FOLDER = "tissue-necrosis"
LABELS = f"{FOLDER}/labels.csv"
COLUMNS = ("file", "necrosis", "weak", "split")
CLASSES = ("other", "necrosis")


@describe(Declares(classes=2, files=(LABELS,)))
@origin(
    licence="CC0 of the slides' annotations; the slides are TCGA's",
    citation="Amgad et al., Structured crowdsourcing enables convolutional segmentation of histology images, "
    "Bioinformatics 2019",
    obtain="cut images of 256 x 256 pixels from the slides (github.com/PathologyDataScience/BCSS) into "
    f"{FOLDER} under HARNESS_DATA, with a file labels.csv of the columns file,necrosis,weak,split: 0 or 1 whether the image "
    "shows necrosis, 0 or 1 what it is labelled, train or test",
)
def tissue_necrosis(size: Count = 256, damaged: Damaged = "fatal") -> DataSplits:
    """Stained tissue with and without necrosis: the RRM paper has 6,312 images to train and 1,499 to test on.

    The noise `human` with `labels = "weak"` gives the training images the labels of their slides, of which the paper has a
    quarter of those labelled necrotic right. The authors published no list of their images, so `labels.csv` is the reader's.

    Args:
        size: side in pixels.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("tissue_necrosis", LABELS) / FOLDER
    rows = _rows(folder / "labels.csv")
    names = [row["file"] for row in rows]
    for name in (names[0], names[-1]):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is not there", WHERE, "mend the column 'file' of labels.csv")
    images = ImageFiles(folder, Names.of(names), size, 3, WHERE, damaged=damaged)
    shown, weak = (torch.tensor([int(row[key]) for row in rows]) for key in ("necrosis", "weak"))
    data = LabelledData(images, shown, 2, CLASSES, {"weak": weak})
    tests = np.array([row["split"] == "test" for row in rows])
    if tests.all() or not tests.any():
        raise DataError("the column 'split' leaves train or test empty", f"{WHERE}: {folder / 'labels.csv'}", "mend it")
    train, test = (torch.from_numpy(np.flatnonzero(part)) for part in (~tests, tests))
    return DataSplits(data.subset(train), data.subset(test))


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of the list.

    Raises:
        DataError: for a file that is no such list, naming the line.
    """
    where = f"{WHERE}: {path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"has no column {missing[0]!r}", where, f"write the columns {','.join(COLUMNS)}")
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is no CSV file: {error}", where, "save it as UTF-8 text") from None
    for line, row in enumerate(rows, 2):
        if not row["file"] or {row["necrosis"], row["weak"]} - {"0", "1"} or row["split"] not in ("train", "test"):
            raise DataError(f"line {line} is no image with 0 or 1, 0 or 1, and train or test", where, "mend the line")
    if not rows:
        raise DataError("has no rows", where, "write a row for each image")
    return rows
