"""What a trial estimates of its own noise before it trains, from its noisy labels alone.

The estimator of the trial's identity is asked once, on the training samples: on the inputs where these are features, else
on the penultimate layer of a network of the trial's kind that was trained for some epochs by the plain loss and is then
thrown away. What came out stands for the references of the stack, and goes into the checkpoint and the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parameters import NOISE_ESTIMATED_RATE
from harness.registry import Registry
from harness.tasks import TASKS
from harness.training import seeds
from harness.training.data import BatchSource, stratified_subset
from harness.training.loop import Loop
from harness.training.networks import Network
from harness.training.noise_report import NoiseReport
from harness.training.run import Run
from harness.training.stack import Stack
from harness.trial import Trial

Estimate = Mapping[str, Any]
"""``rate`` (a number), ``matrix`` (K lists of K numbers) and ``prior`` (K numbers), as a checkpoint and a record hold them;
with their uncertainty where the noise asks for it (:func:`uncertainty`)."""
CONFIDENCE = 0.9


class Unwatched:
    """A journal and an evaluator of training of which nothing is measured or kept; it stops when it is told to."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop

    def epoch(self, *_: Any, **__: Any) -> dict[str, float | None]:
        return {}

    unmeasured = epoch

    def checkpoint(self, state: dict[str, Any]) -> None: ...


def estimated(
    trial: Trial,
    registry: Registry,
    features: Tensor,
    labels: Tensor,
    num_classes: int,
) -> Estimate:
    """The report of the trial's estimator, as plain values.

    Raises:
        HarnessError: for an estimator that gives no rate or no matrix.
    """
    spec = trial.identity["estimate"]
    make = registry.maker("estimator", spec["name"], spec["params"])
    report = make()(features.cpu(), labels.cpu(), num_classes, rng=seeds.numpy_stream(trial.seed, "estimate"))
    if not isinstance(report, NoiseReport) or report.T is None or report.rate is None:
        where = f"estimators.{spec['name']}"
        raise HarnessError("gives no rate and matrix", where, "return harness.NoiseReport with T and rate")
    prior = None if report.prior is None else report.prior.tolist()
    found = {"rate": float(report.rate), "matrix": report.T.tolist(), "prior": prior}
    redraws = int(spec.get("redraws", 0))
    if redraws > 1:
        rng = seeds.numpy_stream(trial.seed, "estimate", "halves")
        found |= uncertainty(make, features.cpu(), labels.cpu(), num_classes, found, redraws, rng)
    return found


def uncertainty(
    make: Callable[[], Any],
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    found: Estimate,
    redraws: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """How uncertain an estimate is, from the spread of estimates on random halves of the samples.

    The delete-d jackknife with d = N / 2 (Shao and Wu, 1989): drawn without replacement, a half differs from the whole by a
    variance of (1 / (N / 2) - 1 / N) = 1 / N times that of one sample, which is the variance of the whole's own estimate. So
    no sample is there twice, which nearest neighbours would see. Halves are drawn within the given classes.

    Args:
        make: makes the estimator.
        features, labels, num_classes: all training samples.
        found: their estimate.
        redraws: halves, at least 2.
        rng: draws them.

    Returns:
        ``rate_std``, ``rate_interval`` (90 %, of the normal distribution, within [0, 1]), ``matrix_std`` (K lists of K) and
        ``redraws``.
    """
    rates, matrices = [], []
    for _ in range(redraws):
        half = stratified_subset(labels, max(1, len(labels) // 2), rng)
        report = make()(features[half], labels[half], num_classes, rng=rng)
        rates.append(float(report.rate))
        matrices.append(report.T)
    spread, middle = float(np.std(rates, ddof=1)), float(found["rate"])
    reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * spread
    return {
        "rate_std": spread,
        "rate_interval": [max(0.0, middle - reach), min(1.0, middle + reach)],
        "matrix_std": torch.stack(matrices).std(0).tolist(),
        "redraws": redraws,
    }


def inputs_of(source: BatchSource) -> Tensor:
    """(N, d) all training inputs, standardised and not augmented."""
    return torch.cat([inputs for _, inputs in source.ordered(4096)])


def warmed_features(
    trial: Trial,
    registry: Registry,
    build: Callable[..., Network],
    source: BatchSource,
    targets: Tensor,
    num_classes: int,
    device: torch.device,
    should_stop: Callable[[], bool],
    **options: Any,
) -> Tensor:
    """(N, d) penultimate features of the training samples after a warm-up under the trial's optimizer and schedule.

    Raises:
        TrialInterrupted: when the trial is to stop; the warm-up is then done again.
        HarnessError: for a model without a last linear layer.
    """
    epochs = int(trial.identity["estimate"]["warmup"])
    loss = TASKS["classification"].loss
    seed = seeds.derive(trial.seed, "estimate")
    run = Run(
        network=build("estimate", epochs=epochs),
        stack=Stack(registry.create("loss", loss, {}), [], [], loss, False),
        source=source,
        targets=targets,
        num_classes=num_classes,
        num_outputs=num_classes,
        epochs=epochs,
        batch_size=int(trial.identity["training"]["batch_size"]),
        seed=seed,
        device=device,
        build_network=build,
        name=trial.id,
        **options,
    )
    seeds.seed_globals(seed)
    watcher = Unwatched(should_stop)
    loop = Loop(run, watcher, watcher, clip=trial.identity["training"]["clip"], checkpoint_s=float("inf"))  # type: ignore[arg-type]
    loop.fit()
    if loop.diverged:
        raise HarnessError("the warm-up diverged", "method.estimate.warmup", "lower the learning rate")
    return run.examine(what=("features",)).features


def put_in(values: Mapping[str, Any], estimate: Estimate | None, estimator: str) -> dict[str, Any]:
    """Parameters with the references to an estimate replaced by what came out."""
    if estimate is None:
        return dict(values)
    stand = {NOISE_ESTIMATED_RATE: estimate["rate"], estimator: estimate["matrix"]}
    return {key: stand.get(value, value) if isinstance(value, str) else value for key, value in values.items()}
