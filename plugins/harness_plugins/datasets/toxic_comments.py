"""Toxic Comments (Jigsaw, 2018): comments of Wikipedia's talk pages with six kinds of toxicity, in Kaggle's CSV files."""

from __future__ import annotations

from typing import Literal

import torch

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin
from harness_plugins.datasets.split import stratified_holdout
from harness_plugins.datasets.text_files import read_csv
from harness_plugins.datasets.tokens import text_data

FILE = "toxic-comments/train.csv"
KINDS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
WHERE = "datasets.toxic_comments"
TEST_SHARE = 0.2


@describe(
    Declares(tokens=True, tasks=("classification", "multilabel"), files=(FILE,)),
)
@origin(
    licence="CC0 for the labels, CC BY-SA 3.0 for the comments; Kaggle's rules bind who downloads them",
    citation="Jigsaw, Toxic Comment Classification Challenge, Kaggle 2018",
    obtain=f"accept the rules of kaggle.com/c/jigsaw-toxic-comment-classification-challenge, then unpack its train.csv as {FILE} under HARNESS_DATA",
)
def toxic_comments(
    labels: Literal["any", "six"] = "any", tokenizer: str = "word-vectors", length: Count = 200
) -> DataSplits:
    """Jigsaw's comments: toxic in any of six ways or not (RRM paper, table 11), or the six ways as labels.

    `train.csv` has the columns `id`, `comment_text` and the six kinds, 0 or 1. A stratified fifth is held out for testing
    as in the paper, always the same. The paper speaks of 148,000 comments, 3 % of them toxic; Kaggle's file has 159,571,
    10 % of them toxic, and which ones were left out it does not say.

    Args:
        labels: `any`: two classes; `six`: a label for each kind.
        tokenizer: folder under `HARNESS_DATA` with `words.txt` and `rows.npy`, or with `tokenizer.json`.
        length: most tokens of a comment; what comes after is cut off.
    """
    path = require("toxic_comments", FILE) / FILE
    rows = read_csv(path, ("comment_text", *KINDS), WHERE)
    table = [[row[kind] for kind in KINDS] for row in rows]
    for number, values in enumerate(table, 1):
        if not set(values) <= {"0", "1"}:
            raise DataError(f"row {number} of {path} has a label that is neither 0 nor 1", WHERE, "mend or remove it")
    six = torch.tensor([[int(value) for value in values] for values in table])
    toxic = six.any(1).long()
    targets, names = (six, KINDS) if labels == "six" else (toxic, ("other", "toxic"))
    data = text_data([row["comment_text"] for row in rows], targets, names, tokenizer, length, WHERE)
    train, test = stratified_holdout(toxic, max(1, round(TEST_SHARE * len(rows))))
    return DataSplits(data.subset(train), data.subset(test))
