"""Where data sets lie: the folder ``HARNESS_DATA``, in torchvision's layout."""

from __future__ import annotations

from pathlib import Path

from harness.errors import DataError
from harness.paths import data_folder


def require(name: str, *files: str) -> Path:
    """The data folder, when all files of a data set are in it.

    Raises:
        DataError: naming the missing file and the command that fetches it.
    """
    folder = data_folder()
    for file in files:
        if not (folder / file).exists():
            raise DataError(
                f"{file} is not under HARNESS_DATA ({folder.absolute()})",
                f"datasets.{name}",
                f"set HARNESS_DATA, or fetch it: harness data fetch {name}",
            )
    return folder
