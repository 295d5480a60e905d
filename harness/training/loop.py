"""The training loop, drawn with every hook in place.

    setup -> the prelude of an algorithm that asks for one -> measurement of epoch 0 where it is asked for
    for each epoch:
        epoch_start
        for each batch:
            train_step, or:
                before_forward -> model -> after_forward -> compute_losses or the loss -> after_losses
                loss = (weights * losses).sum() / divisor + penalty;  backward
                after_backward -> clip -> optimizer -> rows of per-sample state -> after_step
        epoch_end -> diagnostics -> evaluation -> schedule -> record -> checkpoint

There is no ``.item()`` between the first batch and the last: the loss is summed on the device. At the end of every epoch
one transfer tells whether it and all weights are finite; a run that has diverged is not trained on.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import ClaimLost, TrialInterrupted, TrialTimeout, kind_of, said
from harness.tasks import TASKS
from harness.training import seeds
from harness.training.evaluation import OUTPUTS, Evaluator
from harness.training.optim import learning_rates
from harness.training.run import Run, Step, copied

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
        self._samples = self.run.num_samples
        self._prelude_done = 0
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
        self._batch = int(state["batch"])
        self._epoch_loss = state["epoch_loss"].to(self.run.device)
        self._epoch_seconds = float(state["epoch_seconds"])
        self._augment.set_state(state["augment"].cpu())
        seeds.restore_global_state(_to_cpu(state["globals"]))
        self.history = history[: int(state["epochs_done"])]
        self._prelude_done = int(state.get("prelude_done", 0))
        self.untrained = state.get("untrained")
        self._best_validation = self._best(self.measured)
        self.selected = state["selected"] if self.keep_selected else None

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
        if self._batch == 0:
            run.epoch = number
            run._set_training(True)
            if run.stack.epoch_start is not None:
                self._timed(run.stack.epoch_start)
        else:
            run._set_training(True)
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
            self._batch, self._epoch_loss = 0, self._no_loss()
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
        run = self.run
        started = time.perf_counter()
        watch = run.stack.watch
        watch.begin(epoch=run.epoch, first=run.epoch == 1 and self._batch == 0)  # for one step
        for index, inputs in self._batches():
            step = Step(index, inputs, run.targets.index_select(0, index), "train", self._batch)
            if watch.on:
                watch.made(step)
            self._train_step(step)
            if watch.on:
                watch.rest()
            self._batch += 1
            if self.journal.should_stop():
                self._epoch_seconds += time.perf_counter() - started
                self._stop()
            if time.monotonic() - self._saved_at >= self.checkpoint_s:
                self._save()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        self._epoch_seconds += time.perf_counter() - started

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """``(index, inputs)`` of what is left of the epoch."""
        order = self._ordered()
        self._samples = len(order)
        return self.run.source.shuffled(order, self.run.batch_size, self._batch, self._augment)

    def _ordered(self) -> Tensor:
        """The samples of the epoch in its order, less a short last batch under ``last_batch = "drop"``. Of a drawn order a
        last batch of one is left out, as batch normalisation has no statistics of it; a replayed one is as it is."""
        run = self.run
        samples, size = run.num_samples, run.batch_size
        if run.last_batch == "drop":
            samples -= samples % size
        elif self.order is None and samples % size == 1 and samples > 1:
            samples -= 1
        if self.order is not None:
            return self.order[run.epoch - 1, :samples]
        return torch.randperm(run.num_samples, generator=seeds.torch_stream(run.seed, "order", run.epoch))[:samples]

    def _train_step(self, step: Step) -> None:
        """Train on a batch by the stack's own step or the loop's, and add its loss to the epoch's."""
        run = self.run
        run.divisor(step)
        if run.stack.train_step is None or not run.stack.train_step(run=run, step=step):
            self.train_batch(step)
        if step.loss is not None:
            self._epoch_loss.add_(_mean_loss(step), alpha=len(step.index))

    def _is_finite(self) -> bool:
        """Whether the summed loss and all weights are finite."""
        weights = [p.detach() for n in (self.run.network, *self.run.networks.values()) for p in n.model.parameters()]
        largest = torch.nn.utils.get_total_norm(weights, math.inf)
        return bool(torch.stack([self._epoch_loss, largest.to(self._epoch_loss)]).isfinite().all())

    def train_batch(self, step: Step) -> None:
        """One optimizer step on a mini-batch, with every hook."""
        run, stack = self.run, self.run.stack
        run.optimizer.zero_grad(set_to_none=True)
        run.fill(step)
        losses, divisor = step.losses, run.divisor(step)
        assert losses is not None
        if losses.ndim == 0:
            loss = losses if divisor == len(step.index) else losses * (len(step.index) / divisor)
        elif step.weighted:
            loss = torch.dot(step.weights.to(losses.dtype), losses) / divisor
        else:
            loss = losses.sum() / divisor
        step.loss = loss if step.penalty is None else loss + step.penalty
        if stack.watch.on:
            stack.watch.differentiable(step.loss)
        step.loss.backward()  # type: ignore[no-untyped-call]
        if stack.after_backward is not None:
            stack.after_backward(run=run, step=step)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(run.model_parameters, self.clip)
        run.optimizer.step()
        for state in run.sample_states.values():
            state.update(divisor)
        if stack.after_step is not None:
            stack.after_step(run=run, step=step)

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
            "train_loss": _finite(float(self._epoch_loss) / self._samples),
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
        self._epoch_loss = self._no_loss()
        self._epoch_seconds = 0.0
        self._batch = 0
        self.journal.epoch(record, timing)

    def _step_schedules(self) -> None:
        for network in (self.run.network, *self.run.networks.values()):
            if network.schedule is not None:
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
