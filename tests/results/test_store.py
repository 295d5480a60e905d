"""The store: built from records alone, incremental, idempotent, swapped in one step, readable while it changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.errors import ResultsError
from harness.results.records import (
    Verdicts,
    claim,
    final_attempt,
    open_results,
    read_json,
    trial_folder,
    write_evaluations,
    write_json,
)
from harness.results.records.archive import pack, unpack
from harness.results.records.merge import merge_results
from harness.results.report import read_board, shorten, suites_in
from harness.results.report.export import to_csv, to_json, to_markdown
from harness.results.store import TABLES, VIEWS, collect, connect, current_snapshot
from harness.suite.load import load_suite
from harness.training.reevaluate import evaluate_trial
from harness.training.trial import run_trial

pytestmark = pytest.mark.portable

Write = Callable[..., Path]
TWO = '[[method]]\nname = "CE"\n[[method]]\nname = "CDR <b>|"\nalgorithms = ["cdr"]\n'


@pytest.fixture
def results(write_suite: Write, tmp_path: Path) -> Path:
    path = write_suite(
        methods=TWO, epochs=1, evaluation="fgsm = [0.1]",
        noise='[{ name = "symmetric", rate = 0.4 }, { name = "pairflip", rate = 0.2 }]',
    )  # fmt: skip
    harness.run(load_suite(path, ["suite.seeds=[0, 1]"]), tmp_path / "r")
    return tmp_path / "r"


def _measured_later(results: Path) -> None:
    trial = next((results / "trials").iterdir())
    attempt = final_attempt(trial)
    assert attempt is not None
    write_evaluations(trial, attempt, {"fgsm_accuracy@0.5": {"last": 0.25}})


def test_every_number_of_a_record_is_in_the_store(results: Path) -> None:
    with harness.open_store(results) as connection:
        assert {row[0] for row in connection.execute("SHOW TABLES").fetchall()} == {*TABLES, *VIEWS}
        trials = connection.execute("SELECT trial, status, seed, rate, noise, label_digest FROM trials").fetchall()
        assert len(trials) == 8 and {row[1] for row in trials} == {"done"}
        for trial, *_ in trials:
            attempt = final_attempt(trial_folder(results, trial))
            assert attempt is not None
            recorded = read_json(attempt / "result.json")["metrics"]
            stored = connection.execute("SELECT metric, m.at, value FROM metrics m WHERE trial = ?", [trial]).fetchall()
            for metric, at, value in stored:
                if metric not in ("seconds_per_epoch", "peak_memory"):
                    assert recorded[metric][at] == value
            assert {(m, a) for m, values in recorded.items() for a in values} <= {(m, a) for m, a, _ in stored}
            assert connection.execute("SELECT count(*) FROM epochs WHERE trial = ?", [trial]).fetchone() == (1,)
        published = connection.execute("SELECT count(*) FROM published").fetchone()
        assert published is not None and published[0] > 500
        assert connection.execute("SELECT count(*) FROM suite_trials WHERE newest").fetchone() == (8,)


def test_collecting_again_changes_nothing_and_a_new_record_only_adds(results: Path) -> None:
    first = current_snapshot(results)
    assert collect(results) == first
    with harness.open_store(results) as before:
        rows = before.execute("SELECT * FROM metrics ORDER BY ALL").fetchall()
        rebuilt = collect(results, rebuild=True)
        with connect(rebuilt) as after:
            assert after.execute("SELECT * FROM metrics ORDER BY ALL").fetchall() == rows
    _measured_later(results)
    second = collect(results)
    assert second != first and current_snapshot(results) == second
    with connect(second) as connection:
        added = connection.execute("SELECT value FROM metrics WHERE metric = 'fgsm_accuracy@0.5'").fetchall()
        total = connection.execute("SELECT count(*) FROM metrics").fetchone()
    assert added == [(0.25,)] and total == (len(rows) + 1,)


def test_a_reader_keeps_its_snapshot_while_a_new_one_is_made(results: Path) -> None:
    with harness.open_store(results) as reader:
        _measured_later(results)
        collect(results)
        assert reader.execute("SELECT count(*) FROM metrics WHERE metric = 'fgsm_accuracy@0.5'").fetchone() == (0,)
    with harness.open_store(results) as reader:
        assert reader.execute("SELECT count(*) FROM metrics WHERE metric = 'fgsm_accuracy@0.5'").fetchone() == (1,)


def test_a_removed_trial_leaves_the_store(results: Path) -> None:
    import shutil

    shutil.rmtree(next((results / "trials").iterdir()))
    with connect(collect(results)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (7,)


def test_a_damaged_record_is_left_out_and_the_rest_stands(results: Path) -> None:
    trial = next((results / "trials").iterdir())
    attempt = final_attempt(trial)
    assert attempt is not None
    (attempt / "trial.json").write_text("{")
    (trial / "trial.json").write_text("{")
    with connect(collect(results, rebuild=True)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (7,)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="run a suite"):
        harness.open_store(tmp_path)
    with connect(collect(open_results(tmp_path))) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,)


def test_the_board_by_hand(results: Path) -> None:
    with harness.open_store(results) as connection:
        board = read_board(connection)
        values = connection.execute(
            "SELECT s.method, s.setting, m.value FROM suite_trials s JOIN metrics m USING (trial) WHERE m.metric = 'accuracy' AND m.at = 'last'"
        ).fetchall()
        assert read_board(connection, metric="memorisation").metric.higher_is_better is False
        with pytest.raises(ResultsError, match="did you mean 'memorisation'"):
            read_board(connection, metric="memorization")
        with pytest.raises(ResultsError, match="unknown suite"):
            read_board(connection, suite="nope")
    for row in board.rows:
        for setting, cell in row.cells.items():
            mine = [value for method, s, value in values if (method, s) == (row.method, setting)]
            assert cell.n == 2 and cell.mean == pytest.approx(sum(mine) / 2)
            assert cell.std == pytest.approx(abs(mine[0] - mine[1]) / 2**0.5)
    assert board.rows[0].rank == 1
    assert {row.method: row.oracle for row in board.rows} == {"CE": False, "CDR <b>|": True}


def test_a_method_that_lacks_a_setting_is_not_ranked(results: Path) -> None:
    with harness.open_store(results) as connection:
        trial = connection.execute(
            "SELECT trial FROM suite_trials WHERE method = 'CE' AND setting LIKE '%pairflip%'"
        ).fetchall()
    import shutil

    for (name,) in trial:
        shutil.rmtree(results / "trials" / name)
    with connect(collect(results)) as connection:
        board = read_board(connection)
    ce = next(row for row in board.rows if row.method == "CE")
    assert ce.rank is None and ce.mean is None and ce.covered == 1 and board.rows[-1] is ce


def test_exports_escape_what_users_name(results: Path) -> None:
    with harness.open_store(results) as connection:
        board = read_board(connection)
    assert "CDR &lt;b>\\|" in to_markdown(board)
    assert len(to_csv(board).splitlines()) == 5
    assert {row["method"] for row in json.loads(to_json(board))} == {"CE", "CDR <b>|"}


def test_heads_drop_what_all_settings_share() -> None:
    assert shorten(("a / m / x 0.2", "a / m / x 0.4")) == {"a / m / x 0.2": "x 0.2", "a / m / x 0.4": "x 0.4"}
    assert shorten(("only / one",)) == {"only / one": "only / one"}


def test_merging_machines_is_copying_trials(results: Path, tmp_path: Path) -> None:
    target = open_results(tmp_path / "other")
    assert merge_results(results, target) == (8, 0)
    assert merge_results(results, target) == (0, 8)
    with connect(collect(target)) as connection, harness.open_store(results) as original:
        query = 'SELECT trial, metric, "at", value FROM metrics ORDER BY ALL'
        assert connection.execute(query).fetchall() == original.execute(query).fetchall()
        assert read_board(connection).suite == "small"


def stored(results: Path, metric: str) -> list[tuple[float]]:
    with connect(collect(results)) as connection:
        return connection.execute("SELECT value FROM metrics m WHERE metric = ? AND m.at = 'last'", [metric]).fetchall()


def test_what_was_measured_later_counts_for_its_own_attempt_only(
    write_suite: Write, tmp_path: Path, unseal: Callable[[Path], None]
) -> None:
    """... wherever it goes: through a merge, and through a packed file."""
    suite = load_suite(write_suite(epochs=1, tables="[execution]\nkeep = true"))
    (entry,) = suite.entries()
    trial, results = entry.trial, open_results(tmp_path / "r")
    harness.run(suite, results)
    folder = trial_folder(results, trial.id)
    (measured,) = evaluate_trial(results, trial, suite.host, [0.5]).values()
    evaluate_trial(results, trial, suite.host, [0.7])
    evaluated = read_json(folder / "evaluations.json")
    assert stored(results, "fgsm_accuracy@0.5") == [(measured["last"],)]
    merge_results(results, open_results(tmp_path / "merged"))
    pack(results, tmp_path / "packed.parquet")
    unpack(tmp_path / "packed.parquet", tmp_path / "unpacked")
    for other in (tmp_path / "merged", tmp_path / "unpacked"):
        assert read_json(trial_folder(other, trial.id) / "evaluations.json") == evaluated
        assert stored(other, "fgsm_accuracy@0.5") == [(measured["last"],)]

    unnamed = {"fgsm_accuracy@0.5": {"last": 0.25}}
    unseal(results)
    write_json(folder / "evaluations.json", unnamed)
    assert stored(results, "fgsm_accuracy@0.5") == [(0.25,)], "it can be of one attempt only"
    again = claim(results, trial.id, rerun=True)
    assert again is not None and run_trial(trial, again, suite.host) is not None
    for left in (evaluated, unnamed):
        if left is unnamed:
            unseal(results)
        write_json(folder / "evaluations.json", left)
        assert stored(results, "fgsm_accuracy@0.5") == []
        pack(results, tmp_path / "packed.parquet")
        unpack(tmp_path / "packed.parquet", tmp_path / f"unpacked {len(left)}")
        assert stored(tmp_path / f"unpacked {len(left)}", "fgsm_accuracy@0.5") == []
    write_json(folder / "evaluations.json", evaluated)
    evaluate_trial(results, trial, suite.host, [0.7])
    assert stored(results, "fgsm_accuracy@0.5") == [] and len(stored(results, "fgsm_accuracy@0.7")) == 1


def test_suites_that_share_a_folder_keep_their_boards(write_suite: Write, tmp_path: Path) -> None:
    path, folder = write_suite(epochs=1), tmp_path / "r"
    names = ["lab a", "lab-a"]
    for name in [*names, names[0]]:
        harness.run(load_suite(path, [f"suite.name={name!r}"]), folder)
    with harness.open_store(folder) as connection:
        assert [read_board(connection, name).rows[0].method for name in names] == ["CE", "CE"]
    assert pack(folder, tmp_path / "one.parquet", ["lab-a"]) == 1
    assert pack(folder, tmp_path / "both.parquet") == 1  # two suites, the same trial
    unpack(tmp_path / "both.parquet", tmp_path / "other")
    with connect(collect(tmp_path / "other")) as connection:
        assert suites_in(connection) == names


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_truncated_snapshot_is_built_anew(write_suite: Write, tmp_path: Path, rebuild: bool) -> None:
    harness.run(load_suite(write_suite(epochs=1)), tmp_path / "r")
    snapshot = current_snapshot(tmp_path / "r")
    assert snapshot is not None
    os.truncate(snapshot, 4096)
    with pytest.raises(ResultsError, match=r"cannot be opened .*; `harness collect --rebuild`"):
        connect(snapshot)
    collect(tmp_path / "r", rebuild=rebuild)
    with harness.open_store(tmp_path / "r") as connection:
        assert len(read_board(connection).rows) == 1


def test_old_snapshots_are_tidied_and_the_link_is_relative(results: Path) -> None:
    for number in range(5):
        trial = next((results / "trials").iterdir())
        write_json(trial / "evaluations.json", {"fgsm_accuracy@0.5": {"last": number / 10}})
        collect(results)
    assert len(list((results / "store").glob("*.duckdb"))) <= 3
    assert not os.path.isabs(os.readlink(results / "store" / "current"))


@pytest.mark.parametrize(
    "file, content",
    [
        ("epochs.jsonl", "null\n"),
        ("epochs.jsonl", '{"epoch": "first", "diagnostics": {}}\n'),
        ("environment.json", "[1]\n"),
        ("result.json", '{"status": "failed", "error": {"type": "E", "message": "\\ud800", "traceback": ""}}\n'),
    ],
)
def test_a_record_that_no_run_writes_is_named_and_keeps_no_other_from_the_board(
    results: Path, caplog: pytest.LogCaptureFixture, file: str, content: str
) -> None:
    odd = sorted((results / "trials").iterdir())[3]
    attempt = final_attempt(odd)
    assert attempt is not None
    before = (attempt / file).read_bytes()
    (attempt / file).write_text(content)
    with connect(collect(results, rebuild=True)) as connection:
        counted = connection.execute("SELECT count(*) FROM trials").fetchone()
        assert counted == (7,)
        for table in TABLES:
            if "trial" in TABLES[table] and table not in ("suite_trials", "sources", "quarantine"):
                assert connection.execute(f"SELECT count(*) FROM {table} WHERE trial = ?", [odd.name]).fetchone() == (
                    0,
                )
        assert connection.execute("SELECT trial FROM quarantine").fetchall() == [(odd.name,)]
        assert sum(row.quarantined for row in read_board(connection, "small").rows) == 1
        assert "1 run is in quarantine" in read_board(connection, "small").caution
    assert str(odd) in caplog.text and "left out" in caplog.text
    (attempt / file).write_bytes(before)
    with connect(collect(results)) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (8,), "mended, it is read again"


@pytest.mark.parametrize("content", ['{"suite": "odd"}', '{"suite": ["odd"]}', "[]", "{"])
def test_a_plan_that_no_run_writes_keeps_no_other_from_the_board(
    results: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    odd = results / "suites" / "odd" / "0123456789abcdef.json"
    odd.parent.mkdir()
    odd.write_text(content)
    with connect(collect(results, rebuild=True)) as connection:
        assert len(read_board(connection, "small").rows) == 2
    assert str(odd) in caplog.text and "writes it anew" in caplog.text


def test_a_snapshot_of_another_version_is_told_in_one_line_and_built_anew(results: Path) -> None:
    import duckdb

    with duckdb.connect(str(current_snapshot(results))) as connection:
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    with pytest.raises(ResultsError, match="another version of the harness"):
        harness.open_store(results)
    collect(results)
    with harness.open_store(results) as connection:
        assert len(read_board(connection, "small").rows) == 2


def test_a_trial_that_was_asked_for_before_it_had_a_folder_is_found_once_it_has_one(tmp_path: Path) -> None:
    results = open_results(tmp_path / "r")
    early = Verdicts(results)
    assert early.of("0123456789abcdef").kind == "open"
    early.save()
    attempt = results / "trials" / "0123456789abcdef" / "attempt-001"
    attempt.mkdir(parents=True)
    (attempt / "result.json").write_text("no JSON at all")
    assert Verdicts(results).of("0123456789abcdef").kind == "quarantined"
