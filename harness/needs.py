"""What a component needs and costs, and the family of methods that it belongs to: facts by which a user finds it.

Most needs follow from what a component declares anyway (:func:`needs_of`); the others, with family, year, paper and rows,
are said where it is registered, so that a list of methods imports none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.declarations import Declares
from harness.errors import HarnessError, unknown
from harness.parameters import NOISE_MATRIX, NOISE_RATE

NEEDS: dict[str, str] = {
    "two_networks": "two networks that are trained side by side",
    "rate": "the share of wrong labels, as the setting's, a number or an estimate",
    "matrix": "the noise's transition matrix, as the setting's, written or estimated",
    "features": "features: the inputs of a network's last linear layer, or of a data set",
    "strong_view": "strongly augmented views of the samples",
    "warmup": "epochs of plain training, or of a rise, before it is as it is meant",
    "clean_labels": "samples that are known to have their right label",
}
"""What a component may need, in words."""
FAMILIES: dict[str, str] = {
    "loss correction": "The loss is corrected by what is known, learnt or estimated of the noise.",
    "robust loss": "The loss itself is bounded or symmetric, so that a wrong label pulls less.",
    "re-weighting": "Samples get weights, small ones where the label is doubted.",
    "sample selection": "Samples that look clean are learnt from, the others are left out or corrected.",
    "semi-supervised": "Samples that look wrong lose their label and are learnt from as unlabelled ones.",
    "regularisation": "The network is kept from memorising, whatever the labels are.",
}
"""Families of methods, in words."""
COSTING = ("loss", "algorithm")
"""Kinds that have rows."""
FORWARD = 1 / 3
"""What a row costs that goes forward only, in rows that go forward and back: a backward pass is two forward ones."""


@dataclasses.dataclass(frozen=True)
class Described:
    """What a component says of itself when it is registered.

    Attributes:
        family: one of :data:`FAMILIES`, or empty.
        year: of the paper; ``None`` without one.
        paper: authors and venue.
        needs: of :data:`NEEDS`, those that follow from nothing else.
        rows: of a sample in an epoch, after any warm-up: inputs that go through networks forward only, and forward and
            back. Cross entropy has (0, 1).
    """

    family: str = ""
    year: int | None = None
    paper: str = ""
    needs: tuple[str, ...] = ()
    rows: tuple[float, float] = (0.0, 1.0)

    @property
    def cost(self) -> float:
        """Its rows at cross entropy's prices: how many times as long its epoch takes, other work left out."""
        forward, trained = self.rows
        return forward * FORWARD + trained


def described(
    label: str, family: str, year: int | None, paper: str, needs: Sequence[str], rows: Sequence[float]
) -> Described:
    """What ``register`` was given beside name, target and version, checked.

    Raises:
        ValueError, TypeError: naming the component and the word.
    """
    if family and family not in FAMILIES:
        raise ValueError(f"{label}: {unknown('family', str(family), FAMILIES)}")
    if year is not None and (not isinstance(year, int) or isinstance(year, bool)):
        raise TypeError(f"{label}: year is a whole number, got {year!r}")
    if not isinstance(paper, str):
        raise TypeError(f"{label}: paper is a text, got {paper!r}")
    if isinstance(needs, str) or not isinstance(needs, Sequence):
        raise TypeError(f"{label}: needs is a list of words, got {needs!r}")
    for need in needs:
        if need not in NEEDS:
            raise ValueError(f"{label}: {unknown('need', str(need), NEEDS)}")
    return Described(family, year, paper, tuple(needs), _rows(label, rows))


def _rows(label: str, rows: Any) -> tuple[float, float]:
    fits = isinstance(rows, Sequence) and len(rows) == 2 and all(isinstance(n, (int, float)) and n >= 0 for n in rows)
    if not fits:
        raise ValueError(f"{label}: rows is two numbers, (forward only, forward and back), got {rows!r}")
    return float(rows[0]), float(rows[1])


def needs_of(
    kind: str, described: Described, parameters: Iterable[Mapping[str, Any]], declares: Declares
) -> tuple[str, ...]:
    """What a component needs, in the order of :data:`NEEDS`.

    It needs a rate or a matrix if a parameter refers to that of the noise unless it is given; strong views if it declares
    any view but ``weak``; a warm-up if it has a number of epochs ``warmup`` above 0; features if it is an estimator or a
    detector. The rest is what its registration says.
    """
    found = set(described.needs)
    if declares.uses_matrix:
        found.add("matrix")
    if any(view != "weak" for view in declares.views):
        found.add("strong_view")
    if kind in ("estimator", "detector"):
        found.add("features")
    for parameter in parameters:
        default, tree, required = parameter["default"], parameter["type"], parameter["required"]
        for need, reference in (("rate", NOISE_RATE), ("matrix", NOISE_MATRIX)):
            if default == reference or (required and _speaks_of(tree, reference)):
                found.add(need)
        if parameter["name"] == "warmup" and tree["t"] == "int" and (required or default):
            found.add("warmup")
    return tuple(need for need in NEEDS if need in found)


def _speaks_of(tree: Mapping[str, Any], word: str) -> bool:
    """Whether a described type has a word among its values."""
    if tree["t"] == "union":
        return any(_speaks_of(part, word) for part in tree["of"])
    return tree["t"] == "literal" and word in tree["values"]


def asked(texts: Iterable[str], option: str) -> frozenset[str]:
    """Needs as an option gives them, several after another or with commas or bars between them.

    Raises:
        HarnessError: for a word that is none of :data:`NEEDS`.
    """
    found = [word.strip() for text in texts for word in text.replace("|", ",").split(",")]
    for word in found:
        if word not in NEEDS:
            raise HarnessError(f"unknown need {word!r}", option, f"choose among {', '.join(NEEDS)}")
    return frozenset(found)
