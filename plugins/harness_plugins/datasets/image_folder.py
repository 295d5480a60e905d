"""Images in a folder with their labels in a CSV file: streamed, for data that do not fit into memory."""

from __future__ import annotations

import csv as csv_format
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.parameters import Count
from harness.paths import data_folder
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.split import stratified_holdout

WHERE = "datasets.image_folder"
TEST_SHARE = 0.2


class ImageFiles(Dataset[Tensor]):
    """Image files, decoded when asked for: (C, size, size) uint8, scaled to the shorter side, cut at the centre."""

    def __init__(self, paths: list[str], size: int, channels: int) -> None:
        self.paths = np.array(paths)  # one buffer, which forked loader processes share without copying it
        self.size = size
        self.mode = "RGB" if channels == 3 else "L"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        path = str(self.paths[position])
        try:
            with Image.open(path) as file:
                file.draft(self.mode, (self.size, self.size))  # lets JPEG decode at a fraction of its size
                image = ImageOps.fit(file.convert(self.mode), (self.size, self.size), Image.Resampling.BILINEAR)
        except OSError as error:
            raise DataError(f"{path} cannot be read as an image: {error}", WHERE, "mend or remove its row") from None
        pixels = torch.from_numpy(np.array(image))
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


@describe(Declares())
def image_folder(root: str, csv: str = "labels.csv", size: Count = 224, channels: Literal[1, 3] = 3) -> DataSplits:
    """Images under `root`, with a CSV file of the columns `file`, `label` and perhaps `split` (`train` or `test`).

    Labels are any words or numbers; classes are their sorted values. Without a column `split` a stratified fifth is
    held out for testing, the same every time. A trial's id knows the paths, not the pixels: give a changed set another
    folder.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        csv: the label file, relative to `root`; files in it are relative to `root` too.
        size: side in pixels of the square images.
        channels: 3 (colour) or 1 (grey).
    """
    folder = _folder(root)
    rows = _rows(folder / csv)
    paths = [str(folder / row["file"]) for row in rows]
    for path in (paths[0], paths[-1]):
        if not Path(path).is_file():
            raise DataError(f"{path} is not there", WHERE, f"check the column 'file' of {folder / csv}")
    labels = [row["label"] for row in rows]
    names = _sorted_names(set(labels))
    number = {name: k for k, name in enumerate(names)}
    targets = torch.tensor([number[label] for label in labels])
    data = LabelledData(ImageFiles(paths, size, channels), targets, len(names), tuple(names))
    if "split" not in rows[0]:
        train, test = stratified_holdout(targets, max(1, round(TEST_SHARE * len(targets))))
        return DataSplits(data.subset(train), data.subset(test))
    tests = torch.tensor([row["split"] == "test" for row in rows])
    if tests.all() or not tests.any():
        raise DataError(
            "the column 'split' leaves train or test empty", f"{WHERE}: {folder / csv}", "remove the column"
        )
    return DataSplits(data.subset(torch.nonzero(~tests).squeeze(1)), data.subset(torch.nonzero(tests).squeeze(1)))


def _folder(root: str) -> Path:
    path = Path(root).expanduser()
    for candidate in (path,) if path.is_absolute() else (data_folder() / path, path):
        if candidate.is_dir():
            return candidate
    raise DataError(f"there is no folder {root!r}", f"{WHERE}.root", "give an absolute path, or one under HARNESS_DATA")


def _rows(path: Path) -> list[dict[str, Any]]:
    where = f"{WHERE}: {path}"
    if not path.is_file():
        raise DataError("there is no such label file", where, "write one with the columns file,label[,split]")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_format.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(f"is no CSV file: {error}", where, "save it as UTF-8 text") from None
    missing = [column for column in ("file", "label") if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"has no column {missing[0]!r}", where, "write the columns file,label[,split]")
    if not rows:
        raise DataError("has no rows", where, "write a row for each image")
    for line, row in enumerate(rows, 2):
        if not row["file"] or not row["label"]:
            raise DataError(f"line {line} lacks a file or a label", where, "complete or remove it")
        if row.get("split", "train") not in ("train", "test"):
            raise DataError(
                f"line {line}: split {row['split']!r} is neither 'train' nor 'test'", where, "mend the line"
            )
    return rows


def _sorted_names(names: set[str]) -> list[str]:
    numeric = all(name.lstrip("-").isdecimal() for name in names)
    return sorted(names, key=int) if numeric else sorted(names)
