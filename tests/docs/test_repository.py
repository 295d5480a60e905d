"""What surrounds the code holds: workflow, templates, citation, changelog, the history of the benchmarks."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml

import harness
from harness.results.statistics import Scores, compare_over_settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_workflow_does_what_the_local_script_does() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["checks"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    (python,) = (step["with"]["python-version"].split() for step in steps if "setup-python" in step.get("uses", ""))
    versions = {c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c}
    assert set(python) == versions
    script = (ROOT / ".ci/run").read_text()
    assert all(f'" {version}' in script for version in versions)


def test_the_templates_of_issues_are_forms() -> None:
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
    assert {"bug", "new_method"} < set(forms)
    for name, form in forms.items():
        if name != "config":
            assert form["name"] and form["description"]
            ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
            assert len(ids) == len(set(ids)) > 0
            assert all(part["attributes"]["label"] for part in form["body"] if part["type"] != "markdown")


def test_the_citation_names_the_version_and_licence_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["title"] == PROJECT["project"]["name"]


def test_no_tracked_file_names_the_address_of_a_package_index() -> None:
    hosts = "|".join(re.escape(f"{name}.{end}") for name, end in (("pypi", "org"), ("pythonhosted", "org")))
    naming = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix not in (".parquet", ".png") and re.search(hosts, path.read_text(errors="replace"))
    ]
    assert naming == []


def test_every_fragment_of_the_changelog_has_a_known_type_and_a_text() -> None:
    types = {one["directory"] for one in PROJECT["tool"]["towncrier"]["type"]}
    for path in (ROOT / "changelog.d").iterdir():
        if path.name not in ("README.md", ".gitignore"):
            assert re.fullmatch(rf"(\d+|\+[\w-]+)\.({'|'.join(types)})(\.\d+)?\.md", path.name), path.name
            assert path.read_text().strip()
    assert PROJECT["tool"]["towncrier"]["start_string"] in (ROOT / "CHANGELOG.md").read_text()


# --- the history of the benchmarks -----------------------------------------------------------------------------------


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The modules ``pairing`` and ``history`` of the folder, as a benchmark imports them."""
    return benchmark("pairing", monkeypatch), benchmark("history", monkeypatch)


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the folder, which others there import by its name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)
    spec.loader.exec_module(made)
    return made


def test_a_benchmark_leaves_a_line_for_each_run_and_the_page_draws_them(
    benchmarks: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairing, history = benchmarks
    for value in (1.01, 1.25):
        run = history.History("speed")
        run.ratio(pairing.Ratio("A / B", value, value - 0.1, value + 0.1, 0.5, 0.4, 1.02))
        run.row("harness --help", 0.2, "s", 0.3)
        run.row("alone", 3.0, "us")
        assert run.keep(tmp_path) == tmp_path / "speed.jsonl"
    printed = capsys.readouterr().out
    assert printed.count("MISSED") == 1 and printed.count("ok") == 3
    first, second = (json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines())
    assert first["rows"][0] == {
        "name": "A / B",
        "value": 1.01,
        "unit": "ratio",
        "bound": 1.02,
        "low": 0.91,
        "high": 1.11,
    }
    assert second["rows"][0]["value"] == 1.25
    assert {"when", "commit", "arguments", "machine"} < set(first)
    assert {"processor", "cores", "python", "torch"} < set(first["machine"])

    drawings = module("docs/drawings.py")
    found = drawings.histories(tmp_path)
    page = drawings.benchmark_page(found)
    assert page.count(f"`{first['commit']}`") == 2 and "benchmarks/speed.svg" in page
    drawn = drawings.drawing("speed", found["speed"])
    ElementTree.fromstring(drawn)
    assert drawn == drawings.drawing("speed", found["speed"])
    for words in ("A / B", "harness --help", "alone", "microseconds"):
        assert words in drawn


def test_the_kept_history_can_be_drawn() -> None:
    drawings = module("docs/drawings.py")
    for name, runs in drawings.histories().items():
        assert runs and all(run["rows"] for run in runs)
        ElementTree.fromstring(drawings.drawing(name, runs))


def test_the_error_of_a_matrix_is_nought_for_the_labels_drawn_and_counts_both_entries_of_a_share_that_is_misplaced(
    benchmarks: tuple[Any, Any],
) -> None:
    script = module("benchmarks/estimators.py")
    clean, given = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    truth = script.drawn_matrix(clean, given, 2)
    assert truth.tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert script.departure(truth, truth) == 0.0
    assert script.departure(torch.tensor([[0.65, 0.35], [0.0, 1.0]]), truth) == pytest.approx((0.1 + 0.1) / 2)


def test_a_method_beats_another_where_its_interval_leaves_out_nought() -> None:
    verdict = module("benchmarks/beats.py").verdict
    assert [verdict(d, 1.0) for d in (1.1, 0.9, -0.9, -1.1)] == ["better", "cannot tell", "cannot tell", "worse"]
    assert verdict(5.0, float("inf")) == "not compared"


@pytest.fixture
def detectors(benchmarks: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    benchmark("estimators", monkeypatch)
    return benchmark("detectors", monkeypatch)


def test_what_is_found_among_the_most_suspect_is_counted_and_ties_count_by_their_share(detectors: ModuleType) -> None:
    wrong = torch.tensor([True, False, True, False, True])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.2, 0.1])
    assert detectors.precision_at(scores, wrong, 3) == pytest.approx(2 / 3)
    assert detectors.missed_at(scores, wrong, 0.4) == pytest.approx(1 - 1 / 3)
    tied = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.1])
    assert detectors.precision_at(tied, wrong, 2) == pytest.approx((1 + 1 / 3) / 2)
    flags = torch.tensor([True, True, False, False, False])
    assert detectors.flag_precision(flags, wrong) == 0.5 and detectors.flag_missed(flags, wrong) == pytest.approx(2 / 3)
    assert math.isnan(detectors.flag_precision(torch.zeros(5, dtype=torch.bool), wrong))


def test_the_detector_that_is_best_is_trusted_and_one_that_cannot_be_told_from_it_too(detectors: ModuleType) -> None:
    means = {"sharp": (0.9, (1, -1, 1, -1)), "alike": (0.9, (1, 1, -1, -1)), "blind": (0.5, (-1, 1, 1, -1))}
    rows = [
        (name, noise, seed, mean + 0.01 * sign)
        for name, (mean, signs) in means.items()
        for noise in ("a", "b")
        for seed, sign in enumerate(signs)
    ]
    scores = Scores.from_rows(rows)
    compared = compare_over_settings(scores)
    said = detectors.trusted(compared, "average precision")
    assert said.startswith(("Trust sharp or alike,", "Trust alike or sharp,")) and "blind" not in said
    shown = detectors.by_noise("data", means, scores).splitlines()
    assert shown[0] == "| data | a | b |" and len(shown) == 5
    assert shown[2].count("**") == shown[3].count("**") == 4 and "**" not in shown[4]


def test_detectors_are_measured_on_the_same_drawn_labels_of_known_noise(detectors: ModuleType) -> None:
    data = harness.create("dataset", "digits").train
    names = ["simifeat_vote", "margin"]
    part = {"samples": 200, "seeds": 2}
    detectors.NOISE = (("symmetric 20 %", "symmetric", {"rate": 0.2}),)
    tables = detectors.measured(data, names, **part)
    first = tables[detectors.HEADLINE]
    assert first.methods == tuple(names) and first.values.shape == (2, 1, 2) and bool((first.values > 0.5).all())
    by_title = {measure.title: scores.values for measure, scores in tables.items()}
    assert np.allclose(by_title["precision at n"], 1 - by_title["false negatives at the rate"])
    assert np.array_equal(detectors.measured(data, names, **part)[detectors.HEADLINE].values, first.values)
