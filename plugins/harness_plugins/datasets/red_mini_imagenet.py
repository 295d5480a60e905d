"""Red Mini-ImageNet (Jiang et al., 2020): Mini-ImageNet with a given share of its images replaced by wrong ones of the web."""

from __future__ import annotations

from typing import Literal

from harness import DataSplits, Declares
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged
from harness_plugins.datasets.listed_images import Listed, listed_splits, pairs_of
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin

WHERE = "datasets.red_mini_imagenet"
FOLDER = "red_mini_imagenet"
KEPT = 100
TEST = "split/clean_validation"


@describe(Declares(classes=KEPT, files=(f"{FOLDER}/{TEST}",)))
@origin(
    licence="CC BY 4.0 for the lists; the images are their owners'",
    citation="Jiang et al., Beyond Synthetic Noise: Deep Learning on Controlled Noisy Labels, ICML 2020",
    obtain=f"fetch the images and lists of google.github.io/controlled-noisy-web-labels, and lay them out as FaMUS and PropMix do: "
    f"{FOLDER}/split, all_images and validation/CLASS under HARNESS_DATA",
)
def red_mini_imagenet(
    rate: Literal["0.0", "0.2", "0.4", "0.6", "0.8"] = "0.4", size: Count = 32, damaged: Damaged = "fatal"
) -> DataSplits:
    """Red Mini-ImageNet: some 50,000 images of 100 classes, a share of them wrong ones of the web, tested on 5,000.

    The wrong ones are of no class or of another; which they are is not in the lists, so use the noise `none`.

    Args:
        rate: share of wrong images, as the name of the list has it (`split/red_noise_nl_0.4`).
        size: side in pixels; the field uses 32 or 84.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("red_mini_imagenet", f"{FOLDER}/{TEST}", f"{FOLDER}/split/red_noise_nl_{rate}") / FOLDER
    lists = [folder / "split" / f"red_noise_nl_{rate}", folder / TEST]

    def read() -> tuple[Listed, Listed]:
        train, test = (pairs_of(path, WHERE) for path in lists)
        return (
            [(f"all_images/{name}", label) for name, label in train],
            [(f"validation/{label}/{name}", label) for name, label in test],
        )

    names = [f"class {k}" for k in range(KEPT)]
    return listed_splits(folder, lists, read, names, WHERE, size, damaged, rate)
