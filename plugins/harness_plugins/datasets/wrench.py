"""WRENCH (Zhang et al., 2021): texts with the votes of labelling functions, and their true classes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness.paths import data_folder
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.origin import origin
from harness_plugins.datasets.tokens import WORD_PIECES, text_data

FOLDER = "wrench"
MD5 = {
    "wrench/sms/test.json": "65d80e1166d96143f5e39b93c91792ea",
    "wrench/sms/train.json": "dd4e9039ac7e323b867f47a9b60a0bb4",
    "wrench/trec/test.json": "8510ebfbbde91cfc89e60e06ca314904",
    "wrench/trec/train.json": "715ae633495e998a459505e55aa3518c",
    "wrench/youtube/test.json": "8365cf9f35bcc9ad1f02faaf1e687479",
    "wrench/youtube/train.json": "2e3e60170268d8bf9532cb54b8150b12",
}
"""Of sets whose files are known; others are taken as they are."""


def verify(folder: Path) -> str:
    """Compare what is there of the known sets with their md5.

    Raises:
        DataError: naming the file that differs.
    """
    present = [file for file in MD5 if (folder / file).is_file()]
    for file in present:
        found = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()
        if found != MD5[file]:
            raise DataError(f"{file} has md5 {found}, not {MD5[file]}", "datasets.wrench", _remedy())
    return f"{len(present)} files of youtube, sms and trec have the right md5"


def read_split(path: Path, where: str) -> tuple[list[str], list[int], list[list[int]]]:
    """Texts, true classes and weak labels (-1: none) of a file `{"0": {"label", "weak_labels", "data": {"text"}}, ...}`.

    Raises:
        DataError: for a file that is not there or of another form.
    """
    found = _read_json(path, where)
    try:
        rows = [found[key] for key in sorted(found, key=int)]
        texts = [str(row["data"]["text"]) for row in rows]
        votes = [[int(vote) for vote in row["weak_labels"]] for row in rows]
        labels = [int(row["label"]) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no text of WRENCH: {type(error).__name__} {error}", where, _remedy()) from None
    if not rows or len({len(row) for row in votes}) != 1:
        raise DataError(f"{path} holds rows of no or differently many weak labels", where, _remedy())
    return texts, labels, votes


def _read_json(path: Path, where: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path.absolute()} cannot be read: {error.strerror}", where, _remedy()) from None
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}", where, _remedy()) from None


def _remedy() -> str:
    return f"copy WRENCH's folder of the data set into {(data_folder() / FOLDER).absolute()}"


@describe(
    Declares(tokens=True, files=(FOLDER,)),
)
@origin(
    check=verify,
    licence="Apache-2.0 for WRENCH; the texts are their owners'",
    citation="Zhang et al., WRENCH: A Comprehensive Benchmark for Weak Supervision, NeurIPS 2021 (data and benchmarks)",
    obtain="get classification/NAME from github.com/JieyuZ2/wrench (datasets) and unpack it as wrench/NAME under HARNESS_DATA",
)
def wrench(variant: str, covered: bool = True, tokenizer: str = WORD_PIECES, length: Count = 128) -> DataSplits:
    """A text set of WRENCH, such as `wrench:youtube`: votes of labelling functions beside the true classes.

    The files `train.json`, `test.json` and `label.json` of `HARNESS_DATA/wrench/NAME`; `valid.json` stays unread, as a
    trial's validation data are noisy. The noise `annotators` makes labels of the votes.

    Args:
        variant: the folder's name: `youtube`, `sms`, `trec`.
        covered: train only on texts with a vote, as WRENCH trains its end models.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`.
        length: most tokens of a text; what comes after is cut off.
    """
    where = f"datasets.wrench:{variant}"
    folder = data_folder() / FOLDER / variant
    if not folder.is_dir():
        others = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise DataError(
            f"there is no folder {folder.absolute()}", where, f"choose {', '.join(others)}" if others else _remedy()
        )
    names = _read_json(folder / "label.json", where)
    train_texts, train_labels, train_votes = read_split(folder / "train.json", where)
    test_texts, test_labels, test_votes = read_split(folder / "test.json", where)
    targets, votes = torch.tensor(train_labels + test_labels), torch.tensor(train_votes + test_votes)
    if int(votes.max()) >= len(names) or int(targets.max()) >= len(names):
        raise DataError(f"{folder} has labels beyond the {len(names)} classes of label.json", where, _remedy())
    classes = [str(names[str(k)]) for k in range(len(names))]
    data = text_data(train_texts + test_texts, targets, classes, tokenizer, length, where)
    data = dataclasses.replace(data, votes=votes)
    chosen = torch.arange(len(train_texts))
    if covered:
        chosen = chosen[(votes[chosen] >= 0).any(1)]
    return DataSplits(data.subset(chosen), data.subset(torch.arange(len(train_texts), len(targets))))
