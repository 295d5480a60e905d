"""A search: which candidate is chosen, for one setting or for all of them, and how many tries that were."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.suite.search
from harness.errors import HarnessError, SuiteError
from harness.suite.load import Suite, load_suite
from harness.suite.plan import Plan, make_plan

Write = Callable[..., Path]
RATES = '{ name = "symmetric", rate = [0.2, 0.4] }'
SEARCH = 'search = { "optimizer.lr" = [0.01, 0.1, 1.0] }'
LOW, HIGH = "digits / mlp 32 / symmetric 0.2", "digits / mlp 32 / symmetric 0.4"


def two_settings(write: Write, over: str = "suite", methods: str = f'[[method]]\nname = "CE"\n{SEARCH}') -> Suite:
    keys = f'tuning_seeds = [100, 101]\nsearch_over = "{over}"'
    return load_suite(write(suite=keys, noise=RATES, methods=methods, training="validation = 0.2"))


Scores = dict[str, list[list[float | None]]]
Planned = Callable[[Suite, Scores], Plan]
FAILED, MISSING = None, float("nan")


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Planned:
    """A plan that finds these scores of the method CE: by setting, for every candidate one of each tuning seed."""

    def make(suite: Suite, scores: Scores) -> Plan:
        found: dict[str, list[float] | None] = {}
        for setting in suite.settings:
            for template, values in zip(suite.templates(suite.methods[0], setting), scores[setting.name], strict=True):
                for seed, value in zip(suite.table.tuning_seeds, values, strict=True):
                    score = [] if value is FAILED else None if math.isnan(value) else [value]
                    found[template.entry(seed).trial.id] = score
        monkeypatch.setattr(harness.suite.search, "_validation", lambda results, trial: found[trial.id])
        return make_plan(suite, tmp_path / "results")

    return make


SCORES: Scores = {
    LOW: [[0.60, 0.60], [0.90, 0.90], [0.80, 0.82]],  # the second is the best here,
    HIGH: [[0.70, 0.72], [0.40, 0.40], [0.60, 0.60]],  # the first is here, and the third over both
}


def test_over_the_suite_the_best_mean_over_settings_of_the_means_over_seeds_is_chosen_for_all(
    write_suite: Write, planned: Planned
) -> None:
    suite = two_settings(write_suite)
    plan = planned(suite, SCORES)
    assert set(plan.chosen) == {("CE", LOW), ("CE", HIGH)}
    assert [dict(values) for values in plan.chosen.values()] == [{"optimizer.lr": 1.0}] * 2
    (search,) = plan.searches
    assert [c.score for c in search.candidates] == pytest.approx([0.655, 0.65, 0.705])
    compared = [p for p in plan.trials if not p.entry.tuning]
    assert [p.entry.setting for p in compared] == [LOW, HIGH]
    assert {p.trial.identity["training"]["optimizer"]["lr"] for p in compared} == {1.0}
    assert plan.tries == {"CE": 3} and plan.waiting == 0 and not plan.notes


def test_over_settings_each_has_its_own_choice(write_suite: Write, planned: Planned) -> None:
    plan = planned(two_settings(write_suite, "setting"), SCORES)
    assert {key: values["optimizer.lr"] for key, values in plan.chosen.items()} == {
        ("CE", LOW): 0.1,
        ("CE", HIGH): 0.01,
    }


def test_a_candidate_that_failed_anywhere_is_out_everywhere_and_all_wait_until_the_last_is_done(
    write_suite: Write, planned: Planned
) -> None:
    suite = two_settings(write_suite)
    plan = planned(suite, {**SCORES, LOW: [[0.6, 0.6], [0.9, 0.9], [0.8, FAILED]]})
    assert {values["optimizer.lr"] for values in plan.chosen.values()} == {0.01} and plan.tries == {"CE": 2}
    (note,) = plan.notes
    assert "the search of CE over all settings chose among 2 of 3 candidates" in note
    waiting = planned(suite, {**SCORES, LOW: [[0.6, 0.6], [0.9, 0.9], [0.8, MISSING]]})
    assert waiting.waiting == 2 and not waiting.chosen and waiting.tries == {"CE": 3}


def test_a_search_over_the_suite_in_which_nothing_is_whole_chooses_nothing(
    write_suite: Write, planned: Planned
) -> None:
    plan = planned(two_settings(write_suite), {**SCORES, HIGH: [[0.6, FAILED]] * 3})
    assert plan.undecided == 1 and not plan.chosen
    assert "no candidate has a noisy-validation score on every setting and tuning seed" in plan.notes[0]


def test_the_scope_of_a_search_is_in_no_trials_id(write_suite: Write) -> None:
    def tuned(over: str) -> set[str]:
        suite = two_settings(write_suite, over)
        plan = make_plan(suite, Path("nowhere"))
        return {p.id for p in plan.trials}

    assert tuned("suite") == tuned("setting")


def test_tries_of_another_search_are_declared_and_are_in_no_trials_id(write_suite: Write, tmp_path: Path) -> None:
    def made(methods: str) -> Plan:
        return make_plan(load_suite(write_suite(methods=methods)), tmp_path)

    plain, declared = made('[[method]]\nname = "CE"'), made('[[method]]\nname = "CE"\ntries = 8')
    assert [p.id for p in plain.trials] == [p.id for p in declared.trials]
    assert (plain.manifest()["tries"], declared.manifest()["tries"]) == ({"CE": 1}, {"CE": 8})
    assert not declared.notes and "search_over" not in plain.manifest()


def test_unequal_tries_are_noted_also_where_a_method_was_not_tuned_at_all(write_suite: Write, tmp_path: Path) -> None:
    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "GCE"\nloss = "gce"\ntries = 4'
    (note,) = make_plan(load_suite(write_suite(methods=methods)), tmp_path).notes
    assert "unequal numbers of tries (CE 1, GCE 4)" in note


def test_a_suite_may_search_only_and_says_what_it_chose(write_suite: Write, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from harness.cli.main import app

    methods = '[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [1e-6, 0.1] }'
    path = write_suite(training="validation = 0.2", methods=methods)
    path.write_text(path.read_text().replace("seeds = [0]", "seeds = []\ntuning_seeds = [100]\nsearch_over = 'suite'"))
    results = ["--results", str(tmp_path / "results")]
    ran = CliRunner().invoke(app, ["run", str(path), "--executor", "inline", *results])
    assert ran.exit_code == 0 and "chosen for all settings: CE: optimizer.lr = 0.1 (2 tries)" in ran.output
    assert all(p.entry.tuning for p in make_plan(load_suite(path), tmp_path / "results").trials)
    with pytest.raises(HarnessError, match=r"holds tuning trials only.*`harness plan` shows what was chosen"):
        CliRunner().invoke(app, ["board", *results], catch_exceptions=False)
    path.write_text(path.read_text().replace("search = {", "# search = {"))
    with pytest.raises(SuiteError, match=r"suite\.seeds: the list is empty; name at least one"):
        load_suite(path)


REGRESSION = """
[suite]
name = "r"
seeds = [0]
tuning_seeds = [100]
search_over = "suite"
{settings}
[[method]]
name = "L"
loss = "{loss}"
search = {{ "optimizer.lr" = [0.01, 0.1] }}
"""
LINEAR = '[[setting]]\ndataset = "linear_regression"\nmodel = "linear"\nnoise = { name = "gaussian", std = 0.1 }\n'
SPARSE = '[[setting]]\ndataset = "sparse_linear"\nmodel = "linear"\n'


def test_losses_of_several_data_sets_have_no_mean(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(REGRESSION.format(settings=LINEAR + SPARSE, loss="l2"))
    with pytest.raises(
        SuiteError, match=r"suite\.search_over: the mean over .* has no unit.*search_over = \"setting\""
    ):
        load_suite(path)
    path.write_text(REGRESSION.format(settings=LINEAR, loss="l2"))
    assert load_suite(path).table.search_over == "suite"


def test_a_method_that_searches_counts_its_own_tries(write_suite: Write) -> None:
    with pytest.raises(SuiteError, match=r"method\[0\] \(CE\)\.tries: a method that searches counts its own"):
        two_settings(write_suite, methods=f'[[method]]\nname = "CE"\ntries = 2\n{SEARCH}')


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A suite whose two methods were tuned over both settings, run."""
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("searched")
    methods = '[[method]]\nname = "CE"\nsearch = { "optimizer.lr" = [1e-6, 0.1] }\n'
    methods += '[[method]]\nname = "GCE"\nloss = "gce"\ntries = 8\n'
    parts = {"evaluation": "", "tables": "", "setting": "subset = 200", "training": "validation = 0.2"}
    path = folder / "suite.toml"
    path.write_text(
        SMALL.format(
            suite='tuning_seeds = [100]\nsearch_over = "suite"', epochs=2, noise=RATES, methods=methods, **parts
        )
    )
    return path, folder / "results", harness.run(path, folder / "results", executor="inline")


def test_tries_reach_the_store_and_every_form_of_export(ran: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from harness.results.report import read_board
    from harness.results.report.export import export

    _, results, plan = ran
    assert plan.manifest()["search_over"] == "suite"
    with harness.open_store(results) as store:
        found = store.execute(
            "SELECT DISTINCT method, tries, search_over FROM suite_trials WHERE NOT tuning"
        ).fetchall()
        board = read_board(store)
    assert set(found) == {("CE", 2, "suite"), ("GCE", 8, "suite")}
    for line in json.loads(export(board, "json", None) or ""):
        assert line["tries"] == {"CE": 2, "GCE": 8}[line["method"]]
    header, *lines = (export(board, "csv", None) or "").splitlines()
    column = header.split(",").index("tries")
    assert {line.split(",")[column] for line in lines} == {"2", "8"}
    export(board, "parquet", tmp_path / "board.parquet")
    assert set(pq.read_table(tmp_path / "board.parquet")["tries"].to_pylist()) == {2, 8}
    markdown, latex = export(board, "markdown", None) or "", export(board, "latex", None) or ""
    assert "| method | tries |" in markdown and "| GCE | 8 |" in markdown
    assert "Method & Tries &" in latex and "GCE & 8 &" in latex
    for text in (markdown, latex):
        assert "were chosen for all settings, on noisy validation" in text


def test_plan_and_board_say_that_the_choice_is_for_all_settings(ran: Any) -> None:
    from typer.testing import CliRunner

    from harness.cli.main import app

    path, results, _ = ran
    said = CliRunner().invoke(app, ["plan", str(path), "--results", str(results)]).output
    assert "chosen for all settings: CE: optimizer.lr = 0.1 (2 tries)" in said
    told = json.loads(CliRunner().invoke(app, ["plan", str(path), "--results", str(results), "--json"]).output)
    (search,) = told["searches"]
    assert [c["chosen"] for c in search["candidates"]] == [False, True] and len(search["settings"]) == 2
    assert told["tries"] == {"CE": 2, "GCE": 8}
    said = CliRunner().invoke(app, ["board", "--results", str(results)]).output
    rows = {cells[2]: cells[3] for line in said.splitlines() if len(cells := re.split(r"\s*[│┃]\s*", line)) > 4}
    assert (rows["CE"], rows["GCE"]) == ("2", "8") and "chosen for all settings" in " ".join(said.split())


def test_a_board_of_which_nothing_was_tuned_says_nothing_of_tries(write_suite: Write, tmp_path: Path) -> None:
    from harness.results.report import read_board
    from harness.results.report.export import export

    path = write_suite(setting="subset = 100", epochs=1)
    harness.run(path, tmp_path / "results", executor="inline")
    with harness.open_store(tmp_path / "results") as store:
        board = read_board(store)
    assert all("ries" not in (export(board, form, None) or "") for form in ("markdown", "latex"))
