"""IMDb (Maas et al., 2011): 50,000 film reviews, in the folders of `aclImdb_v1.tar.gz`."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe, not_fetched
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin
from harness_plugins.datasets.text_files import read_text
from harness_plugins.datasets.tokens import WORD_PIECES, text_data

SOURCE = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
FOLDERS = ("aclImdb/train/neg", "aclImdb/train/pos", "aclImdb/test/neg", "aclImdb/test/pos")
CLASSES = ("neg", "pos")
REVIEWS = 12_500
"""In each of the four folders."""
Test = Annotated[int, Ge(2), Le(25_000)]
SHA256 = {
    "aclImdb/train/neg": "98afc9d0f99c3c52941af457a4180bfb13fe8c7e7859394a7f1d6c09fd5a6700",
    "aclImdb/train/pos": "d42719330b917c15a474a61f56e0999d75ce967269ad0e2278f1c3d9bb497eba",
    "aclImdb/test/neg": "9b6ca958eb6c0ab8b8520026862e4a1956b7e459d4c9c0ca29f032c59e73282b",
    "aclImdb/test/pos": "93a16f8cb42c3bb82fdf966dfe752581792cf9f1154fb45448804ddef995e36c",
}
"""Of each folder: the SHA-256 of its reviews' SHA-256, in the order of their ids."""


def _fetch(folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    archive = folder / "aclImdb_v1.tar.gz"
    try:
        download_url(SOURCE, str(folder), archive.name, ARCHIVE_MD5)
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
    except (OSError, RuntimeError, tarfile.TarError) as error:
        raise not_fetched("imdb", folder, error) from None
    archive.unlink()


def reviews(folder: Path) -> list[Path]:
    """The files `ID_RATING.txt` of a folder, in the order of their ids.

    Raises:
        DataError: when there are not 12,500.
    """
    found = sorted(folder.glob("*.txt"), key=lambda path: (len(path.name.split("_")[0]), path.name))
    if len(found) != REVIEWS:
        raise DataError(
            f"{folder} holds {len(found)} reviews, not {REVIEWS}", "datasets.imdb", "harness data fetch imdb"
        )
    return found


def verify(folder: Path) -> str:
    """Compare the reviews with the original ones.

    Raises:
        DataError: naming the folder that differs.
    """
    for name, expected in SHA256.items():
        content = hashlib.sha256()
        for path in reviews(folder / name):
            content.update(hashlib.sha256(path.read_bytes()).digest())
        if content.hexdigest() != expected:
            raise DataError(
                f"the reviews of {name} have SHA-256 {content.hexdigest()}, not {expected}",
                "datasets.imdb",
                f"delete {folder / 'aclImdb'}, then harness data fetch imdb",
            )
    return f"{4 * REVIEWS:,} reviews have the right SHA-256"


@describe(
    Declares(tokens=True, classes=2, files=FOLDERS),
    fetch=_fetch,
)
@origin(
    check=verify,
    licence="research use; the reviews are their authors' (ai.stanford.edu/~amaas/data/sentiment)",
    citation="Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011",
)
def imdb(tokenizer: str = WORD_PIECES, length: Count = 256, test: Test = 2 * REVIEWS) -> DataSplits:
    """IMDb: 25,000 film reviews to train on and 25,000 to test, half of each positive (Maas et al., 2011).

    The authors' own split. The RRM paper's table 12 draws a random one of the same sizes.

    Args:
        tokenizer: folder under `HARNESS_DATA` with `tokenizer.json`, or with `words.txt` and `rows.npy`.
        length: most tokens of a review, which has 300 on average; what comes after is cut off.
        test: reviews to test on, an even number: the first of each class.
    """
    folder = require("imdb", *FOLDERS)
    where = "datasets.imdb"
    texts = [read_text(path, where) for name in FOLDERS for path in reviews(folder / name)]
    targets = torch.tensor([0, 1, 0, 1]).repeat_interleave(REVIEWS)
    data = text_data(texts, targets, CLASSES, tokenizer, length, where)
    first = torch.arange(test // 2)
    tested = torch.cat([2 * REVIEWS + first, 3 * REVIEWS + first])
    return DataSplits(data.subset(torch.arange(2 * REVIEWS)), data.subset(tested))
