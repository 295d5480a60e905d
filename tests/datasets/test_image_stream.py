"""Image files and tar shards stream by an index that is small, cached and the same every time; damaged images are named."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_plugins.datasets import image_stream
from harness_plugins.datasets.image_stream import Names, cached_index
from PIL import Image

import harness
from harness import HarnessError
from harness.training.augment import Augmentation
from harness.training.data import Standardiser, StreamingSource, sample_at
from harness.training.prepare import fitted

CPU = torch.device("cpu")


def jpeg(number: int, side: int = 12) -> bytes:
    """A JPEG of noise of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Forty JPEGs of two classes; the eighth is cut off in the middle."""
    root = tmp_path / "tree"
    (root / "a").mkdir(parents=True)
    for i in range(40):
        content = jpeg(i)
        (root / "a" / f"{i}.jpg").write_bytes(content[: len(content) // 2] if i == 7 else content)
    rows = [f"a/{i}.jpg,{'cat' if i % 2 else 'dog'},{'test' if i % 5 == 0 else 'train'}" for i in range(40)]
    (root / "labels.csv").write_text("\n".join(["file,label,split", *rows]) + "\n")
    return root


def source(inputs: object, workers: int = 0) -> StreamingSource:
    return StreamingSource(inputs, None, Augmentation(), CPU, workers)  # type: ignore[arg-type]


def test_names_are_kept_in_one_buffer(tmp_path: Path) -> None:
    given = ["a/ö.jpg", "", "b" * 200, "c"]
    names = Names.of(given)
    assert list(names) == given and len(names) == 4
    million = Names.of(f"train/n01440764/n01440764_{i:06d}.jpg" for i in range(10_000))
    assert million.nbytes <= 50 * 10_000


def test_an_index_is_built_once_until_its_file_changes(tree: Path) -> None:
    built = []

    def build() -> image_stream.Index:
        built.append(1)
        return image_stream.Index(Names.of(["x", "yy"]), np.array([1, 0], np.int32), np.empty(0, bool), ("é", "b"))

    for _ in range(2):
        index = cached_index([tree / "labels.csv"], build, "this test")
        assert list(index.names) == ["x", "yy"] and index.classes == ("é", "b") and index.labels.tolist() == [1, 0]
    assert len(built) == 1
    (tree / "labels.csv").write_text("file,label\n")
    cached_index([tree / "labels.csv"], build, "this test")
    cached_index([tree / "labels.csv"], build, "another key")
    assert len(built) == 3


def test_a_damaged_image_is_fatal_and_named_wherever_it_is_read(tree: Path) -> None:
    train = harness.create("dataset", "image_folder", root=str(tree), size=8).train
    for workers in (0, 1):
        with pytest.raises(HarnessError) as error:
            list(source(train.inputs, workers).ordered(16))
        assert "7.jpg cannot be read as an image" in str(error.value)
        assert 'set damaged = "skip"' in str(error.value)
        assert "Traceback" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_skips_a_damaged_image_and_scores_keep_its_row(
    tree: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    train = harness.create("dataset", "image_folder", root=str(tree), size=8, damaged="skip").train
    streaming = source(train.inputs, workers)
    order = torch.arange(len(train))
    with caplog.at_level(logging.WARNING, logger="harness.trial"):
        trained = torch.cat([index for index, _ in streaming.shuffled(order, 10, 0, torch.Generator())])
        seen = list(streaming.ordered(10))
    damaged = 5  # of 0 .. 39 without the multiples of five, the image 7
    assert sorted(trained.tolist()) == [i for i in range(32) if i != damaged]
    assert torch.cat([index for index, _ in seen]).tolist() == list(range(32))
    assert (torch.cat([inputs for _, inputs in seen])[damaged] == 128).all()
    assert len([record for record in caplog.records if "7.jpg" in record.message]) == 1, "named once"
    assert (sample_at(train.inputs, damaged) == 128).all()


def test_loader_processes_give_the_very_batches_of_the_trial_s_own(tree: Path) -> None:
    train = harness.create("dataset", "image_folder", root=str(tree), size=8, damaged="skip").train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
    alone, helped = (list(source(train.inputs, n).shuffled(order, 6, 1, torch.Generator())) for n in (0, 2))
    for (index, inputs), (other, others) in zip(alone, helped, strict=True):
        assert torch.equal(index, other) and torch.equal(inputs, others)


def test_statistics_of_a_stream_are_found_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = harness.create("dataset", "image_folder", root=str(tree), size=8, damaged="skip").train.inputs
    first = fitted(inputs, "channel", torch.float32)
    monkeypatch.setattr(Standardiser, "fit", lambda *_: pytest.fail("decoded again"))
    again = fitted(inputs, "channel", torch.float32)
    assert first is not None and again is not None
    assert torch.equal(first.mean, again.mean) and torch.equal(first.std, again.std) and first.scale == again.scale


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_shards_stream_the_images_that_files_would(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    for part, numbers in (("train-0", range(12)), ("train-1", range(12, 20)), ("test-0", range(20, 26))):
        members: dict[str, bytes] = {}
        for i in numbers:
            members[f"{i:03d}.jpg"] = jpeg(i)
            members[f"{i:03d}.{'cls' if i % 2 else 'json'}"] = b"3" if i % 2 else json.dumps({"label": 10}).encode()
        shard(root / f"{part}.tar", members)
    for _ in range(2):  # the second time from the cached index
        splits = harness.create("dataset", "image_shards", root=str(root), size=12)
        assert (len(splits.train), len(splits.test)) == (20, 6)
        assert splits.train.class_names == ("3", "10")
        assert splits.train.targets.tolist() == [1 - i % 2 for i in range(20)]
        with Image.open(io.BytesIO(jpeg(13))) as image:
            expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(splits.train.inputs[13], expected)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.jpg": b"x"}, "a has no class; add a.cls"),
        ({"a.cls": b"1"}, "the shards hold no images"),
        ({"a.jpg": b"x", "a.json": b"{}"}, "the class of a cannot be read"),
        ({"a.jpg": b"x", "a.cls": b"1"}, "cannot be read as an image"),
        (None, "is no plain tar file"),
    ],
)
def test_bad_shards_are_told_in_one_line(tmp_path: Path, members: dict[str, bytes] | None, said: str) -> None:
    if members is None:
        (tmp_path / "a.tar").write_bytes(b"no tar file at all" * 100)
    else:
        shard(
            tmp_path / "a.tar",
            {**members, "b.jpg": b"", "b.cls": b"0"} if "a.cls" in members and "a.jpg" in members else members,
        )
    with pytest.raises(HarnessError) as error:
        splits = harness.create("dataset", "image_shards", root=str(tmp_path))
        splits.train.inputs[0]
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(HarnessError, match="there is no"):
        harness.create("dataset", "image_shards", root=str(tmp_path.parent / "absent"))


def test_methods_train_score_and_draw_views_on_streams_as_on_resident_images(
    tree: Path, write_suite: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same images in memory and on disk give the same numbers, with loader processes too."""
    plugin = tmp_path / "resident.py"
    plugin.write_text(
        f"""
import dataclasses
import torch
import harness
from harness import hookimpl
from harness.training.data import sample_at

def resident():
    splits = harness.create("dataset", "image_folder", root={str(tree)!r}, size=8, damaged="skip")
    def loaded(data):
        rows = [i for i in range(len(data))]
        return dataclasses.replace(data, inputs=torch.stack([sample_at(data.inputs, i) for i in rows]))
    return dataclasses.replace(splits, train=loaded(splits.train), test=loaded(splits.test))

@hookimpl
def harness_register_datasets(register):
    register("resident", resident)
"""
    )
    methods = """
        [[method]]
        name = "RRM"
        algorithms = ["rrm"]
        [[method]]
        name = "SOP+"
        algorithms = ["sop_plus"]
        """
    found = {}
    good = tree / "good.csv"
    lines = (tree / "labels.csv").read_text().splitlines()
    good.write_text("\n".join(line for line in lines if "/7.jpg" not in line))
    plugin.write_text(plugin.read_text().replace("size=8,", 'csv="good.csv", size=8,'))
    for name, dataset, workers in (
        ("resident", '"resident"', 0),
        ("stream", f'{{ name = "image_folder", root = "{tree}", csv = "good.csv", size = 8, damaged = "skip" }}', 1),
    ):
        path = write_suite(
            f"{name}.toml",
            methods=methods,
            noise='"none"',
            training="validation = 0.0",
            setting="mean = 0.5\nstd = 0.25\naugment = { crop = 1, flip = true }",
            tables=f"[execution]\nloader_workers = {workers}",
        )
        text = (
            path.read_text()
            .replace('dataset = "digits"', f"dataset = {dataset}")
            .replace("hidden = [32]", "hidden = [8]")
        )
        path.write_text(text.replace("batch_size = 64", "batch_size = 16"))
        suite = harness.load_suite(path, plugins=[plugin])
        harness.run(suite, tmp_path / name)
        found[name] = sorted(
            json.dumps({k: v for k, v in json.loads(line).items() if k != "seconds"}, sort_keys=True)
            for file in (tmp_path / name).glob("trials/*/attempt-001/epochs.jsonl")
            for line in file.read_text().splitlines()
        )
    assert len(found["stream"]) == 4
    assert found["stream"] == found["resident"]
    assert not [record for record in caplog.records if record.name == "harness.guard"]


KILLER = """
import os, signal
from pathlib import Path

from harness import hookimpl

FLAG = Path({flag!r})

class Killer:
    def after_backward(self, run, step):
        if run.epoch == 2 and step.number == 1 and FLAG.exists():
            FLAG.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def harness_register_algorithms(register):
    register("killer", Killer)
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_pass_leaves_a_trial_that_goes_on_bit_for_bit(
    tree: Path, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    flag, plugin = tmp_path / "flag", tmp_path / "killer.py"
    plugin.write_text(KILLER.format(flag=str(flag)))
    path = write_suite(
        "stream.toml",
        methods='[[method]]\nname = "SOP+"\nalgorithms = ["sop_plus", "killer"]\n',
        noise='"none"',
        training="validation = 0.0",
        setting='augment = { random_resized_crop = 8, flip = true, policy = "randaugment" }',
        tables="[execution]\nloader_workers = 1\ncheckpoint_minutes = 0.00001",
    )
    dataset = f'{{ name = "image_folder", root = "{tree}", size = 12, damaged = "skip" }}'
    text = (
        path.read_text().replace('dataset = "digits"', f"dataset = {dataset}").replace("hidden = [32]", "hidden = [8]")
    )
    path.write_text(text.replace("batch_size = 64", "batch_size = 10").replace("epochs = 2", "epochs = 3"))
    found = []
    for name in ("whole", "killed"):
        if name == "killed":
            flag.touch()
        harness.run(harness.load_suite(path, plugins=[plugin]), tmp_path / name, "local", workers=1)
        assert not flag.exists()
        attempts = sorted((tmp_path / name).glob("trials/*/attempt-*/epochs.jsonl"))
        lines = [json.loads(line) for line in attempts[-1].read_text().splitlines()]
        found.append([{k: v for k, v in line.items() if k != "seconds"} for line in lines])
    assert found[0] == found[1] and len(found[0]) >= 2
