"""Images in tar files, as webdataset lays them out: streamed by where each lies in its file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_folder import streamed
from harness_plugins.datasets.image_stream import Damaged, Index, Names, cached_index
from harness_plugins.datasets.label_files import found_folder, sorted_names

WHERE = "datasets.image_shards"
IMAGES = ("jpg", "jpeg", "png", "webp")
LABELS = ("cls", "json")
TEST = "test"
"""How names of shards begin that hold test images."""


@describe(Declares(later=("trusted",), content="harness_plugins.datasets.label_files:of_shards", places=("root",)))
def image_shards(
    root: str,
    size: Count = 224,
    channels: Literal[1, 3] = 3,
    label: str = "label",
    damaged: Damaged = "fatal",
    trusted: bool = False,
) -> DataSplits:
    """Images in the files `*.tar` under `root`, in webdataset's layout: `KEY.jpg` beside `KEY.cls`, a class as text, or
    `KEY.json`, a table with the class.

    Shards whose names begin with `test` hold the test images; without any a stratified fifth is held out, the same every
    time. A shard is read through once, when its images are listed; the list is kept in the cache until a shard changes.
    Images are then read one by one from their places, so a trial may shuffle them all and go on where it stopped.
    Compressed shards cannot be read like that and are refused.

    Args:
        root: the folder; a relative one lies under `HARNESS_DATA`, or else under the working directory.
        size: side in pixels of the square images.
        channels: 3 (colour) or 1 (grey).
        label: the key of the class in the JSON tables.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
        trusted: whether the test labels are known to be right.
    """
    folder = found_folder(root, WHERE)
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataError(f"there is no *.tar in {folder}", WHERE, "give the folder of the shards")
    index = cached_index(shards, lambda: read_shards(shards, label), "image_shards", label)
    return streamed(folder, index, size, channels, WHERE, damaged, trusted)


def read_shards(shards: list[Path], label: str = "label") -> Index:
    """The index of all images in shards.

    Raises:
        DataError: for a shard that is no plain tar file, and an image without a label.
    """
    names: list[str] = []
    labels: list[str] = []
    places: list[tuple[int, int]] = []
    tests: list[bool] = []
    for path in shards:
        for key, place, found in _pairs(path, label):
            if found is None:
                raise DataError(f"{key} has no class", f"{WHERE}: {path}", f"add {key}.cls")
            names.append(path.name)
            labels.append(found)
            places.append(place)
            tests.append(path.name.startswith(TEST))
    if not names:
        raise DataError("the shards hold no images", WHERE, f"name them KEY.{IMAGES[0]}, beside KEY.cls")
    if any(tests) and all(tests):
        raise DataError("every shard is a test shard", WHERE, "let other names begin the training shards")
    classes = sorted_names(set(labels))
    number = {name: k for k, name in enumerate(classes)}
    return Index(
        Names.of(names),
        np.fromiter((number[one] for one in labels), dtype=np.int32, count=len(labels)),
        np.array(tests if any(tests) else [], dtype=bool),
        tuple(classes),
        np.array(places, dtype=np.int64),
    )


def _pairs(path: Path, label: str) -> list[tuple[str, tuple[int, int], str | None]]:
    """Key, place and class of each image of a shard, in its order."""
    where = f"{WHERE}: {path}"
    places: dict[str, tuple[int, int]] = {}
    classes: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                key, _, ending = member.name.partition(".")
                if not member.isfile():
                    continue
                if ending.lower() in IMAGES:
                    places[key] = (member.offset_data, member.size)
                elif ending in LABELS:
                    file = shard.extractfile(member)
                    assert file is not None
                    text = file.read().decode()
                    classes[key] = text.strip() if ending == "cls" else str(json.loads(text)[label])
    except (tarfile.TarError, EOFError):
        raise DataError("is no plain tar file", where, "unpack it with gunzip, or make it again") from None
    except (UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise DataError(f"the class of {key} cannot be read", where, f"write it in {key}.cls as text") from None
    return [(key, place, classes.get(key)) for key, place in places.items()]
