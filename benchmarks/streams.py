"""What streams and frozen features cost: ``python benchmarks/streams.py [--quick]``.

JPEGs of 224 pixels, read by two processes, against bare decoding by PIL in two processes and against torchvision's
``ImageFolder`` with a ``DataLoader``; features against the bare forward passes; an epoch of a head on 50,000 features of
1,280 numbers in seconds. The images are made here, of noise whose spectrum falls as that of photographs does, so that a
file is as long as a photograph's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from history import History
from pairing import HEAD, Ratio, in_turn, paired
from PIL import Image
from torch.nn import functional
from training import harness_epoch, prepared

import harness
from harness.plugins import load_host
from harness.training.data import Standardiser, StreamingSource
from harness.training.embed import Recipe, embed, features_of
from harness.training.embed import prepare as prepare_extraction
from harness.training.memory import keep_freed_memory
from harness.training.preprocessing import augmentation_of

CPU = torch.device("cpu")
SIDE, BATCH, PROCESSES, CLASSES = 224, 64, 2, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROWS, WIDTH, SECONDS = 50_000, 1280, 0.3
PAIRS = 9


def tree(root: Path, number: int) -> list[Path]:
    """JPEGs in folders of their classes, and the list of them that ``image_folder`` reads."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(number):
        path = root / str(i % CLASSES) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(rng)).save(path, quality=85)
        paths.append(path)
    rows = [f"{path.relative_to(root)},{path.parent.name},train" for path in paths]
    rows[-1] = rows[-1].replace("train", "test")
    (root / "labels.csv").write_text("\n".join(["file,label,split", *rows]) + "\n")
    return paths


def photograph(rng: np.random.Generator) -> np.ndarray:
    """(224, 224, 3) uint8 noise of amplitudes that fall with their frequency; colours vary less than their brightness."""
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / SIDE)
    grey, *tints = (np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * amplitude) for _ in range(4))
    pixels = np.stack([grey / grey.std() + 0.3 * tint / tint.std() for tint in tints], 2)
    return (128 + 50 * pixels).clip(0, 255).astype(np.uint8)


def decode(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))


def bare(paths: list[Path]) -> None:
    """Decoding alone, in as many processes as the loader has."""
    context = multiprocessing.get_context("fork")
    parts = [context.Process(target=decode, args=(paths[k::PROCESSES],)) for k in range(PROCESSES)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()


def streams(root: Path, number: int) -> Iterator[Ratio]:
    """A pass over the images, against bare decoding and against torchvision's loader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    paths = tree(root, number)
    inputs = harness.create("dataset", "image_folder", root=str(root), size=SIDE).train.inputs
    standardiser = Standardiser.given(inputs, MEAN, STD)
    order = torch.randperm(len(inputs))

    def source(**augment: object) -> StreamingSource:
        return StreamingSource(inputs, standardiser, augmentation_of(augment, standardiser), CPU, PROCESSES)

    def walk(stream: StreamingSource) -> None:
        for _ in stream.shuffled(order, BATCH, 0, torch.Generator().manual_seed(0)):
            pass

    def loader(*random: object) -> DataLoader[object]:
        steps = [*random, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        folder = ImageFolder(str(root), transforms.Compose(steps))
        return DataLoader(folder, batch_size=BATCH, shuffle=True, num_workers=PROCESSES)

    def drain(loader: DataLoader[object]) -> None:
        for _ in loader:
            pass

    plain, moved = source(), source(random_resized_crop=SIDE, flip=True)
    theirs = loader(transforms.CenterCrop(SIDE))
    theirs_moved = loader(transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip())
    yield paired("bare decoding / bare decoding (control)", lambda: bare(paths), lambda: bare(paths), PAIRS)
    yield paired("stream / bare decoding by PIL", lambda: walk(plain), lambda: bare(paths), PAIRS, 1 / 0.9)
    yield paired("stream / ImageFolder and DataLoader", lambda: walk(plain), lambda: drain(theirs), PAIRS, 1.0)
    yield paired("the same, random resized crop and flip", lambda: walk(moved), lambda: drain(theirs_moved), PAIRS, 1.0)


def extraction() -> Iterator[Ratio]:
    """Features of the digits at 64 pixels, against the same forward passes in a bare loop."""
    model = {"name": "timm:tf_efficientnet_lite0", "params": {"pretrained": False}}
    recipe = Recipe({"name": "digits", "params": {}}, model, {}, {}, 64, 64, 0)
    registry = load_host().registry
    job = prepare_extraction(registry, recipe, CPU, "timed")
    folder = Path(os.environ["HARNESS_DATA"]) / "features"

    def ours() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        embed(job)

    inputs = [part.inputs for part in (job.splits.train, job.splits.test)]
    assert job.standardiser is not None
    features_of(job, job.standardiser(inputs[0][:64]))

    def passes() -> None:
        assert job.standardiser is not None
        with torch.inference_mode():
            for part in inputs:
                for batch in part.split(64):
                    shown = functional.interpolate(
                        job.standardiser(batch), (64, 64), mode="bilinear", align_corners=False
                    )
                    job.model(shown)

    yield paired("features / bare forward passes", ours, passes, PAIRS, 1.05)


def head_epoch() -> float:
    """Median seconds of an epoch of a linear head on frozen features, batch 512, cross entropy."""
    folder = Path(os.environ["HARNESS_DATA"]) / "features" / "made"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = {"train": rng.integers(0, CLASSES, ROWS), "test": rng.integers(0, CLASSES, 100)}
    for part, classes in labels.items():
        np.save(folder / f"{part}.npy", rng.standard_normal((len(classes), WIDTH), dtype=np.float32).astype(np.float16))
    np.savez(folder / "labels.npz", **labels)
    manifest = {"classes": CLASSES, "class_names": [str(k) for k in range(CLASSES)], "views": {}}
    (folder / "features.json").write_text(json.dumps(manifest))
    ready = prepared(batch=512, samples=ROWS, dataset="features:made", model="linear")
    (seconds,) = in_turn([harness_epoch(ready)], PAIRS)
    return sorted(seconds)[PAIRS // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    history = History("streams")
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_DATA"] = folder
        os.environ["HARNESS_CACHE"] = str(Path(folder) / "cache")
        for ratio in streams(Path(folder) / "tree", 512 if arguments.quick else 4096):
            history.ratio(ratio)
        for ratio in extraction():
            history.ratio(ratio)
        history.row("head on 50,000 x 1,280 features, an epoch", head_epoch(), "s", SECONDS)
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
