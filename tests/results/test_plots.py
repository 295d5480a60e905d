"""Pictures show what the records say, in every format, and refuse in one line what they cannot show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from harness import HarnessError, load_suite, open_store, run
from harness.plugins import load_host
from harness.results.records import read_lines
from harness.results.report.figure import add_legend, make_panels, noted, save
from harness.results.report.plots import KINDS, Request, draw, kinds, suitable_kind

SMALL = """
[suite]
name = "small"
seeds = [0, 1]
[training]
epochs = 3
batch_size = 64
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[[setting]]
dataset = "digits"
model = { name = "mlp", hidden = [32] }
noise = { name = "symmetric", rate = [0.2, 0.4] }
subset = 400
"""
METHODS = """
[[method]]
name = "CE"
[[method]]
name = "SOP"
algorithms = ["sop"]
[[method]]
name = "AUX 1"
algorithms = [{ name = "aux", lam = 1.0 }]
[[method]]
name = "AUX 4"
algorithms = [{ name = "aux", lam = 4.0 }]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods, two rates, two seeds, on digits."""
    folder = tmp_path_factory.mktemp("plots")
    file = folder / "small.toml"
    file.write_text(SMALL + METHODS)
    run(load_suite(file), folder / "results", executor="inline")
    return folder / "results"


@pytest.fixture
def store(results: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_store(results) as connection:
        yield connection


def epochs_on_disk(results: Path, algorithm: str | None, rate: float) -> list[list[dict[str, Any]]]:
    """The epochs of every trial with an algorithm and a rate, straight from the records."""
    found = []
    for folder in sorted((results / "trials").iterdir()):
        identity = json.loads((folder / "attempt-001" / "trial.json").read_text())["identity"]
        names = [part["name"] for part in identity["algorithms"]]
        if names == ([algorithm] if algorithm else []) and identity["noise"]["params"]["rate"] == rate:
            found.append(read_lines(folder / "attempt-001" / "epochs.jsonl"))
    return found


def test_a_curve_is_the_mean_over_seeds_of_the_recorded_epochs(results: Path, store: Any) -> None:
    figure = draw(store, "curves", Request("small", metrics=("test_accuracy", "train_loss")))
    assert len(figure.axes) == 4  # two metrics, two settings
    for position, rate in enumerate((0.2, 0.4)):
        trials = epochs_on_disk(results, "sop", rate)
        for row, (metric, scale) in enumerate((("test_accuracy", 100), ("train_loss", 1))):
            (line,) = [item for item in figure.axes[2 * row + position].lines if item.get_label() == "SOP"]
            expected = [scale * sum(trial[e][metric] for trial in trials) / len(trials) for e in range(3)]
            assert list(line.get_xdata()) == [1, 2, 3]
            assert list(line.get_ydata()) == pytest.approx(expected)


def test_the_band_is_one_standard_deviation_to_either_side(results: Path, store: Any) -> None:
    figure = draw(store, "curves", Request("small", methods=("CE",), settings=(settings_of(store)[0],)))
    (band,) = figure.axes[0].collections
    first = [100 * trial[0]["test_accuracy"] for trial in epochs_on_disk(results, None, 0.2)]
    vertices = band.get_paths()[0].vertices
    at_first = [y for x, y in vertices if x == 1]
    mean = sum(first) / 2
    std = abs(first[0] - first[1]) / 2**0.5
    assert min(at_first) == pytest.approx(mean - std)
    assert max(at_first) == pytest.approx(mean + std)


def settings_of(store: Any) -> list[str]:
    lines = store.execute("SELECT DISTINCT setting, setting_position FROM suite_trials ORDER BY 2").fetchall()
    return [line[0] for line in lines]


MANY = 14


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen methods, two rates, one seed; the last method has a long name."""
    folder = tmp_path_factory.mktemp("many")
    file = folder / "many.toml"
    method = '[[method]]\nname = "{name}"\nalgorithms = [{{ name = "aux", lam = {lam}.0 }}]\n'
    names = [f"method {i}" for i in range(MANY - 1)] + ["a method whose name is much longer than a panel is wide"]
    small = (
        SMALL.replace('"small"', '"many"').replace("epochs = 3", "epochs = 1").replace("subset = 400", "subset = 50")
    )
    small = small.replace("seeds = [0, 1]", "seeds = [0]")
    file.write_text(small + "".join(method.format(name=name, lam=i + 1) for i, name in enumerate(names)))
    run(load_suite(file), folder / "results", executor="inline")
    return folder / "results"


@pytest.mark.parametrize("columns", [1, 2])
def test_a_large_legend_stands_below_the_panels_and_crushes_none(many: Path, columns: int) -> None:
    with open_store(many) as store:
        figure = draw(store, "curves", Request("many", settings=tuple(settings_of(store)[:columns])))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == MANY
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert axes.get_tightbbox().y0 >= box.y1
        assert axes.bbox.height / figure.dpi >= 1.2  # inches, as with a small legend


@pytest.mark.parametrize("grey", [False, True])
def test_no_two_methods_look_the_same_even_in_grey(many: Path, grey: bool) -> None:
    with open_store(many) as store:
        lines = draw(store, "curves", Request("many")).axes[0].lines
    looks = {(line.get_marker(), str(line._dash_pattern), "" if grey else line.get_color()) for line in lines}
    assert len(looks) == len(lines) == MANY


def test_a_small_legend_stays_inside_the_first_panel(store: Any) -> None:
    figure = draw(store, "curves", Request("small"))
    assert not figure.legends
    assert [axes.get_legend() is not None for axes in figure.axes] == [True, False]


def test_the_legend_names_a_method_that_the_first_setting_lacks() -> None:
    figure, panels = make_panels(1, 2)
    panels[0][0].plot([1], [1], label="here")
    panels[0][1].plot([1], [1], label="there")
    add_legend(figure, panels[0][:1], panels)
    legend = panels[0][0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["here", "there"]


def test_the_note_on_shrunken_runs_is_not_printed_over_a_large_legend() -> None:
    figure, panels = make_panels(1, 1)
    for number in range(MANY):
        panels[0][0].plot([1], [1], label=f"method {number}")
    add_legend(figure, panels[0], panels)
    noted(figure, comparable=False)
    assert figure.legends[0].get_title().get_text() == "run at --scale quick"
    assert figure.get_supxlabel() == ""


def test_a_sweep_puts_a_parameter_on_the_axis(results: Path, store: Any) -> None:
    figure = draw(store, "sweep", Request("small", x="algorithms.aux.lam"))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "algorithms.aux.lam"
    lines = [container.lines[0] for container in axes.containers]
    assert len(lines) == 2  # one for each rate
    for line, rate in zip(lines, (0.2, 0.4), strict=True):
        last: dict[float, list[float]] = {1.0: [], 4.0: []}
        for folder in (results / "trials").iterdir():
            identity = json.loads((folder / "attempt-001" / "trial.json").read_text())["identity"]
            if identity["noise"]["params"]["rate"] == rate and [p["name"] for p in identity["algorithms"]] == ["aux"]:
                records = read_lines(folder / "attempt-001" / "epochs.jsonl")
                last[identity["algorithms"][0]["params"]["lam"]].append(100 * records[-1]["test_accuracy"])
        assert list(line.get_xdata()) == [1.0, 4.0]
        assert list(line.get_ydata()) == pytest.approx([sum(last[lam]) / 2 for lam in (1.0, 4.0)])


def test_a_sweep_without_a_parameter_says_which_vary(store: Any) -> None:
    with pytest.raises(HarnessError, match=r"these vary: .*algorithms\.aux\.lam"):
        draw(store, "sweep", Request("small"))


def test_a_histogram_counts_every_training_sample_once(store: Any) -> None:
    figure = draw(store, "histogram", Request("small", score="sop.noise", methods=("SOP",)))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        stairs = [patch for patch in axes.patches if hasattr(patch, "get_data")]
        total = sum(sum(patch.get_data().values) for patch in stairs) or sum(bar.get_height() for bar in axes.patches)
        assert total == 360  # 400 less a tenth for validation


@pytest.mark.parametrize(
    ("kind", "request_", "words"),
    [
        ("curves", Request("other"), "no finished trial"),
        ("curves", Request("small", methods=("SOPP",)), "did you mean 'SOP'"),
        ("curves", Request("small", metrics=("test_accurracy",)), "did you mean 'test_accuracy'"),
        ("histogram", Request("small", score="rrm.u"), "score"),
        ("histogram", Request("small", score="sop.noise", seed=7), "seed 7"),
        ("census", Request("small"), "census"),
        ("differences", Request("small"), "differences"),
        ("recovery", Request("small"), "recovery"),
        ("phase", Request("small"), "recovery"),
        ("curvs", Request("small"), "did you mean 'curves'"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(store: Any, kind: str, request_: Request, words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        draw(store, kind, request_)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_a_picture_is_written_in_the_format_of_its_ending_and_twice_the_same(
    store: Any, tmp_path: Path, ending: str, start: bytes
) -> None:
    paths = [tmp_path / "deep" / f"{name}{ending}" for name in "ab"]
    for path in paths:
        save(draw(store, "curves", Request("small")), path, dpi=60)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(start)
    assert first == second


def test_another_ending_is_refused(store: Any, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"\.png, \.pdf, \.svg"):
        save(draw(store, "curves", Request("small")), tmp_path / "a.jpg")


def test_the_command_writes_files_and_names_them(results: Path, tmp_path: Path) -> None:
    import typer

    from harness.cli.plot import plot

    app = typer.Typer()
    app.command()(plot)
    out = [tmp_path / "a.png", tmp_path / "b.svg"]
    done = CliRunner().invoke(
        app, ["--results", str(results), "--dpi", "60", *(word for path in out for word in ("--out", str(path)))]
    )
    assert done.exit_code == 0, done.output
    assert done.output.split() == [str(path) for path in out]
    assert all(path.stat().st_size > 1000 for path in out)


# --- SOP's theory -----------------------------------------------------------------------------------------------------

THEORY = """
[suite]
name = "{name}"
seeds = [0]
[training]
epochs = 1
batch_size = 20
optimizer = {{ name = "sgd", lr = 1.0 }}
validation = 0.0
[[setting]]
dataset = {{ name = "sparse_linear", samples = 20, features = 40, rank = [2, 3] }}
noise = {{ name = "gaussian", std = 1.0, rate = [0.1, 0.2], count = "exact" }}
model = {{ name = "linear", bias = false }}
normalize = "none"
[[method]]
name = "theory"
loss = "l2"
algorithms = [{algorithm}]
"""


@pytest.mark.parametrize(
    ("kind", "algorithm", "panels"),
    [
        ("differences", '{ name = "sop_linear", alpha = [4.0, 40.0], lam = [0.1, 1.0], steps = 50 }', 2),
        ("recovery", '{ name = "sparse_recovery", lam = [0.001, 0.1], instances = 2 }', 4),
        ("phase", '{ name = "sparse_recovery", lam = [0.1], instances = 2 }', 2),
    ],
)
def test_the_theory_is_drawn_by_the_kind_that_fits_it(tmp_path: Path, kind: str, algorithm: str, panels: int) -> None:
    pytest.importorskip("cvxpy")
    file = tmp_path / "theory.toml"
    file.write_text(THEORY.format(name="theory", algorithm=algorithm))
    run(load_suite(file), tmp_path / "results", executor="inline")
    with open_store(tmp_path / "results") as store:
        request = Request("theory")
        assert suitable_kind(store, request) == kind
        figure = draw(store, kind, request)
        drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert len(drawn) == panels
        if kind == "phase":
            shares = drawn[0].collections[0].get_array()
            rows = dict(
                store.execute("SELECT trial, value FROM diagnostics WHERE name = 'theta_success@lam=0.1'").fetchall()
            )
            assert sorted(float(share) for share in shares.ravel()) == sorted(rows.values())
        if kind == "differences":
            (line,) = [item for item in drawn[0].lines if len(item.get_xdata())]
            assert [x * y for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)] == pytest.approx([4.0, 4.0])


def test_every_kind_is_documented_and_named_in_the_help() -> None:
    from harness.cli.plot import WORDS_HELP

    assert kinds() == [*KINDS, "census", "differences", "phase", "recovery"]
    assert all(name in WORDS_HELP for name in KINDS) and "harness components plot" in WORDS_HELP
    assert all(function.__doc__ for function in KINDS.values())
    assert all(load_host().registry.facts(plot).summary for plot in load_host().registry.components("plot"))


SEEDS_PLOT = """
from harness import hookimpl

def seeds(connection, request):
    \"\"\"A point for each trial's seed.\"\"\"
    from matplotlib.figure import Figure
    figure = Figure()
    rows = connection.execute("SELECT seed FROM compared WHERE suite = ?", [request.suite]).fetchall()
    figure.subplots().plot([seed for (seed,) in rows], "o")
    return figure

seeds.suits = lambda recorded: True

@hookimpl
def harness_register_plots(register):
    register("seeds", seeds)
"""


def test_a_picture_of_a_single_file_is_drawn_by_name_and_where_it_fits(results: Path, tmp_path: Path) -> None:
    import typer

    from harness.cli.plot import plot

    app = typer.Typer()
    app.command()(plot)
    (tmp_path / "seeds.py").write_text(SEEDS_PLOT)
    for kind in (["seeds"], []):
        out = tmp_path / f"{len(kind)}.svg"
        asked = [*kind, "--results", str(results), "--out", str(out), "--plugin", str(tmp_path / "seeds.py")]
        shown = CliRunner().invoke(app, asked)
        assert shown.exit_code == 0, shown.output
        assert out.read_text().count("<use ") >= 16  # four methods, two settings, two seeds
    without = CliRunner().invoke(app, ["seeds", "--results", str(results)])
    assert isinstance(without.exception, HarnessError) and "'seeds'" in str(without.exception)


HOSTILE = "$\\input{x}$ _a_ $ \\\\ \x1b[31m \u202e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Methods and a setting whose names are formulas of no sense."""
    folder = tmp_path_factory.mktemp("hostile")
    names = [HOSTILE, f"_{HOSTILE}", "$$", "$x$" * 25]
    lines = [
        f'[[method]]\nname = {json.dumps(name)}\nalgorithms = [{{ name = "aux", lam = {i}.0 }}]\n'
        for i, name in enumerate(names, 1)
    ]
    small = SMALL.replace("epochs = 3", "epochs = 1").replace(
        "subset = 400", f"subset = 50\nname = {json.dumps(HOSTILE)}"
    )
    (folder / "small.toml").write_text(small + "".join(lines))
    run(load_suite(folder / "small.toml"), folder / "results", executor="inline")
    return folder / "results"


@pytest.mark.parametrize(
    "request_", [("curves", Request("small")), ("sweep", Request("small", x="algorithms.aux.lam"))]
)
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_name_is_drawn_letter_by_letter(hostile: Path, tmp_path: Path, request_: Any, suffix: str) -> None:
    kind, request = request_
    with open_store(hostile) as store:
        figure = draw(store, kind, request)
    save(figure, tmp_path / f"a{suffix}", dpi=50)
    if suffix == ".svg" and kind == "curves":
        shown = (tmp_path / "a.svg").read_text()
        assert "$\\input{x}$" in shown and "\x1b" not in shown and r"\x1b[31m" in shown
        assert shown.count("_$\\input{x}$") == 1  # a leading underscore hides no method
