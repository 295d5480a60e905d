"""The files of ``[replay]``: parts of another run that stand in place of what a trial would draw.

A trial's id holds the SHA-256 of each file's bytes, its options hold where the file lies.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.errors import SuiteError, unknown
from harness.paths import expanded

FORMATS = (".npy", ".npz", ".safetensors", ".pt", ".pth")
"""What is read: arrays and tensors, never a pickle of anything else."""


@dataclasses.dataclass(frozen=True)
class ReplayFiles:
    """Paths and SHA-256 of the replayed files by what they hold: ``order``, ``split``, ``labels``, ``init``."""

    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replay_files(given: Mapping[str, str | None], folder: Path, where: str) -> ReplayFiles:
    """The files of a ``[replay]`` table, which lie beside the suite unless their paths are absolute.

    Raises:
        SuiteError: for a file that cannot be read or is of another format.
    """
    paths, digests = {}, {}
    for what, name in given.items():
        if name is None:
            continue
        path, place = (folder / expanded(name)).resolve(), f"{where}.{what}"
        if path.suffix not in FORMATS:
            raise SuiteError(
                unknown("format", path.suffix or path.name, FORMATS), place, f"give one of {', '.join(FORMATS)}"
            )
        try:
            digests[what] = sha256_of(path)
        except OSError as error:
            raise SuiteError(f"{path} cannot be read ({error.strerror})", place, "give the path of a file") from None
        paths[what] = str(path)
    return ReplayFiles(paths, digests)
