"""CIFAR-N's columns differ in nothing but whose labels they are: each printed cell finds the setting with those."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import duckdb
import pytest

from harness import load_suite
from harness.papers.reproduction import reproduce
from harness.printed import load_published
from harness.results.store import create_tables, insert


@pytest.fixture
def store() -> Iterator[duckdb.DuckDBPyConnection]:
    """A store in which every trial of SOP's table 4 is done; the score names the setting."""
    with duckdb.connect() as connection:
        create_tables(connection)
        cells = [dataclasses.asdict(cell) for cell in load_published()]
        insert(connection, "published", [{**cell, "comparable": True} for cell in cells])
        suite = load_suite("suite:sop/table4")
        settings = [setting.name for setting in suite.settings]
        trials, places, metrics = [], [], []
        for entry in suite.entries():
            identity = entry.trial.identity
            words = {key: identity[key]["name"] for key in ("dataset", "noise", "model")}
            trials.append({"trial": entry.trial.id, **words, "identity": json.dumps(identity), "status": "done"})
            places.append(
                {
                    "suite": suite.name,
                    "newest": True,
                    "trial": entry.trial.id,
                    "method": entry.method,
                    "setting": entry.setting,
                    "seed": entry.seed,
                    "tuning": False,
                    "comparable": True,
                }
            )
            score = settings.index(entry.setting) / 100
            metrics.append({"trial": entry.trial.id, "metric": "accuracy", "at": "last", "value": score})
        for table, rows in (("trials", trials), ("suite_trials", places), ("metrics", metrics)):
            insert(connection, table, rows)
        yield connection


def test_every_column_of_human_labels_is_answered_by_its_own_setting(store: duckdb.DuckDBPyConnection) -> None:
    found = [item for item in reproduce(store, "sop/table4") if item.printed["method"] == "CE"]
    assert len(found) == 8
    answered = {item.printed["column"]: item.setting for item in found}
    assert len(set(answered.values())) == 8
    for column, words in {
        "CIFAR-10N Random 2": "cifar10n / cifar_resnet34 / human random2",
        "CIFAR-10N Worst": "cifar10n / cifar_resnet34 / human worse",
        "CIFAR-100N Noisy": "cifar100n / cifar_resnet34 / human noisy",
        "CIFAR-10N Clean": "cifar10 / cifar_resnet34 / none",
    }.items():
        assert answered[column] == words
    assert all(item.mean is not None for item in found)
