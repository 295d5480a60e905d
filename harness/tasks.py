"""The tasks that a data set may pose, as a table: what is measured of each, and what an epoch is selected by.

Whatever depends on the task asks this table; what is done with tensors stands in the table beside it,
:mod:`harness.training.tasks`. This module imports nothing heavy: suites and boards read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """One task.

    Attributes:
        metrics: the quantities that rank methods, taken on test at every epoch; the first one is the headline.
        selection: the column of noisy validation by which an epoch, and a candidate of a search, is chosen.
        higher_is_better: of ``selection``.
        curves: the columns that are drawn over epochs unless others are asked for.
        unit: the unit of the headline where all data sets share it; empty where each has its own.
        loss: the plain loss by name: what is trained with where no loss is named, and what a page compares with first.
    """

    metrics: tuple[str, ...]
    selection: str
    higher_is_better: bool
    curves: tuple[str, ...]
    unit: str
    loss: str

    @property
    def headline(self) -> str:
        """What a suite is ranked by unless another metric is asked for."""
        return self.metrics[0]

    def selected_by(self, values: Mapping[str, float | None]) -> float | None:
        """What an epoch with these values is selected by, so that higher is better; ``None`` without validation."""
        value = values.get(self.selection)
        return None if value is None else value if self.higher_is_better else -value


TASKS: dict[str, TaskFacts] = {
    "classification": TaskFacts(("accuracy",), "validation_accuracy", True, ("test_accuracy",), "%", "ce"),
    "multilabel": TaskFacts(
        ("mean_average_precision", "subset_accuracy"),
        "validation_average_precision",
        True,
        ("test_average_precision",),
        "%",
        "bce",
    ),
    "regression": TaskFacts(("mae", "rmse"), "validation_loss", False, ("train_mae", "mae"), "", "l2"),
}
HEADLINES: tuple[str, ...] = tuple(facts.headline for facts in TASKS.values())


def headline_of(recorded: Iterable[str]) -> str:
    """The headline of a suite whose trials have recorded these metrics: that of the last task in the table that any has."""
    names = set(recorded)
    return next((name for name in reversed(HEADLINES) if name in names), HEADLINES[0])
