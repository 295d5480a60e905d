"""Modules of `harness.results` that moved are found under their former names."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    ("former", "name", "present"),
    [
        ("board", "read_board", "report"),
        ("board", "with_ties", "report"),
        ("export", "to_csv", "report.export"),
        ("plots", "Request", "report.plots"),
        ("figure", "save", "report.figure"),
        ("archive", "unpack", "records.archive"),
        ("merge", "merge_results", "records.merge"),
    ],
)
def test_a_module_under_its_former_name_holds_the_same_objects(former, name, present):
    old = importlib.import_module(f"harness.results.{former}")
    new = importlib.import_module(f"harness.results.{present}")
    assert getattr(old, name) is getattr(new, name)
