"""What a trial is expected to cost, so that jobs can be filled evenly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.plugins import Host
from harness.suite.plan import PlannedTrial
from harness.trial import Trial, canonical


def costs(planned: Sequence[PlannedTrial], host: Host) -> dict[str, float]:
    """Cost by trial id: recorded seconds where there are any, else model parameters x samples x epochs.

    Only proportions matter, so without records one data set and model for all trials need not even be looked at.
    """
    if all(p.seconds is not None for p in planned):
        return {p.id: float(p.seconds or 0.0) for p in planned}
    pairs = {_pair(p.trial) for p in planned}
    sizes: dict[str, float] = {}
    if len(pairs) > 1:
        for p in planned:
            if (pair := _pair(p.trial)) not in sizes:
                sizes[pair] = _parameters_times_samples(p.trial, host)
    return {p.id: sizes.get(_pair(p.trial), 1.0) * int(p.trial.identity["training"]["epochs"]) for p in planned}


def seconds(planned: Mapping[str, PlannedTrial], ids: Sequence[str]) -> float | None:
    """Recorded seconds of some trials together; ``None`` unless they are known of each."""
    known = [planned[trial_id].seconds for trial_id in ids if trial_id in planned]
    return math.fsum(s for s in known if s is not None) if known and None not in known else None


def _pair(trial: Trial) -> str:
    """Data set, subset and model: what decides the cost of an epoch, methods aside."""
    return canonical([trial.identity[key] for key in ("dataset", "subset", "model")])


def _parameters_times_samples(trial: Trial, host: Host) -> float:
    """Counted on torch's meta device, which holds no memory; 1 where the data or the model cannot be had here."""
    try:
        import torch
        from torch.utils.data import Dataset

        from harness.training.prepare import load_data

        train = load_data(trial, host).train
        shape = tuple(train.inputs[0][0].shape if isinstance(train.inputs, Dataset) else train.inputs.shape[1:])
        outputs = train.num_classes or 1
        spec: Mapping[str, Any] = trial.identity["model"]
        with torch.device("meta"):
            model = host.registry.create("model", spec["name"], spec["params"], input_shape=shape, num_outputs=outputs)
        parameters = sum(p.numel() for p in model.parameters())
        return float(parameters) * float(trial.identity["subset"] or len(train.targets))
    except Exception:  # an estimate is not worth a failed submission, whatever a plugin's data set raises here
        return 1.0
