"""The training loop, drawn with every hook in place.

    setup
    for each epoch:
        epoch_start
        for each batch:
            train_step, or:
                before_forward -> model -> after_forward -> compute_losses or the loss -> after_losses
                loss = (weights * losses).sum() / batch_size + penalty;  backward
                after_backward -> clip -> optimizer -> rows of per-sample state -> after_step
        epoch_end -> diagnostics -> evaluation -> schedule -> record -> checkpoint

There is no ``.item()`` between the first batch and the last: the loss is summed on the device.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import TrialInterrupted
from harness.training import seeds
from harness.training.evaluation import Evaluator
from harness.training.optim import learning_rates
from harness.training.run import Run, Step

Hook = Callable[..., Any]


class Journal(Protocol):
    """Where a loop reports to: records on disk in a trial, a list in a test."""

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool: ...


@dataclasses.dataclass
class Loop:
    """Trains a run to its last epoch, from wherever its state stands."""

    run: Run
    evaluator: Evaluator
    journal: Journal
    clip: float | None = None
    checkpoint_epochs: int | None = None
    checkpoint_s: float = 300.0
    keep_selected: bool = False

    def __post_init__(self) -> None:
        self.run.clip = self.clip
        self.history: list[dict[str, Any]] = []
        self.selected: dict[str, Any] | None = None
        self._best_validation: float | None = None
        self._epoch_loss = torch.zeros((), device=self.run.device)
        self._batch = 0
        self._epoch_seconds = 0.0
        self._saved_at = time.monotonic()
        self._augment = seeds.torch_stream(self.run.seed, "augment", device=self.run.device)

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
            "best_validation": self._best_validation,
            "selected": self.selected,
        }

    def load_state_dict(self, state: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """Continue from a checkpoint; ``history`` holds the epochs recorded before it."""
        self.run.load_state_dict(state["run"])
        self._batch = int(state["batch"])
        self._epoch_loss = state["epoch_loss"].to(self.run.device)
        self._epoch_seconds = float(state["epoch_seconds"])
        self._augment.set_state(state["augment"].cpu())
        seeds.restore_global_state(_to_cpu(state["globals"]))
        self.history = history[: int(state["epochs_done"])]
        self._best_validation = self._best(self.history)
        self.selected = state["selected"] if self.keep_selected else None

    def lacks_selected(self, state: dict[str, Any], history: list[dict[str, Any]]) -> bool:
        """Whether a checkpoint holds no state of its best epoch, though this loop keeps it: FGSM was asked for later."""
        best = self._best(history[: int(state["epochs_done"])])
        if not self.keep_selected or best is None:
            return False
        return state["selected"] is None or state["best_validation"] != best

    # --- training ------------------------------------------------------------------------------------------------------

    def fit(self) -> list[dict[str, Any]]:
        """Train to the last epoch and return the record of every epoch.

        Raises:
            TrialInterrupted: when the journal asks to stop; a checkpoint is written first.
        """
        run = self.run
        while len(self.history) < run.epochs:
            if self._batch == 0:
                run.epoch = len(self.history) + 1
                run.model.train()
                for network in run.networks.values():
                    network.model.train()
                if run.stack.epoch_start is not None:
                    self._timed(run.stack.epoch_start)
            else:
                run._set_training(True)
            self._train_epoch()
            if run.stack.epoch_end is not None:
                self._timed(run.stack.epoch_end)
            self._close_epoch()
            if len(self.history) < run.epochs:
                self._maybe_checkpoint()
                if self.journal.should_stop():
                    self._stop()
        return self.history

    def _timed(self, hook: Hook) -> None:
        """Call a hook of the epoch; what it costs is training time (a re-weighting is no evaluation)."""
        started = time.perf_counter()
        hook(run=self.run)
        self._epoch_seconds += time.perf_counter() - started

    def _train_epoch(self) -> None:
        run = self.run
        started = time.perf_counter()
        order = torch.randperm(run.num_samples, generator=seeds.torch_stream(run.seed, "order", run.epoch))
        order = order[: self._samples]
        train_step = run.stack.train_step
        for index, inputs in run.source.shuffled(order, run.batch_size, self._batch, self._augment):
            step = Step(index, inputs, run.targets.index_select(0, index), "train", self._batch)
            if train_step is None or not train_step(run=run, step=step):
                self.train_batch(step)
            if step.loss is not None:
                self._epoch_loss.add_(_mean_loss(step, run.batch_size), alpha=len(index))
            self._batch += 1
            if self.journal.should_stop():
                self._epoch_seconds += time.perf_counter() - started
                self._stop()
            if time.monotonic() - self._saved_at >= self.checkpoint_s:
                self._save()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        self._epoch_seconds += time.perf_counter() - started

    @property
    def _samples(self) -> int:
        """Samples of an epoch: all, but for a last batch of one, of which batch normalisation has no statistics."""
        samples = self.run.num_samples
        return samples - 1 if samples % self.run.batch_size == 1 and samples > 1 else samples

    def train_batch(self, step: Step) -> None:
        """One optimizer step on a mini-batch, with every hook."""
        run, stack = self.run, self.run.stack
        run.optimizer.zero_grad(set_to_none=True)
        run.fill(step)
        losses = step.losses
        assert losses is not None
        if losses.ndim == 0:
            loss = losses
        elif step.weighted:
            loss = torch.dot(step.weights, losses) / run.batch_size
        else:
            loss = losses.sum() / run.batch_size
        step.loss = loss if step.penalty is None else loss + step.penalty
        step.loss.backward()  # type: ignore[no-untyped-call]
        if stack.after_backward is not None:
            stack.after_backward(run=run, step=step)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(run.model_parameters, self.clip)
        run.optimizer.step()
        for state in run.sample_states.values():
            state.update()
        if stack.after_step is not None:
            stack.after_step(run=run, step=step)

    def _close_epoch(self) -> None:
        run = self.run
        found: dict[str, Any] = {}
        if run.stack.diagnostics is not None:
            for part in reversed(run.stack.diagnostics(run=run)):
                found.update(part or {})
        before = time.perf_counter()
        last = len(self.history) + 1 == run.epochs
        measured = self.evaluator.epoch(run, last=last)
        evaluation_seconds = time.perf_counter() - before
        rates = learning_rates([run.optimizer])
        for network in (run.network, *run.networks.values()):
            if network.schedule is not None:
                network.schedule.step()
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
        self._epoch_loss = torch.zeros((), device=run.device)
        self._epoch_seconds = 0.0
        self._batch = 0
        self.journal.epoch(record, timing)

    def _select(self, record: Mapping[str, Any]) -> None:
        """Keep a copy of the best state on noisy validation, where anything will ask for it."""
        value = self._validation(record)
        if value is not None and (self._best_validation is None or value > self._best_validation):
            self._best_validation = value
            if self.keep_selected:
                self.selected = self.run.prediction_state()

    def _validation(self, record: Mapping[str, Any]) -> float | None:
        """What an epoch is selected by: higher is better."""
        value: float | None = record.get("validation_accuracy")
        if value is None and record.get("validation_loss") is not None and self.run.task == "regression":
            value = -float(record["validation_loss"])
        return value

    def _best(self, history: list[dict[str, Any]]) -> float | None:
        values = (self._validation(record) for record in history)
        return max((value for value in values if value is not None), default=None)

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def _maybe_checkpoint(self) -> None:
        due = self.checkpoint_epochs is not None and len(self.history) % self.checkpoint_epochs == 0
        if due or time.monotonic() - self._saved_at >= self.checkpoint_s:
            self._save()

    def _save(self) -> None:
        self.journal.checkpoint(self.state_dict())
        self._saved_at = time.monotonic()

    def _stop(self) -> None:
        self.journal.checkpoint(self.state_dict())
        raise TrialInterrupted(f"stopped in epoch {self.run.epoch} of {self.run.epochs}")


def peak_memory(device: torch.device) -> int:
    """Bytes: the peak of the device's allocator, on CPU the process's resident set now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import psutil

    return int(psutil.Process().memory_info().rss)


def _mean_loss(step: Step, batch_size: int) -> Tensor:
    """The loss of a batch as a mean over its samples: that of a short batch was divided by the nominal size."""
    assert step.loss is not None
    loss = step.loss.detach()
    if len(step.index) == batch_size or (step.losses is not None and step.losses.ndim == 0):
        return loss
    scale = batch_size / len(step.index)
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
