"""Animal-10N (Song et al., 2019): photos of five pairs of animals that people mix up."""

from __future__ import annotations

from pathlib import Path

from harness import DataSplits, Declares
from harness.errors import DataError
from harness.parameters import Count
from harness_plugins.datasets.files import describe
from harness_plugins.datasets.image_stream import Damaged
from harness_plugins.datasets.listed_images import Listed, listed_splits
from harness_plugins.datasets.location import require
from harness_plugins.datasets.origin import origin

WHERE = "datasets.animal10n"
FOLDER = "animal10n"
CLASSES = (
    "cat", "lynx", "wolf", "coyote", "cheetah", "jaguar", "chimpanzee", "orangutan", "hamster", "guinea pig",
)  # fmt: skip


@describe(Declares(classes=10, files=(f"{FOLDER}/training", f"{FOLDER}/testing")))
@origin(
    licence="for research that is not commercial, by agreement with the authors",
    citation="Song et al., SELFIE: Refurbishing Unclean Samples for Robust Deep Learning, ICML 2019",
    obtain=f"ask the authors (dm.kaist.ac.kr/datasets/animal-10n), then unpack training/ and testing/ into {FOLDER} under HARNESS_DATA",
)
def animal10n(size: Count = 64, damaged: Damaged = "fatal") -> DataSplits:
    """Animal-10N: 50,000 photos of ten animals with labels by people, about 8 % of them wrong, tested on 5,000.

    A file's name is `CLASS_NUMBER.jpg`. Which labels are wrong is not known, so use the noise `none`.

    Args:
        size: side in pixels; they come with 64.
        damaged: an image that cannot be decoded is `fatal` to a trial, or training is to `skip` it; either names it.
    """
    folder = require("animal10n", *animal10n.declares.files) / FOLDER  # type: ignore[attr-defined]

    def read() -> tuple[Listed, Listed]:
        return _listed(folder, "training"), _listed(folder, "testing")

    return listed_splits(folder, [folder / "training", folder / "testing"], read, CLASSES, WHERE, size, damaged)


def _listed(folder: Path, part: str) -> Listed:
    found: Listed = []
    for path in sorted((folder / part).glob("*.jpg")):
        label, _, number = path.stem.partition("_")
        if not (label.isdecimal() and number):
            raise DataError(f"{path} is not called CLASS_NUMBER.jpg", WHERE, "unpack the owner's archive again")
        found.append((f"{part}/{path.name}", int(label)))
    return found
