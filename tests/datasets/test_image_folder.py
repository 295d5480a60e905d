"""A folder of images with a label file streams as uint8 images, and every mistake in it is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import harness
from harness import HarnessError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty photos, 24 x 16, of one colour each, in two folders, of the classes 2, 9 and 10."""
    root = tmp_path / "photos"
    rows = ["file,label"]
    for i in range(40):
        path = root / f"part{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), (i, 100, 200)).save(path)
        rows.append(f"part{i % 2}/{i}.png,{(2, 10, 9)[i % 3]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_images_stream_as_bytes_with_numeric_classes_in_order(photos: Path) -> None:
    splits = harness.create("dataset", "image_folder", root=str(photos), size=8)
    assert splits.train.class_names == ("2", "9", "10")
    assert not isinstance(splits.train.inputs, torch.Tensor)
    assert (len(splits.train), len(splits.test)) == (32, 8)
    image = splits.train.inputs[0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 8, 8)
    assert image[1:].flatten(1).unique(dim=1).tolist() == [[100], [200]]
    assert splits.train.targets.tolist() == [
        (0, 2, 1)[int(splits.train.inputs[i][0, 0, 0]) % 3] for i in range(len(splits.train))
    ]


def test_an_image_is_cut_at_its_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.new("L", (5, 7), 9).save(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,x,train\nb.png,y,test\n")
    splits = harness.create("dataset", "image_folder", root=str(tmp_path), size=10, channels=1)
    assert (splits.train.inputs[0] == 255).all()
    assert splits.test.inputs[0].shape == (1, 10, 10)
    assert (splits.test.inputs[0] == 9).all()


def test_a_split_column_decides_and_the_folder_may_lie_under_harness_data(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (photos / "labels.csv").read_text().splitlines()
    split = [f"{line},{'test' if i % 4 == 0 else 'train'}" for i, line in enumerate(lines[1:])]
    (photos / "split.csv").write_text("\n".join([f"{lines[0]},split", *split]))
    monkeypatch.setenv("HARNESS_DATA", str(photos.parent))
    splits = harness.create("dataset", "image_folder", root="photos", csv="split.csv", size=4)
    assert [int(splits.test.inputs[i][0, 0, 0]) for i in range(10)] == list(range(0, 40, 4))


def test_a_trial_s_subsets_keep_streaming(photos: Path) -> None:
    train = harness.create("dataset", "image_folder", root=str(photos), size=4).train
    part = train.subset(torch.tensor([5, 1]))
    assert torch.equal(part.inputs[0], train.inputs[5])
    assert part.targets.tolist() == train.targets[[5, 1]].tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,class\na.png,1\n", "no column 'label'"),
        ("file,label\n", "no rows"),
        ("file,label\na.png,\n", "line 2 lacks"),
        ("file,label,split\na.png,1,dev\n", "line 2: split 'dev'"),
        ("file,label\nnone.png,1\n", "none.png is not there"),
        ("file,label,split\na.png,1,train\n", "train or test empty"),
    ],
)
def test_a_bad_label_file_is_told_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(HarnessError) as caught:
        harness.create("dataset", "image_folder", root=str(tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folders_files_and_damaged_images_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no folder"):
        harness.create("dataset", "image_folder", root=str(tmp_path / "absent"))
    with pytest.raises(HarnessError, match="no such label file"):
        harness.create("dataset", "image_folder", root=str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text("file,label,split\na.png,1,train\na.png,1,test\n")
    splits = harness.create("dataset", "image_folder", root=str(tmp_path))
    with pytest.raises(HarnessError, match=r"a\.png cannot be read"):
        splits.train.inputs[0]
