"""Anyone's texts: a CSV file with a column of texts and one of labels, or a folder for each class."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness.paths import data_folder
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.split import stratified_holdout
from harness_plugins.datasets.tokens import WORD_PIECES, text_data

TEST_SHARE = 0.2
PARTS = ("train", "test")


@describe(Declares(tokens=True))
def text_csv(
    file: str,
    text: str = "text",
    label: str = "label",
    split: str = "split",
    tokenizer: str = WORD_PIECES,
    length: Count = 256,
) -> DataSplits:
    """Texts in a CSV file (UTF-8, with a header): a column of texts, one of labels, and perhaps `split` (`train`, `test`).

    Labels are any words or numbers; classes are their sorted values. Without a column of splits a stratified fifth is held
    out for testing, the same every time. A trial's id knows the path, not the texts: give a changed set another name.

    Args:
        file: the CSV file; a relative one lies under `HARNESS_DATA`.
        text, label, split: names of the columns.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`.
        length: most tokens of a text; what comes after is cut off.
    """
    where = "datasets.text_csv"
    path = data_folder() / Path(file).expanduser()
    rows = read_csv(path, (text, label), where)
    for line, row in enumerate(rows, 2):
        if not row[label]:
            raise DataError(f"row {line - 1} of {path} lacks a label", where, "complete or remove it")
        if row.get(split, "train") not in PARTS:
            raise DataError(f"row {line - 1} of {path} is of neither train nor test: {row[split]!r}", where, "mend it")
    tests = [row[split] == "test" for row in rows] if split in rows[0] else None
    return labelled_texts([row[text] for row in rows], [row[label] for row in rows], tests, tokenizer, length, where)


@describe(Declares(tokens=True))
def text_folder(root: str, tokenizer: str = WORD_PIECES, length: Count = 256) -> DataSplits:
    """Text files in a folder for each class: `root/train/CLASS/*.txt` and `root/test/CLASS/*.txt`, or `root/CLASS/*.txt`.

    Classes are the sorted names of the folders. Without `train` and `test` a stratified fifth is held out for testing, the
    same every time. A trial's id knows the path, not the texts: give a changed set another folder.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`.
        length: most tokens of a text; what comes after is cut off.
    """
    where = "datasets.text_folder"
    folder = data_folder() / Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder.absolute()}", f"{where}.root", "name one under HARNESS_DATA")
    divided = all((folder / part).is_dir() for part in PARTS)
    texts: list[str] = []
    labels: list[str] = []
    tests: list[bool] = []
    for part in PARTS if divided else ("",):
        for path in sorted((folder / part).glob("*/*.txt")):
            texts.append(read_text(path, where))
            labels.append(path.parent.name)
            tests.append(part == "test")
    if not texts:
        raise DataError(f"{folder.absolute()} holds no CLASS/*.txt", f"{where}.root", "make a folder for each class")
    return labelled_texts(texts, labels, tests if divided else None, tokenizer, length, where)


def read_text(path: Path, where: str) -> str:
    """A file's text.

    Raises:
        DataError: for one that cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", where, "save it as UTF-8 text, or remove it") from None


def read_csv(path: Path, columns: Sequence[str], where: str) -> list[dict[str, str]]:
    """The rows of a CSV file by the names in its header.

    Raises:
        DataError: for a file that is not there, is no CSV, has no rows, or lacks one of the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv_format.DictReader(file, strict=True, restval="")
            rows = list(reader)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", where, "check its path") from None
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise DataError(f"{path} is no CSV file: {error}", where, "save it as UTF-8 text") from None
    found = reader.fieldnames or ()
    if missing := [column for column in columns if column not in found]:
        raise DataError(
            f"{path} has no column {missing[0]!r}, but {', '.join(found)}"[:300], where, "name its columns as they are"
        )
    if not rows:
        raise DataError(f"{path} has no rows", where, "write a row for each text")
    return rows


def labelled_texts(
    texts: Sequence[str], labels: Sequence[str], tests: Sequence[bool] | None, tokenizer: str, length: int, where: str
) -> DataSplits:
    """Texts with the words of their labels, divided as `tests` says or by a stratified fifth."""
    names = sorted_names(set(labels))
    number: Mapping[str, int] = {name: k for k, name in enumerate(names)}
    targets = torch.tensor([number[label] for label in labels])
    data = text_data(texts, targets, names, tokenizer, length, where)
    if tests is None:
        train, test = stratified_holdout(targets, max(1, round(TEST_SHARE * len(targets))))
    else:
        chosen = torch.tensor(tests)
        train, test = torch.nonzero(~chosen).squeeze(1), torch.nonzero(chosen).squeeze(1)
        if not len(train) or not len(test):
            raise DataError("train or test holds no text", where, "divide the texts otherwise")
    return DataSplits(data.subset(train), data.subset(test))


def sorted_names(names: Iterable[str]) -> list[str]:
    """Class names in order: as numbers where all are."""
    names = list(names)
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if numeric else sorted(names)
