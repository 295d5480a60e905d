"""Mini-WebVision: the first 50 classes of WebVision 1.0's Google images (Jiang et al., 2018), as DivideMix's code reads them."""

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

WHERE = "datasets.mini_webvision"
FOLDER = "webvision"
KEPT = 50
TRAIN, VALIDATION, SYNSETS = "info/train_filelist_google.txt", "info/val_filelist.txt", "info/synsets.txt"


@describe(Declares(classes=KEPT, files=tuple(f"{FOLDER}/{name}" for name in (TRAIN, VALIDATION, SYNSETS))))
@origin(
    licence="for research that is not commercial; the images are their owners'",
    citation="Li et al., WebVision Database: Visual Learning and Understanding from Web Data, 2017",
    obtain=f"fetch WebVision 1.0's google and val_images_256 archives (data.vision.ee.ethz.ch/cvl/webvision) into {FOLDER} "
    f"under HARNESS_DATA, and ILSVRC2012's validation images, a folder for each synset, into {FOLDER}/imagenet/val",
)
def mini_webvision(
    test: Literal["webvision", "imagenet"] = "webvision", size: Count = 227, damaged: Damaged = "fatal"
) -> DataSplits:
    """Mini-WebVision: some 66,000 Google images of WebVision's first 50 classes, tested on WebVision's or ILSVRC's 2,500.

    Which labels are wrong is not known, so use the noise `none`.

    Args:
        test: WebVision's validation images of these classes, or those of ILSVRC 2012 of the same synsets.
        size: side in pixels; the field scales to 320 and cuts 227 or 299 out.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("mini_webvision", *mini_webvision.declares.files) / FOLDER  # type: ignore[attr-defined]
    synsets = [line.split(maxsplit=1) for line in lines_of(folder / SYNSETS, WHERE)][:KEPT]
    if len(synsets) < KEPT:
        raise DataError(f"{SYNSETS} names {len(synsets)} classes", WHERE, f"copy the owner's, of {KEPT} or more")

    def read() -> tuple[Listed, Listed]:
        train = [(path, label) for path, label in pairs_of(folder / TRAIN, WHERE) if label < KEPT]
        if test == "imagenet":
            return train, _imagenet([words[0] for words in synsets])
        found = pairs_of(folder / VALIDATION, WHERE)
        return train, [(f"val_images_256/{path}", label) for path, label in found if label < KEPT]

    def _imagenet(names: list[str]) -> Listed:
        found: Listed = []
        for label, name in enumerate(names):
            images = sorted((folder / "imagenet" / "val" / name).glob("*.JPEG"))
            if not images:
                raise DataError(
                    f"there is no image in {folder / 'imagenet' / 'val' / name}", WHERE,
                    "sort ILSVRC2012's validation images into folders of their synsets",
                )  # fmt: skip
            found += [(str(path.relative_to(folder)), label) for path in images]
        return found

    names = [words[1] if len(words) > 1 else words[0] for words in synsets]
    lists = [folder / name for name in (TRAIN, VALIDATION, SYNSETS)]
    return listed_splits(folder, lists, read, names, WHERE, size, damaged, test)
