"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from harness.cli import terminal
from harness.foreign import printable, shortened
from harness.results.records import ENDED, FINISHED
from harness.words import counted, duration

PLAIN_EVERY_S = 10.0


class Progress:
    """Follows the events of an orchestrator. Use it as a context; ``quiet`` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty() and not quiet
        self.total = self.done = self.failed = 0
        self.epochs_done = 0
        self.epochs_total = 0
        self._names: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._running: dict[str, tuple[int, int]] = {}
        self._started = time.monotonic()
        self._first_epoch: float | None = None
        self._printed = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self.live:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("trials"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[words]}", markup=False),
                console=terminal.console(sys.stderr),
                refresh_per_second=4,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_event(self, event: dict[str, Any]) -> None:
        """Take one event in."""
        kind = event["event"]
        if kind == "plan":
            self._plan(event)
        elif kind == "start":
            self._running[event["id"]] = (0, event["epochs"])
        elif kind == "epoch":
            self._first_epoch = self._first_epoch or time.monotonic()
            self.epochs_done += 1
            self._running[event["id"]] = (event["epoch"], event["epochs"])
        elif kind in (*ENDED, "interrupted"):
            epoch, epochs = self._running.pop(event["id"], (0, 0))
            self.done += kind in FINISHED
            self.failed += kind == "failed"
            name = self._names.get(event["id"], event["id"])
            if kind == "failed":
                self._say(f"failed: {name}: {event.get('error')}")
            elif kind == "diverged":
                self.epochs_total -= epochs - epoch
                self._say(f"diverged: {name}: after epoch {epoch} of {epochs}; it counts as chance level")
        elif kind == "died":
            self._running.pop(event["id"], None)
            self._say(f"{event['error']}; {self._names.get(event['id'], event['id'])} is tried once more")
        elif kind in ("warning", "error"):
            self._say(str(event.get("message")))
        elif kind == "queued":
            self._say(f"queued {counted(len(event['ids']), 'trial')} as {counted(event['jobs'], 'job')}")
        elif kind == "interrupting" and event.get("remote"):
            self._say("leaving; queued and running jobs go on")
        elif kind == "interrupting":
            self._say("saving checkpoints after the current batch; press Ctrl-C again to stop immediately")
        self._show(kind)

    def _plan(self, event: dict[str, Any]) -> None:
        plan, todo = event["plan"], set(event["todo"])
        counts = plan.counts()
        settled = [planned.status for planned in plan.trials if planned.id not in todo]
        self.total, self.failed = len(plan.trials), settled.count("failed")
        self.done = sum(status in (*FINISHED, "stale") for status in settled)
        for planned in plan.trials:
            self._names[planned.id] = f"{planned.entry.method} | {planned.entry.setting} | seed {planned.entry.seed}"
        self.epochs_total = self.epochs_done + sum(
            int(p.trial.identity["training"]["epochs"]) for p in plan.trials if p.id in todo
        )
        if todo and not self.quiet:
            words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            self._say(f"{plan.suite.name}: {counted(len(plan.trials), 'trial')} ({words})")
        if self._bar is not None and todo:
            if self._task is None:
                self._task = self._bar.add_task("trials", total=self.total, completed=self.done, words="")
            self._bar.update(self._task, total=self.total, completed=self.done + self.failed)

    def _words(self) -> str:
        elapsed = time.monotonic() - (self._first_epoch or time.monotonic())
        rate = self.epochs_done / elapsed if elapsed > 0.5 else None
        eta = duration((self.epochs_total - self.epochs_done) / rate) if rate else "?"
        speed = f"{rate:.1f} epochs/s" if rate else "starting"
        running = ", ".join(
            f"{self._names.get(trial, trial).split(' | ')[0]} {epoch}/{epochs}"
            for trial, (epoch, epochs) in list(self._running.items())[:3]
        )
        failed = f"{self.failed} failed, " if self.failed else ""
        return printable(f"{failed}{speed}, ETA {eta}" + (f" | {running}" if running else ""))

    def _show(self, kind: str) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            if self._task is not None:
                self._bar.update(self._task, completed=self.done + self.failed, words=self._words())
            return
        now = time.monotonic()
        if kind != "plan" and self.total and now - self._printed >= PLAIN_EVERY_S:
            self._printed = now
            self._say(f"{self.done}/{self.total} done, {self._words()}")

    def _say(self, words: str) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(shortened(words), markup=False)
        else:
            print(printable(words), file=sys.stderr, flush=True)
