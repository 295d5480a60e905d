"""Clothing1M (Xiao et al., 2015): a million shop images whose labels come from the text around them."""

from __future__ import annotations

from typing import Literal

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged
from harness_plugins.datasets.listed_images import Listed, lines_of, listed_splits, pairs_of
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin

WHERE = "datasets.clothing1m"
FOLDER = "clothing1m"
CLASSES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Downcoat", "Suit", "Shawl",
    "Dress", "Vest", "Underwear",
)  # fmt: skip
LISTS = {
    "noisy": ("noisy_train_key_list.txt", "noisy_label_kv.txt"),
    "clean": ("clean_train_key_list.txt", "clean_label_kv.txt"),
    "test": ("clean_test_key_list.txt", "clean_label_kv.txt"),
}
"""The owner's lists: keys `images/7/83/...jpg`, a line each, and classes, `KEY CLASS` a line."""


@describe(
    Declares(classes=14, files=tuple(f"{FOLDER}/{name}" for name in sorted({n for p in LISTS.values() for n in p})))
)
@origin(
    licence="for research that is not commercial, by agreement with the authors",
    citation="Xiao et al., Learning from Massive Noisy Labeled Data for Image Classification, CVPR 2015",
    obtain=f"ask the authors (github.com/Cysu/noisy_label), then unpack images/ and the lists into {FOLDER} under HARNESS_DATA",
)
def clothing1m(train: Literal["noisy", "clean"] = "noisy", size: Count = 224, damaged: Damaged = "fatal") -> DataSplits:
    """Clothing1M: 1,000,000 images of 14 classes with the labels that shops gave, tested on 10,525 that people checked.

    Which labels are wrong is not known, so use the noise `none`; what is measured of corrupted samples is then empty. Of
    the clean images 47,569 may be trained on. DivideMix and CC draw 32,000 images of balanced classes in each epoch by a
    parameter of their own.

    Args:
        train: `noisy`, the million; or `clean`.
        size: side in pixels; the field scales to 256 and cuts 224 out.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("clothing1m", *clothing1m.declares.files) / FOLDER  # type: ignore[attr-defined]
    lists = [folder / name for part in (train, "test") for name in LISTS[part]]

    def read() -> tuple[Listed, Listed]:
        found = []
        for keys, classes in (lists[:2], lists[2:]):
            known = dict(pairs_of(classes, WHERE))
            listed = lines_of(keys, WHERE)
            absent = [key for key in listed if key not in known]
            if absent:
                raise DataError(f"{classes.name} has no class of {absent[0]}", WHERE, "copy the owner's lists again")
            found.append([(key, known[key]) for key in listed])
        return found[0], found[1]

    return listed_splits(folder, lists, read, CLASSES, WHERE, size, damaged, train)
