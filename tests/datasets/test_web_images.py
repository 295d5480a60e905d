"""Web image data sets are read in their owners' layouts, here from small trees laid out after the owners' own lists.

Clothing1M: github.com/Cysu/noisy_label; WebVision 1.0: info/ of its archive, as LiJunnan1992/DivideMix reads it; Food-101N
and Food-101: meta/ of their archives; Animal-10N: training/ and testing/ of raw_image.zip; Red Mini-ImageNet: split/ as
google.github.io/controlled-noisy-web-labels names its lists.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import harness
from harness import HarnessError
from harness.cli.data import app
from harness.paths import data_folder


def picture(path: Path, colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (colour, colour, colour)).save(path, quality=95)


def lines(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def clothing(data: Path) -> None:
    root = data / "clothing1m"
    keys = {part: [f"images/{n}/{i}/x.jpg" for i in range(6)] for n, part in enumerate(("noisy", "clean", "test"))}
    for n, part in enumerate(keys):
        for i, key in enumerate(keys[part]):
            picture(root / key, 20 * i + n)
    lines(root / "noisy_train_key_list.txt", keys["noisy"])
    lines(root / "clean_train_key_list.txt", keys["clean"])
    lines(root / "clean_test_key_list.txt", keys["test"])
    lines(root / "noisy_label_kv.txt", [f"{key} {i * 2}" for i, key in enumerate(keys["noisy"] + keys["clean"])][:7])
    lines(root / "clean_label_kv.txt", [f"{key} {13 - i % 6}" for i, key in enumerate(keys["clean"] + keys["test"])])


def webvision(data: Path) -> None:
    root = data / "webvision"
    train = [(f"google/q{i:04d}/a b.jpg", c) for i, c in enumerate((0, 49, 50, 7))]
    validation = [(f"val{i:06d}.jpg", c) for i, c in enumerate((3, 999, 49))]
    for i, (path, _) in enumerate(train):
        picture(root / path, 10 * i)
    for i, (path, _) in enumerate(validation):
        picture(root / "val_images_256" / path, 100 + 10 * i)
    lines(root / "info/train_filelist_google.txt", [f"{path} {c}" for path, c in train])
    lines(root / "info/val_filelist.txt", [f"{path} {c}" for path, c in validation])
    lines(root / "info/synsets.txt", [f"n{i:08d} thing {i}, object" for i in range(60)])
    for i in range(50):
        picture(root / "imagenet/val" / f"n{i:08d}" / "ILSVRC2012_val_1.JPEG", i)


def food(data: Path) -> None:
    names = [f"dish_{i}" for i in range(101)]
    lines(data / "food-101/meta/classes.txt", names)
    lines(data / "food-101/meta/test.txt", ["dish_100/11", "dish_3/12"])
    lines(data / "Food-101N_release/meta/imagelist.tsv", ["class_name/key", "dish_1/a.jpg", "dish_100/b.jpg"])
    for path in ("food-101/images/dish_100/11.jpg", "food-101/images/dish_3/12.jpg"):
        picture(data / path, 200)
    for path in ("dish_1/a.jpg", "dish_100/b.jpg"):
        picture(data / "Food-101N_release/images" / path, 50)


def animals(data: Path) -> None:
    for part, names in (("training", ("0_12.jpg", "9_3.jpg", "9_4.jpg")), ("testing", ("5_1.jpg",))):
        for name in names:
            picture(data / "animal10n" / part / name, 10 * int(name[0]))


def red(data: Path) -> None:
    root = data / "red_mini_imagenet"
    lines(root / "split/red_noise_nl_0.4", ["n1.jpg 99", "ff2.jpg 4"])
    lines(root / "split/clean_validation", ["v1.jpg 7"])
    for path in ("all_images/n1.jpg", "all_images/ff2.jpg", "validation/7/v1.jpg"):
        picture(root / path, 30)


SETS: list[tuple[str, Callable[[Path], None], dict[str, Any], list[int], list[int], int]] = [
    ("clothing1m", clothing, {}, [0, 2, 4, 6, 8, 10], [13, 12, 11, 10, 9, 8], 14),
    ("clothing1m", clothing, {"train": "clean"}, [13, 12, 11, 10, 9, 8], [13, 12, 11, 10, 9, 8], 14),
    ("mini_webvision", webvision, {}, [0, 49, 7], [3, 49], 50),
    ("mini_webvision", webvision, {"test": "imagenet"}, [0, 49, 7], list(range(50)), 50),
    ("food101n", food, {}, [1, 100], [100, 3], 101),
    ("animal10n", animals, {}, [0, 9, 9], [5], 10),
    ("red_mini_imagenet", red, {}, [99, 4], [7], 100),
]


@pytest.mark.parametrize(("name", "lay_out", "params", "train", "test", "classes"), SETS)
def test_the_owner_s_lists_say_what_is_trained_and_tested_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    lay_out: Callable[[Path], None],
    params: dict[str, Any],
    train: list[int],
    test: list[int],
    classes: int,
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    lay_out(tmp_path)
    for _ in range(2):  # the second time from the cached index
        splits = harness.create("dataset", name, size=8, **params)
        assert splits.train.targets.tolist() == train
        assert splits.test.targets.tolist() == test
        assert splits.train.num_classes == classes == len(splits.train.class_names)
        for part in (splits.train, splits.test):
            for position in range(len(part)):
                assert part.inputs[position].shape == (3, 8, 8)


def test_an_image_is_its_key_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    clothing(tmp_path)
    splits = harness.create("dataset", "clothing1m", size=8)
    assert [int(splits.train.inputs[i].float().mean().round()) // 20 for i in range(6)] == list(range(6))


@pytest.mark.parametrize("name", sorted({entry[0] for entry in SETS}))
def test_what_is_missing_is_told_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    with pytest.raises(HarnessError, match="is not under HARNESS_DATA"):
        harness.create("dataset", name)
    result = CliRunner().invoke(app, ["fetch", name])
    assert isinstance(result.exception, HarnessError)
    assert "under HARNESS_DATA" in str(result.exception) and "\n" not in str(result.exception)


@pytest.mark.parametrize(
    ("name", "lay_out", "file", "content", "said"),
    [
        ("clothing1m", clothing, "clothing1m/noisy_label_kv.txt", "images/0/0/x.jpg 3\n", "has no class of images/0/1/x.jpg"),
        ("clothing1m", clothing, "clothing1m/noisy_label_kv.txt", "images/0/0/x.jpg\n", "entry 1 is no path with a class"),
        ("clothing1m", clothing, "clothing1m/noisy_train_key_list.txt", "\n", "the lists name no training images"),
        ("mini_webvision", webvision, "webvision/info/synsets.txt", "n1 a\n", "names 1 classes"),
        ("mini_webvision", webvision, "webvision/info/val_filelist.txt", "gone.jpg 1\n", "gone.jpg is not there"),
        ("food101n", food, "food-101/meta/test.txt", "soup/1\n", "names the class 'soup'"),
        ("animal10n", animals, "animal10n/training/cat.jpg", "", "is not called CLASS_NUMBER.jpg"),
        ("red_mini_imagenet", red, "red_mini_imagenet/split/clean_validation", "v1.jpg 100\n", "names the class 100 of 100"),
    ],
)  # fmt: skip
def test_a_bad_list_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    lay_out: Callable[[Path], None],
    file: str,
    content: str,
    said: str,
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    lay_out(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(HarnessError) as error:
        harness.create("dataset", name)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.data
def test_cifar10h_has_the_votes_of_its_authors() -> None:
    if not (data_folder() / "cifar-10-batches-py" / "data_batch_1").exists():
        pytest.skip(f"cifar-10-batches-py/data_batch_1 is not under HARNESS_DATA ({data_folder()})")
    splits = harness.create("dataset", "cifar10h")
    votes = splits.train.votes
    cast = (votes >= 0).sum(1)
    assert len(votes) == 10_000 and int(cast.min()) == 47 and int(cast.max()) == 63
    majority = torch.stack([(votes == k).sum(1) for k in range(10)], 1).argmax(1)
    wrong = float((majority != splits.train.targets).float().mean())
    assert 0.005 < wrong < 0.012, "the paper: people's majority is right of 99.2 %"
    assert torch.equal(splits.test.inputs, harness.create("dataset", "cifar10").train.inputs[:10_000])
    counts = np.stack([(votes == k).sum(1).numpy() for k in range(10)], 1)
    noisy = harness.create("noise", "annotators")(splits.train, rng=np.random.default_rng(0))
    assert counts[np.arange(10_000), noisy.numpy()].min() >= 1, "nobody's label is no label"


def tissue(data: Path, rows: list[str]) -> None:
    for i in range(5):
        picture(data / "tissue-necrosis" / f"{i}.png", 40 * i)
    lines(data / "tissue-necrosis/labels.csv", ["file,necrosis,weak,split", *rows])


def test_tissue_has_weak_labels_of_its_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    tissue(tmp_path, ["0.png,0,0,train", "1.png,0,1,train", "2.png,1,1,train", "3.png,0,0,test", "4.png,1,1,test"])
    splits = harness.create("dataset", "tissue_necrosis", size=8)
    assert splits.train.targets.tolist() == [0, 0, 1] and splits.test.targets.tolist() == [0, 1]
    assert splits.train.human["weak"].tolist() == [0, 1, 1]
    assert splits.train.inputs[2].shape == (3, 8, 8) and int(splits.train.inputs[2].float().mean()) == 80


@pytest.mark.parametrize(
    "rows, words",
    [
        (["0.png,0,2,train"], "line 2 is no image"),
        (["0.png,0,1,train", "1.png,1,1,val"], "line 3 is no image"),
        (["0.png,0,1,train"], "leaves train or test empty"),
        (["a.png,0,1,train", "1.png,1,1,test"], "a.png is not there"),
        ([], "has no rows"),
    ],
)
def test_a_list_of_tissue_that_cannot_be_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], words: str
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    tissue(tmp_path, rows)
    with pytest.raises(HarnessError, match=words):
        harness.create("dataset", "tissue_necrosis")
