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
    for name in "cd":
        Image.new("L", (5, 7), 9).save(tmp_path / f"{name}.png")
    rows = "a.png,x,train\nb.png,y,test\nc.png,y,train\nd.png,x,test\n"
    (tmp_path / "labels.csv").write_text(f"file,label,split\n{rows}")
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
        ("file,label\na.png,1\nb.png,1\n", "all samples are of the class '1'"),
        ("file,label\na.png,1\nb.png,1\nc.png,2\n", "class '2' has one sample: line 4 (c.png)"),
        ("file,label\na.png,1\nb.png,2\na.png,2\n", "lines 2 and 4 both name a.png"),
        (
            "file,label,clean\na.png,1,\nb.png,1,7\nc.png,2,2\na2.png,2,\n",
            "line 3 (b.png): clean '7' is none of the classes (1, 2)",
        ),
    ],
)
def test_a_bad_label_file_is_told_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    for name in ("a", "b", "c", "a2"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
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
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    rows = "a.png,1,train\nb.png,1,test\nc.png,2,train\nd.png,2,test\n"
    (tmp_path / "labels.csv").write_text(f"file,label,split\n{rows}")
    splits = harness.create("dataset", "image_folder", root=str(tmp_path))
    with pytest.raises(HarnessError, match=r"a\.png cannot be read"):
        splits.train.inputs[0]


def test_without_a_label_file_classes_are_folders(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 4)):
        for label in ("cat", "dog"):
            for i in range(count // 2):
                path = tmp_path / part / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (i, 0, 0)).save(path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    splits = harness.create("dataset", "image_folder", root=str(tmp_path), size=4)
    assert splits.train.class_names == ("cat", "dog")
    assert splits.train.targets.tolist() == [0, 0, 0, 1, 1, 1] and splits.test.targets.tolist() == [0, 0, 1, 1]
    alone = harness.create("dataset", "image_folder", root=str(tmp_path / "train"), size=4)
    assert len(alone.train) + len(alone.test) == 6


def test_a_column_of_clean_labels_gives_the_truth_of_its_rows(photos: Path) -> None:
    lines = (photos / "labels.csv").read_text().splitlines()
    clean = [f"{line},{'9' if i % 4 == 0 else ''}" for i, line in enumerate(lines[1:])]
    (photos / "clean.csv").write_text("\n".join([f"{lines[0]},clean", *clean]))
    splits = harness.create("dataset", "image_folder", root=str(photos), csv="clean.csv", size=4)
    assert splits.train.clean is not None and set(splits.train.clean.tolist()) == {1, -1}
    assert splits.trusted is False and splits.test.clean is None
    whole = [f"{line},9" for line in lines[1:]]
    (photos / "whole.csv").write_text("\n".join([f"{lines[0]},clean", *whole]))
    splits = harness.create("dataset", "image_folder", root=str(photos), csv="whole.csv", size=4)
    assert splits.trusted is True and set(splits.test.targets.tolist()) == {1}


def test_images_that_are_kept_in_memory_are_those_that_stream(photos: Path) -> None:
    streamed, kept = (
        harness.create("dataset", "image_folder", root=str(photos), size=8, resident=resident).train
        for resident in (False, True)
    )
    assert isinstance(kept.inputs, torch.Tensor) and kept.inputs.dtype == torch.uint8
    assert torch.equal(kept.inputs, torch.stack([streamed.inputs[i] for i in range(len(streamed))]))
    assert kept.origin is not None and kept.files is not None
    assert kept.files[int(kept.origin[3])] == f"part{int(kept.origin[3]) % 2}/{int(kept.origin[3])}.png"
    with pytest.raises(HarnessError, match="where they stream"):
        harness.create("dataset", "image_folder", root=str(photos), damaged="skip", resident=True)
