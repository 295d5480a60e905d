"""Runs that are killed at random moments, and many that share one results folder.

    python tests/torture/processes.py FOLDER [--kills 500] [--processes 50]

Every run is a child of a process that has imported all, so that a kill costs a second. A round kills runs of a small suite
until one of them comes to its end, then compares all records with those of an undisturbed run. What came of a round is a
line in ``FOLDER/rounds.jsonl``; lines that are there count, so the whole may be interrupted and goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUITE = """
[suite]
name = "processes"
seeds = [0, 1]
[training]
epochs = 3
batch_size = 16
validation = 0.2
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
[execution]
device = "cpu"
checkpoint_epochs = 1
[[setting]]
dataset = "digits"
model = "linear"
noise = { name = "symmetric", rate = 0.4 }
subset = 256
[[method]]
name = "CE"
[[method]]
name = "SOP"
algorithms = ["sop"]
[[method]]
name = "GCE"
loss = "gce"
"""
ROWS = ("kills", "processes")
BAD = ("lost", "doubled", "different", "tracebacks")


class Processes:
    """Rounds in a folder, and what came of them."""

    def __init__(self, folder: Path) -> None:
        from harness.suite.load import load_suite

        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "suite.toml"
        path.write_text(SUITE)
        self._suite = load_suite(path)
        self._ids = [entry.trial.id for entry in self._suite.entries()]
        self._reference: dict[str, Any] = {}
        self._seconds = 0.0

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The rounds so far."""
        path = self.folder / "rounds.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def start(self, results: Path) -> int:
        """A run in a child of this process; its number."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            import harness

            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            harness.run(self._suite, results, "inline")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def run(self, kills: int, processes: int) -> list[dict[str, Any]]:
        """Rounds until so many runs were killed, and one round of so many runs at once."""
        undisturbed = self.folder / "undisturbed"
        shutil.rmtree(undisturbed, ignore_errors=True)
        started = time.monotonic()
        if _ended(self.start(undisturbed)) != 0:
            raise SystemExit("the undisturbed run failed")
        self._seconds = time.monotonic() - started
        self._reference = self._records(undisturbed)
        number = len(self.lines)
        while sum(line["kills"] for line in self.lines) < kills:
            number += 1
            self._note(self._killed(number))
        if processes and not any(line["processes"] == processes for line in self.lines):
            self._note(self._together(processes))
        return self.lines

    def _killed(self, number: int) -> dict[str, Any]:
        """Runs in one folder, one after the other, each killed at a moment drawn evenly from the time of a whole one, until
        one ends before."""
        draw, results, count = random.Random(number), self.folder / f"round-{number}", 0
        shutil.rmtree(results, ignore_errors=True)
        while True:
            child = self.start(results)
            until = time.monotonic() + draw.uniform(0.0, self._seconds)
            while time.monotonic() < until:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    return self._outcome(results, kills=count, tracebacks=int(status != 0))
                time.sleep(0.005)
            os.kill(child, signal.SIGKILL)
            count += _ended(child) == -signal.SIGKILL

    def _together(self, processes: int) -> dict[str, Any]:
        """Many runs in one folder at once."""
        results = self.folder / "together"
        shutil.rmtree(results, ignore_errors=True)
        children = [self.start(results) for _ in range(processes)]
        failed = sum(_ended(child) != 0 for child in children)
        return self._outcome(results, processes=processes, tracebacks=failed)

    def _outcome(self, results: Path, *, kills: int = 0, processes: int = 0, tracebacks: int = 0) -> dict[str, Any]:
        found = self._records(results)
        return {
            "kills": kills,
            "processes": processes,
            "lost": sum(trial not in found for trial in self._ids),
            "doubled": sum(record["results"] > 1 for record in found.values()),
            "different": sum(found[trial] != self._reference[trial] for trial in self._ids if trial in found),
            "tracebacks": tracebacks,
        }

    def _records(self, results: Path) -> dict[str, Any]:
        """What was recorded of each finished trial, but for times, and how many of its attempts have a result."""
        from harness.results.records import attempts, final_attempt, read_json, read_lines, trial_folder

        found = {}
        for trial in self._ids:
            folder = trial_folder(results, trial)
            attempt = final_attempt(folder)
            if attempt is not None:
                found[trial] = {
                    "epochs": read_lines(attempt / "epochs.jsonl"),
                    "result": read_json(attempt / "result.json"),
                    "results": sum((one / "result.json").exists() for one in attempts(folder)),
                }
        return found

    def _note(self, line: dict[str, Any]) -> None:
        with open(self.folder / "rounds.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


def _ended(child: int) -> int:
    """The exit status of a child, when it has one."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def table(lines: Sequence[dict[str, Any]]) -> str:
    """How many, and what was lost, doubled, different or raised."""
    text = [f"{'':12}{'count':>8}{'rounds':>8}" + "".join(f"{name:>12}" for name in BAD)]
    for row in ROWS:
        mine = [line for line in lines if line[row] or (row == "kills" and not line["processes"])]
        text.append(
            f"{row:12}{sum(line[row] for line in mine):8}{len(mine):8}"
            + "".join(f"{sum(line[name] for line in mine):12}" for name in BAD)
        )
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--processes", type=int, default=50)
    given = parser.parse_args()
    import torch

    import harness.results.store
    import harness.training.trial

    torch.set_num_threads(1)
    harness.training.trial.warm_up()
    harness.create("dataset", "digits")
    lines = Processes(given.folder).run(given.kills, given.processes)
    print(table(lines))
    return int(any(line[name] for line in lines for name in BAD))


if __name__ == "__main__":
    sys.exit(main())
