"""Every training sample judged by networks that have not seen it: K-fold over the training set, as a protocol of its own.

A trial's method is trained K times on the other folds, with the trial's seed, budget and noisy labels. Nothing of it is a
result: it says which labels the method does not expect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from harness import running
from harness.errors import HarnessError
from harness.plugins import Host
from harness.training.estimate import Unwatched
from harness.training.loop import Loop
from harness.training.prepare import DataCache, choose_device, prepare
from harness.trial import Trial

BATCH = 512


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a network says of samples that it has not seen.

    Attributes:
        positions: (N,) int64, where the samples of the fold stand in the data set's training data.
        given: (N,) int64 noisy classes.
        probabilities: (N, K) float32.
        test: (M, K) float32, of the test samples, which no fold has seen.
    """

    positions: Tensor
    given: Tensor
    probabilities: Tensor
    test: Tensor


def judge_fold(
    trial: Trial,
    host: Host,
    fold: int,
    folds: int,
    cache: DataCache | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Judged:
    """The samples of a fold, judged by the trial's method trained on all others.

    Raises:
        HarnessError: for another task than classification, and for a method that diverges.
        TrialInterrupted: when ``should_stop`` says so.
    """
    execution = trial.options.get("execution", {})
    device = choose_device(str(execution.get("device", "auto")))
    prepared = prepare(trial, host, device, cache, should_stop=should_stop, fold=(fold, folds))
    run, evaluator = prepared.run, prepared.evaluator
    if run.task != "classification" or evaluator.validation is None or evaluator.validation_targets is None:
        raise HarnessError("suspects are found in classification", "suspects", "choose another suite")
    unwatched = Unwatched(should_stop)
    loop = Loop(run, unwatched, unwatched, clip=trial.identity["training"]["clip"], checkpoint_s=float("inf"))  # type: ignore[arg-type]
    with running.method_working():
        loop.fit()
    if loop.diverged:
        raise HarnessError(f"diverged on fold {fold + 1} of {folds}", f"trial {trial.id}", "lower its learning rate")
    with run.evaluating(), torch.inference_mode():
        held, test = (
            torch.cat([run.predict(inputs) for _, inputs in source.ordered(BATCH)]).exp().float().cpu()
            for source in (evaluator.validation, evaluator.test)
        )
    assert prepared.held is not None
    return Judged(prepared.held, evaluator.validation_targets.cpu(), held, test)
