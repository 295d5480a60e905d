"""Workers are forked from a process that has imported torch: quickly, clean, and with their ends told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from harness.execution import nursery

pytestmark = pytest.mark.skipif(not nursery.FORKS, reason="workers are forked on Linux alone")


class Started:
    """A worker with its event pipe and the file of its errors."""

    def __init__(self, results: Path, **environment: str) -> None:
        told, said = os.pipe()
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed below
        self.process: Any = nursery.start([str(results)], {**os.environ, **environment}, said, self.stderr)
        os.close(said)
        self.events = open(told)  # noqa: SIM115 -- closed below

    def ready(self) -> dict[str, Any]:
        """Wait until it takes orders."""
        found: dict[str, Any] = json.loads(self.events.readline())
        return found

    def close(self) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(60)
        self.events.close()
        self.stderr.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    started.close()


def test_a_worker_is_born_ready_and_its_end_is_told(worker: Started) -> None:
    assert worker.process.poll() is None
    told = worker.ready()
    assert (told["event"], told["pid"]) == ("ready", worker.process.pid)
    worker.process.stdin.close()
    assert worker.process.wait(60) == worker.process.poll() == worker.process.returncode == 0


def test_a_signal_is_told_as_its_negative_number(worker: Started) -> None:
    worker.ready()
    worker.process.kill()
    assert worker.process.wait(60) == -signal.SIGKILL
    worker.process.send_signal(signal.SIGTERM)  # to one that is gone: no error


def test_a_signal_sent_before_the_birth_reaches_the_worker(worker: Started) -> None:
    assert worker.process.pid is None
    worker.process.kill()
    assert worker.process.wait(60) == -signal.SIGKILL


def test_waiting_has_a_limit(worker: Started) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(0.01)


def test_workers_come_from_one_process_with_one_thread_and_no_plugin(tmp_path: Path, worker: Started) -> None:
    second = Started(tmp_path, HARNESS_MARK="second")
    try:
        worker.ready()
        second.ready()
        parents = {psutil.Process(each.process.pid).ppid() for each in (worker, second)}
        assert len(parents) == 1
        parent = psutil.Process(parents.pop())
        assert parent.num_threads() == 1
        assert psutil.Process(second.process.pid).num_threads() >= 1
    finally:
        second.close()
    code = "import sys, harness.execution.nursery; from harness.training.trial import warm_up; warm_up(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch._dynamo" in loaded
    assert not [name for name in loaded if name.startswith(("harness_plugins", "sklearn", "harness_slurm"))]


def test_another_environment_where_imports_may_read_it_has_a_process_of_its_own(
    tmp_path: Path, worker: Started
) -> None:
    other = Started(tmp_path, PYTHONHASHSEED="7")
    try:
        worker.ready()
        other.ready()
        assert psutil.Process(worker.process.pid).ppid() != psutil.Process(other.process.pid).ppid()
    finally:
        other.close()


def test_a_nursery_that_is_killed_takes_its_workers_along_and_the_next_start_makes_another(
    tmp_path: Path, worker: Started
) -> None:
    worker.ready()
    os.kill(psutil.Process(worker.process.pid).ppid(), signal.SIGKILL)
    assert worker.process.wait(60) == -signal.SIGKILL
    after = Started(tmp_path)
    try:
        assert after.ready()["event"] == "ready"
    finally:
        after.close()


def test_what_keeps_torch_from_being_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('this torch is broken')")
    broken = Started(tmp_path, PYTHONPATH=str(tmp_path))
    try:
        assert broken.process.wait(60) == 1
        broken.stderr.seek(0)
        assert b"this torch is broken" in broken.stderr.read()
    finally:
        broken.close()


def test_signals_for_the_whole_group_leave_the_nursery(worker: Started) -> None:
    worker.ready()
    parent = psutil.Process(psutil.Process(worker.process.pid).ppid())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        parent.send_signal(number)
    worker.process.send_signal(signal.SIGTERM)
    worker.process.stdin.close()
    assert worker.process.wait(60) == 0
    assert parent.is_running()
