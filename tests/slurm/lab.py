"""A small suite on the one-machine cluster, the faults that can befall it, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

SUITE = """
[suite]
name = "small"
seeds = [0, 1]
plugins = ["./slow.py"]
[training]
epochs = 6
batch_size = 128
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[execution]
device = "cpu"
checkpoint_epochs = 1
[[setting]]
dataset = "digits"
model = "mlp"
noise = { name = "symmetric", rate = 0.4 }
[[method]]
name = "CE"
algorithms = ["slow"]
[[method]]
name = "SOP"
algorithms = ["sop", "slow"]
[[method]]
name = "RRM+FGSM"
algorithms = [{ name = "rrm" }, "fgsm", "slow"]
[slurm]
partition = "test"
gpus_per_node = 1
timeout_min = 60
trials_per_job = 2
poll_s = 1.0
"""
SLOW = '''
"""Takes time and changes nothing: what to interrupt."""

import os
import time

import harness


class Slow:
    def after_step(self, run, step):
        time.sleep(float(os.environ.get("SLOW_S", "0")))


@harness.hookimpl
def harness_register_algorithms(register):
    register("slow", Slow)
'''


def harness(*arguments: str, cwd: Path, slow_s: float = 0.0, **options: Any) -> subprocess.Popen[str]:
    """Start a command of the harness."""
    environment = {**os.environ, "SLOW_S": str(slow_s), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli.main", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 240) -> str:
    """Wait for a command that must succeed; what it printed."""
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        raise AssertionError(f"not done in {timeout_s} s: {out}") from None
    assert process.returncode == 0, out
    return out


def eventually(condition: Callable[[], Any], timeout_s: float = 90) -> Any:
    """Wait for something to become true; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.2)
    return value


class Lab:
    """A folder with the suite, and its results."""

    def __init__(self, folder: Path, suite: str = SUITE) -> None:
        self.folder = folder
        self.results = folder / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "suite.toml").write_text(suite)
        (folder / "slow.py").write_text(SLOW)

    def start(self, *arguments: str, slow_s: float = 0.0) -> subprocess.Popen[str]:
        """Start ``harness run``."""
        return harness("run", "suite.toml", *arguments, cwd=self.folder, slow_s=slow_s)

    def call(self, command: str, *arguments: str) -> str:
        """Run another command of the harness to its end."""
        return finish(harness(command, "suite.toml", *arguments, cwd=self.folder))

    def epochs(self) -> int:
        """Epochs on disk, over all attempts."""
        return sum(len(read_epochs(path)) for path in self.results.glob("trials/*/attempt-*"))

    def claims(self) -> list[dict[str, Any]]:
        """Claims of attempts that have no result."""
        found = (p for p in self.results.glob("trials/*/attempt-*") if not (p / "result.json").exists())
        return [json.loads((path / "claim.json").read_text()) for path in found if not (path / "released").exists()]

    def environments(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.results.glob("trials/*/attempt-*/environment.json")]

    def check(self, trials: int, epochs: int = 6) -> None:
        """Each trial is done once, and no epoch stands in it twice."""
        folders = list(self.results.glob("trials/*"))
        assert len(folders) == trials
        for folder in folders:
            results = [json.loads(path.read_text()) for path in folder.glob("attempt-*/result.json")]
            assert [result["status"] for result in results] == ["done"], folder
            final = folder / json.loads((folder / "done.json").read_text())["attempt"]
            assert [line["epoch"] for line in read_epochs(final)] == list(range(1, epochs + 1)), folder

    def digest(self) -> str:
        """Over all metrics: what must be equal however the trials were run."""
        content = hashlib.sha256()
        for folder in sorted(self.results.glob("trials/*")):
            final = folder / json.loads((folder / "done.json").read_text())["attempt"]
            content.update(folder.name.encode())
            content.update((final / "epochs.jsonl").read_bytes())
            content.update((final / "result.json").read_bytes())
        return content.hexdigest()


def read_epochs(attempt: Path) -> list[dict[str, Any]]:
    path = attempt / "epochs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Faults:
    """What can happen to a job in mid-run. Each takes a lab whose trials run, and returns when it is over."""

    NAMES = ("usr2", "preemption", "scancel", "kill_worker", "kill_job", "node_down", "kill_slurmd")

    def __init__(self, cluster: Any, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng

    def happen(self, name: str, lab: Lab) -> None:
        getattr(self, name)(lab)

    def running(self) -> list[list[str]]:
        """[job id, node] of the suite's running tasks."""
        command = ("squeue", "--noheader", "--array", "--partition=test", "--states=running", "--format=%i %N")
        return [row.split() for row in self.cluster.client(*command).splitlines()]

    def one(self) -> list[str]:
        return self.rng.choice(eventually(self.running))

    def usr2(self, lab: Lab) -> None:
        job, _ = self.one()
        # scancel waits for the job to start again where the signal made it requeue itself
        subprocess.run(["timeout", "2", "scancel", "--signal=USR2", job], check=False, capture_output=True)

    def preemption(self, lab: Lab) -> None:
        self.cluster.client(
            "sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 3"
        )

    def scancel(self, lab: Lab) -> None:
        self.cluster.client("scancel", self.one()[0])

    def kill_worker(self, lab: Lab) -> None:
        def kill() -> bool:
            for claim in lab.claims():
                try:
                    os.kill(claim["pid"], signal.SIGKILL)
                    return True
                except ProcessLookupError:
                    continue
            return False

        eventually(kill)

    def kill_job(self, lab: Lab) -> None:
        def kill() -> bool:
            for claim in lab.claims():
                try:
                    psutil.Process(claim["pid"]).parent().kill()  # type: ignore[union-attr]
                    return True
                except (psutil.Error, AttributeError):
                    continue
            return False

        eventually(kill)

    def node_down(self, lab: Lab) -> None:
        node = self.one()[1]
        self.cluster.node_down(node)
        time.sleep(2)
        self.cluster.node_resume(node)

    def kill_slurmd(self, lab: Lab) -> None:
        node = self.one()[1]
        self.cluster.kill_slurmd(node)
        time.sleep(self.rng.choice([3.0, 45.0]))  # before SLURM notices, or when second copies run
        self.cluster.start_slurmd(node)
