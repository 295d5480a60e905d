"""A Hugging Face data set in a folder: Arrow files as `save_to_disk` writes them, and Parquet files of a repository."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import harness
from harness import HarnessError

FEATURES = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def arrow(folder: Path, columns: dict[str, Any]) -> None:
    """What `Dataset.save_to_disk` writes: a stream of record batches, and the features as JSON."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def pictures(count: int) -> list[dict[str, Any]]:
    found = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (6, 5), (i, 0, 0)).save(buffer, "PNG")
        found.append({"bytes": buffer.getvalue(), "path": None})
    return found


def made(root: Path, **options: Any) -> harness.DataSplits:
    splits: harness.DataSplits = harness.create("dataset", "hugging_face", root=str(root), **options)
    return splits


def test_images_of_a_saved_dictionary_with_named_classes(tmp_path: Path) -> None:
    arrow(tmp_path / "set" / "train", {"image": pictures(8), "label": [0, 1] * 4})
    arrow(tmp_path / "set" / "test", {"image": pictures(4), "label": [1, 0] * 2})
    splits = made(tmp_path / "set", size=4)
    assert splits.train.class_names == ("cat", "dog") and splits.test.targets.tolist() == [1, 0, 1, 0]
    assert tuple(splits.train.inputs.shape) == (8, 3, 4, 4) and int(splits.train.inputs[5, 0, 0, 0]) == 5  # type: ignore[union-attr, index]


def test_parquet_files_of_a_repository_with_texts_numbers_or_lists(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    columns = {
        "text": ["a good film", "a bad film"] * 10, "length": list(range(20)), "label": [1, 0] * 10,
        "vector": [[float(i), 1.0] for i in range(20)],
    }  # fmt: skip
    told = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    pa.parquet.write_table(
        pa.table(columns).replace_schema_metadata(told), tmp_path / "data" / "train-00000-of-00001.parquet"
    )
    splits = made(tmp_path)
    assert splits.train.class_names == ("cat", "dog") and splits.train.vocabulary == 6
    assert (len(splits.train), len(splits.test)) == (16, 4)
    vectors = made(tmp_path, inputs="vector").train
    assert tuple(vectors.inputs.shape) == (16, 2)  # type: ignore[union-attr]
    pa.parquet.write_table(
        pa.table({"length": list(range(20)), "label": [1, 0] * 10}), tmp_path / "data" / "train-00000-of-00001.parquet"
    )
    numbers = made(tmp_path).train
    assert numbers.class_names == ("0", "1") and np.unique(numbers.inputs.numpy()).size == 16  # type: ignore[union-attr]


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    arrow(tmp_path / "set", {"image": [*pictures(3), {"bytes": b"none", "path": None}], "label": [0, 1, 0, 1]})
    (tmp_path / "empty").mkdir()
    arrow(tmp_path / "broken", {"label": [0, 1, 0, 1], "a": [1, 2, 3, 4]})
    file = next((tmp_path / "broken").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:40])
    wrong: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "set", {}, "row 4 cannot be read as an image"),
        (tmp_path / "set", {"label": "mark"}, "has no column 'mark', but image, label"),
        (tmp_path / "set", {"inputs": "pixels"}, "has no column 'pixels'"),
        (tmp_path / "empty", {}, "holds no *.arrow"),
        (tmp_path / "broken", {}, "data-00000-of-00001.arrow cannot be read"),
    ]
    for root, options, words in wrong:
        with pytest.raises(HarnessError) as caught:
            made(root, **options)
        assert words in str(caught.value) and "\n" not in str(caught.value)
