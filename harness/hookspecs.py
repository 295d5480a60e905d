"""Every hook, grouped by life cycle: what a plugin may do with the harness, and when.

Two sets stand here. *Host hooks* (``harness_...``) belong to installed plugins, to single files named in a suite or by
``--plugin``, and fire around registering, planning, trials and reading. *Training hooks* are methods of an algorithm
(or a loss); each trial has a plugin manager of its own that holds just its stack, so nothing installed elsewhere fires.

An implementation may take any subset of a hook's arguments, by name. Unless said otherwise every implementation is
called and returns nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from harness.registry import Register, RegisterMetric
    from harness.suite.plan import Plan
    from harness.training.passes import Pass
    from harness.training.run import Run, Step
    from harness.trial import Trial

hostspec = pluggy.HookspecMarker("harness")
hookspec = pluggy.HookspecMarker("harness_training")
hookimpl = pluggy.HookimplMarker("harness")
"""Marks a host hook's implementation; on a training hook it is needed only for ``tryfirst`` and ``trylast``."""


# --- Host: registering components. ``register(name, target, version="1")``; a string target stays lazy -----------------


@hostspec
def harness_register_datasets(register: Register) -> None:
    """Register data sets: a factory makes :class:`harness.DataSplits`."""


@hostspec
def harness_register_noise(register: Register) -> None:
    """Register label noise: a factory makes ``noise(data, *, rng) -> targets``."""


@hostspec
def harness_register_models(register: Register) -> None:
    """Register models: a factory takes ``input_shape`` and ``num_outputs`` besides its parameters."""


@hostspec
def harness_register_transforms(register: Register) -> None:
    """Register transforms of models: a factory makes ``transform(model) -> model``."""


@hostspec
def harness_register_losses(register: Register) -> None:
    """Register losses: a factory makes ``loss(outputs, targets, index) -> Tensor[B]``."""


@hostspec
def harness_register_algorithms(register: Register) -> None:
    """Register algorithms: a factory makes an object with any of the training hooks below."""


@hostspec
def harness_register_estimators(register: Register) -> None:
    """Register estimators of label noise: a factory makes ``estimator(features, labels, num_classes, *, rng)``, which gives a
    :class:`harness.NoiseReport` with matrix, prior and rate, from (N, d) features and (N,) noisy labels."""


@hostspec
def harness_register_detectors(register: Register) -> None:
    """Register detectors of wrong labels: a factory makes ``detector(features, labels, num_classes, *, rng)``, which gives a
    :class:`harness.NoiseReport` with flags, scores and suggested classes, from (N, d) features and (N,) noisy labels."""


@hostspec
def harness_register_executors(register: Register) -> None:
    """Register executors: a factory makes a :class:`harness.execution.executor.Executor`."""


@hostspec
def harness_register_metrics(register: RegisterMetric) -> None:
    """Register metrics: ``register(name, function, title=..., higher_is_better=..., percent=..., ...)``.

    ``function(outputs, targets, clean)`` takes of these what it names. It is measured after every epoch of a trial whose
    suite asks for it in ``[evaluation] metrics``, or later by ``harness evaluate``. Without a function the metric is what
    algorithms record under that name in ``diagnostics``.
    """


@hostspec
def harness_register_plots(register: Register) -> None:
    """Register pictures for ``harness plot``: ``function(connection, request) -> Figure`` of the read-only store and a
    ``harness.results.report.plots.Request``. Its attribute ``suits``, a function of what a suite has recorded, says where it is
    what ``harness plot`` draws when no kind is named."""


# --- Host: life cycle --------------------------------------------------------------------------------------------------


@hostspec
def harness_plan_modify(plan: Plan) -> None:
    """A plan is made and not yet shown or run: reorder, drop or add trials in place (``plan.trials`` is a list)."""


@hostspec
def harness_trial_start(trial: Trial) -> None:
    """In the worker, after a trial is claimed and before its data are read."""


@hostspec
def harness_epoch_end(trial: Trial, record: Mapping[str, Any]) -> None:
    """In the worker, after an epoch is recorded: ``record`` is its line of ``epochs.jsonl``. For trackers; what it draws of the
    global generators is put back. A trial that goes on from a checkpoint tells of the epochs after it only."""


@hostspec
def harness_trial_finish(trial: Trial, record: Mapping[str, Any]) -> None:
    """In the worker, after ``result.json`` is written, for done and failed trials alike; ``record`` is its content."""


@hostspec
def harness_collect_environment() -> Mapping[str, Any] | None:
    """In the worker, when an attempt starts: facts to add to ``environment.json`` (JSON values); ``None`` adds nothing.
    The harness's own keys stay as they are."""


@hostspec
def harness_leaderboard_columns() -> Sequence[Mapping[str, Any]] | None:
    """Columns to add to boards: ``{"name", "title", "metric", "at", "higher_is_better", "format", "help"}`` each."""


# --- Training: once per trial ------------------------------------------------------------------------------------------


@hookspec
def setup(run: Run) -> None:
    """Model, optimizer and data are ready: create state (``run.sample_state``), add networks, check the setting."""


@hookspec
def diagnostics(run: Run) -> Mapping[str, float] | None:
    """At the end of an epoch, after ``epoch_end``: numbers to record, by name. Results of all are merged."""


# --- Training: once per epoch ------------------------------------------------------------------------------------------


@hookspec
def epoch_start(run: Run) -> None:
    """Before the first batch; ``run.epoch`` counts from 1."""


@hookspec(firstresult=True)
def next_pass(run: Run, number: int) -> Pass | None:
    """The epoch's pass ``number`` (from 0), a :class:`harness.Pass`: over which samples, for which network. It is asked
    before each pass, so that one may depend on what the last has done; the first result wins, and ``None`` of all ends
    the epoch. Without the hook an epoch is one ``Pass()``, over all samples for the trial's network."""


@hookspec
def epoch_end(run: Run) -> None:
    """After the last batch, before evaluation: re-weighting, mixture fits, scores of samples."""


# --- Training: once per mini-batch, in this order ----------------------------------------------------------------------


@hookspec(firstresult=True)
def train_step(run: Run, step: Step) -> bool | None:
    """Replace everything from forward to optimizer step (co-teaching). The first ``True`` wins; ``None`` passes.

    One that ends in ``run.descend(step)`` (DivideMix) sets the losses of its rows and leaves the rest to the harness, from
    ``after_losses`` on; it declares ``descends``."""


@hookspec
def before_forward(run: Run, step: Step) -> None:
    """Change ``step.inputs`` and ``step.targets`` (mixup, FGSM). Not called in a ``probe`` pass."""


@hookspec
def after_forward(run: Run, step: Step) -> None:
    """Change ``step.outputs``, (B, K) in the run's type (AUX, forward correction)."""


@hookspec(firstresult=True)
def compute_losses(run: Run, step: Step) -> bool | None:
    """Set ``step.losses`` (B,) in place of the loss, which must be declared (SOP replaces ``ce``). The first ``True``
    wins; ``None`` passes, and then the loss itself is asked."""


@hookspec
def after_losses(run: Run, step: Step) -> None:
    """Change ``step.losses``, ``step.weights`` (B,) or ``step.penalty`` (ELR, RRM, class balance). In a step that descends
    by itself these are of its rows, ``step.index`` names each row's sample, and ``step.outputs`` may be ``None``."""


@hookspec
def after_backward(run: Run, step: Step) -> None:
    """Change gradients (CDR, RDI) of ``run.of(step.network)``, before clipping and the optimizer's step."""


@hookspec
def after_step(run: Run, step: Step) -> None:
    """After the optimizer's step and the rows of per-sample state: projections, averages."""


# --- Training: evaluation ----------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def predict(run: Run, inputs: torch.Tensor) -> torch.Tensor | None:
    """Log-probabilities (B, K), differentiable with respect to ``inputs``; the first result wins (two networks)."""


HOST_HOOKS: tuple[str, ...] = tuple(name for name in dir() if name.startswith("harness_"))
TRAINING_HOOKS: tuple[str, ...] = (
    "setup",
    "epoch_start",
    "next_pass",
    "train_step",
    "before_forward",
    "after_forward",
    "compute_losses",
    "after_losses",
    "after_backward",
    "after_step",
    "epoch_end",
    "diagnostics",
    "predict",
)
