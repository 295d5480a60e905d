"""Claims: one worker per trial, dead owners are replaced at once, two workers never finish one trial."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ClaimLost, ResultsError
from harness.results import records
from harness.results.records import (
    Attempt,
    attempts,
    claim,
    done_marker,
    forgive,
    is_alive,
    open_results,
    read_json,
    read_lines,
    status_of,
    write_json,
)

pytestmark = pytest.mark.portable

DONE = {"schema": 1, "status": "done", "metrics": {}, "error": None}
FAILED = {"schema": 1, "status": "failed", "metrics": {}, "error": {"type": "E", "message": "m", "traceback": ""}}


def _race(folder: str, barrier: Any, won: Any) -> None:
    barrier.wait()
    if claim(Path(folder), "t") is not None:
        with won.get_lock():
            won.value += 1
    barrier.wait()


def test_of_many_claims_at_one_moment_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(4), context.Value("i", 0)
    processes = [context.Process(target=_race, args=(str(tmp_path), barrier, won)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert won.value == 1


def test_a_live_claim_is_respected_and_a_released_one_is_not(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None and status_of(tmp_path, "t") == "running"
    assert claim(tmp_path, "t") is None
    first.release()
    assert status_of(tmp_path, "t") == "missing"
    second = claim(tmp_path, "t")
    assert second is not None and second.path.name == "attempt-002"


def test_the_claim_of_a_dead_process_is_replaced_at_once(tmp_path: Path) -> None:
    code = f"from harness.results.records import claim; from pathlib import Path; claim(Path({str(tmp_path)!r}), 't')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not is_alive(attempts(tmp_path / "trials" / "t")[0])
    assert claim(tmp_path, "t") is not None


def test_a_recycled_pid_is_not_the_owner(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    facts = read_json(first.path / "claim.json")
    write_json(first.path / "claim.json", {**facts, "started": facts["started"] - 1000})
    assert not is_alive(first.path)


def test_elsewhere_a_claim_lives_as_long_as_its_heartbeat(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    write_json(first.path / "claim.json", {**read_json(first.path / "claim.json"), "boot": "another machine"})
    assert is_alive(first.path)
    old = time.time() - records.DEAD_AFTER_S - 1
    os.utime(first.path / "heartbeat", (old, old))
    assert not is_alive(first.path)


def test_the_earlier_of_two_copies_yields(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    first.release()
    second = claim(tmp_path, "t")
    assert second is not None
    with pytest.raises(ClaimLost):
        first.check()
    with pytest.raises(ClaimLost):
        first.finish(DONE, {})
    second.finish(DONE, {})
    assert not (first.path / "result.json").exists()
    assert done_marker(tmp_path / "trials" / "t") == {"attempt": "attempt-002", "digests": {}}


def test_only_one_attempt_can_finish(tmp_path: Path) -> None:
    second = claim(tmp_path, "t")
    assert second is not None
    other = Attempt(tmp_path, "t", second.path, 1)
    second.finish(DONE, {})
    late = Attempt(tmp_path, "t", second.path.parent / "attempt-009", 9)
    late.path.mkdir()
    write_json(late.path / "claim.json", {"after": None})
    with pytest.raises(ClaimLost):
        late.finish(DONE, {})
    assert not (late.path / "result.json").exists() and other.path.exists()


def test_a_crash_between_marker_and_result_does_not_block_the_trial(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    write_json(first.path.parent / "done.json", {"attempt": "attempt-001", "digests": {}})
    first.release()
    assert status_of(tmp_path, "t") == "missing"
    second = claim(tmp_path, "t")
    assert second is not None
    second.finish(DONE, {})
    assert status_of(tmp_path, "t") == "done"


def test_failures_are_final_until_retried(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    first.finish(FAILED, {})
    assert status_of(tmp_path, "t") == "failed" and claim(tmp_path, "t") is None
    forgive(tmp_path, "t")
    assert status_of(tmp_path, "t") == "missing"
    second = claim(tmp_path, "t")
    assert second is not None
    second.finish(FAILED, {})
    assert status_of(tmp_path, "t") == "failed"


def test_a_changed_source_makes_a_done_trial_stale(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    first.finish(DONE, {"loss:ce": "aaaa"})
    assert status_of(tmp_path, "t", {"loss:ce": "aaaa"}) == "done"
    assert status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "stale"
    assert claim(tmp_path, "t") is None
    again = claim(tmp_path, "t", rerun=True)
    assert again is not None and status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "running"
    again.finish(DONE, {"loss:ce": "bbbb"})
    assert status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "done"


def test_a_rerun_that_fails_is_a_failure_until_it_is_retried_or_the_source_is_back(tmp_path: Path) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    first.finish(DONE, {"loss:ce": "aaaa"})
    again = claim(tmp_path, "t", rerun=True)
    assert again is not None
    again.finish(FAILED, {"loss:ce": "bbbb"})
    assert status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "failed"
    assert status_of(tmp_path, "t", {"loss:ce": "aaaa"}) == "done", "its earlier result still stands"
    assert claim(tmp_path, "t", rerun=True) is None
    forgive(tmp_path, "t")
    assert status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "stale"
    third = claim(tmp_path, "t", rerun=True)
    assert third is not None
    third.finish(DONE, {"loss:ce": "bbbb"})
    assert status_of(tmp_path, "t", {"loss:ce": "bbbb"}) == "done"


@pytest.mark.parametrize("left", [0, 1, 20])
def test_what_a_power_cut_left_of_a_result_is_none(tmp_path: Path, left: int) -> None:
    first = claim(tmp_path, "t")
    assert first is not None
    first.finish(DONE, {})
    first.release()
    result = (first.path / "result.json").read_bytes()
    (first.path / "result.json").write_bytes(result.strip())
    assert status_of(tmp_path, "t") == "done", "other writers may end it otherwise"
    (first.path / "result.json").write_bytes(result[:left])
    assert done_marker(tmp_path / "trials" / "t") is None and status_of(tmp_path, "t") == "missing"
    second = claim(tmp_path, "t")
    assert second is not None
    second.finish(DONE, {})
    assert done_marker(tmp_path / "trials" / "t") == {"attempt": "attempt-002", "digests": {}}


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_lines(path) == [{"epoch": 1}, {"epoch": 2}]


def test_a_newer_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    open_results(tmp_path)
    (tmp_path / "version.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(ResultsError, match="newer harness"):
        open_results(tmp_path)


@pytest.mark.parametrize("schema", ["abc", None, [1]])
def test_a_schema_that_is_no_number_is_refused_in_one_line(tmp_path: Path, schema: object) -> None:
    open_results(tmp_path)
    (tmp_path / "version.json").write_text(json.dumps({"schema": schema}))
    with pytest.raises(ResultsError, match=r"its schema is .*, not a number") as raised:
        open_results(tmp_path)
    assert "version.json" in str(raised.value) and "\n" not in str(raised.value)


def test_an_unwritable_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="Not a directory"):
        open_results(tmp_path / "file" / "results")
