"""The default suite says what its search found: benchmarks.toml is tuning.toml with the choices put in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.results.records import open_results
from harness.results.records.archive import unpack
from harness.suite.load import Suite, load_suite
from harness.suite.plan import Plan, make_plan
from harness.trial import canonical

ROOT = Path(harness.__file__).parents[1]
TRIES = 8


@pytest.fixture(scope="module")
def default() -> Suite:
    return load_suite(ROOT / "benchmarks.toml")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of tuning.toml over its packed records."""
    results = open_results(tmp_path_factory.mktemp("tuned"))
    unpack(ROOT / "reference" / "tuning.parquet", results)
    return make_plan(load_suite(ROOT / "tuning.toml"), results)


def test_every_try_of_the_search_is_done_and_none_is_stale(tuned: Plan) -> None:
    methods, settings, seeds = len(tuned.suite.methods), len(tuned.suite.settings), len(tuned.suite.table.tuning_seeds)
    assert tuned.counts()["done"] == len(tuned.trials) == methods * TRIES * settings * seeds
    assert not tuned.waiting and not tuned.undecided
    assert tuned.notes == [
        "672 results are unsealed (they hold no digests of the files); `harness collect --seal` seals what is there"
    ]


def test_every_method_has_as_many_tries_and_tries_learning_rates(tuned: Plan) -> None:
    assert set(tuned.tries.values()) == {TRIES}
    for method in tuned.suite.methods:
        assert len(set(method.table.search["optimizer.lr"])) >= 4, method.name


def test_one_configuration_is_chosen_for_all_settings_by_noisy_validation(tuned: Plan) -> None:
    settings = tuple(setting.name for setting in tuned.suite.settings)
    for search in tuned.searches:
        assert search.settings == settings and search.together
        scores = [candidate.score for candidate in search.candidates if candidate.score is not None]
        assert len(scores) == TRIES and all(0 < score < 1 and math.isfinite(score) for score in scores)
        assert search.chosen == scores.index(max(scores))


def budgetless(identity: Any) -> str:
    """An identity without what only measures: how often the training set is evaluated."""
    return canonical({key: value for key, value in identity.items() if key != "evaluation"})


def test_the_default_suite_is_the_search_with_its_choices_put_in(default: Suite, tuned: Plan) -> None:
    assert [method.name for method in default.methods] == [method.name for method in tuned.suite.methods]
    assert [setting.name for setting in default.settings] == [setting.name for setting in tuned.suite.settings]
    chosen = {search.method: search.chosen for search in tuned.searches}
    for ours, theirs in zip(default.methods, tuned.suite.methods, strict=True):
        for here, there in zip(default.settings, tuned.suite.settings, strict=True):
            (template,) = default.templates(ours, here)
            position = chosen[theirs.name]
            assert position is not None
            found = tuned.suite.templates(theirs, there)[position]
            assert budgetless(template.identity) == budgetless(found.identity), (ours.name, found.candidate)


def test_the_default_suite_says_how_its_parameters_were_chosen(default: Suite, tuned: Plan, tmp_path: Path) -> None:
    manifest = make_plan(default, tmp_path).manifest()
    assert manifest["tries"] == tuned.tries and manifest["search_over"] == tuned.suite.table.search_over == "suite"
    assert not set(default.table.seeds) & set(tuned.suite.table.tuning_seeds)
    assert len({canonical(setting.evaluation.model_dump()) for setting in default.settings}) == 1


def test_an_installed_user_has_the_default_suite_too() -> None:
    here, packaged = load_suite(ROOT / "benchmarks.toml"), load_suite("suite:default")
    assert [e.trial.id for e in packaged.entries()] == [e.trial.id for e in here.entries()]
