"""What estimators and detectors are held to: a report that fits the samples, made of the arguments and the generator alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from harness import NoiseReport
from harness.testing import components
from harness.testing.bench import Bench, difference
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, check

SAMPLES = 200
PARTS = {"estimator": ("T", "prior", "rate"), "detector": ("flags", "score", "suggested")}
"""What each kind must say."""


def _samples(missing: bool) -> tuple[Tensor, Tensor]:
    """(N, d) features and noisy labels of the small data; with ``missing`` no label names the last class."""
    data = components.classes(size=SAMPLES).train
    labels = components.Flip(0.2)(data, rng=np.random.default_rng(0))
    if missing:
        labels = torch.where(labels == components.CLASSES - 1, 0, labels)
    features = torch.as_tensor(data.inputs).flatten(1).float() / 255  # type: ignore[call-overload]
    return features, labels


@check(
    "estimator",
    "detector",
    reason="a trial, a board and whoever calls it rely on what the report says",
    remedy="return harness.NoiseReport, made with the given rng alone",
)
def reports(subject: Subject, bench: Bench) -> str | None:
    """A report whose parts have their shapes and ranges, also where a class has no label; the arguments are as before, and
    the same generator gives the same report."""
    count = components.CLASSES
    for missing in (True, False):
        features, labels = _samples(missing)
        before = (features.clone(), labels.clone())
        made = subject.make()(features, labels, count, rng=np.random.default_rng(1))
        if not torch.equal(features, before[0]) or not torch.equal(labels, before[1]):
            raise Fault("it changes its arguments", "work on copies")
        if not isinstance(made, NoiseReport):
            raise Fault(f"it returns {type(made).__name__}, not harness.NoiseReport")
        for part in PARTS[subject.kind]:
            if getattr(made, part) is None:
                raise Fault(f"its report lacks {part}, which {subject.kind}s give")
        _check_parts(made, len(labels), count)
    np.random.seed(5)  # noqa: NPY002 -- whether the global state matters is the question
    torch.manual_seed(5)
    again = subject.make()(features, labels, count, rng=np.random.default_rng(1))
    if difference(_parts(made), _parts(again)) is not None:
        raise Fault("the same generator gives another report", "draw from the given rng only, nothing global")
    return f"rate {made.rate:.2f}" if made.rate is not None else None


def _parts(report: NoiseReport) -> dict[str, object]:
    return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}


def _check_parts(report: NoiseReport, samples: int, count: int) -> None:
    shapes = {"T": (count, count), "prior": (count,), **dict.fromkeys(("flags", "score", "suggested"), (samples,))}
    kinds = {"T": torch.float64, "prior": torch.float64, "flags": torch.bool, "score": torch.float64}
    for part, shape in shapes.items():
        value = getattr(report, part)
        if value is None:
            continue
        kind = kinds.get(part, torch.int64)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != kind:
            said = (
                f"a tensor {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            )
            raise Fault(f"{part} is {said}, not {shape} of {kind}")
        if not bool(value.isfinite().all()):
            raise Fault(f"{part} is not finite")
    for part, value in (("T", report.T), ("prior", report.prior)):
        if value is not None and (bool((value < -1e-6).any()) or not bool(((value.sum(-1) - 1).abs() < 1e-4).all())):
            raise Fault(f"{part} is no distribution", "let it be at least 0 and sum to 1")
    if report.rate is not None and not (isinstance(report.rate, float) and 0 <= report.rate <= 1):
        raise Fault(f"the rate is {report.rate!r}, not a number in [0, 1]")
    if report.suggested is not None and not bool(((report.suggested >= 0) & (report.suggested < count)).all()):
        raise Fault(f"it suggests classes outside [0, {count})")
