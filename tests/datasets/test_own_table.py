"""A table in a CSV, Parquet or NumPy file is a data set, and every mistake in it is told in one line with its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

import harness
from harness import HarnessError

ROWS = [("1.5", "red", "yes"), ("2", "blue", "no"), ("3", "red", "yes"), ("4", "blue", "no"), ("5", "red", "no")] * 2


def write(path: Path, rows: list[tuple[str, ...]] = ROWS, head: str = "age,colour,label") -> Path:
    path.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")
    return path


def made(path: Path, **options: Any) -> harness.DataSplits:
    splits: harness.DataSplits = harness.create("dataset", "table", file=str(path), **options)
    return splits


def whole(splits: harness.DataSplits) -> set[tuple[float, ...]]:
    return {tuple(row) for part in (splits.train, splits.test) for row in torch.as_tensor(part.inputs).tolist()}  # type: ignore[call-overload]


def test_numbers_are_features_and_words_columns_of_0_and_1(tmp_path: Path) -> None:
    splits = made(write(tmp_path / "a.csv"))
    assert splits.train.class_names == ("no", "yes") and (len(splits.train), len(splits.test)) == (8, 2)
    assert whole(splits) == {(1.5, 0, 1), (2, 1, 0), (3, 0, 1), (4, 1, 0), (5, 0, 1)}
    assert whole(made(tmp_path / "a.csv", features=["age"])) == {(1.5,), (2,), (3,), (4,), (5,)}
    assert whole(made(tmp_path / "a.csv", drop=["age"])) == {(0, 1), (1, 0)}
    assert splits.trusted is False and made(tmp_path / "a.csv", trusted=True).trusted


def test_parquet_and_csv_are_the_same_table(tmp_path: Path) -> None:
    ages, colours, labels = zip(*ROWS, strict=True)
    columns = {"age": list(map(float, ages)), "colour": list(colours), "label": list(labels)}
    pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = made(write(tmp_path / "a.csv")), made(tmp_path / "a.parquet")
    assert torch.equal(torch.as_tensor(first.train.inputs), torch.as_tensor(second.train.inputs))  # type: ignore[call-overload]
    assert torch.equal(first.train.targets, second.train.targets)


def test_numpy_arrays_hold_features_or_images_with_split_and_clean(tmp_path: Path) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    np.savez(tmp_path / "a.npz", X=x, y=y, split=np.array(["train", "test"] * 5), clean=np.where(y, 1, 0))
    splits = made(tmp_path / "a.npz")
    assert torch.equal(splits.test.inputs, torch.from_numpy(x[1::2]).float()) and splits.trusted  # type: ignore[arg-type]
    np.savez(tmp_path / "b.npz", X=np.zeros((10, 6, 5, 3), dtype=np.uint8), y=y)
    assert tuple(made(tmp_path / "b.npz").train.inputs.shape) == (8, 3, 6, 5)  # type: ignore[union-attr]


def test_a_division_and_clean_labels_are_columns(tmp_path: Path) -> None:
    rows = [(*row, "test" if i > 6 else "train", row[2] if i % 2 else "") for i, row in enumerate(ROWS)]
    splits = made(write(tmp_path / "a.csv", rows, "age,colour,label,split,clean"))
    assert len(splits.test) == 3 and splits.train.clean is not None
    assert splits.train.clean.tolist() == [-1, 0, -1, 0, -1, 1, -1]


@pytest.mark.parametrize(
    ("row", "head", "words"),
    [
        (("", "red", "yes"), "age,colour,label", "row 11 has no 'age'"),
        (("1", "red", ""), "age,colour,label", "row 11 lacks a label"),
        (("1", "red", "maybe"), "age,colour,label", "class 'maybe' has one sample: row 11"),
        (("1", "red", "yes"), "age,colour,answer", "has no column 'label', but age, colour, answer"),
        (("1", "red", "yes", "9"), "age,colour,label", "cannot be read"),
    ],
)
def test_a_bad_table_is_told_in_one_line(tmp_path: Path, row: tuple[str, ...], head: str, words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        made(write(tmp_path / "a.csv", [*ROWS, row], head))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_other_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    x, y = np.zeros((6, 2)), np.arange(6) % 2
    x[3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", X=x, y=y)
    np.savez(tmp_path / "short.npz", X=x, y=y[:4])
    (tmp_path / "words.csv").write_text("id,label\n" + "".join(f"name{i},{i % 2}\n" for i in range(60)))
    (tmp_path / "text.txt").write_text("a")
    wrong = {
        "absent.csv": "there is no file", "nan.npz": "row 4 of X", "short.npz": "X has 6 rows and y 4",
        "words.csv": "60 different words", "text.txt": "is no table: .txt",
    }  # fmt: skip
    for name, words in wrong.items():
        with pytest.raises(HarnessError) as caught:
            made(tmp_path / name)
        assert words in str(caught.value) and "\n" not in str(caught.value)
