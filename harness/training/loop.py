"""The training loop, drawn with every hook in place.

    setup -> the prelude of an algorithm that asks for one -> measurement of epoch 0 where it is asked for
    for each epoch:
        epoch_start
        for each pass: next_pass, until it gives none; without the hook one pass over all samples
            for each batch, with the batch beside it where the pass has one:
                train_step, or:
                    before_forward -> model -> after_forward -> compute_losses or the loss
                then, also where a train_step of a method's own calls run.descend(step) with the losses of its rows:
                    after_losses
                    loss = (weights * losses).sum() / divisor + penalty;  backward
                    after_backward -> clip -> optimizer -> rows of per-sample state -> after_step
                where [training] accumulate asks for it, all before after_backward once for each micro-batch
        epoch_end -> diagnostics -> evaluation -> schedules of what was trained -> record -> checkpoint

Between two batches a trial may stop and go on to the same numbers: the checkpoint holds the pass under way, its number and
the batches done of it. Lap ``j`` of pass ``n`` of epoch ``e`` is in the order of the stream ``("order", e, n, j)``, the
samples beside it in that of ``("order", e, n, "beside", j)``; the first lap over all samples in an epoch's first pass is in
that of ``("order", e)``, whichever method trains.

There is no ``.item()`` between the first batch and the last: the loss is summed on the device. At the end of every epoch
one transfer tells whether it and all weights are finite; a run that has diverged is not trained on.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import ClaimLost, HarnessError, TrialInterrupted, TrialTimeout, kind_of, said
from harness.tasks import TASKS
from harness.training import seeds
from harness.training.evaluation import OUTPUTS, Evaluator
from harness.training.optim import learning_rates
from harness.training.passes import Laps, Pass
from harness.training.run import Run, Step, copied

MOST_PASSES = 10_000
"""Passes of an epoch after which ``next_pass`` is taken to end none."""
REMEDY = "remove accumulate from [training]"
Hook = Callable[..., Any]
log = logging.getLogger("harness.trial")


class Journal(Protocol):
    """Where a loop reports to: records on disk in a trial, a list in a test."""

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """An epoch has ended; epoch 0, which trains nothing, has no timing."""

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool: ...


@dataclasses.dataclass
class Loop:
    """Trains a run to its last epoch, from wherever its state stands, or to the one in which it diverges.

    Attributes:
        run, evaluator, journal: what is trained, what measures it, and what is told.
        clip: largest gradient norm.
        checkpoint_epochs, checkpoint_s: epochs and seconds between checkpoints.
        keep_selected: whether a copy of the best state on noisy validation is kept.
        initial: whether the untrained network is measured, as epoch 0.
        order: (epochs, N) positions of the training samples in the order of each epoch; drawn when ``None``.
        history: the record of every finished epoch.
        untrained: the record of epoch 0.
        diverged: whether loss, weights or outputs are no longer finite; then the record ends with that epoch.
    """

    run: Run
    evaluator: Evaluator
    journal: Journal
    clip: float | None = None
    checkpoint_epochs: int | None = None
    checkpoint_s: float = 300.0
    keep_selected: bool = False
    initial: bool = False
    order: Tensor | None = None

    def __post_init__(self) -> None:
        self.run.clip = self.clip
        self.history: list[dict[str, Any]] = []
        self.untrained: dict[str, Any] | None = None
        self.diverged = False
        self.selected: dict[str, Any] | None = None
        self._best_validation: float | None = None
        self._epoch_loss = self._no_loss()
        self._samples = 0
        self._prelude_done = 0
        self._pass: Pass | None = None
        self._number = 0
        self._batch = 0
        self._epoch_seconds = 0.0
        self._saved_at = time.monotonic()
        self._readable = False
        self._augment = seeds.torch_stream(self.run.seed, "augment", device=self.run.device)
        self._start = copied(self.state_dict()) if self.run.prelude is not None else None

    def _no_loss(self) -> Tensor:
        return torch.zeros((), device=self.run.device, dtype=self.run.dtype)

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The record of everything that was measured: epoch 0, where it was, and every epoch."""
        return [*([self.untrained] if self.untrained is not None else []), *self.history]

    # --- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole trial between two batches."""
        return {
            "run": self.run.state_dict(),
            "batch": self._batch,
            "pass": None if self._pass is None else self._pass.state_dict(),
            "pass_number": self._number,
            "samples": self._samples,
            "epoch_loss": self._epoch_loss,
            "epoch_seconds": self._epoch_seconds,
            "augment": self._augment.get_state(),
            "globals": seeds.global_state(),
            "epochs_done": len(self.history),
            "prelude_done": self._prelude_done,
            "untrained": self.untrained,
            "best_validation": self._best_validation,
            "selected": self.selected,
        }

    def load_state_dict(self, state: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Continue from a checkpoint; ``history`` holds the epochs recorded before it, from 1."""
        self.run.load_state_dict(state["run"])
        self._load_place(state)
        self._epoch_loss = state["epoch_loss"].to(self.run.device)
        self._epoch_seconds = float(state["epoch_seconds"])
        self._augment.set_state(state["augment"].cpu())
        seeds.restore_global_state(_to_cpu(state["globals"]))
        self.history = history[: int(state["epochs_done"])]
        self._prelude_done = int(state.get("prelude_done", 0))
        self.untrained = state.get("untrained")
        self._best_validation = self._best(self.measured)
        self.selected = state["selected"] if self.keep_selected else None

    def _load_place(self, state: dict[str, Any]) -> None:
        """Where in an epoch a checkpoint stands; those of earlier harnesses know of one pass only."""
        self._batch = int(state["batch"])
        self._number = int(state.get("pass_number", 0))
        walk = state.get("pass", {} if self._batch else None)
        self._pass = None if walk is None else Pass(**walk)
        self._samples = int(state.get("samples", self._planned(Pass()) if self._batch else 0))

    def lacks_selected(self, state: dict[str, Any], history: list[dict[str, Any]]) -> bool:
        """Whether a checkpoint holds no state of its best epoch, though this loop keeps it: FGSM was asked for later."""
        untrained = state.get("untrained")
        best = self._best([*([untrained] if untrained else []), *history[: int(state["epochs_done"])]])
        if not self.keep_selected or best is None:
            return False
        return state["selected"] is None or state["best_validation"] != best

    # --- training ------------------------------------------------------------------------------------------------------

    def fit(self) -> list[dict[str, Any]]:
        """Train to the last epoch, or to the one in which loss, weights or outputs are no longer finite, and return the
        record of every epoch.

        Raises:
            TrialInterrupted: when the journal asks to stop; a checkpoint is written first.
        """
        run = self.run
        self._train_prelude()
        if self.initial and self.untrained is None and not self.diverged:
            self._measure_untrained()
        while len(self.history) < run.epochs and not self.diverged:
            self._run_epoch(len(self.history) + 1)
            self._close_epoch()
            if len(self.history) < run.epochs and not self.diverged:
                self._pause()
        return self.history

    def _run_epoch(self, number: int) -> None:
        """The hooks and batches of an epoch, from the batch on at which the state stands."""
        run = self.run
        if self._pass is None and self._number == 0:
            run.epoch = number
            run.nets.stepped.clear()
            run.nets.train(True)
            if run.stack.epoch_start is not None:
                self._timed(run.stack.epoch_start)
        else:
            run.nets.train(True)
        try:
            self._train_epoch()
            self.diverged = not self._is_finite()
        except (TrialInterrupted, TrialTimeout, ClaimLost):
            raise
        except Exception as error:  # what a component raises on NaN is no fault of its own
            if self._is_finite():
                raise
            place = run.stack.watch.marker.origin(error)
            where = f" in {place.words()}" if place is not None else ""
            log.warning("%s: %s%s, on numbers that are no longer finite", kind_of(error), said(error), where)
            run.stack.watch.rest()
            self.diverged = True
        if run.stack.epoch_end is not None and not self.diverged:
            self._timed(run.stack.epoch_end)

    def _train_prelude(self) -> None:
        """Train what an algorithm learns from first, then go back to the start; its seconds count for epoch 1."""
        run, prelude = self.run, self.run.prelude
        while prelude is not None and self._prelude_done < prelude.epochs:
            self._run_epoch(self._prelude_done + 1)
            if self.diverged:
                self._close_epoch()
                return
            self._step_schedules()
            self._prelude_done += 1
            self._rewind()
            if self._prelude_done == prelude.epochs:
                started = time.perf_counter()
                with run.stack.watch.prelude():
                    found = prelude.learn(run)
                seconds = self._epoch_seconds + time.perf_counter() - started
                assert self._start is not None
                self.load_state_dict(self._start, [])
                self._prelude_done, self._epoch_seconds = prelude.epochs, seconds
                with run.stack.watch.prelude():
                    prelude.use(found)
            self._pause()
        self._start = None

    def _measure_untrained(self) -> None:
        run = self.run
        rate = learning_rates([run.optimizer])[0]
        measured = self.evaluator.epoch(run, last=False)
        self.untrained = {"epoch": 0, "lr": rate, "train_loss": None, **measured, "diagnostics": {}}
        self._select(self.untrained)
        self.journal.epoch(self.untrained, {})

    def _pause(self) -> None:
        """Between two epochs: a checkpoint when one is due, and an end when one is asked for."""
        self._maybe_checkpoint()
        if self.journal.should_stop():
            self._stop()

    def _timed(self, hook: Hook) -> None:
        """Call a hook of the epoch; what it costs is training time (a re-weighting is no evaluation)."""
        started = time.perf_counter()
        hook(run=self.run)
        self._epoch_seconds += time.perf_counter() - started

    def _train_epoch(self) -> None:
        started = time.perf_counter()
        while (walk := self._next_pass()) is not None:
            self._train_pass(walk, started)
            self._pass, self._number, self._batch = None, self._number + 1, 0
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)
        self._epoch_seconds += time.perf_counter() - started

    def _train_pass(self, walk: Pass, started: float) -> None:
        """Train what is left of a pass, in an epoch that was begun or gone on with at ``started``."""
        run, watch = self.run, self.run.stack.watch
        run.walk = walk
        watch.begin(epoch=run.epoch, first=run.epoch == 1 and self._number == self._batch == 0)  # for one step
        for step in self._steps(walk):
            if watch.on:
                watch.made(step)
            self.train(step)
            if watch.on:
                watch.rest()
            self._batch += 1
            if self.journal.should_stop():
                self._epoch_seconds += time.perf_counter() - started
                self._stop()
            if time.monotonic() - self._saved_at >= self.checkpoint_s:
                self._save()

    def _next_pass(self) -> Pass | None:
        """The pass under way, or the one that comes next."""
        ask = self.run.stack.next_pass
        if self._pass is not None:
            return self._pass
        if self._number >= MOST_PASSES:
            watch, number = self.run.stack.watch, self.run.stack.only["next_pass"]
            raise watch.refused(number, "next_pass", f"gave {self._number} passes", "return None to end the epoch")
        if ask is not None:
            self._pass = ask(run=self.run, number=self._number)
        elif self._number == 0:
            self._pass = Pass()
        if self._pass is not None:
            self._samples += self._planned(self._pass)
        return self._pass

    def _steps(self, walk: Pass) -> Iterator[Step]:
        """The steps that are left of a pass."""
        run = self.run
        nominal = self._nominal(walk)
        beside = None if walk.beside is None or not len(walk.beside) else self._beside(walk)
        for index, inputs in self._batches(walk):
            targets = run.targets.index_select(0, index)
            step = Step(index, inputs, targets, "train", self._batch, walk.network, walk.label)
            step.divisor = nominal
            if beside is not None:
                index, inputs = next(beside)
                targets = run.targets.index_select(0, index)
                step.beside = Step(index, inputs, targets, "train", self._batch, walk.network, walk.label)
            yield step

    def _nominal(self, walk: Pass) -> int | None:
        """What a step's losses are divided by in a pass with batches of another size; ``None``: as the run has it."""
        return walk.batch_size if self.run.last_batch == "scaled" else None

    def _batches(self, walk: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """``(index, inputs)`` of what is left of a pass."""
        laps = self._laps(walk)
        return itertools.islice(self._stream(walk.index, laps), self._steps_of(walk, laps) - self._batch)

    def _beside(self, walk: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """``(index, inputs)`` of the samples that are drawn beside those of a pass, without end."""
        assert walk.beside is not None
        size = walk.beside_size or walk.batch_size or self.run.batch_size
        laps = Laps.over(len(walk.beside), size, drop_last=walk.drop_last, keep_single=True)
        return self._stream(walk.beside, laps, "beside")

    def _laps(self, walk: Pass) -> Laps:
        """How the samples of a pass are cut into batches."""
        run = self.run
        count = run.num_samples if walk.index is None else len(walk.index)
        replayed = self.order is not None and walk.index is None and self._number == 0  # a replayed order is as it is
        drop = walk.drop_last or run.last_batch == "drop"
        return Laps.over(count, walk.batch_size or run.batch_size, drop_last=drop, keep_single=replayed)

    def _steps_of(self, walk: Pass, laps: Laps) -> int:
        """Batches of a pass: of no samples there are none."""
        return laps.steps if walk.steps is None or not laps.samples else walk.steps

    def _planned(self, walk: Pass) -> int:
        """Samples that a pass trains on."""
        laps = self._laps(walk)
        return laps.walked(self._steps_of(walk, laps))

    def _stream(self, samples: Tensor | None, laps: Laps, *keys: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of lap after lap, from the batch on at which the pass stands."""
        if not laps.samples:
            return
        first, skip = divmod(self._batch, laps.steps)
        for lap in itertools.count(first):
            order = self._order(samples, lap, *keys)[: laps.samples]
            yield from self.run.source.shuffled(order, laps.size, skip if lap == first else 0, self._augment)

    def _order(self, samples: Tensor | None, lap: int, *keys: str) -> Tensor:
        """The samples of a lap in its order."""
        run = self.run
        whole = samples is None and self._number == lap == 0
        if whole and self.order is not None:
            return self.order[run.epoch - 1]
        if not keys and self._pass is not None and not self._pass.shuffle:
            return torch.arange(run.num_samples) if samples is None else samples
        stream = seeds.torch_stream(run.seed, "order", run.epoch, *(() if whole else (self._number, *keys, lap)))
        order = torch.randperm(run.num_samples if samples is None else len(samples), generator=stream)
        return order if samples is None else samples[order.to(samples.device)]

    def train(self, step: Step) -> None:
        """Train on a batch by the stack's own step or the loop's, and add its loss to the epoch's."""
        run, drawn = self.run, len(step.index)
        run.under(step)
        if run.stack.train_step is None or not run.stack.train_step(run=run, step=step):
            self.train_batch(step)
        if step.loss is not None:
            self._epoch_loss.add_(_mean_loss(step), alpha=drawn)

    def _is_finite(self) -> bool:
        """Whether the summed loss and all weights are finite."""
        weights = [p.detach() for model in self.run.nets.models() for p in model.parameters()]
        largest = torch.nn.utils.get_total_norm(weights, math.inf)
        return bool(torch.stack([self._epoch_loss, largest.to(self._epoch_loss)]).isfinite().all())

    def train_batch(self, step: Step) -> None:
        """One optimizer step on a mini-batch, with every hook."""
        run, names = self.run, (step.network,)
        run.zero_grad(names)
        if run.accumulate == 1:
            run.fill(step)
            run.update(step, names)
            return
        if step.beside is not None:
            raise HarnessError("samples beside others are not worked through in micro-batches", run.name, REMEDY)
        size = (run.walk.batch_size if run.walk is not None else None) or run.batch_size
        run.fill_in_parts(step, -(-size // run.accumulate))
        run.advance(step, names)

    def _close_epoch(self) -> None:
        run = self.run
        found: dict[str, Any] = {}
        if run.stack.diagnostics is not None and not self.diverged:
            for part in reversed(run.stack.diagnostics(run=run)):
                found.update(part or {})
        before = time.perf_counter()
        last = len(self.history) + 1 == run.epochs
        measured = self.evaluator.unmeasured(run) if self.diverged else self.evaluator.epoch(run, last=last)
        self.diverged = self.diverged or any(measured.get(name, 0.0) is None for name in OUTPUTS[run.task])
        evaluation_seconds = time.perf_counter() - before
        rates = learning_rates([run.optimizer])
        self._step_schedules()
        record = {
            "epoch": run.epoch,
            "lr": rates[0],
            "train_loss": _finite(float(self._epoch_loss) / max(1, self._samples)),
            **measured,
            "diagnostics": {name: _finite(float(value)) for name, value in found.items()},
        }
        self.history.append(record)
        self._select(record)
        timing = {
            "epoch": run.epoch,
            "train_seconds": self._epoch_seconds,
            "evaluation_seconds": evaluation_seconds,
            "peak_memory": peak_memory(run.device),
        }
        self._rewind()
        self._epoch_seconds = 0.0
        self.journal.epoch(record, timing)

    def _rewind(self) -> None:
        """To the start of an epoch."""
        self._pass, self._number, self._batch = None, 0, 0
        self._samples, self._epoch_loss = 0, self._no_loss()

    def _step_schedules(self) -> None:
        """A schedule counts the epochs in which its network was trained: all of them where an epoch is one pass."""
        run = self.run
        all_trained = run.stack.next_pass is None or not run.nets.stepped
        for name, network in run.nets.trainees().items():
            if network.schedule is not None and (all_trained or name in run.nets.stepped):
                network.schedule.step()

    def _select(self, record: Mapping[str, Any]) -> None:
        """Keep a copy of the best state on noisy validation, where anything will ask for it."""
        value = self._validation(record)
        if value is not None and (self._best_validation is None or value > self._best_validation):
            self._best_validation = value
            if self.keep_selected:
                self.selected = self.run.prediction_state()

    def _validation(self, record: Mapping[str, Any]) -> float | None:
        """What an epoch is selected by: higher is better."""
        return TASKS[self.run.task].selected_by(record)

    def _best(self, history: list[dict[str, Any]]) -> float | None:
        values = (self._validation(record) for record in history)
        return max((value for value in values if value is not None), default=None)

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def _maybe_checkpoint(self) -> None:
        due = self.checkpoint_epochs is not None and len(self.history) % self.checkpoint_epochs == 0
        if due or time.monotonic() - self._saved_at >= self.checkpoint_s:
            self._save()

    def _save(self) -> None:
        state = self.state_dict()
        if not self._readable:
            self.run.check_readable(state["run"])
            self._readable = True
        self.journal.checkpoint(state)
        self._saved_at = time.monotonic()

    def _stop(self) -> None:
        self._save()
        raise TrialInterrupted(f"stopped in epoch {self.run.epoch} of {self.run.epochs}")


def peak_memory(device: torch.device) -> int:
    """Bytes: the peak of the device's allocator, on CPU the process's resident set now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def _mean_loss(step: Step) -> Tensor:
    """The loss of a batch as a mean over its samples, whatever it was divided by."""
    assert step.loss is not None and step.divisor is not None
    loss = step.loss.detach()
    if len(step.index) == step.divisor:
        return loss
    scale = step.divisor / len(step.index)
    if step.penalty is None:
        return loss * scale
    penalty = step.penalty.detach() if isinstance(step.penalty, Tensor) else step.penalty
    return (loss - penalty) * scale + penalty


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_cpu(item) for item in value]
    return value
