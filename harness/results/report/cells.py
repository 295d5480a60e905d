"""What a board holds: its cells, rows and marks, and how they are said."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal

from harness.results.quantities import Quantity
from harness.words import counted

COLLAPSE_AT = ("last", "selected", "best")
"""Epochs of which the largest predicted share is recorded."""


Mark = Literal["best", "equal", "undecided", "worse"]
"""How a method stands to the best of a setting: it is that one; equal to it, as far as the test can see; too noisy to
tell, where even a difference that matters would not be seen; or worse."""
TIES: tuple[Mark, ...] = ("equal", "undecided")
SIGNS: Mapping[Mark, str] = {"best": "*", "equal": "=", "undecided": "?", "worse": ""}
WORDS: Mapping[Mark, str] = {
    "best": "best of its setting",
    "equal": "equal to the best",
    "undecided": "too noisy to tell from the best",
    "worse": "worse than the best",
}


UNTRUSTED = (
    "The test labels are as given and may be wrong, as the training labels{}: what is shown is agreement with them, not "
    "accuracy on the truth."
)
TRUSTED = "The training labels are as given and may be wrong; the test labels are trusted{}."


@dataclasses.dataclass(frozen=True)
class BoardCell:
    """One method on one setting.

    Attributes:
        values: by seed; a run that diverged stands there at chance level, where the metric has one.
        expected: how many seeds the suite asks for.
        failed: runs that ended in an error: they are no result.
        quarantined: runs whose record is damaged: what it says is not shown.
        pending: seeds without a value and without an error.
        missing: how many of them another method has a value for.
        diverged: runs whose loss, weights or outputs were no longer finite.
        collapsed: runs that did not diverge and have collapsed at the shown epoch (:mod:`harness.results.collapse`);
            ``None`` where that cannot be told: in regression, and for metrics and epochs other than accuracy at
            ``last``, ``selected`` and ``best``.
        runs: runs that ended without an error, diverged ones too.
        samples: test samples of a run, in which an accuracy is counted; ``None`` where that was not recorded.
        mean, std: of the values; the sample standard deviation (ddof 1) needs two.
    """

    values: Mapping[int, float]
    expected: int
    failed: int = 0
    quarantined: int = 0
    pending: frozenset[int] = frozenset()
    missing: int = 0
    diverged: int = 0
    collapsed: int | None = None
    runs: int = 0
    samples: int | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def complete(self) -> bool:
        """Whether every run that another method has is there."""
        return bool(self.values) and not self.failed and not self.quarantined and not self.missing

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mean does not say: ``1 of 3 collapsed``, ``1 of 3 diverged``, ``1 failed``, ``1 in quarantine``."""
        failed = [f"{self.failed} failed"] if self.failed else []
        aside = [f"{self.quarantined} in quarantine"] if self.quarantined else []
        return (*fallen(self.collapsed, self.diverged, self.runs), *failed, *aside)


def fallen(collapsed: int | None, diverged: int, runs: int) -> list[str]:
    """Runs that collapsed or diverged, in words: ``1 of 3 collapsed``."""
    counts = ((collapsed, "collapsed"), (diverged, "diverged"))
    return [f"{count} of {runs} {what}" for count, what in counts if count]


@dataclasses.dataclass(frozen=True)
class BoardRow:
    """One method.

    Attributes:
        cells: by setting.
        oracle: whether it uses what only an oracle knows.
        estimated: whether it estimates that from the noisy labels.
        tries: configurations that a search tried; 1 without a search.
        rank, mean: over the settings in which anybody has a result; ``None`` where ``withheld`` says why.
        covered: settings in which it has every run that another method has.
        withheld: what is missing for a mean and a rank, in words; empty where nothing is.
    """

    method: str
    cells: dict[str, BoardCell]
    oracle: bool
    tries: int
    rank: int | None
    mean: float | None
    covered: int
    withheld: str = ""
    estimated: bool = False

    @property
    def label(self) -> str:
        """Its name with the signs of an oracle and of an estimate."""
        return self.method + " °" * self.oracle + " ≈" * self.estimated

    @property
    def failed(self) -> int:
        """Runs that ended in an error, over the settings."""
        return sum(cell.failed for cell in self.cells.values())

    @property
    def quarantined(self) -> int:
        """Runs whose record is damaged, over the settings."""
        return sum(cell.quarantined for cell in self.cells.values())

    @property
    def diverged(self) -> int:
        """Runs that diverged, over the settings; where the metric has a chance level, they count as that."""
        return sum(cell.diverged for cell in self.cells.values())

    @property
    def collapsed(self) -> int:
        """Runs that have collapsed, over the settings where that can be told."""
        return sum(cell.collapsed or 0 for cell in self.cells.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the mean does not say: ``1 of 9 collapsed``, ``1 of 9 diverged``, ``1 in quarantine``."""
        aside = [f"{self.quarantined} in quarantine"] if self.quarantined else []
        return (*fallen(self.collapsed, self.diverged, sum(cell.runs for cell in self.cells.values())), *aside)


@dataclasses.dataclass(frozen=True)
class Board:
    """A suite's table.

    Attributes:
        best: the leading methods of every setting.
        higher_is_better: of the shown quantity; ``best_minus_last`` is better low whatever the metric.
        snapshot: name of the snapshot that it was read from.
        filters: what it was narrowed to, in words; empty for a whole suite.
        search_over: ``suite`` where the parameters of each method were chosen for all settings together.
        marks: for every setting, how each comparable method stands to its best, when asked for (:func:`with_ties`).
        gaps: for every setting, the least difference from its best that would have been found with a chance of 0.8, by
            method; with the marks.
        conclusion: what can be concluded over the settings, in a sentence; empty without ties.
        owners: for a method with third-party components, the distributions or files that they come from.
        mixed: components of whose source the shown results hold several versions, with the methods that use them.
        budgets: epochs, batch size and threads of the runs of every (method, setting).
        rates: where runs estimate the share of wrong labels, their means of (estimated, true) by (method, setting); ``None`` where
            nobody knows the true one.
        trusted: for every setting of whose training labels nobody knows the truth, whether its test labels are known to
            be right.
    """

    suite: str
    metric: Quantity
    at: str
    settings: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    best: dict[str, set[str]]
    comparable: bool
    higher_is_better: bool = True
    snapshot: str = ""
    filters: tuple[str, ...] = ()
    search_over: str = "setting"
    marks: Mapping[str, Mapping[str, Mark]] = dataclasses.field(default_factory=dict)
    gaps: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    conclusion: str = ""
    owners: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    mixed: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    budgets: Mapping[tuple[str, str], Mapping[str, tuple[int, ...]]] = dataclasses.field(default_factory=dict)
    rates: Mapping[tuple[str, str], tuple[float, float | None]] = dataclasses.field(default_factory=dict)
    trusted: Mapping[str, bool] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """What is shown, in words: ``test accuracy, mean of the last 10 epochs``."""
        return self.metric.words(self.at)

    @property
    def begun(self) -> tuple[str, ...]:
        """The settings in which anybody has a result."""
        return tuple(s for s in self.settings if any(s in row.cells and row.cells[s].n for row in self.rows))

    @functools.cached_property
    def ties(self) -> dict[str, frozenset[str]]:
        """For every setting with two comparable methods: those not separable from its best, itself included."""
        return {s: frozenset(m for m, mark in marks.items() if mark != "worse") for s, marks in self.marks.items()}

    @property
    def tuning(self) -> str:
        """What the numbers of tries are and what was chosen for, in a sentence; empty where nothing was tuned."""
        if all(row.tries == 1 for row in self.rows):
            return ""
        chosen = "chosen for all settings" if self.search_over == "suite" else "chosen"
        return f"Tries: the number of candidates from which a method's parameters were {chosen}, on noisy validation."

    @property
    def caution(self) -> str:
        """What a reader must know of results that were not made alike, in sentences; empty where they were."""
        methods = {row.method for row in self.rows}
        parts = {name: [m for m in using if m in methods] for name, using in self.mixed.items()}
        said = "; ".join(f"{name} ({', '.join(using)})" for name, using in parts.items() if using)
        versions = (
            f"These results mix versions of {said}; `harness run SUITE --stale rerun` updates them." if said else ""
        )
        aside = sum(row.quarantined for row in self.rows)
        damaged = (
            f"{counted(aside, 'run is', 'runs are')} in quarantine, since its record is damaged; `harness status SUITE` "
            "says what is wrong and what to do."
            if aside
            else ""
        )
        return " ".join(part for part in (self._labels(), damaged, versions, self._differing_budgets()) if part)

    def _labels(self) -> str:
        """Which labels the numbers rest on, where nobody knows the truth of the training labels."""
        shown = [setting for setting in self.settings if setting in self.trusted]
        sentences = []
        for trusted, words in ((False, UNTRUSTED), (True, TRUSTED)):
            having = [setting for setting in shown if self.trusted[setting] is trusted]
            where = f" ({', '.join(having)})" if len(having) < len(self.settings) else ""
            sentences += [words.format(where)] if having else []
        return " ".join(sentences)

    def _differing_budgets(self) -> str:
        """Epochs, batch sizes and threads that differ within a setting, with who has which."""
        sentences = []
        for quantity in ("epochs", "batch size", "threads"):
            having: dict[int, dict[str, None]] = {}
            differ = False
            for setting in self.settings:
                here = {row.method: self.budgets.get((row.method, setting), {}).get(quantity, ()) for row in self.rows}
                if len({value for values in here.values() for value in values}) < 2:
                    continue
                differ = True
                for method, values in here.items():
                    for value in values:
                        having.setdefault(value, {})[method] = None
            if differ:
                usual = max(having, key=lambda value: len(having[value]))
                rest = [f"{value} ({', '.join(using)})" for value, using in sorted(having.items()) if value != usual]
                why = ", which changes results" if quantity == "threads" else ""
                sentences.append(f"Runs differ in {quantity}{why}: {', '.join(rest)}; the others {usual}.")
        return " ".join(sentences)


def shorten(settings: tuple[str, ...]) -> dict[str, str]:
    """Settings' names without the parts that all share, for column heads; the whole name where nothing is left."""
    split = {name: name.split(" / ") for name in settings}
    if len(split) < 2 or len({len(parts) for parts in split.values()}) > 1:
        return {name: name for name in settings}
    columns = list(zip(*split.values(), strict=True))
    varying = [position for position, column in enumerate(columns) if len(set(column)) > 1]
    return {name: " / ".join(parts[position] for position in varying) or name for name, parts in split.items()}


def cell_text(cell: BoardCell | None, metric: Quantity) -> str:
    """``97.31 ± 0.12 (3)``; a single value alone; ``failed`` or ``-`` without one; ``(2/3)`` where seeds are missing."""
    if cell is None or cell.mean is None:
        return "failed" if cell is not None and cell.failed else "-"
    count = f"({cell.n})" if cell.n == cell.expected else f"({cell.n}/{cell.expected})"
    spread = f" ± {metric.show(cell.std)}" if cell.std is not None else ""
    return f"{metric.show(cell.mean)}{spread} {count}"


def mark_words(board: Board, mark: Mark) -> str:
    """What a mark means on this board; where it is ``undecided``, with the gaps that would have been seen."""
    unseen = [
        board.gaps[setting][method]
        for setting, marks in board.marks.items()
        for method, found in marks.items()
        if found == "undecided" == mark and method in board.gaps[setting]
    ]
    if not unseen:
        return WORDS[mark]
    few, many = (f"{board.metric.show(gap)}" for gap in (min(unseen), max(unseen)))
    reach = few if few == many else f"{few} to {many}"
    return f"{WORDS[mark]} (the least gap that is found with a chance of 0.8: {reach})"


def mark_of(board: Board, method: str, setting: str) -> Mark | None:
    """How a method stands to the best of a setting; without ties only who is the best."""
    if method in board.best.get(setting, ()):
        return "best"
    return board.marks.get(setting, {}).get(method)
