"""Every recorded quantity once: its name, title, unit, direction, where it is stored and beside what it is drawn.

The store's columns, the titles and groups of plots and pages, the order in which metrics are offered and the help texts
are made from :data:`QUANTITIES`. What plugins register is recorded with the trials that were measured by it, so that
results are read without the plugin: :func:`quantities_in` adds it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.tasks import HEADLINES

if TYPE_CHECKING:
    import duckdb

MOMENTS: Mapping[str, str] = {
    "last": "at the last epoch",
    "last10": "mean of the last 10 epochs",
    "selected": "at the epoch selected on noisy validation",
    "best": "at the best epoch on test (an oracle)",
    "best_minus_last": "best epoch minus last",
}
"""When a quantity is taken: the words of ``--metric`` and what they mean."""
SAMPLE_GROUPS = ("clean", "corrupted", "unknown")
"""Groups of training samples in histograms of their scores; ``unknown`` are those whose clean label nobody knows."""
CURVE = tuple(MOMENTS)
"""Moments of what is measured on test at every epoch."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A recorded quantity. Shares are recorded in [0, 1] and shown in percent.

    Attributes:
        name: the word of ``--metric`` and of the store's table ``metrics``.
        title: what it is, in words.
        column: its key in the record of an epoch, and its column in the store's table ``epochs``; empty where it is not
            taken epoch by epoch. What a plugin registers is kept under its name in the table ``diagnostics``.
        group: the chart that its curve is drawn in; one of its own where empty.
        label: what its curve is called in that chart.
        unit: as written behind a value; ``count`` for a number of things.
        percent: whether it is a share.
        higher_is_better: whether more of it is better.
        moments: when it is taken; empty for what no board shows.
        paged: whether it has a page of its own in the static site.
    """

    name: str
    title: str
    column: str = ""
    group: str = ""
    label: str = ""
    unit: str = ""
    percent: bool = False
    higher_is_better: bool = True
    moments: tuple[str, ...] = ("last",)
    paged: bool = False

    @property
    def factor(self) -> float:
        """What recorded values are multiplied by where they are shown."""
        return 100.0 if self.percent else 1.0

    @property
    def unit_shown(self) -> str:
        """The unit as it stands behind a title; a count has none."""
        return "" if self.unit == "count" else self.unit

    @property
    def axis(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} {self.unit}".strip()

    def show(self, value: float | None, digits: int = 2) -> str:
        """A value for people."""
        if value is None:
            return "-"
        if self.percent:
            return f"{100 * value:.{digits}f}"
        return f"{value:,.0f}" if self.unit == "count" else f"{value:.4g}"

    def words(self, at: str = "last") -> str:
        """What it is when taken ``at``; that this is the last epoch goes without saying for all but headlines."""
        return self.title if at == "last" and self.name not in HEADLINES else f"{self.title}, {moment(at)}"

    def better_high(self, at: str) -> bool:
        """Whether more is better of what is shown; what is lost between the best epoch and the last is better low."""
        return self.higher_is_better and at != "best_minus_last"

    def to_json(self) -> dict[str, Any]:
        """The facts that differ from the defaults, to be recorded with a trial."""
        given = dataclasses.asdict(self)
        plain = {field.name: field.default for field in dataclasses.fields(self)}
        return {key: value for key, value in given.items() if value != plain[key]}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Quantity:
        """The inverse of :meth:`to_json`; keys of a later harness are left out.

        Raises:
            TypeError: without name and title.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts.items() if key in known
        }
        return cls(**kept)


def _share(name: str, title: str, **facts: Any) -> Quantity:
    return Quantity(name, title, unit="%", percent=True, **facts)


def _error(name: str, title: str, **facts: Any) -> Quantity:
    return Quantity(name, title, higher_is_better=False, **facts)


ACCURACY, LEARNT, LOSS = "Accuracy", "What is learnt of corrupted samples", "Loss"
ERROR, PRECISION = "Mean absolute error", "Mean average precision"
UNITS: Mapping[str, str] = {LOSS: "loss", ERROR: "error"}
"""The vertical axis of groups whose quantities have no unit."""
VALIDATED = ("last", "selected")

QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        # The order is that in which metrics are offered.
        _share("accuracy", "test accuracy", column="test_accuracy", group=ACCURACY, label="clean test", moments=CURVE, paged=True),
        _share("mean_average_precision", "mean average precision of labels on test", column="test_average_precision", group=PRECISION, label="clean test", moments=CURVE, paged=True),
        _share("subset_accuracy", "test samples with all labels right", column="subset_accuracy", moments=CURVE, paged=True),
        _error("mae", "test mean absolute error", column="mae", group=ERROR, label="clean test", moments=CURVE, paged=True),
        _error("rmse", "test root mean squared error", column="rmse", moments=CURVE),
        _share("memorisation", "corrupted samples predicted as their wrong label", column="memorisation", group=LEARNT, label="memorised", higher_is_better=False, paged=True),
        _share("recovery", "corrupted samples predicted as their true label", column="recovery", group=LEARNT, label="recovered", paged=True),
        _share("detection_auroc", "AUROC of detecting corrupted samples", column="detection_auroc", paged=True),
        _share("fgsm_accuracy", "test accuracy under FGSM", moments=VALIDATED, paged=True),
        _error("seconds_per_epoch", "seconds per epoch without evaluation", column="train_seconds", unit="s"),
        _error("parameters", "trained parameters", unit="count"),
        _share("validation_accuracy", "noisy validation accuracy", column="validation_accuracy", group=ACCURACY, label="noisy validation", moments=VALIDATED),
        _share("train_accuracy", "training accuracy on given labels", column="train_accuracy", group=ACCURACY, label="noisy train"),
        _share("clean_accuracy", "training accuracy on clean samples", column="clean_accuracy"),
        _share("predicted_share", "largest share of the test predictions in one class", column="predicted_share", higher_is_better=False, moments=("last", "selected", "best")),
        _share("validation_average_precision", "noisy validation mean average precision", column="validation_average_precision", group=PRECISION, label="noisy validation", moments=VALIDATED),
        _share("train_average_precision", "training mean average precision on given labels", column="train_average_precision", group=PRECISION, label="noisy train"),
        _share("rate_error", "error of the estimated share of wrong labels", higher_is_better=False),
        _share("estimated_rate", "estimated share of wrong labels", moments=()),
        Quantity("train_loss", "training loss", "train_loss", LOSS, "training", higher_is_better=False, moments=()),
        _error("test_loss", "test loss", column="test_loss", group=LOSS, label="test"),
        _error("validation_loss", "noisy validation loss", column="validation_loss", group=LOSS, label="noisy validation", moments=VALIDATED),
        _error("validation_mae", "noisy validation mean absolute error", column="validation_mae", group=ERROR, label="noisy validation", moments=VALIDATED),
        _error("train_mae", "training mean absolute error on given targets", column="train_mae", group=ERROR, label="noisy train"),
        _error("peak_memory", "peak memory in bytes", column="peak_memory", unit="count"),
        Quantity("lr", "learning rate", "lr", higher_is_better=False, moments=()),
        Quantity("evaluation_seconds", "seconds of evaluation", "evaluation_seconds", unit="s", higher_is_better=False, moments=()),
    )
}  # fmt: skip


_COLUMNS = {quantity.column: quantity for quantity in QUANTITIES.values() if quantity.column}


def moment(at: str) -> str:
    """When a quantity is taken, in words."""
    return MOMENTS.get(at, f"at {at}")


def epoch_columns() -> tuple[str, ...]:
    """The quantities that have a column of their own in the store's table of epochs."""
    return tuple(quantity.column for quantity in QUANTITIES.values() if quantity.column)


def find_quantity(name: str, known: Mapping[str, Quantity] = QUANTITIES) -> Quantity:
    """The quantity of a recorded name; ``fgsm_accuracy@0.1`` belongs to ``fgsm_accuracy``, unknown ones show plainly."""
    base, _, which = name.partition("@")
    found = known.get(base)
    if found is None:
        return Quantity(name, name)
    return dataclasses.replace(found, name=name, title=f"{found.title} {which}") if which else found


def quantities_in(connection: duckdb.DuckDBPyConnection) -> dict[str, Quantity]:
    """The harness's quantities, and those that plugins have added to the trials of a store.

    Where trials describe one differently, what most of them say holds.
    """
    lines = connection.execute(
        "SELECT name, facts FROM quantities GROUP BY ALL ORDER BY name, count(DISTINCT trial), facts"
    ).fetchall()
    found = dict(QUANTITIES)
    for name, facts in lines:
        if name not in QUANTITIES:
            found[name] = Quantity.from_json({"title": name, **json.loads(facts), "name": name})
    return found


def by_column(column: str) -> Quantity | None:
    """The quantity of a column of the table ``epochs``."""
    return _COLUMNS.get(column)


def by_curve(word: str, known: Mapping[str, Quantity] = QUANTITIES) -> Quantity | None:
    """The quantity with a curve that a word names, by its column or by its own name."""
    curves = [quantity for quantity in known.values() if quantity.column or quantity.name not in QUANTITIES]
    return next((q for q in curves if word in (q.column, q.name)), None)


def parse_metric(text: str) -> tuple[str, str]:
    """``last``, ``accuracy``, ``accuracy@best``, ``fgsm_accuracy@0.1``, ``fgsm_accuracy@0.1@selected`` as (metric, at).

    A word that says only when (``last``, ``last10``, ``selected``, ``best``, ``best_minus_last``) means the headline,
    returned as an empty name.
    """
    if text in MOMENTS:
        return "", text
    name, _, rest = text.partition("@")
    if not rest:
        return name, "last"
    first, _, second = rest.partition("@")
    if second:
        return f"{name}@{first}", second
    return (name, first) if first in MOMENTS else (f"{name}@{first}", "last")


def metric_word(name: str, at: str, headline: str) -> str:
    """The inverse of :func:`parse_metric`, the headline going without saying."""
    if name == headline:
        return at
    return name if at == "last" else f"{name}@{at}"


def offered(
    recorded: Iterable[tuple[str, str]], headline: str, known: Mapping[str, Quantity] = QUANTITIES
) -> list[tuple[str, str]]:
    """Recorded (metric, at) pairs in the order in which they are offered: the headline's, then by the table."""
    places = {name: place for place, name in enumerate(known)}
    moments = {at: place for place, at in enumerate(MOMENTS)}

    def order(pair: tuple[str, str]) -> tuple[bool, int, str, int, str]:
        name, at = pair
        place = places.get(name.partition("@")[0], len(places))
        return name != headline, place, name, moments.get(at, len(moments)), at

    return sorted({*recorded, (headline, "last")}, key=order)


def metric_help() -> str:
    """What ``--metric`` takes, for help texts."""
    named = [quantity.name for quantity in QUANTITIES.values() if quantity.paged and quantity.name not in HEADLINES]
    shown = ("fgsm_accuracy@0.1" if name == "fgsm_accuracy" else name for name in named)
    return f"{', '.join(MOMENTS)}; {', '.join(shown)}, or another recorded one."


@dataclasses.dataclass(frozen=True)
class Curves:
    """The curves that belong into one chart."""

    title: str
    unit: str
    factor: float
    curves: tuple[Quantity, ...]

    def to_json(self) -> dict[str, Any]:
        """As the static site's script reads it."""
        lines = [[quantity.column or quantity.name, quantity.label or quantity.title] for quantity in self.curves]
        return {"title": self.title, "unit": self.unit, "factor": self.factor, "curves": lines}


def curve_charts(known: Mapping[str, Quantity] = QUANTITIES) -> list[Curves]:
    """The charts of a trial's training, each with the quantities that are drawn in it, in the order of the table.

    A quantity that a plugin registers without a group has a chart of its own. Shares and other numbers never share one.
    """
    groups: dict[tuple[str, float], list[Quantity]] = {}
    for quantity in known.values():
        if quantity.group or quantity.name not in QUANTITIES:
            title = quantity.group or quantity.title[:1].upper() + quantity.title[1:]
            groups.setdefault((title, quantity.factor), []).append(quantity)
    return [
        Curves(title, members[0].unit or UNITS.get(title, ""), factor, tuple(members))
        for (title, factor), members in groups.items()
    ]


def diagnostic() -> None:
    """What algorithms record under this name in `diagnostics`."""
