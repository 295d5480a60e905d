"""Images that do not fit into memory: an index of their files, kept in a cache, and a torch ``Dataset`` that decodes them.

The index of a million images is two flat arrays, about 8 bytes and the length of the relative path for each; forked loader
processes share them. An image is found by its position alone, so a trial that goes on reads the same ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from harness.errors import DataError
from harness.files import write_bytes
from harness.paths import cache_folder
from harness.training.data import DamagedSample

Damaged = Literal["fatal", "skip"]
"""What becomes of an image that cannot be decoded: the trial fails, or training leaves the image out. Both name it."""
INDEX_SCHEMA = 1


class Names(Sequence[str]):
    """Many strings as one buffer of UTF-8 and the ends of each."""

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        parts = [name.encode() for name in names]
        lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), lengths.cumsum())

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, position: int) -> str:  # type: ignore[override]
        start = int(self.ends[position - 1]) if position else 0
        return self.text[start : int(self.ends[position])].tobytes().decode()

    @property
    def nbytes(self) -> int:
        return self.text.nbytes + self.ends.nbytes


@dataclasses.dataclass(frozen=True)
class Index:
    """Where images lie and what they are.

    Attributes:
        names: paths relative to a root.
        labels: (N,) int32 classes.
        tests: (N,) bool, whether an image is for testing; of no length where nothing says so.
        classes: names of the classes.
        places: (N, 2) int64 offset and length in the file of that name, or of no length where an image is a whole file.
    """

    names: Names
    labels: np.ndarray
    tests: np.ndarray
    classes: tuple[str, ...]
    places: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))


def cached_index(files: Sequence[Path], build: Callable[[], Index], *key: object) -> Index:
    """An index from the cache, where its files are as they were when it was built; else built and kept.

    Args:
        files: what the index is made of; their paths, sizes and times of change are looked at.
        build: makes it.
        key: what else it depends on.
    """
    states = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    name = hashlib.sha256(json.dumps([INDEX_SCHEMA, states, [str(part) for part in key]]).encode()).hexdigest()[:24]
    path = cache_folder() / f"index-{name}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError), np.load(path, allow_pickle=False) as kept:
        classes = tuple(json.loads(kept["classes"].tobytes()))
        return Index(Names(kept["text"], kept["ends"]), kept["labels"], kept["tests"], classes, kept["places"])
    index = build()
    buffer = io.BytesIO()
    classes_json = np.frombuffer(json.dumps(list(index.classes)).encode(), dtype=np.uint8)
    np.savez(
        buffer, text=index.names.text, ends=index.names.ends, labels=index.labels, tests=index.tests,
        classes=classes_json, places=index.places,
    )  # fmt: skip
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    return index


class ImageFiles(Dataset[Tensor]):
    """Images, decoded when asked for: (C, size, size) uint8, scaled to the shorter side, cut at the centre.

    Args:
        root: the folder that names are relative to.
        names: of the images, or of the files that hold them.
        size: side in pixels.
        channels: 3 (colour) or 1 (grey).
        where: how an error names the data set.
        places: (N, 2) offset and length of each image in its file; of no length where an image is a whole file.
        damaged: what becomes of an image that cannot be decoded.
    """

    def __init__(
        self,
        root: Path,
        names: Names,
        size: int,
        channels: int,
        where: str,
        places: np.ndarray | None = None,
        damaged: Damaged = "fatal",
    ) -> None:
        self.root, self.names, self.size, self.where = str(root), names, size, where
        self.mode = "RGB" if channels == 3 else "L"
        self.places = places if places is not None and len(places) else None
        self.damaged = damaged

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> str:
        """What decides the inputs: root, names, size and mode. Statistics of the inputs are kept under it."""
        content = hashlib.sha256(json.dumps([self.root, self.size, self.mode]).encode())
        content.update(self.names.text.tobytes())
        return content.hexdigest()[:24]

    def __getitem__(self, position: int) -> Tensor:
        path = os.path.join(self.root, self.names[position])
        try:
            with Image.open(path if self.places is None else self._bytes(path, position)) as file:
                file.draft(self.mode, (self.size, self.size))  # lets JPEG decode at a fraction of its size
                image = file.convert(self.mode)
                if image.size != (self.size, self.size):
                    image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:  # PIL's PNG reader raises SyntaxError
            raise self._damage(path, position, error) from None
        pixels = np.asarray(image)  # which may not be written to; what is made of it may
        return torch.from_numpy(np.array(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), order="C"))

    def _bytes(self, path: str, position: int) -> io.BytesIO:
        assert self.places is not None
        offset, length = self.places[position].tolist()
        with open(path, "rb") as file:
            return io.BytesIO(os.pread(file.fileno(), length, offset))

    def _damage(self, path: str, position: int, error: Exception) -> DataError:
        place = "" if self.places is None else f" at byte {int(self.places[position, 0])}"
        what = f"{path}{place} cannot be read as an image: {error}"
        if self.damaged == "fatal":
            return DataError(what, self.where, 'mend or remove it, or set damaged = "skip"')
        grey = torch.full((3 if self.mode == "RGB" else 1, self.size, self.size), 128, dtype=torch.uint8)
        return DamagedSample(what, self.where, "training leaves it out", stand_in=grey)
