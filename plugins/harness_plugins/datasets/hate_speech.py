"""Hate speech (Davidson et al., 2017): 24,783 tweets with the votes of three or more people."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe, not_fetched
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin
from harness_plugins.datasets.split import stratified_holdout
from harness_plugins.datasets.text_files import read_csv
from harness_plugins.datasets.tokens import WORD_PIECES, text_data

FILE = "hate-speech/labeled_data.csv"
SOURCE = "https://github.com/t-davidson/hate-speech-and-offensive-language/raw/master/data/labeled_data.csv"
MD5 = "9d06c998e468c91703fdcad15bee420c"
COLUMNS = ("hate_speech", "offensive_language", "neither")
WHERE = "datasets.hate_speech"
TEST_SHARE = 0.2


def expanded_votes(counts: np.ndarray) -> Tensor:
    """(N, most) int64 votes of (N, K) counts of them, -1 where a sample has fewer.

    The file says how many chose a class, not who. So each row is put in a random order, always the same one: a column is
    a vote of somebody.
    """
    most = int(counts.sum(1).max(initial=0))
    rows = np.full((len(counts), most), -1, dtype=np.int64)
    rows[np.arange(most) < counts.sum(1)[:, None]] = np.concatenate(
        [np.repeat(np.arange(counts.shape[1]), row) for row in counts] or [np.empty(0, dtype=np.int64)]
    )
    keys = np.random.Generator(np.random.PCG64(0)).random(rows.shape)
    order = np.argsort(np.where(rows >= 0, keys, np.inf), axis=1, kind="stable")
    return torch.from_numpy(np.take_along_axis(rows, order, axis=1))


def _fetch(folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    target = folder / FILE
    try:
        download_url(SOURCE, str(target.parent), target.name, MD5)
    except (OSError, RuntimeError) as error:
        raise not_fetched("hate_speech", folder, error) from None


@describe(
    Declares(tokens=True, files=(FILE,)),
    fetch=_fetch,
    md5={FILE: MD5},
)
@origin(
    licence="MIT",
    citation="Davidson et al., Automated Hate Speech Detection and the Problem of Offensive Language, ICWSM 2017",
)
def hate_speech(classes: Literal[2, 3] = 2, tokenizer: str = WORD_PIECES, length: Count = 64) -> DataSplits:
    """24,783 tweets with the votes of the people who labelled them; 5.8 % are hate speech by majority.

    The majority is taken for the truth, as the authors do. A stratified fifth is held out for testing, always the same.

    Args:
        classes: 2: hate speech or not; 3: hate speech, offensive language, neither.
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`.
        length: most tokens of a tweet; what comes after is cut off.
    """
    folder = require("hate_speech", FILE)
    rows = read_csv(folder / FILE, (*COLUMNS, "class", "tweet"), WHERE)
    try:
        counts = np.array([[int(row[column]) for column in COLUMNS] for row in rows], dtype=np.int64)
        majority = np.array([int(row["class"]) for row in rows], dtype=np.int64)
    except ValueError as error:
        raise DataError(
            f"{FILE} has a count that is no number: {error}", WHERE, "harness data fetch hate_speech"
        ) from None
    names: tuple[str, ...] = ("hate speech", "offensive language", "neither")
    if classes == 2:
        names = ("other", "hate speech")
        majority = (majority == 0).astype(np.int64)
        counts = np.stack([counts[:, 1:].sum(1), counts[:, 0]], 1)
    targets = torch.from_numpy(majority)
    data = text_data([row["tweet"] for row in rows], targets, names, tokenizer, length, WHERE)
    data = dataclasses.replace(data, votes=expanded_votes(counts))
    train, test = stratified_holdout(targets, round(TEST_SHARE * len(targets)))
    return DataSplits(data.subset(train), data.subset(test))
