"""The contract of executors: all that is required is called, and what does not keep it is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.doctor import doctor
from harness.errors import HarnessError
from harness.execution.cancel import cancel_trials
from harness.execution.executor import Executor, Queueing
from harness.execution.orchestrate import Orchestrator
from harness.execution.queues import read_queues
from harness.plugins import load_host
from harness.results.records import open_results
from harness.suite.load import Suite, load_suite
from harness.testing import check_plugin

Write = Callable[..., Path]
PLUGIN = """
from harness import hookimpl
from harness.execution.executor import Executor, PlannedArray, PlannedJob, Queueing

CALLS = []

class Here(Executor):
    "Runs nothing."
    capabilities = frozenset({"waits"})

    def __init__(self, speed: int = 1):
        self.speed = speed

    def submit(self, trial_ids, results, plan=None, rerun=frozenset()):
        self.on_event({"event": "warning", "message": f"speed {self.speed}, {len(trial_ids)} trials"})
        CALLS.append("submit")
        return set(trial_ids)

    def interrupt(self):
        CALLS.append("interrupt")

class There(Queueing):
    "Queues nothing."
    capabilities = frozenset({"remote"})

    def submit(self, trial_ids, results, plan=None, rerun=frozenset()):
        CALLS.append("submit")
        return set(trial_ids)

    def interrupt(self):
        CALLS.append("interrupt")

    def preview(self, ids, results, plan):
        CALLS.append("preview")
        return [PlannedArray("a big machine", 60, None, 1.5, (PlannedJob(tuple(ids), 3.0),))]

    def queue(self, results):
        CALLS.append("queue")
        return {"0" * 16: {"state": "gone", "job": "7", "node": "n1", "detail": ""}}

    def cancel_queued(self, ids, results):
        CALLS.append("cancel_queued")
        return len(ids)

    def notes(self, results):
        CALLS.append("notes")
        return ["the code has changed"]

    def ended(self, job_ids):
        CALLS.append("ended")
        return dict.fromkeys(job_ids, "TIMEOUT")

    def diagnose(self, results):
        CALLS.append("diagnose")
        return ["a big machine is free"]

class Half(Executor):
    "Cannot stop."
    def submit(self, trial_ids, results, plan=None, rerun=frozenset()):
        return set()

class Stranger:
    "Not derived from the contract."
    capabilities = frozenset()

@hookimpl
def harness_register_executors(register):
    register("here", Here)
    register("there", There)
    register("half", Half)
    register("stranger", Stranger)
"""


@pytest.fixture
def suite(write_suite: Write, tmp_path: Path) -> Suite:
    plugin = tmp_path / "executors.py"
    plugin.write_text(PLUGIN)
    return load_suite(write_suite(), plugins=[plugin])


def calls(suite: Suite) -> list[str]:
    """What was called of the plugin's executors since the last question."""
    made = suite.host.registry.create("executor", "here", {})
    found: list[str] = type(made).submit.__globals__["CALLS"]
    said, found[:] = [*found], []
    return said


def test_a_run_calls_submit_with_the_options_and_hears_events(suite: Suite, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    orchestrator = Orchestrator(suite, open_results(tmp_path / "r"), "here", {"speed": 3}, on_event=heard.append)
    plan = orchestrator.run()
    assert calls(suite) == ["submit"] and plan.counts()["missing"] == 1
    assert {"event": "warning", "message": "speed 3, 1 trials"} in heard
    assert orchestrator.executor.options == {"speed": 3}
    orchestrator.interrupt()
    assert calls(suite) == ["interrupt"]
    assert orchestrator.preview()[2] is None


def test_all_that_a_queue_must_answer_is_asked(suite: Suite, tmp_path: Path) -> None:
    results = open_results(tmp_path / "r")
    orchestrator = Orchestrator(suite, results, "there")
    _, todo, (array,) = orchestrator.preview()
    assert array.resources == "a big machine" and array.jobs[0].trials == (todo[0].id,)
    queues = read_queues(suite, results)
    assert queues.trials["0" * 16]["job"] == "7" and queues.notes[-1] == "the code has changed"
    assert "interrupt" in queues.notes[0] and "executors.half" in queues.notes[0]
    assert queues.ended(["7"]) == {"7": "TIMEOUT"}
    assert cancel_trials(suite, results, [todo[0].id]) == 1
    made = suite.host.registry.create("executor", "there", {})
    assert made.diagnose(results) == ["a big machine is free"]
    orchestrator.interrupt()
    assert calls(suite) == ["preview", "queue", "notes", "ended", "cancel_queued", "diagnose", "interrupt"]
    assert Orchestrator(suite, results, "there").run().counts()["missing"] == 1
    assert calls(suite) == ["submit"]
    named = {name for kind in (Executor, Queueing) for name in kind.__abstractmethods__}
    assert named == {"submit", "interrupt", "preview", "queue", "cancel_queued"}


def test_a_doctor_asks_executors_with_a_queue(monkeypatch: pytest.MonkeyPatch, suite: Suite, tmp_path: Path) -> None:
    monkeypatch.setattr("harness.plugins.load_host", lambda: suite.host)
    answer = CliRunner().invoke(make_typer(), ["--results", str(tmp_path)])
    assert answer.exit_code == 0 and "a big machine is free" in answer.output and "executors.half" in answer.output


def make_typer() -> Any:
    import typer

    app = typer.Typer()
    app.command()(doctor)
    return app


@pytest.mark.parametrize("name, words", [("half", "interrupt"), ("stranger", "is no executor")])
def test_what_does_not_keep_the_contract_is_told_in_one_line(
    suite: Suite, tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(HarnessError, match=words) as told:
        Orchestrator(suite, open_results(tmp_path / "r"), name)
    assert f"executors.{name}" in str(told.value) and "\n" not in str(told.value)


def test_the_packaged_executors_keep_the_contract() -> None:
    registry = load_host().registry
    made = {name: registry.create("executor", name, {}) for name in registry.names("executor")}
    assert set(made) >= {"inline", "local", "slurm"}
    assert all(isinstance(executor, Executor) for executor in made.values())
    assert [name for name, executor in made.items() if isinstance(executor, Queueing)] == ["slurm"]


def test_the_check_of_executors_names_what_is_missing(tmp_path: Path) -> None:
    plugin = tmp_path / "executors.py"
    plugin.write_text(PLUGIN)
    found = {f.subject: f for f in check_plugin(plugin, only=["executor"]) if f.check == "executor"}
    assert {name.rpartition(".")[2]: f.status for name, f in found.items()} == {
        "here": "ok",
        "there": "ok",
        "half": "fault",
        "stranger": "fault",
    }
