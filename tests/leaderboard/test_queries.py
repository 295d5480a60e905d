"""What the pages read, and what they cannot read."""

from __future__ import annotations

import duckdb
import pytest
from harness_leaderboard import progress, queries
from made_results import HOSTILE, SETTINGS

from harness.papers import departure
from harness.results.store import current_snapshot


def test_suites_are_counted(filled):
    (facts,) = queries.suites(current_snapshot(filled.path))
    assert (facts.name, facts.methods, facts.settings, facts.trials, facts.done, facts.failed) == (
        "made",
        3,
        3,
        27,
        27,
        0,
    )


def test_settings_know_what_the_filters_ask(filled):
    found = queries.settings(current_snapshot(filled.path), "made")
    assert [(f.dataset, f.noise, f.rate, f.model) for f in found] == [(*place, "lenet") for place in SETTINGS]


def test_plain_cross_entropy_is_the_first_reference(filled):
    assert queries.plain_methods(current_snapshot(filled.path), "made") == ["CE", HOSTILE]


def test_every_cell_leads_to_a_trial_of_it(filled):
    snapshot = current_snapshot(filled.path)
    cells = queries.cell_trials(snapshot, "made")
    assert len(cells) == 9
    for (method, setting), trial in cells.items():
        place = queries.trial(snapshot, trial).places[0]
        assert (place["method"], place["setting"], place["seed"]) == (method, setting, 0)


def test_costs_add_up(filled):
    found = queries.costs(current_snapshot(filled.path), "made")
    assert sum(cost.seconds for cost in found) == 27 * 60.0
    assert {cost.parameters for cost in found} == {61706.0}


@pytest.mark.parametrize("text", ["", "../../etc", "' OR 1=1 --", "x" * 16, "0" * 200, "%"])
def test_what_is_no_id_is_no_trial(filled, text):
    assert queries.trial(current_snapshot(filled.path), text) is None


def test_a_name_with_quotes_finds_itself_and_nothing_else(filled):
    snapshot = current_snapshot(filled.path)
    setting = queries.settings(snapshot, "made")[0].setting
    assert len(queries.siblings(snapshot, "made", HOSTILE, setting, "accuracy", "last")) == 3
    assert queries.siblings(snapshot, "made' OR '1'='1", HOSTILE, setting, "accuracy", "last") == []


def test_a_query_can_reach_no_file_and_change_nothing(filled):
    with queries.cursor(current_snapshot(filled.path)) as connection:
        for statement in (
            "SELECT * FROM read_text('/etc/passwd')",
            "COPY trials TO '/tmp/x.csv'",
            "DELETE FROM trials",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
        with pytest.raises(duckdb.Error):
            connection.execute("SET enable_external_access = true")


def test_a_log_is_read_from_the_trials_own_folder_only(empty, tmp_path):
    trial = empty.trial("CE", SETTINGS[0], 0, 0.5, log="hello\n")
    assert queries.log(empty.path, trial, "attempt-001") == "hello\n"
    (tmp_path / "secret").write_text("secret")
    link = empty.path / "trials" / trial / "attempt-002"
    link.mkdir()
    (link / "log.txt").symlink_to(tmp_path / "secret")
    assert queries.log(empty.path, trial, "attempt-002") == ""
    assert queries.log(empty.path, trial, "../../../..") == ""
    assert queries.log(empty.path, f"{trial}/../{trial}", "attempt-001") == ""


def test_a_long_log_is_shown_from_its_end(empty):
    trial = empty.trial("CE", SETTINGS[0], 0, 0.5, log="x" * 100_000 + "the end")
    shown = queries.log(empty.path, trial, "attempt-001")
    assert shown.endswith("the end") and len(shown) < 70_000 and "left out" in shown


def test_a_new_snapshot_is_seen_while_the_old_one_is_open(empty):
    empty.trial("CE", SETTINGS[0], 0, 0.5)
    first = empty.collect()
    assert queries.suites(first)[0].done == 1
    empty.trial("CE", SETTINGS[0], 1, 0.6)
    second = empty.collect()
    assert second != first
    assert queries.suites(first)[0].done == 1  # a snapshot never changes
    assert queries.suites(second)[0].done == 2


def test_progress_reads_what_the_store_does_not_know_yet(empty):
    empty.trial("CE", SETTINGS[0], 0, 0.5)
    empty.trial("CE", SETTINGS[0], 1, None, error="boom")
    empty.trial("CE", SETTINGS[0], 2, None)
    empty.collect()
    manifest = progress.newest_manifest(empty.path, "made")
    found = progress.read_progress(empty.path, manifest, {})
    assert [state.status for state in found.states] == ["done", "failed", "missing"]
    assert found.states[1].error == "ValueError: boom"
    assert found.remaining() == pytest.approx(60.0)


def test_a_running_trial_tells_epoch_and_remaining_time(empty):
    trial = empty.trial("CE", SETTINGS[0], 0, 0.5, epochs=4)
    attempt = empty.path / "trials" / trial / "attempt-001"
    (attempt / "result.json").unlink()
    (attempt.parent / "done.json").unlink()
    (attempt / "heartbeat").touch()
    lines = (attempt / "timing.jsonl").read_text().splitlines()[:1]
    (attempt / "timing.jsonl").write_text(lines[0] + "\n")
    empty.collect()
    found = progress.read_progress(empty.path, progress.newest_manifest(empty.path, "made"), {})
    (state,) = found.states
    assert (state.status, state.epoch, state.epochs, state.host) == ("running", 1, 4, "made")
    assert state.remaining == pytest.approx(3 * (1.0 + len("CE") / 100 + 0.1))


def test_configurations_differ_in_named_keys():
    here = {"seed": 0, "training": {"epochs": 3, "lr": [1, 2]}, "only": 1}
    there = {"seed": 5, "training": {"epochs": 4, "lr": [1, 3]}}
    assert departure.differences(here, there) == [("training.epochs", 3, 4), ("training.lr[1]", 2, 3), ("only", 1, ...)]
