"""A metric that one file registers reaches board, page, site, plot, export and docs, and changes nothing else."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness_leaderboard import queries
from harness_leaderboard.shell import metric_choices
from harness_leaderboard.site import publish
from test_one_rank import terminal
from test_pages import html_of, words_of
from typer.testing import CliRunner

import harness
from harness.cli.main import app as commands
from harness.errors import ResultsError, SuiteError
from harness.execution.orchestrate import Orchestrator
from harness.plugins import Host
from harness.results.quantities import Quantity, quantities_in
from harness.results.records import final_attempt, open_results, read_json, read_lines, trial_folder
from harness.results.report import read_board
from harness.results.report.export import caption, to_csv
from harness.results.report.plots import Request, draw
from harness.results.store import collect
from harness.suite.load import load_suite

MINE = '''
"""Metrics of a user's own, in one file."""
import torch
from harness import hookimpl

def wrong(outputs, clean):
    """Share of the test samples that are predicted wrongly."""
    return (outputs.argmax(1) != clean).double().mean()

def fitted(outputs, targets, clean):
    """Share of the training samples that are predicted as given though the given label is wrong."""
    return ((outputs.argmax(1) == targets) & (targets != clean)).double().mean()

class Count:
    """Records the number of the epoch."""
    def setup(self, run):
        self.run = run
    def diagnostics(self, run):
        return {"seen.epochs": float(run.epoch), "other": 1.0}

@hookimpl
def harness_register_algorithms(register):
    register("count", Count)

@hookimpl
def harness_register_metrics(register):
    register("wrong", wrong, title="wrong predictions", percent=True, higher_is_better=False, group="Accuracy", label="wrong")
    register("fitted", fitted, title="fitted wrong labels", percent=True, higher_is_better=False, on="train")
    register("seen.epochs", title="epochs seen", unit="count")
'''
SUITE = """
[suite]
name = "added"
seeds = [0, 1]
[training]
epochs = 3
batch_size = 64
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[evaluation]
train_every = 2
initial = true
METRICS
[execution]
keep = true
[[setting]]
dataset = "digits"
model = { name = "mlp", hidden = [32] }
noise = { name = "symmetric", rate = 0.4 }
[[method]]
name = "CE"
algorithms = ["count"]
[[method]]
name = "MAE"
loss = "mae"
"""
ASKED = ("wrong", "fitted", "balanced_accuracy", "class_average_precision")


def written(folder: Path, metrics: tuple[str, ...]) -> tuple[Path, Path]:
    """A suite that asks for some metrics, and the plugin beside it."""
    folder.mkdir(exist_ok=True)
    plugin, suite = folder / "mine.py", folder / "suite.toml"
    plugin.write_text(MINE)
    suite.write_text(SUITE.replace("METRICS", f"metrics = {json.dumps(list(metrics))}" if metrics else ""))
    return suite, plugin


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the suite with its metrics."""
    folder = tmp_path_factory.mktemp("added")
    suite, plugin = written(folder, ASKED)
    results = open_results(folder / "results")
    Orchestrator(load_suite(suite, plugins=[plugin]), results, "inline").run()
    return results


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the same suite without them."""
    folder = tmp_path_factory.mktemp("plain")
    suite, plugin = written(folder, ())
    results = open_results(folder / "results")
    Orchestrator(load_suite(suite, plugins=[plugin]), results, "inline").run()
    return results


@pytest.fixture
def store(ran: Path) -> Iterator[Any]:
    with harness.open_store(ran) as connection:
        yield connection


def records(results: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    found = {}
    for folder in sorted((results / "trials").iterdir()):
        attempt = final_attempt(folder)
        assert attempt is not None
        found[folder.name] = attempt, read_json(attempt / "result.json")
    return found


def test_ids_and_all_other_numbers_are_those_without_the_metrics(ran: Path, plain: Path) -> None:
    with_them, without = records(ran), records(plain)
    assert list(with_them) == list(without) and len(without) == 4
    for trial, (attempt, result) in with_them.items():
        theirs = without[trial][1]
        added = set(result["metrics"]) - set(theirs["metrics"])
        assert added == {"wrong", "fitted", "balanced_accuracy", *(f"class_average_precision@{k}" for k in range(10))}
        assert {name: result["metrics"][name] for name in theirs["metrics"]} == theirs["metrics"]
        lines, their_lines = (read_lines(place / "epochs.jsonl") for place in (attempt, without[trial][0]))
        for line, other in zip(lines, their_lines, strict=True):
            assert {key: line[key] for key in other} == other
        assert "metrics" not in read_json(without[trial][0] / "trial.json")["options"]


def test_what_algorithms_record_is_a_metric_without_being_asked_for(plain: Path) -> None:
    values = [result["metrics"].get("seen.epochs") for _, result in records(plain).values()]
    assert [value for value in values if value] == [
        {"last": 3.0, "last10": 2.0, "selected": value["selected"]} for value in values if value
    ]
    assert sum(value is not None for value in values) == 2
    for _, result in records(plain).values():
        assert set(result.get("quantities", {})) == ({"seen.epochs"} if "seen.epochs" in result["metrics"] else set())


def test_values_are_those_of_the_function_at_every_epoch_and_moment(ran: Path) -> None:
    for attempt, result in records(ran).values():
        lines = read_lines(attempt / "epochs.jsonl")
        assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
        wrong = [line["wrong"] for line in lines]
        assert wrong == pytest.approx([1 - line["test_accuracy"] for line in lines])
        accuracy = [line["test_accuracy"] for line in lines]
        selected = result["selected_epoch"]
        assert result["metrics"]["wrong"] == {
            "last": wrong[-1],
            "last10": pytest.approx(sum(wrong[1:]) / 3),
            "selected": wrong[selected],
            "best": wrong[accuracy.index(max(accuracy))],
        }
        fitted = [line.get("fitted") for line in lines]
        assert [value is not None for value in fitted] == [True, False, True, True]
        noisy = [line["memorisation"] * result["corrupted"] for line in lines if line.get("fitted") is not None]
        assert [value for value in fitted if value is not None] == pytest.approx(noisy, rel=1e-5)
        assert result["metrics"]["fitted"] == {"last": fitted[-1]}


def test_the_store_tells_every_metric_without_the_plugin(store: Any) -> None:
    known = quantities_in(store)
    assert "wrong" not in Host().registry.names("metric")
    assert known["wrong"] == Quantity(
        "wrong", "wrong predictions", unit="%", percent=True, higher_is_better=False, group="Accuracy", label="wrong",
        moments=("last", "last10", "selected", "best"), paged=True,
    )  # fmt: skip
    assert known["fitted"].moments == ("last",) and known["seen.epochs"].unit == "count"
    assert not known["class_average_precision"].paged


def test_the_board_ranks_by_it_in_its_own_direction(store: Any) -> None:
    by_accuracy, by_errors = read_board(store, "added"), read_board(store, "added", "wrong@best")
    assert [row.method for row in by_errors.rows] == [row.method for row in by_accuracy.rows]
    assert not by_errors.higher_is_better and by_errors.rows[0].mean < by_errors.rows[1].mean
    assert "wrong predictions, at the best epoch on" in terminal(by_errors)
    assert "wrong predictions in %" in caption(read_board(store, "added", "wrong"))
    lines = list(csv.DictReader(io.StringIO(to_csv(by_errors))))
    assert {(line["metric"], line["at"]) for line in lines} == {("wrong", "best")}
    each = read_board(store, "added", "class_average_precision@3")
    assert each.title == "average precision on test of class 3" and each.rows[0].mean > 0.3
    with pytest.raises(ResultsError, match="class_average_precision@0"):
        read_board(store, "added", "class_average_precision")
    with pytest.raises(ResultsError, match="did you mean 'wrong'"):
        read_board(store, "added", "wrog")


def test_the_page_offers_and_shows_it(ran: Path, app: Any, store: Any) -> None:
    snapshot = str(next((ran / "store").glob("*.duckdb")))
    choices = metric_choices(snapshot, "added")
    assert choices["wrong"] == "wrong predictions" and next(iter(choices)) == "last"
    html = html_of(app(ran, metric="wrong"))
    assert "Wrong predictions (%); lower is better" in words_of(html)
    trial = next(iter(queries.cell_trials(Path(snapshot), "added").values()))
    shown = words_of(html_of(app(ran, "trial", trial=trial)))
    assert "wrong predictions (%)" in shown and "fitted wrong labels (%)" in shown and "epochs seen" in shown


def test_the_site_has_its_pages_and_its_curves(ran: Path, tmp_path: Path) -> None:
    publish(ran, tmp_path / "site")
    names = {path.name for path in (tmp_path / "site").glob("added--*.html")}
    assert "added--wrong.html" in names and "added--balanced-accuracy-selected.html" in names
    assert not [name for name in names if "class-average" in name or "wrong-best" in name]
    about = (tmp_path / "site" / "data" / "about.js").read_text()
    charts = {chart["title"]: chart for chart in json.loads(about[len("about(") : -len(");\n")])["charts"]}
    assert ["wrong", "wrong"] in charts["Accuracy"]["curves"]
    script = next((tmp_path / "site" / "data" / "trials").glob("*.js")).read_text()
    (trial, *_) = json.loads(script[len("trials(") : -len(");\n")]).values()
    assert trial["further"]["wrong"]["x"] == [0, 1, 2, 3] and len(trial["further"]["wrong"]["y"]) == 4


def test_its_curve_is_drawn(store: Any) -> None:
    figure = draw(store, "curves", Request("added", metrics=("wrong", "test_accuracy")))
    wrong, accuracy = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert list(wrong) == pytest.approx([100 - value for value in accuracy])
    assert figure.axes[0].get_ylabel() == "wrong predictions [%]"


def test_a_kept_state_is_measured_later_as_it_would_have_been(plain: Path, ran: Path) -> None:
    suite, plugin = written(plain.parent / "later", ())
    words = ["evaluate", str(suite), "--results", str(plain), "--plugin", str(plugin)]
    done = CliRunner().invoke(
        commands, [*words, "--metric", "wrong", "--metric", "fitted", "--metric", "balanced_accuracy"]
    )
    assert done.exit_code == 0, done.output
    measured = records(ran)
    for trial in records(plain):
        later = read_json(trial_folder(plain, trial) / "evaluations.json")
        for name in ("wrong", "fitted", "balanced_accuracy"):
            assert later["metrics"][name]["last"] == measured[trial][1]["metrics"][name]["last"]
        assert later["metrics"]["wrong"]["selected"] == measured[trial][1]["metrics"]["wrong"]["selected"]
    with harness.open_store(plain) as connection:
        board = read_board(connection, "added", "wrong")
        assert board.title == "wrong predictions" and all(row.mean is not None for row in board.rows)


def test_a_metric_that_nobody_knows_or_can_measure_later_is_refused_by_the_command(plain: Path) -> None:
    suite, plugin = written(plain.parent / "later", ())
    words = ["evaluate", str(suite), "--results", str(plain), "--plugin", str(plugin)]
    for name, why in (
        ("wrog", "did you mean 'wrong'"),
        ("seen.epochs", "recorded by algorithms"),
        ("open_set_auroc", "judges scores of samples, which no kept state holds"),
    ):
        done = CliRunner().invoke(commands, [*words, "--metric", name])
        assert done.exit_code != 0 and why in str(done.exception or "") + done.output


@pytest.mark.parametrize(
    "asked, why",
    [
        (("wrog",), r"evaluation\.metrics: .*'wrog'.*did you mean 'wrong'"),
        (("wrong", "wrong"), "is listed twice"),
        (("seen.epochs",), "is what an algorithm records"),
    ],
)
def test_a_suite_that_asks_for_what_cannot_be_measured_is_refused(
    tmp_path: Path, asked: tuple[str, ...], why: str
) -> None:
    suite, plugin = written(tmp_path, asked)
    with pytest.raises(SuiteError, match=why):
        load_suite(suite, plugins=[plugin])


def test_a_metric_for_another_task_is_refused_with_the_reason(tmp_path: Path) -> None:
    suite, plugin = written(tmp_path, ("wrong",))
    text = (
        suite.read_text()
        .replace('"digits"', '"linear_regression"')
        .replace('"symmetric", rate = 0.4', '"gaussian", std = 0.1')
    )
    suite.write_text(
        text.replace('name = "CE"\nalgorithms = ["count"]', 'name = "L2"\nloss = "l2"').replace('"mae"', '"l1"')
    )
    with pytest.raises(
        SuiteError, match="'wrong' is for classification, data set 'linear_regression' is for regression"
    ):
        load_suite(suite, plugins=[plugin])


OWN_NAME = """
from harness import hookimpl
def accuracy(outputs, targets):
    'Another accuracy.'
    return 0.5
def odd(logits):
    'A function of what it is not given.'
    return 0.5
@hookimpl
def harness_register_metrics(register):
    register("accuracy", accuracy, title="another accuracy")
    register("odd", odd, title="an odd number")
"""


@pytest.mark.parametrize("name, why", [("accuracy", "a name of the harness's own"), ("odd", "takes 'logits'")])
def test_a_metric_with_a_taken_name_or_a_strange_argument_is_refused(tmp_path: Path, name: str, why: str) -> None:
    suite, plugin = written(tmp_path, (name,))
    other = tmp_path / "other.py"
    other.write_text(OWN_NAME)
    with pytest.raises(SuiteError, match=why):
        load_suite(suite, plugins=[plugin, other])


@pytest.mark.parametrize(
    "words, why",
    [
        ("register('a', f)", "title"),
        ("register('a', f, title='')", "a title says"),
        ("register('a', f, title='a', tasks=('clasification',))", "did you mean 'classification'"),
        ("register('a', f, title='a', on='validation')", "on is 'test', 'train' or 'scores'"),
    ],
)
def test_a_registration_that_says_too_little_breaks_its_plugin_and_no_other(
    tmp_path: Path, words: str, why: str
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        "from harness import hookimpl\ndef f(outputs):\n    'F.'\n"
        f"@hookimpl\ndef harness_register_metrics(register):\n    {words}\n"
    )
    host = Host([file])
    (broken,) = [plugin for plugin in host.plugins if plugin.error]
    assert broken.owner == str(file) and re.search(why, broken.error)
    assert "balanced_accuracy" in host.registry.names("metric") and "a" not in host.registry.names("metric")


NAN = """
import harness, torch
class Mine:
    'A loss that is no number from the second epoch on.'
    late = False
    def __call__(self, outputs, targets, index):
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none") * (float("nan") if self.late else 1.0)
    def epoch_start(self, run):
        self.late = run.epoch == 2
@harness.hookimpl
def harness_register_losses(register):
    register("late", Mine)
"""


def test_a_run_that_diverged_counts_as_chance_where_the_metric_says_what_that_is(tmp_path: Path) -> None:
    suite, plugin = written(tmp_path, ("balanced_accuracy", "wrong"))
    late = tmp_path / "late.py"
    late.write_text(NAN)
    suite.write_text(
        suite.read_text().replace('loss = "mae"', 'loss = "late"').replace("seeds = [0, 1]", "seeds = [0]")
    )
    results = open_results(tmp_path / "results")
    Orchestrator(load_suite(suite, plugins=[plugin, late]), results, "inline").run()
    collect(results)
    with harness.open_store(results) as connection:
        rows = {row.method: row for row in read_board(connection, "added", "balanced_accuracy").rows}
        assert rows["MAE"].mean == pytest.approx(0.1) and rows["MAE"].diverged == 1 and rows["CE"].mean > 0.2
        rows = {row.method: row for row in read_board(connection, "added", "wrong").rows}
        assert rows["MAE"].mean is None and rows["MAE"].withheld and rows["CE"].mean is not None
