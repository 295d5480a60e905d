"""Frozen features as a data set: what ``harness data embed`` has written, memory-mapped."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, Declares, LabelledData
from harness.errors import DataError
from harness.training.embed import folder_of


def _manifest(variant: str) -> tuple[Path, dict[str, Any]]:
    folder, where = folder_of(variant), f"datasets.features:{variant}"
    path = folder / "features.json"
    if not path.is_file():
        begun = folder.with_name(f"{folder.name}.partial").exists()
        what = "its extraction was stopped" if begun else f"there is no {path.absolute()}"
        raise DataError(what, where, "make it: harness data embed DATASET --model MODEL")
    try:
        found = json.loads(path.read_text())
        return folder, {"classes": int(found["classes"]), "views": dict(found["views"]), **found}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} cannot be read", where, "delete its folder, then harness data embed again") from None


def sums(variant: str) -> dict[str, str]:
    """md5 of each of its files, as their extraction noted them."""
    folder, manifest = _manifest(variant)
    return {f"features/{folder.name}/{file}": str(found) for file, found in manifest.get("md5", {}).items()}


def features(variant: str) -> DataSplits:
    """Features that a frozen model made of another data set: (N, D) float16, with the labels of that set.

    `harness data embed DATASET --model MODEL` writes them and says the name. Noise, validation and pairing are as on any
    data set. Augmented views are those that `--views` stored; a method that asks for others is refused.
    """
    folder, manifest = _manifest(variant)
    where, classes = f"datasets.features:{variant}", int(manifest["classes"])
    try:
        with np.load(folder / "labels.npz", allow_pickle=False) as kept:
            labels = {name: torch.from_numpy(kept[name]) for name in kept.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        raise DataError(
            "labels.npz cannot be read", where, "delete its folder, then harness data embed again"
        ) from None
    human = {name.removeprefix("human-"): found for name, found in labels.items() if name.startswith("human-")}
    names = tuple(map(str, manifest["class_names"]))
    views = {view: _mapped(folder / f"view-{view}.npy", len(labels["train"]), where) for view in manifest["views"]}
    train, test = (_mapped(folder / f"{part}.npy", len(labels[part]), where) for part in ("train", "test"))
    superclasses, votes, outside = (labels.get(name) for name in ("superclasses", "votes", "outside"))
    return DataSplits(
        LabelledData(
            train,
            labels["train"],
            classes,
            names,
            human,
            superclasses=superclasses,
            votes=votes,
            outside=outside,
            views=views,
        ),
        LabelledData(test, labels["test"], classes, names),
    )


def _mapped(path: Path, rows: int, where: str) -> Tensor:
    """A memory-mapped array as a tensor; what is written to it never reaches the file."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        raise DataError(
            f"{path.name} cannot be read", where, "delete its folder, then harness data embed again"
        ) from None
    if len(array) != rows or array.dtype != np.float16:
        raise DataError(
            f"{path.name} is {array.dtype} {array.shape}, not of {rows} samples", where,
            "delete its folder, then harness data embed again",
        )  # fmt: skip
    return torch.from_numpy(array)


features.declares = Declares(stored_views="features/{variant}/features.json")  # type: ignore[attr-defined]
features.md5 = sums  # type: ignore[attr-defined]
