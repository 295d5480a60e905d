"""Executors: identical metrics everywhere; a dead worker costs one trial, which is retried once; hangs are failed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.execution import nursery
from harness.execution.cancel import cancel_trials
from harness.execution.orchestrate import Orchestrator
from harness.execution.pool import Pool, read_event
from harness.results.records import (
    attempts,
    final_attempt,
    open_results,
    read_json,
    read_lines,
    submit_trials,
    trial_folder,
)
from harness.suite.load import Suite, load_suite
from harness.training.log import MOST_BYTES

Write = Callable[..., Path]
METHODS = """
[[method]]
name = "CE"
[[method]]
name = "SOP"
algorithms = ["sop"]
[[method]]
name = "A-RRM"
algorithms = [{ name = "rrm", every = 1 }, "fgsm"]
"""

FAULTY = '''
"""Components that misbehave once or always, told by files beside the results."""

import os
import signal
import time
from pathlib import Path

from harness import hookimpl

HERE = Path(__file__).parent


class DiesOnce:
    """Kills its worker the first time."""

    def epoch_start(self, run):
        marker = HERE / f"died-{run.seed}"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class DiesAlways:
    """Kills its worker every time."""

    def epoch_start(self, run):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs:
    """Sleeps for ever."""

    def epoch_start(self, run):
        time.sleep(1000)


class Raises:
    """Raises in its second epoch."""

    def epoch_start(self, run):
        if run.epoch == 2:
            raise ValueError("second epoch")


class Slow:
    """Takes its time with every batch."""

    def after_step(self, run, step):
        time.sleep(0.05)


@hookimpl
def harness_register_algorithms(register):
    for part in (DiesOnce, DiesAlways, Hangs, Raises, Slow):
        register(part.__name__.lower(), part)
'''


def outcomes(results: Path, suite: Suite) -> dict[tuple[str, int], Any]:
    found = {}
    for entry in suite.entries():
        attempt = final_attempt(trial_folder(results, entry.trial.id))
        assert attempt is not None
        found[entry.method, entry.seed] = (read_lines(attempt / "epochs.jsonl"), read_json(attempt / "result.json"))
    return found


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    path = tmp_path / "faulty.py"
    path.write_text(FAULTY)
    return path


def test_inline_and_local_with_one_and_two_workers_agree_bit_for_bit(write_suite: Write, tmp_path: Path) -> None:
    suite = load_suite(write_suite(methods=METHODS, evaluation="fgsm = [0.0, 0.1]"), ["suite.seeds=[0, 1]"])
    found = []
    for name, executor, options in (
        ("a", "inline", {}),
        ("b", "local", {"workers": 1}),
        ("c", "local", {"workers": 2}),
    ):
        plan = harness.run(suite, tmp_path / name, executor, **options)
        assert plan.counts()["done"] == 6
        found.append(outcomes(tmp_path / name, suite))
    assert found[0] == found[1] == found[2]


def test_running_again_does_nothing(write_suite: Write, tmp_path: Path) -> None:
    suite = load_suite(write_suite())
    harness.run(suite, tmp_path / "r")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "r" / "trials").rglob("*") if p.is_file())
    harness.run(suite, tmp_path / "r")
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "r" / "trials").rglob("*") if p.is_file())


def test_a_dead_worker_costs_one_trial_which_is_retried_once(write_suite: Write, tmp_path: Path, faulty: Path) -> None:
    methods = '[[method]]\nname = "CE"\n' + "".join(
        f'[[method]]\nname = "{name}"\nalgorithms = ["{name}"]\n' for name in ("diesonce", "diesalways", "raises")
    )
    suite = load_suite(write_suite(methods=methods), plugins=[faulty])
    plan = harness.run(suite, tmp_path / "r", "local", workers=2)
    found = outcomes(tmp_path / "r", suite)
    status = {method: result["status"] for (method, _), (_, result) in found.items()}
    assert status == {"CE": "done", "diesonce": "done", "diesalways": "failed", "raises": "failed"}
    assert found["diesonce", 0][1]["metrics"]["accuracy"] == found["CE", 0][1]["metrics"]["accuracy"]
    assert "SIGKILL" in found["diesalways", 0][1]["error"]["message"]
    assert found["raises", 0][1]["error"]["type"] == "ValueError"
    assert plan.counts()["failed"] == 2
    by_method = {p.entry.method: len(attempts(trial_folder(tmp_path / "r", p.id))) for p in plan.trials}
    assert by_method == {"CE": 1, "diesonce": 2, "diesalways": 2, "raises": 1}


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_hang_is_failed_after_its_time_limit(write_suite: Write, tmp_path: Path, faulty: Path, executor: str) -> None:
    methods = '[[method]]\nname = "hangs"\nalgorithms = ["hangs"]\n[[method]]\nname = "CE"\n'
    suite = load_suite(write_suite(methods=methods), ["execution.timeout_s=15.0"], [faulty])
    harness.run(suite, tmp_path / "r", executor)
    found = outcomes(tmp_path / "r", suite)
    assert (
        found["hangs", 0][1]["error"]["type"] == "TrialTimeout"
        and "timeout_s = 15" in found["hangs", 0][1]["error"]["message"]
    )
    assert found["CE", 0][1]["status"] == "done"


def test_an_interrupt_keeps_a_checkpoint_and_the_next_run_goes_on(
    write_suite: Write, tmp_path: Path, faulty: Path
) -> None:
    methods = '[[method]]\nname = "slow"\nalgorithms = ["slow"]\n'
    suite = load_suite(write_suite(methods=methods, epochs=2), plugins=[faulty])
    results = open_results(tmp_path / "r")

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            orchestrator.interrupt()

    orchestrator = Orchestrator(suite, results, "local", {"workers": 1}, on_event=stop)
    plan = orchestrator.run()
    assert plan.counts()["missing"] == 1
    (trial,) = plan.trials
    first = attempts(trial_folder(results, trial.id))[0]
    assert (first / "checkpoint.pt").exists() and read_json(first / "environment.json")["interrupted"]
    assert harness.run(suite, results, "local").counts()["done"] == 1
    second = final_attempt(trial_folder(results, trial.id))
    assert second is not None and read_json(second / "environment.json")["resumed_from"]["attempt"] == "attempt-001"
    harness.run(suite, tmp_path / "whole", "inline")
    assert outcomes(results, suite) == outcomes(tmp_path / "whole", suite)


def test_cancelling_from_elsewhere_stops_what_runs_and_starts_nothing_else(
    write_suite: Write, tmp_path: Path, faulty: Path
) -> None:
    methods = '[[method]]\nname = "slow"\nalgorithms = ["slow"]\n'
    suite = load_suite(write_suite(methods=methods, epochs=2), ["suite.seeds=[0, 1, 2]"], plugins=[faulty])
    results = open_results(tmp_path / "r")

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            assert cancel_trials(suite, results, [entry.trial.id for entry in suite.entries()]) == 1

    plan = Orchestrator(suite, results, "local", {"workers": 1}, on_event=stop).run()
    assert plan.counts()["missing"] == 3
    started = [trial for trial in (p.id for p in plan.trials) if attempts(trial_folder(results, trial))]
    assert len(started) == 1 and (attempts(trial_folder(results, started[0]))[0] / "checkpoint.pt").exists()
    assert harness.run(suite, results, "local").counts()["done"] == 3


def test_what_a_plugin_prints_goes_to_the_trials_log(write_suite: Write, tmp_path: Path) -> None:
    plugin = tmp_path / "chatty.py"
    plugin.write_text(
        textwrap.dedent("""
        import os
        from harness import hookimpl
        class Chatty:
            "Prints."
            def setup(self, run):
                print("hello from the plugin")
                os.write(2, b"hello from below\\n")
        @hookimpl
        def harness_register_algorithms(register):
            register("chatty", Chatty)
        """)
    )
    suite = load_suite(write_suite(methods='[[method]]\nname = "m"\nalgorithms = ["chatty"]'), plugins=[plugin])
    plan = harness.run(suite, tmp_path / "r", "local")
    attempt = final_attempt(trial_folder(tmp_path / "r", plan.trials[0].id))
    assert attempt is not None
    log = (attempt / "log.txt").read_text()
    assert "hello from the plugin" in log and "hello from below" in log


def killed_run(command: list[str], when: Callable[[], bool]) -> None:
    """Start a run in a process group of its own and SIGKILL the group at the given moment."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not when():
        time.sleep(0.0005)
    assert process.returncode is None, "the run ended before the moment came"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killing_the_whole_group_five_times_changes_no_record(write_suite: Write, tmp_path: Path, faulty: Path) -> None:
    """Four random moments, and one inside the writing of a checkpoint; large enough that the writing takes a while."""
    methods = METHODS + '[[method]]\nname = "slow"\nalgorithms = ["slow"]\n'
    path = write_suite(
        methods=methods, epochs=4, evaluation="fgsm = [0.1]", tables="[execution]\ncheckpoint_epochs = 1"
    )
    path.write_text(path.read_text().replace("hidden = [32]", "hidden = [1024, 2048]"))
    suite = load_suite(path, plugins=[faulty])
    harness.run(suite, tmp_path / "whole", "inline")
    trials = tmp_path / "r" / "trials"
    command = [sys.executable, "-m", "harness.cli.main", "run", str(path), "--plugin", str(faulty)]
    command += ["--results", str(tmp_path / "r")]

    def half_written() -> set[Path]:
        return set(trials.glob("*/attempt-*/.checkpoint.pt.*.tmp"))

    killed_run(command, lambda: bool(half_written()))
    assert half_written(), "no kill fell inside a write"
    chance = random.Random(20)

    def some_time_into_an_attempt() -> Callable[[], bool]:
        already = len(list(trials.glob("*/attempt-*")))
        wait, begun = chance.uniform(0.0, 1.5), float("inf")

        def come() -> bool:
            nonlocal begun
            if begun == float("inf") and len(list(trials.glob("*/attempt-*"))) > already:
                begun = time.monotonic()
            return time.monotonic() > begun + wait

        return come

    for _ in range(4):
        killed_run(command, some_time_into_an_attempt())
    done_before = {p: p.stat().st_mtime_ns for p in trials.glob("*/attempt-*/result.json")}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert outcomes(tmp_path / "r", suite) == outcomes(tmp_path / "whole", suite)
    done = [p for p in trials.rglob("result.json") if json.loads(p.read_text())["status"] == "done"]
    assert len(done) == 4
    assert {p: p.stat().st_mtime_ns for p in done_before} == done_before
    assert not half_written() and not list(trials.glob("*/attempt-*/checkpoint.*"))


def test_a_worker_speaks_json_lines_and_names_the_trial_by_its_key(write_suite: Write, tmp_path: Path) -> None:
    (entry,) = load_suite(write_suite(epochs=1)).entries()
    submit_trials(tmp_path / "r", [entry.trial])
    orders = [{"run": entry.trial.id, "key": "a"}, {"run": entry.trial.id}, {"run": "nonsense"}]
    command = [sys.executable, "-m", "harness.execution.worker", str(tmp_path / "r")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write("".join(json.dumps(order) + "\n" for order in orders))
        worker.stdin.flush()  # it stays open: at its end a worker stops
        events = []
        for line in worker.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "error":
                break
        worker.stdin.close()
        assert worker.wait(timeout=60) == 0
    assert [event["event"] for event in events] == ["ready", "start", "epoch", "done", "busy", "error"]
    assert [event.get("key") for event in events] == [None, "a", "a", "a", None, None]
    (attempt,) = attempts(trial_folder(tmp_path / "r", entry.trial.id))
    assert read_json(attempt / "result.json")["status"] == "done"


@pytest.mark.parametrize(
    "line, event",
    [
        (b'{"event": "busy", "id": "x"}', {"event": "busy", "id": "x"}),
        (b'left by another {"event": "busy", "id": "x"}', {"event": "busy", "id": "x"}),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"event": ["busy"]}', None),
        (b'{"event": "exit", "code": 0}', None),
        (b'{"event": "busy", "id": 3}', None),
        (b'{"event": "start", "id": "x", "attempt": "../y", "epochs": 1}', None),
        (b'{"event": "epoch", "id": "x", "epoch": "1", "epochs": 1}', None),
    ],
)
def test_only_events_of_a_worker_are_read(line: bytes, event: dict[str, Any] | None) -> None:
    assert read_event(line) == event


MEDDLING = """
import json
import os
import threading
import time
from harness import hookimpl

if os.environ.get("SLOW_IMPORT"):
    time.sleep(float(os.environ["SLOW_IMPORT"]))


class Meddles:
    "Misbehaves once."
    def __init__(self, how: str = ""):
        self.how = how

    def setup(self, run):
        if self.how == "orphan":
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            os._exit(7)
        if self.how == "forges":
            events = [{"event": kind, "id": name, "error": None} for kind in ("done", "failed", "interrupted")
                      for name in (run.name, "0123456789abcdef")]
            lines = b"\\xff" + "\\n".join(map(json.dumps, events)).encode() + b"\\n" + b'{"event": "done"'
            for number in range(3, 64):
                try:
                    if "pipe" in os.readlink(f"/proc/self/fd/{number}"):
                        os.set_blocking(number, False)
                        os.write(number, lines)
                        os.set_blocking(number, True)
                except OSError:
                    continue
        if self.how == "thread":
            threading.Thread(target=time.sleep, args=(600,), name="mine", daemon=True).start()
        if self.how == "prints":
            for _ in range(40):
                os.write(1, b"x" * 1_000_000)
                time.sleep(0.01)

@hookimpl
def harness_register_algorithms(register):
    register("meddles", Meddles)
"""


def meddling(write_suite: Write, tmp_path: Path, how: str) -> tuple[Suite, Path]:
    plugin = tmp_path / "meddling.py"
    plugin.write_text(MEDDLING)
    methods = (
        f'[[method]]\nname = "{how}"\nalgorithms = [{{ name = "meddles", how = "{how}" }}]\n[[method]]\nname = "CE"\n'
    )
    return load_suite(write_suite(methods=methods, epochs=1), plugins=[plugin]), tmp_path / "r"


def test_a_process_that_a_dead_worker_left_behind_keeps_no_run(write_suite: Write, tmp_path: Path) -> None:
    suite, results = meddling(write_suite, tmp_path, "orphan")
    plan = harness.run(suite, results, "local", workers=1)
    assert plan.counts()["failed"] == 1 and plan.counts()["done"] == 1
    error = outcomes(results, suite)["orphan", 0][1]["error"]
    assert (error["type"], error["component"], error["hook"]) == ("WorkerDied", "algorithms.meddles", "setup")
    assert "exit status 7" in error["message"] and "setup of algorithms.meddles" in error["message"]
    import psutil

    workers = [p for p in psutil.process_iter(["cmdline"]) if nursery.MODULE in (p.info["cmdline"] or ())]
    left = [p for p in workers if any(str(results) in file.path for file in p.open_files())]
    assert left, "the orphans ended before the run did, so nothing was shown"
    for process in left:
        process.kill()


def test_events_that_a_component_forges_are_ignored(write_suite: Write, tmp_path: Path) -> None:
    suite, results = meddling(write_suite, tmp_path, "forges")
    seen: list[dict[str, Any]] = []
    plan = Orchestrator(suite, open_results(results), "local", {"workers": 1}, on_event=seen.append).run()
    assert plan.counts()["done"] == 2
    told = [event["event"] for event in seen if event.get("id") == plan.trials[0].id]
    assert told == ["start", "epoch", "done"]
    assert not [event for event in seen if event.get("id") == "0123456789abcdef"]


def test_a_worker_in_which_something_goes_on_is_replaced_by_a_fresh_one(write_suite: Write, tmp_path: Path) -> None:
    suite, results = meddling(write_suite, tmp_path, "thread")
    plan = harness.run(suite, results, "local", workers=1)
    assert plan.counts()["done"] == 2
    claims, left = [], []
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(results, planned.id))
        assert attempt is not None
        claims.append(read_json(attempt / "claim.json")["pid"])
        left.append(read_json(attempt / "environment.json").get("left", []))
    assert claims[0] != claims[1]
    assert [(one["what"], one["component"], one["hook"]) for one in left[0]] == [
        ("thread 'mine'", "algorithms.meddles", "setup")
    ]
    assert left[1] == []


def test_a_time_limit_starts_with_the_trial_and_not_with_its_worker(
    write_suite: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, results = meddling(write_suite, tmp_path, "none")
    trials = [entry.trial for entry in suite.entries()]
    submit_trials(open_results(results), trials)
    monkeypatch.setenv("SLOW_IMPORT", "40")
    pool = Pool(results, 1, plugins=[str(tmp_path / "meddling.py")])
    assert pool.run([trials[0].id], timeouts={trials[0].id: 30.0}) == set()
    assert outcomes_of(results, trials[0].id)["status"] == "done"


def outcomes_of(results: Path, trial_id: str) -> Any:
    attempt = final_attempt(trial_folder(results, trial_id))
    assert attempt is not None
    return read_json(attempt / "result.json")


def test_a_log_has_a_limit_which_it_tells(write_suite: Write, tmp_path: Path) -> None:
    suite, results = meddling(write_suite, tmp_path, "prints")
    plan = harness.run(suite, results, "local", workers=1)
    assert plan.counts()["done"] == 2
    attempt = final_attempt(trial_folder(results, plan.trials[0].id))
    assert attempt is not None
    content = (attempt / "log.txt").read_bytes()
    assert MOST_BYTES < len(content) < MOST_BYTES + 1000
    assert b"log.txt has reached its limit of 10,000,000 bytes" in content
