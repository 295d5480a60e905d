"""Anyone's texts: a CSV file with a column of texts and one of labels, or a folder for each class."""

from __future__ import annotations

import csv as csv_format
from collections.abc import Sequence
from pathlib import Path

import torch

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.label_files import Samples, classes_of, found_file, found_folder, in_folders, test_of
from harness_plugins.datasets.own import own_splits
from harness_plugins.datasets.own_words import own_words
from harness_plugins.datasets.tokens import WORD_PIECES, text_data


@describe(
    Declares(
        tokens=True,
        later=("clean", "trusted"),
        content="harness_plugins.datasets.label_files:of_file",
        corrected="harness_plugins.datasets.label_files:correct_file",
        places=("file",),
    )
)
def text_csv(
    file: str,
    text: str = "text",
    label: str = "label",
    split: str = "split",
    tokenizer: str = WORD_PIECES,
    length: Count = 256,
    clean: str = "clean",
    trusted: bool = False,
) -> DataSplits:
    """Texts in a CSV file (UTF-8, with a header): a column of texts, one of labels, and perhaps `split` (`train`, `test`) and
    `clean` (the true label, empty where nobody knows it).

    Labels are any words or numbers; classes are their sorted values. Without a column of splits a stratified fifth is held
    out for testing, the same every time. A trial's id knows the content of the file, and not where it lies.

    Args:
        file: the CSV file; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        text, label, split: names of the columns.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`; `""`: the
            texts' own words, the 20,000 most frequent of those that occur twice.
        length: most tokens of a text; what comes after is cut off.
        clean: name of the column of true labels.
        trusted: whether the test labels are known to be right.
    """
    where = "datasets.text_csv"
    path = found_file(file, where)
    rows = read_csv(path, (text, label), where)
    place = f"{where}: {path}"
    tests = [test_of(row[split], f"row {n}", place) for n, row in enumerate(rows, 1)] if split in rows[0] else None
    known = [row[clean] for row in rows] if clean in rows[0] else None
    samples = Samples([row[label] for row in rows], known, tests)
    return labelled_texts([row[text] for row in rows], samples, tokenizer, length, place, trusted)


@describe(
    Declares(tokens=True, later=("trusted",), content="harness_plugins.datasets.label_files:of_texts", places=("root",))
)
def text_folder(root: str, tokenizer: str = WORD_PIECES, length: Count = 256, trusted: bool = False) -> DataSplits:
    """Text files in a folder for each class: `root/train/CLASS/*.txt` and `root/test/CLASS/*.txt`, or `root/CLASS/*.txt`.

    Classes are the sorted names of the folders. Without `train` and `test` a stratified fifth is held out for testing, the
    same every time. A trial's id knows the content of the files, and not where they lie.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`; `""`: the
            texts' own words, the 20,000 most frequent of those that occur twice.
        length: most tokens of a text; what comes after is cut off.
        trusted: whether the test labels are known to be right.
    """
    where = "datasets.text_folder"
    folder = found_folder(root, where)
    samples = in_folders(folder, frozenset({".txt"}))
    if not samples.names:
        raise DataError(f"{folder.absolute()} holds no CLASS/*.txt", f"{where}.root", "make a folder for each class")
    texts = [read_text(folder / name, where) for name in samples.names]
    return labelled_texts(texts, samples, tokenizer, length, f"{where}: {folder}", trusted)


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
    texts: Sequence[str], samples: Samples, tokenizer: str, length: int, where: str, trusted: bool
) -> DataSplits:
    """Texts with the words of their labels, divided as these say or by a stratified fifth."""
    classes = classes_of(samples, where)
    given = torch.tensor(classes.given)
    if not tokenizer:
        tokens, vocabulary = own_words(texts, length)
        return own_splits(tokens, classes, samples.tests, trusted, vocabulary)
    data = text_data(texts, given, classes.names, tokenizer, length, where.partition(":")[0])
    return own_splits(data.inputs, classes, samples.tests, trusted, data.vocabulary)
