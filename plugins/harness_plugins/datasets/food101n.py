"""Food-101N (Lee et al., 2018): web images of Food-101's classes, tested on Food-101."""

from __future__ import annotations

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged
from harness_plugins.datasets.listed_images import Listed, lines_of, listed_splits
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin

WHERE = "datasets.food101n"
IMAGES, CLASSES, TEST = "Food-101N_release/meta/imagelist.tsv", "food-101/meta/classes.txt", "food-101/meta/test.txt"


@describe(Declares(classes=101, files=(IMAGES, CLASSES, TEST)))
@origin(
    licence="for research; the images are their owners'",
    citation="Lee et al., CleanNet: Transfer Learning for Scalable Image Classifier Training with Label Noise, CVPR 2018",
    obtain="unpack Food-101N_release.zip (kuanghuei.github.io/Food-101N) and food-101.tar.gz (Bossard et al., 2014) under HARNESS_DATA",
)
def food101n(size: Count = 224, damaged: Damaged = "fatal") -> DataSplits:
    """Food-101N: 310,009 web images of 101 dishes, tested on Food-101's 25,250.

    Which labels are wrong is not known (about a fifth), so use the noise `none`.

    Args:
        size: side in pixels; the field scales to 256 and cuts 224 out.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("food101n", IMAGES, CLASSES, TEST)
    names = lines_of(folder / CLASSES, WHERE)
    number = {name: k for k, name in enumerate(names)}

    def listed(lines: list[str], start: str, ending: str, source: str) -> Listed:
        found: Listed = []
        for line in lines:
            name = line.partition("/")[0]
            if name not in number:
                raise DataError(f"{source} names the class {name!r}, which is not in {CLASSES}", WHERE, "copy it again")
            found.append((f"{start}/{line}{ending}", number[name]))
        return found

    def read() -> tuple[Listed, Listed]:
        train = [line for line in lines_of(folder / IMAGES, WHERE) if line != "class_name/key"]
        return (
            listed(train, "Food-101N_release/images", "", IMAGES),
            listed(lines_of(folder / TEST, WHERE), "food-101/images", ".jpg", TEST),
        )

    lists = [folder / name for name in (IMAGES, CLASSES, TEST)]
    return listed_splits(folder, lists, read, names, WHERE, size, damaged)
