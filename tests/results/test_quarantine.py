"""Records that prove themselves, seen on a folder that an earlier harness made (commit a8d465e, no digests)."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import harness
from harness.cli.main import app
from harness.errors import ResultsError
from harness.results.records import (
    Standing,
    attempts,
    claim,
    forgive,
    open_results,
    read_json,
    read_record,
    seal,
    set_aside,
    standing,
    trial_folder,
    write_json,
)
from harness.results.records.archive import unpack
from harness.results.records.merge import merge_results
from harness.results.records.standing import Verdicts, judge
from harness.results.store import collect, connect, current_snapshot
from harness.suite.load import load_suite
from harness.suite.plan import make_plan, write_manifest

EARLIER = Path(__file__).parent / "earlier"
SUITE = EARLIER / "suite.toml"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    shutil.copytree(EARLIER / "results", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def sealed(earlier: Path) -> Path:
    assert all(seal(folder) for folder in trials(earlier))
    return earlier


def trials(results: Path) -> list[Path]:
    return sorted((results / "trials").iterdir())


def edit(path: Path, **values: Any) -> None:
    write_json(path, {**read_json(path), **values})


def accuracies(results: Path) -> dict[str, float]:
    with connect(collect(results)) as connection:
        return dict(
            connection.execute(
                "SELECT trial, value FROM metrics m WHERE metric = 'accuracy' AND m.at = 'last'"
            ).fetchall()
        )


def reason(folder: Path) -> str:
    found = judge(folder)
    assert found.kind == "quarantined", found
    return found.reason


def run_cli(*words: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == code, ended.output
    return ended.output


# --- sealing -----------------------------------------------------------------------------------------------------------


def test_a_folder_of_an_earlier_harness_counts_and_is_called_unsealed(earlier: Path) -> None:
    plan = make_plan(load_suite(SUITE), earlier)
    assert len(plan.trials) == 4
    assert all(p.status in ("done", "stale") and p.standing.sealed is False for p in plan.trials)
    assert any("unsealed" in note for note in plan.notes)
    expected = {
        f.name: read_json(f / "attempt-001" / "result.json")["metrics"]["accuracy"]["last"] for f in trials(earlier)
    }
    assert accuracies(earlier) == expected
    assert "4 results are unsealed" in run_cli("collect", "--results", str(earlier))


def test_collect_seals_what_is_there_once(earlier: Path) -> None:
    before = accuracies(earlier)
    assert run_cli("collect", "--results", str(earlier), "--seal").startswith("4 results sealed")
    assert accuracies(earlier) == before
    assert "unsealed" not in run_cli("collect", "--results", str(earlier))
    assert run_cli("collect", "--results", str(earlier), "--seal").startswith("0 results sealed")
    for folder in trials(earlier):
        assert judge(folder).sealed is True
        assert set(read_json(folder / "done.json")["files"]) == {
            "result.json",
            "epochs.jsonl",
            "timing.jsonl",
        }


def test_what_was_measured_later_is_sealed_with_it(earlier: Path) -> None:
    folder = trials(earlier)[0]
    write_json(
        folder / "evaluations.json", {"attempt": "attempt-001", "metrics": {"fgsm_accuracy@0.5": {"last": 0.25}}}
    )
    assert judge(folder).sealed is False and seal(folder)
    assert judge(folder).sealed is True
    assert read_record(folder).evaluations == {"fgsm_accuracy@0.5": {"last": 0.25}}
    edit(folder / "evaluations.json", metrics={"fgsm_accuracy@0.5": {"last": 0.9}})
    assert "evaluations.json: has been changed" in reason(folder)


def test_evaluations_extend_one_done_file_only(sealed: Path) -> None:
    one, other = trials(sealed)[:2]
    from harness.results.records import write_evaluations

    write_evaluations(one, one / "attempt-001", {"fgsm_accuracy@0.5": {"last": 0.25}})
    shutil.copyfile(one / "evaluations.json", other / "evaluations.json")
    assert judge(one).kind == "done" and "extends another done.json" in reason(other)


def test_damaged_records_are_not_sealed(earlier: Path) -> None:
    folder = trials(earlier)[0]
    result = folder / "attempt-001" / "result.json"
    edit(result, metrics={**read_json(result)["metrics"], "accuracy": {"last": 0.99}})
    output = run_cli("collect", "--results", str(earlier), "--seal")
    assert output.startswith("3 results sealed") and f"in quarantine: {folder.name}: attempt-001/result.json" in output
    assert "files" not in read_json(folder / "done.json")


# --- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.99, 2.5, -1, 1e308, float("nan"), float("inf"), None, "0.9", True])
def test_an_edited_accuracy_of_an_unsealed_record_does_not_pass(earlier: Path, value: Any) -> None:
    folder = trials(earlier)[0]
    result = folder / "attempt-001" / "result.json"
    found = read_json(result)
    found["metrics"]["accuracy"]["last"] = value
    result.write_text(json.dumps(found))
    assert "result.json" in reason(folder)
    assert folder.name not in accuracies(earlier) and len(accuracies(earlier)) == 3


def test_the_epochs_of_an_unsealed_record_are_those_of_its_identity_and_its_result(earlier: Path) -> None:
    folder = trials(earlier)[0]
    epochs = folder / "attempt-001" / "epochs.jsonl"
    lines = epochs.read_text().splitlines(keepends=True)
    epochs.write_text(lines[0])
    assert reason(folder) == "attempt-001/epochs.jsonl: holds 1 of 2 epochs"
    epochs.write_text(lines[1] + lines[0])
    assert "not numbered" in reason(folder)
    epochs.write_text(lines[0] + json.dumps({**json.loads(lines[1]), "test_accuracy": 0.5}) + "\n")
    assert "its accuracy at the last epoch is" in reason(folder)
    epochs.write_text("".join(lines))
    assert judge(folder).kind == "done"


def test_an_epoch_0_is_a_line_of_its_own(earlier: Path) -> None:
    folder = trials(earlier)[0]
    epochs = folder / "attempt-001" / "epochs.jsonl"
    first = json.loads(epochs.read_text().splitlines()[0])
    epochs.write_text(json.dumps({**first, "epoch": 0, "train_loss": None}) + "\n" + epochs.read_text())
    assert judge(folder).kind == "done"


def test_evaluations_cannot_say_what_a_run_measures(earlier: Path) -> None:
    folder = trials(earlier)[0]
    write_json(folder / "evaluations.json", {"attempt": "attempt-001", "metrics": {"accuracy": {"last": 0.999}}})
    assert reason(folder) == "evaluations.json: accuracy is not measured later"
    write_json(folder / "evaluations.json", {"attempt": "attempt-001", "metrics": {"test_loss": {"last": 0.0}}})
    told = read_json(folder / "attempt-001" / "result.json")["metrics"]["test_loss"]["last"]
    with connect(collect(earlier)) as connection:
        sql = "SELECT value FROM metrics WHERE trial = ? AND metric = 'test_loss'"
        assert connection.execute(sql, [folder.name]).fetchall() == [(told,)]


def test_swapped_folders_of_unsealed_trials_are_seen_by_their_ids(earlier: Path) -> None:
    one, other = trials(earlier)[:2]
    aside = earlier / "aside"
    one.rename(aside), other.rename(one), aside.rename(other)
    assert all("is of another trial" in reason(folder) for folder in (one, other))
    assert len(accuracies(earlier)) == 2


# --- quarantine, everywhere --------------------------------------------------------------------------------------------


def test_quarantine_is_said_with_its_reason_everywhere_and_mended_as_told(sealed: Path) -> None:
    folder = trials(sealed)[0]
    raw = bytearray((folder / "attempt-001" / "result.json").read_bytes())
    raw[200] ^= 1
    (folder / "attempt-001" / "result.json").write_bytes(bytes(raw))
    words = reason(folder)
    status = run_cli("status", str(SUITE), "--results", str(sealed))
    assert f"quarantined {folder.name}" in status and words in status and "--quarantined" in status
    told = json.loads(run_cli("status", str(SUITE), "--results", str(sealed), "--json"))
    assert told["counts"]["quarantined"] == 1 and told["trials"][0]["reason"] == words
    planned = json.loads(run_cli("plan", str(SUITE), "--results", str(sealed), "--json"))
    assert planned["counts"]["quarantined"] == 1
    assert [t["reason"] for t in planned["trials"] if t["status"] == "quarantined"] == [words]
    ran = run_cli("run", str(SUITE), "--results", str(sealed), "--executor", "inline", code=1)
    assert "1 in quarantine" in ran and words in " ".join(ran.split())
    with pytest.raises(ResultsError, match="is in quarantine"):
        claim(sealed, folder.name)
    run_cli("retry", str(SUITE), "--results", str(sealed), "--quarantined")
    assert not folder.exists() and (sealed / "quarantine" / f"{folder.name}-1" / "done.json").exists()
    assert make_plan(load_suite(SUITE), sealed).counts()["missing"] == 1


def test_what_is_set_aside_twice_is_kept_twice(sealed: Path) -> None:
    folder = trials(sealed)[0]
    for number in (1, 2):
        folder.mkdir(exist_ok=True)
        (folder / "done.json").write_text("[")
        assert set_aside(sealed, folder.name).name == f"{folder.name}-{number}"


def test_names_that_no_run_gives_are_not_followed(sealed: Path) -> None:
    before = accuracies(sealed)
    folder = trials(sealed)[0]
    Path(os.fsdecode(os.fsencode(folder.parent) + b"/\xff\xfe")).mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/attempt-\xff")).mkdir()
    (folder.parent / "UPPERCASE0000000").mkdir()
    (folder / "attempt-latest").write_text("x")
    (sealed / "suites" / os.fsdecode(b"\xff")).mkdir()
    assert accuracies(sealed) == before
    assert run_cli("status", str(SUITE), "--results", str(sealed))


# --- one standing ------------------------------------------------------------------------------------------------------


def everywhere(results: Path, trial_id: str) -> set[str]:
    """What the plan, the status, the store, the page Progress and the function say."""
    from harness_leaderboard import progress

    suite = load_suite(SUITE)
    plan = make_plan(suite, results)
    write_manifest(plan)
    status = json.loads(run_cli("status", str(SUITE), "--results", str(results), "--json"))
    with connect(collect(results)) as connection:
        stored = connection.execute("SELECT status FROM trials WHERE trial = ?", [trial_id]).fetchall()
    manifest = progress.newest_manifest(results, "earlier")
    assert manifest is not None
    page = [state.status for state in progress.read_progress(results, manifest, {}).states if state.trial == trial_id]
    return {
        standing(trial_folder(results, trial_id)).status,
        *(planned.status for planned in plan.trials if planned.id == trial_id),
        *(line["status"] for line in status["trials"] if line["id"] == trial_id),
        *(row[0] for row in stored),
        *page,
    }


def test_a_dead_attempt_is_lost_whoever_asks_and_missing_when_it_was_let_go(earlier: Path) -> None:
    folder = trials(earlier)[0]
    (folder / "done.json").unlink()
    for name in ("result.json", "released"):
        (folder / "attempt-001" / name).unlink()
    edit(folder / "attempt-001" / "claim.json", pid=2**30)
    assert everywhere(earlier, folder.name) == {"lost"}
    run_cli("retry", str(SUITE), "--results", str(earlier), "--lost")
    assert everywhere(earlier, folder.name) == {"missing"}


def test_a_failure_and_what_was_forgiven_are_the_same_for_all(earlier: Path) -> None:
    folder = trials(earlier)[0]
    (folder / "done.json").unlink()
    error = {"type": "E", "message": "m", "traceback": ""}
    write_json(folder / "attempt-001" / "result.json", {"schema": 1, "status": "failed", "metrics": {}, "error": error})
    assert everywhere(earlier, folder.name) == {"failed"}
    assert standing(folder).error == "E: m"
    forgive(earlier, folder.name)
    assert everywhere(earlier, folder.name) == {"missing"}


@pytest.mark.parametrize(
    ("queue", "word"),
    [(None, "missing"), ({"state": "queued", "job": "7"}, "queued"), ({"state": "gone", "job": "7"}, "lost")],
)
def test_a_queue_tells_queued_from_lost(tmp_path: Path, queue: Any, word: str) -> None:
    found = standing(tmp_path / "nothing", queue=queue)
    assert isinstance(found, Standing) and found.status == word and found.job == (queue or {}).get("job")


def test_a_verdict_is_kept_until_a_file_changes(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("harness.results.records.standing")
    folder = trials(sealed)[0]
    for path in [folder, *folder.rglob("*")]:
        assert path.lstat().st_ctime > 0
    monkeypatch.setattr(module, "FRESH_NS", -1)
    verdicts = Verdicts(sealed)
    assert verdicts.of(folder.name).kind == "done"
    verdicts.save()
    asked: list[Any] = []
    monkeypatch.setattr(module, "judge", lambda path: asked.append(path) or judge(path))
    assert Verdicts(sealed).of(folder.name) == judge(folder) and not asked
    result = folder / "attempt-001" / "result.json"
    times = result.stat()
    result.write_bytes(result.read_bytes().replace(b'"done"', b'"dome"'))
    os.utime(result, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Verdicts(sealed).of(folder.name).kind == "quarantined" and asked


# --- manifests and the store -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [lambda p: p.write_text("{"), lambda p: os.truncate(p, 300), lambda p: (p.unlink(), p.mkdir())]
)
def test_a_damaged_manifest_is_written_anew(earlier: Path, damage: Callable[[Path], Any]) -> None:
    plan = make_plan(load_suite(SUITE), earlier)
    path = write_manifest(plan)
    content = path.read_bytes()
    damage(path)
    assert write_manifest(plan) == path and path.read_bytes() == content


@pytest.mark.parametrize(
    "damage", [lambda p: os.truncate(p, 5000), lambda p: p.unlink(), lambda p: p.write_bytes(b"x" * 99)]
)
def test_a_damaged_store_is_built_anew_by_whoever_asks(earlier: Path, damage: Callable[[Path], Any]) -> None:
    expected = accuracies(earlier)
    snapshot = current_snapshot(earlier)
    assert snapshot is not None
    damage(snapshot)
    with harness.open_store(earlier) as connection:
        rows = connection.execute(
            "SELECT trial, value FROM metrics m WHERE metric = 'accuracy' AND m.at = 'last'"
        ).fetchall()
    assert dict(rows) == expected


def test_one_byte_of_a_snapshot_is_seen(earlier: Path) -> None:
    expected = accuracies(earlier)
    snapshot = current_snapshot(earlier)
    assert snapshot is not None
    raw = bytearray(snapshot.read_bytes())
    raw[len(raw) // 2] ^= 1
    snapshot.write_bytes(bytes(raw))
    assert accuracies(earlier) == expected


def test_what_a_dead_collector_left_goes(earlier: Path) -> None:
    collect(earlier)
    for name in (".building-a.duckdb", ".building-a.duckdb.wal"):
        (earlier / "store" / name).write_text("x")
        os.utime(earlier / "store" / name, (1e9, 1e9))
    collect(earlier)
    assert not list((earlier / "store").glob(".building*"))


# --- merging -----------------------------------------------------------------------------------------------------------


def test_what_is_done_here_and_not_stale_stays_and_a_stale_one_becomes_an_older_attempt(
    sealed: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(sealed, theirs)
    logs = {folder.name: (folder / "attempt-001" / "log.txt").write_text("mine") for folder in trials(sealed)}
    assert logs and merge_results(theirs, sealed) == (0, 4)
    assert all((folder / "attempt-001" / "log.txt").read_text() == "mine" for folder in trials(sealed))
    stale = trials(sealed)[0]
    edit(stale / "done.json", digests={"loss:ce": "old"})
    assert merge_results(theirs, sealed, stale=lambda digests: digests.get("loss:ce") == "old") == (1, 3)
    assert [attempt.name for attempt in attempts(stale)] == ["attempt-001", "attempt-002"]
    assert (stale / "attempt-001" / "log.txt").read_text() == "mine"
    found = judge(stale)
    assert (found.kind, found.attempt, found.sealed) == ("done", "attempt-002", True)
    assert not list((sealed / "trials").glob(".merging*"))


def test_what_was_unfinished_here_is_kept_as_an_older_attempt(earlier: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(earlier, theirs)
    mine = trials(earlier)[0]
    (mine / "done.json").unlink()
    (mine / "attempt-001" / "result.json").unlink()
    (mine / "attempt-001" / "log.txt").write_text("mine")
    write_json(
        theirs / "trials" / mine.name / "evaluations.json",
        {"attempt": "attempt-001", "metrics": {"fgsm_accuracy@1": {"last": 0.5}}},
    )
    assert merge_results(theirs, earlier) == (1, 3)
    assert (mine / "attempt-001" / "log.txt").read_text() == "mine"
    record = read_record(mine)
    assert record.final is not None and record.final.name == "attempt-002"
    assert record.evaluations == {"fgsm_accuracy@1": {"last": 0.5}}


def test_links_fifos_and_other_names_are_not_copied(earlier: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    folder = trials(earlier)[0]
    (folder / "attempt-001" / "log.txt").unlink()
    (folder / "attempt-001" / "log.txt").symlink_to(secret)
    (folder / "attempt-001" / "id_rsa").symlink_to(secret)
    os.mkfifo(folder / "attempt-001" / "pipe")
    (folder / "attempt-001" / "loop").symlink_to("loop")
    assert merge_results(earlier, open_results(tmp_path / "mine")) == (4, 0)
    copied = {path.name for path in (tmp_path / "mine").rglob("*")}
    assert (
        not copied & {"log.txt", "id_rsa", "pipe", "loop"}
        or not (tmp_path / "mine" / "trials" / folder.name / "attempt-001" / "log.txt").exists()
    )
    assert all(not path.is_symlink() for path in (tmp_path / "mine").rglob("*"))
    assert accuracies(tmp_path / "mine") == accuracies(earlier)


def test_a_linked_trial_or_a_forged_id_is_left_out_with_a_word(
    earlier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = trials(earlier)[:2]
    away = tmp_path / "away"
    one.rename(away)
    one.symlink_to(away)
    other.rename(earlier / "trials" / "0123456789abcdef")
    nameless = earlier / "trials" / "0123456789abcdee"
    shutil.copytree(trials(earlier)[-1], nameless)
    for path in (nameless / "trial.json", nameless / "attempt-001" / "trial.json"):
        write_json(path, {key: value for key, value in read_json(path).items() if key != "id"})
    taken, kept = merge_results(earlier, open_results(tmp_path / "mine"))
    assert (taken, kept) == (2, 3)
    assert all(name in caplog.text for name in (one.name, "0123456789abcdef", nameless.name))


@pytest.mark.parametrize("damage", ["fifo", "loop", "broken"])
def test_a_damaged_source_leaves_nothing_behind(earlier: Path, tmp_path: Path, damage: str) -> None:
    folder = trials(earlier)[0]
    result = folder / "attempt-001" / "result.json"
    result.unlink()
    if damage == "fifo":
        os.mkfifo(result)
    elif damage == "loop":
        result.symlink_to("result.json")
    else:
        result.write_bytes(b'{"status": \xff}')
    mine = open_results(tmp_path / "mine")
    assert merge_results(earlier, mine) == (3, 1)
    assert not (mine / "trials" / folder.name).exists() and not list((mine / "trials").glob(".*"))


def test_a_small_file_does_not_unpack_to_gigabytes(tmp_path: Path) -> None:
    path = "trials/0123456789abcdef/attempt-001/epochs.jsonl"
    bomb = tmp_path / "bomb.parquet"
    table = pa.table({"path": [path] * 2000, "text": ["x" * (1 << 20)] * 2000})
    pq.write_table(table, bomb, compression="zstd")
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(ResultsError, match="unpacks to more than"):
        unpack(bomb, tmp_path / "results")
    assert not any(name.name.startswith(".") for name in (tmp_path / "results").iterdir())
