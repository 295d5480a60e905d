"""One standing: terminal, pages, exports and the static site say the same of a dead attempt, a stale result and a queued trial."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness_leaderboard.pages import progress as progress_page
from harness_leaderboard.site import publish
from test_one_rank import method_rows, terminal
from test_pages import html_of, words_of
from typer.testing import CliRunner

from harness.api import open_store
from harness.cli.main import app as commands
from harness.execution.queues import Queues
from harness.files import read_json, write_json
from harness.results.records import trial_folder
from harness.results.report import read_board, with_ties
from harness.results.report.export import caption, to_csv, to_latex, to_markdown
from harness.results.store import collect
from harness.suite.load import load_suite
from harness.suite.plan import make_plan, write_manifest

EARLIER = Path(__file__).parents[1] / "results" / "earlier"
STALE, DEAD, QUEUED = ("CE", 0), ("CE", 1), ("SCE", 0)


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, dict[tuple[str, int], str]]:
    """Results, suite and ids: a stale result, a dead attempt, a queued trial and one that is done."""
    results = tmp_path / "results"
    shutil.copytree(EARLIER / "results", results)
    suite = tmp_path / "suite.toml"
    shutil.copy(EARLIER / "suite.toml", suite)
    plan = make_plan(load_suite(suite), results)
    write_manifest(plan)
    ids = {(p.entry.method, p.entry.seed): p.id for p in plan.trials}
    for who, trial in ids.items():  # all but one are of the components as they are now
        folder = trial_folder(results, trial)
        digests = {**next(p.trial for p in plan.trials if p.id == trial).options["digests"]}
        if who == STALE:
            digests["loss:ce"] = "t1:0000000000000000"
        write_json(folder / "done.json", {**read_json(folder / "done.json"), "digests": digests})
        for place in (folder, folder / "attempt-001"):
            words = read_json(place / "trial.json")
            write_json(place / "trial.json", {**words, "options": {**words["options"], "digests": digests}})
    dead = trial_folder(results, ids[DEAD])
    (dead / "done.json").unlink()
    for name in ("result.json", "released"):
        (dead / "attempt-001" / name).unlink()
    claim = dead / "attempt-001" / "claim.json"
    write_json(claim, {**read_json(claim), "pid": 2**30})
    shutil.rmtree(trial_folder(results, ids[QUEUED]))
    job = {"state": "queued", "job": "7", "node": "", "detail": "PENDING"}

    def asked(*args: Any) -> Queues:
        return Queues({ids[QUEUED]: job})

    monkeypatch.setattr("harness.execution.queues.ask_queues", asked)
    monkeypatch.setattr(progress_page, "ask_queues", asked)
    collect(results)
    return results, suite, ids


def test_status_plan_pages_and_site_use_the_same_words(mixed, app, tmp_path):
    results, suite, ids = mixed
    told = CliRunner().invoke(commands, ["status", str(suite), "--results", str(results), "--json"])
    found = json.loads(told.output)
    assert {word: count for word, count in found["counts"].items() if count} == {
        "done": 1, "stale": 1, "lost": 1, "queued": 1,
    }  # fmt: skip
    assert [(line["id"], line["status"]) for line in found["trials"]] == [(ids[DEAD], "lost")]
    assert [line["id"] for line in found["queued"]] == [ids[QUEUED]]
    said = words_of(html_of(app(results, page="progress")))
    for words in ("1 done", "1 stale", "1 lost", "1 queued", "2 of 4 trials are done"):
        assert words in said, words
    for who, word in ((STALE, "stale"), (DEAD, "lost")):
        assert f"status {word}" in " ".join(words_of(html_of(app(results, page="trial", trial=ids[who]))).split())
    publish(results, tmp_path / "site")
    scripts = "".join(file.read_text() for file in (tmp_path / "site" / "data" / "trials").glob("*.js"))
    for who, word in ((STALE, "stale"), (DEAD, "lost"), (("SCE", 1), "done")):
        assert f'"{ids[who]}": {{"status":"{word}"' in scripts
    assert ids[QUEUED] not in scripts


def test_a_stale_value_counts_and_what_is_lost_or_queued_withholds_the_rank_everywhere(mixed, app, tmp_path):
    results, _, ids = mixed
    kept = {
        who: read_json(trial_folder(results, ids[who]) / "attempt-001" / "result.json") for who in (STALE, ("SCE", 1))
    }
    values = {who[0]: result["metrics"]["accuracy"]["last"] for who, result in kept.items()}
    with open_store(results) as connection:
        board = with_ties(read_board(connection, "earlier"))
    assert {row.method: row.cells[board.settings[0]].mean for row in board.rows} == values
    assert {row.method: (row.rank, row.withheld) for row in board.rows} == dict.fromkeys(
        values, (None, "1 run missing")
    )
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert {line["method"]: float(line["mean"]) for line in lines} == values
    assert {(line["rank"], line["withheld"]) for line in lines} == {("", "1 run missing")}
    publish(results, tmp_path / "site")
    pages = [html_of(app(results)), (tmp_path / "site" / "earlier.html").read_text()]
    for said in (terminal(board), to_markdown(board), to_latex(board), *map(words_of, pages)):
        assert all(f"{100 * value:.2f}" in said for value in values.values())
        assert "1 run missing" in said
    assert "1 run missing" in caption(board)
    for html in pages:
        assert all(row[2].strip() in ("", "–", "-") for row in method_rows(html).values())
