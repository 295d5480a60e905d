"""What all pictures share: the style, panels, lines that grey tells apart, legends, and how a figure is written.

Figures are built without pyplot, so no state is shared and no display is needed.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError, writing
from harness.foreign import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette: told apart by colour-blind readers."""
MARKERS = "osD^vP*X"
LINES: Any = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))
MARKED = 6
"""Points of a curve that carry its marker, at most."""
MOST_INSIDE, WIDEST_INSIDE = 5, 20
"""Entries of a legend and characters of one that fit into a panel; a larger legend stands below the panels."""
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "text.usetex": False,
}
PANEL = (2.6, 2.1)
"""Inches of one panel; two fill a text column of most proceedings."""
MOST_PANELS = 12
TITLE_WIDTH, LABEL_WIDTH = 34, 26
"""Characters of a title that fit over a panel, and of a label that fit beside it."""


def save(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write a figure in the format of its ending; the same figure gives the same file.

    Raises:
        ResultsError: for another ending, or a folder that cannot be written.
    """
    import matplotlib

    if path.suffix.lower() not in FORMATS:
        raise ResultsError(
            f"cannot write a picture as {path.suffix or 'nothing'!r}", str(path), f"end it in {', '.join(FORMATS)}"
        )
    metadata: dict[str, Any] = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            figure.savefig(path, dpi=dpi, metadata=metadata[path.suffix.lower()])


def make_panels(rows: int, columns: int, width: float = 1.0, height: float = 1.0) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    if columns > MOST_PANELS:
        raise ResultsError(f"{columns} panels side by side are too many", "plot", "choose with --setting and --method")
    figure = Figure(figsize=(PANEL[0] * columns * width, PANEL[1] * rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def line_look(number: int) -> dict[str, Any]:
    """Colour, line and marker of the n-th line: line and marker alone, as in grey, tell 32 apart, with colour 256."""
    count, more = len(COLOURS), number // (len(COLOURS) * len(LINES))
    return {
        "color": COLOURS[number % count],
        "linestyle": LINES[number // count % len(LINES)],
        "marker": MARKERS[(number + more) % len(MARKERS)],
        "markersize": 3,
    }


def add_legend(figure: Figure, homes: Sequence[Axes], panels: Sequence[Sequence[Axes]]) -> None:
    """What is what: inside the panels ``homes`` where it is small, else once below all, for which the figure grows."""
    if len(homes) == 1:
        entries = [_entries(axes for row in panels for axes in row)]
    else:
        entries = [_entries([axes]) for axes in homes]
    if all(len(found) <= MOST_INSIDE and max(map(len, found), default=0) <= WIDEST_INSIDE for found in entries):
        for axes, found in zip(homes, entries, strict=True):
            axes.legend(list(found.values()), list(found))
        return
    every = {label: line for found in entries for label, line in found.items()}
    count = len(every)
    for rows in range(1, count + 1):
        legend = figure.legend(
            list(every.values()),
            ["\n".join(textwrap.wrap(label, TITLE_WIDTH)) for label in every],
            loc="outside lower center",
            ncols=math.ceil(count / rows),
            handlelength=3,
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or rows == count:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + box.height / figure.dpi)


def _entries(panels: Iterable[Axes]) -> dict[str, Any]:
    """The labelled lines of some panels, one for each label: a method may be in some settings only."""
    found: dict[str, Any] = {}
    for axes in panels:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, line)
    return found


def spelled(name: str, width: int | None = None) -> str:
    """A name as matplotlib draws it letter by letter: ``$`` starts no formula, a leading ``_`` hides no line.

    Every word that a plot has not written itself passes here; ``width`` wraps it.
    """
    shown = printable(name)
    lines = textwrap.wrap(shown, width) if width is not None else [shown]
    return ("\u2009" if name.startswith("_") else "") + "\n".join(lines).replace("$", r"\$")


def noted(figure: Figure, comparable: bool) -> Figure:
    """A line under pictures of shrunken runs, so that nobody takes them for the paper's scale."""
    if comparable:
        return figure
    note, grey = "run at --scale quick", "#7F7F7F"
    for legend in figure.legends:  # it has the place of the line: matplotlib would print one over the other
        legend.set_title(note)
        legend.get_title().set(fontsize=6, color=grey)
    if not figure.legends:
        figure.supxlabel(note, fontsize=6, color=grey, x=0.99, ha="right")
    return figure
