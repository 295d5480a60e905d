"""``run_trial``: one attempt at one trial, from its words to its record."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from harness import faults, running
from harness.errors import ClaimLost, HarnessError, TrialInterrupted, escaped, is_ctrl_c, kind_of, said
from harness.files import Damage, append_bytes, encoded, read_bytes, whole_lines
from harness.plugins import Host, merge_environment
from harness.results.records import (
    FINISHED,
    Attempt,
    drop_checkpoints,
    environment_facts,
    latest_checkpoint,
    read_json,
    write_json,
)
from harness.results.records.shapes import checked
from harness.training import checkpoint, seeds
from harness.training.evaluation import summarise
from harness.training.guard import Guard
from harness.training.log import logging_to
from harness.training.loop import Loop
from harness.training.metrics import facts_of, quantities_of
from harness.training.prepare import DataCache, Prepared, choose_device, parts_of, prepare
from harness.trial import Trial

RECORDED = ("epochs.jsonl", "timing.jsonl")
OWN_FACTS = frozenset(
    {"device", "device_name", "threads", "resumed_from", "resumes", "interrupted", "yielded", "left"}
) | {*("started", "finished", "seconds", "executor", "job", "node", "worker", "warnings")}
MOST_TRACEBACK = 20_000
log = logging.getLogger("harness.trial")

OnEpoch = Callable[[Mapping[str, Any]], None]


class _Journal:
    """Writes a loop's epochs and checkpoints into an attempt, as long as the claim is ours."""

    def __init__(
        self, attempt: Attempt, stop: Callable[[], bool], on_epoch: OnEpoch | None, track: OnEpoch | None = None
    ) -> None:
        self.attempt = attempt
        self._stop = stop
        self._track = track
        self._on_epoch = on_epoch
        self._process = os.getpid()
        self._recorded: dict[str, list[bytes]] = {name: [] for name in RECORDED}

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        self.attempt.check()
        self._append("epochs.jsonl", encoded(record)[:-1])
        if not timing:  # epoch 0, which trains nothing
            return
        self._append("timing.jsonl", encoded(timing)[:-1])
        if self._on_epoch is not None:
            self._on_epoch(record)
        if self._track is not None:
            before = seeds.global_state()
            try:
                self._track(record)
            finally:
                seeds.restore_global_state(before)

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.attempt.check()
        checkpoint.save(self.attempt.path / "checkpoint.pt", state, self.attempt.trial_id, self.records())

    def records(self) -> str:
        """A digest of the lines recorded so far, which a checkpoint belongs to."""
        return records_digest(self._recorded)

    def take_over(self, lines: Mapping[str, list[bytes]]) -> None:
        """Begin with the lines of an earlier attempt."""
        for name, earlier in lines.items():
            for line in earlier:
                self._append(name, line)

    def _append(self, name: str, line: bytes) -> None:
        append_bytes(self.attempt.path / name, line + b"\n")
        self._recorded[name].append(line)

    def should_stop(self) -> bool:
        if os.getpid() != self._process:
            os._exit(1)  # a child that a component has forked and let run on: it must not write beside its parent
        if self.attempt.lost.is_set():
            raise ClaimLost(self.attempt.trial_id)
        return self._stop()


def warm_up() -> None:
    """Import what torch puts off until the first optimizer is made: seconds that would count as the first trial's."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def records_digest(lines: Mapping[str, list[bytes]]) -> str:
    """A digest of recorded lines, which a checkpoint belongs to."""
    return hashlib.sha256(b"\n".join(b"\n".join([name.encode(), *lines[name]]) for name in RECORDED)).hexdigest()


def run_trial(
    trial: Trial,
    attempt: Attempt,
    host: Host,
    *,
    cache: DataCache | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: OnEpoch | None = None,
    facts: Mapping[str, Any] | None = None,
    guard: Guard | None = None,
) -> dict[str, Any] | None:
    """Run a claimed attempt to its end. Whatever a component raises fails the trial and is recorded.

    Args:
        trial: what to run.
        attempt: a claim on it; released on return.
        host: components and life-cycle hooks.
        cache: data sets that the worker keeps between trials.
        should_stop: asked at every batch boundary; then a checkpoint is written and the trial ends.
        on_epoch: told of every epoch's record.
        facts: further facts for ``environment.json`` (executor, job).
        guard: around the trial; what could not be put back is told in its ``beyond_repair``.

    Returns:
        The content of ``result.json``; ``None`` when the trial was interrupted or taken over by a later attempt.
    """
    attempt.start_heartbeat()
    started = time.time()
    result: dict[str, Any] | None = None
    environment: dict[str, Any] = {
        **environment_facts(),
        "attempt": attempt.number,
        **(facts or {}),
        "started": started,
    }
    guard = guard or Guard()
    with logging_to(attempt.path / "log.txt"), running.following(attempt.path / running.FILE) as marker:
        guard.enter(marker)
        for warning in environment.get("warnings", ()):
            log.warning("%s", warning)
        try:
            write_json(attempt.path / "trial.json", trial.to_json())
            write_json(attempt.path / "environment.json", environment)
            _add_facts(environment, merge_environment(host))
            result = _train(trial, attempt, host, cache, should_stop, on_epoch, environment, guard)
        except BaseException as error:  # a component that leaves or interrupts fails its trial, not the run
            if is_ctrl_c(error):
                raise
            result = _ended(error, trial, attempt, host, marker, guard, environment)
        finally:
            guard.leave()
            if guard.left:
                environment["left"] = guard.left
            environment.update(finished=time.time(), seconds=time.time() - started)
            with contextlib.suppress(OSError):
                write_json(attempt.path / "environment.json", environment)
            attempt.release()
        if result is not None:
            with contextlib.suppress(OSError):
                (attempt.path / "checkpoint.pt").unlink(missing_ok=True)
                if result["status"] in FINISHED:
                    drop_checkpoints(attempt.path.parent)
            guard.enter(marker)
            try:
                host.call("harness_trial_finish", trial=trial, record=result)
            finally:
                guard.leave()
    return result


def _ended(
    error: BaseException,
    trial: Trial,
    attempt: Attempt,
    host: Host,
    marker: running.Marker,
    guard: Guard,
    environment: dict[str, Any],
) -> dict[str, Any] | None:
    """What is recorded of a trial that an exception has ended; ``None`` for one that stopped or yields."""
    if isinstance(error, TrialInterrupted) and marker.origin(error) is None:
        log.info("%s; the checkpoint is kept", error)
        environment["interrupted"] = True
        return None
    if isinstance(error, ClaimLost) and marker.origin(error) is None:
        log.warning("a later attempt has taken this trial over; this one yields")
        environment["yielded"] = True
        return None
    result = failure(error, traced(error))
    result["error"].update(_blame(error, trial, host, marker, guard))
    log.error("%s", result["error"]["traceback"])
    try:
        return attempt.finish(result, trial.options.get("digests", {}))
    except ClaimLost:
        return None


def failure(error: BaseException, text: str = "") -> dict[str, Any]:
    """The content of ``result.json`` for a trial that failed."""
    words = {"type": kind_of(error), "message": said(error), "traceback": escaped(text, MOST_TRACEBACK)}
    return {"status": "failed", "metrics": {}, "error": words}


def traced(error: BaseException) -> str:
    """The traceback of an exception; of a very long one the end."""
    text = "".join(traceback.format_exception(error))
    return text[-MOST_TRACEBACK:]


def _add_facts(environment: dict[str, Any], facts: Mapping[str, Any]) -> None:
    """Add what plugins say of the environment; the keys of the harness are its own."""
    for key, value in facts.items():
        if key in environment or key in OWN_FACTS:
            log.warning("harness_collect_environment: the key %r is the harness's own; give it another name", key)
        else:
            environment[key] = value


def _blame(error: BaseException, trial: Trial, host: Host, marker: running.Marker, guard: Guard) -> dict[str, str]:
    """Which component of the trial raised, whose it is and in which hook; noted for ``harness plugins``.

    The place that was running says so. A part of the model that is called without the harness's knowing (by a method's
    own ``run.model(...)``, or a transform's layer within the model) is known by the files in the traceback.
    """
    place = faults.refine(error, marker.origin(error), parts_of(trial, host)) or guard.suspect()
    if place is None:
        return {}
    if place.source.file and not isinstance(error, HarnessError):
        faults.note(Path(place.source.file), place.hook, f"{kind_of(error)}: {said(error)}")
    return place.record()


def _tell_trackers(host: Host, trial: Trial, record: Mapping[str, Any]) -> None:
    host.call("harness_epoch_end", trial=trial, record=MappingProxyType(dict(record)))


def _train(
    trial: Trial,
    attempt: Attempt,
    host: Host,
    cache: DataCache | None,
    should_stop: Callable[[], bool],
    on_epoch: OnEpoch | None,
    environment: dict[str, Any],
    guard: Guard,
) -> dict[str, Any]:
    host.call("harness_trial_start", trial=trial)
    execution = trial.options.get("execution", {})
    device = choose_device(str(execution.get("device", "auto")))
    environment.update(device=device.type, device_name=_device_name(device))
    with _threads(device, int(execution.get("threads", 1)), environment, guard):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        known = _known_estimate(attempt, trial, host, device)
        prepared = prepare(trial, host, device, cache, known=known, should_stop=should_stop)
        epsilons = [float(epsilon) for epsilon in trial.options.get("fgsm", ())]
        keep = bool(execution.get("keep"))
        tracked = bool(host.manager.hook.harness_epoch_end.get_hookimpls())
        track = functools.partial(_tell_trackers, host, trial) if tracked else None
        journal = _Journal(attempt, should_stop, on_epoch, track)
        loop = Loop(
            run=prepared.run,
            evaluator=prepared.evaluator,
            journal=journal,
            clip=trial.identity["training"]["clip"],
            checkpoint_epochs=execution.get("checkpoint_epochs"),
            checkpoint_s=60.0 * float(execution.get("checkpoint_minutes", 5.0)),
            keep_selected=bool(epsilons) or keep,
            initial=bool(trial.identity["evaluation"].get("initial")),
            order=prepared.order,
        )
        _resume(loop, journal, trial, host, device, environment)
        with running.method_working():
            history = loop.fit()
        further = quantities_of(prepared.evaluator.metrics, host.registry, loop.measured)
        metrics, selected = summarise(loop.measured, prepared.run.task, further)
        metrics["parameters"] = {"last": float(prepared.parameters)}
        if loop.diverged:
            log.warning("diverged in epoch %d: loss, weights or outputs are no longer finite", len(history))
        elif keep:
            checkpoint.save(attempt.path / "last.pt", prepared.run.prediction_state(), trial.id)
            if loop.selected is not None:
                checkpoint.save(attempt.path / "selected.pt", loop.selected, trial.id)
        histograms = prepared.evaluator.histograms(prepared.run)
        if not loop.diverged:
            with running.method_working():
                metrics.update(fgsm_metrics(prepared, epsilons, loop.selected))
    result = {
        "status": "diverged" if loop.diverged else "done",
        "metrics": metrics,
        **({"quantities": facts_of(further)} if further else {}),
        "chance": prepared.evaluator.chance(prepared.run),
        "num_classes": prepared.run.num_classes,
        "test_samples": len(prepared.evaluator.test_targets),
        "label_digest": prepared.label_digest,
        "parameters": prepared.parameters,
        **({"corrupted": rate} if (rate := prepared.evaluator.rate()) is not None else {}),
        **(
            {"truth": {**prepared.evaluator.truth(), "test": trusted}}
            if (trusted := prepared.trusted) is not None
            else {}
        ),
        "epochs": len(history),
        "selected_epoch": selected,
        "diagnostics": history[-1]["diagnostics"],
        "histograms": histograms,
        **({"estimated": dict(prepared.run.estimate)} if prepared.run.estimate is not None else {}),
        "transitions": prepared.evaluator.transitions(prepared.run),
        "error": None,
    }
    return attempt.finish(result, trial.options.get("digests", {}))


def fgsm_metrics(
    prepared: Prepared, epsilons: list[float], selected: Mapping[str, Any] | None
) -> dict[str, dict[str, float | None]]:
    """``fgsm_accuracy@<epsilon>`` at the last and the selected state."""
    metrics: dict[str, dict[str, float | None]] = {}
    for epsilon in epsilons:
        metrics[f"fgsm_accuracy@{epsilon:g}"] = {
            "last": prepared.evaluator.fgsm(prepared.run, epsilon),
            "selected": None,
        }
    if epsilons and selected is not None:
        prepared.run.load_prediction_state(dict(selected))
        for epsilon in epsilons:
            metrics[f"fgsm_accuracy@{epsilon:g}"]["selected"] = prepared.evaluator.fgsm(prepared.run, epsilon)
    return metrics


def _resume(
    loop: Loop, journal: _Journal, trial: Trial, host: Host, device: torch.device, environment: dict[str, Any]
) -> None:
    """Go on from the newest checkpoint of an earlier attempt; its epochs up to there are copied into this one.

    A checkpoint that edited components left is none: half of the result would be theirs, and nothing would say so. Nor is
    one of another trial, or one whose epochs have been changed since.
    """
    attempt = journal.attempt
    found = latest_checkpoint(attempt.path.parent, attempt.number)
    if found is None:
        return
    previous, path = found
    if edited := _edited(previous, trial, host):
        log.warning("%s ran another source of %s; the trial starts over", previous.name, ", ".join(edited))
        return
    try:
        state, recorded = checkpoint.load(path, device, trial.id)
        kept, records = _recorded(previous, state)
    except Damage as damage:
        log.warning("%s: %s; the trial starts over", previous.name, damage)
        return
    if loop.lacks_selected(state, records):
        log.warning(
            "%s kept no state of its selected epoch, which is asked for now; the trial starts over", previous.name
        )
        return
    if records_digest(kept) != recorded:
        log.warning("%s: its epochs have been changed since its checkpoint; the trial starts over", previous.name)
        return
    journal.take_over(kept)
    done = int(state["epochs_done"])
    shutil.copyfile(path, attempt.path / "checkpoint.tmp")
    os.replace(attempt.path / "checkpoint.tmp", attempt.path / "checkpoint.pt")
    loop.load_state_dict(state, records)
    environment["resumed_from"] = {"attempt": previous.name, "epoch": done}
    earlier = read_json(previous / "environment.json") or {}
    environment["resumes"] = int(earlier.get("resumes", 0)) + 1
    log.info("resumed from %s after %d epochs", previous.name, done)


def _edited(previous: Path, trial: Trial, host: Host) -> list[str]:
    """Components of which an attempt ran another source than the trial's."""
    before, now = _digests(read_json(previous / "trial.json")), trial.options.get("digests", {})
    if before == now or (before := host.registry.renewed(before)) == now:
        return []
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _known_estimate(attempt: Attempt, trial: Trial, host: Host, device: torch.device) -> Mapping[str, Any] | None:
    """What an earlier attempt has estimated of the noise, from its checkpoint; a damaged one is told of when it is resumed."""
    found = latest_checkpoint(attempt.path.parent, attempt.number) if "estimate" in trial.identity else None
    if found is None or _edited(found[0], trial, host):
        return None
    try:
        state, _ = checkpoint.load(found[1], device, trial.id)
    except Damage:
        return None
    known = state["run"].get("estimate")
    return known if isinstance(known, Mapping) else None


def _recorded(attempt: Path, state: Mapping[str, Any]) -> tuple[dict[str, list[bytes]], list[dict[str, Any]]]:
    """The lines that an attempt had recorded at its checkpoint, epoch 0 included, and its epochs from 1.

    Raises:
        Damage: when there are fewer of them, or they are no such lines.
    """
    done = int(state["epochs_done"])
    wanted = {"epochs.jsonl": done + bool(state.get("untrained")), "timing.jsonl": done}
    kept = {name: whole_lines(read_bytes(attempt / name) or b"")[:count] for name, count in wanted.items()}
    for name, lines in kept.items():
        if len(lines) < wanted[name]:
            raise Damage("is shorter than the checkpoint", name)
    epochs = checked("epochs.jsonl", b"[" + b",".join(kept["epochs.jsonl"]) + b"]")
    return kept, [line for line in epochs if line["epoch"] > 0]


def _digests(words: Any) -> Mapping[str, str]:
    """The source digests in what ``trial.json`` holds."""
    options = words.get("options") if isinstance(words, Mapping) else None
    digests = options.get("digests") if isinstance(options, Mapping) else None
    return digests if isinstance(digests, Mapping) else {}


@contextlib.contextmanager
def _threads(device: torch.device, threads: int, environment: dict[str, Any], guard: Guard) -> Iterator[None]:
    """One torch thread for a CPU trial unless told otherwise, so that it computes the same everywhere."""
    if device.type != "cpu":
        yield
        return
    before = torch.get_num_threads()
    with guard.changing():
        torch.set_num_threads(threads)
    environment["threads"] = threads
    try:
        yield
    finally:
        with guard.changing():
            torch.set_num_threads(before)


def _device_name(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
