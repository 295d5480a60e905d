"""What a metric is held to: a number of the outputs, which changes nothing and stands what an evaluation brings."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.results.quantities import QUANTITIES
from harness.testing.bench import Bench
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, Skip, check
from harness.training.measures import NO_CLASS
from harness.training.metrics import Metric
from harness.training.tasks import PREDICTIONS, Task

SAMPLES, OUTPUTS = 60, 10


def _batch(task: Task, missing: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs as they are predicted, targets and clean targets; with ``missing``, no sample is of the last class."""
    generator = torch.Generator().manual_seed(0)
    width = 1 if task == "regression" else OUTPUTS
    outputs = PREDICTIONS[task](torch.randn(SAMPLES, width, generator=generator))
    if task == "regression":
        clean = torch.randn(SAMPLES, generator=generator)
        return outputs, clean + 1, clean
    classes = torch.arange(SAMPLES) % (OUTPUTS - missing)
    if task == "multilabel":
        clean = torch.nn.functional.one_hot(classes, OUTPUTS)
        return outputs, clean.roll(1, 1) if not missing else clean, clean
    return outputs, (classes + 1) % (OUTPUTS - missing), classes


def _scored(targets: Tensor, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of training samples, a third of which belong to none of the classes, with given and clean targets."""
    scores = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(1))
    return scores, targets, clean.masked_fill(torch.arange(SAMPLES) % 3 == 0, NO_CLASS)


@check(
    "metric",
    reason="it is measured after every epoch, and what it returns is recorded",
    remedy="return one number, or one for each class, of the outputs and targets as they are",
)
def measures(subject: Subject, bench: Bench) -> str | None:
    """It gives a number for every task that it is for, also where a class has no sample, and changes no argument."""
    measured = subject.component.measured
    assert measured is not None
    if subject.component.name in QUANTITIES:
        raise Fault(f"{subject.component.name!r} is a name of the harness's own", "register it under another one")
    if measured.diagnostic:
        raise Skip("it is what algorithms record")
    metric = Metric(subject.component)
    said = ""
    for task in measured.tasks:
        for missing in (False, True):
            given = _batch(task, missing)  # type: ignore[arg-type]
            if measured.on == "scores":
                given = _scored(*given[1:])
            before = [each.clone() for each in given]
            try:
                found = {"": metric.of_scores(*given)} if measured.on == "scores" else metric(*given)
            except HarnessError:
                raise
            except Exception as error:
                where = (
                    f", where the last {'class' if task == 'classification' else 'label'} has no sample"
                    if missing
                    else ""
                )
                raise Fault(f"in {task}{where} it raises {type(error).__name__}: {error}") from None
            if any(not torch.equal(a, b) for a, b in zip(given, before, strict=True)):
                raise Fault("it changes its arguments", "work on copies: they are the evaluator's own")
            if not missing and not any(bool(value.isfinite()) for value in found.values()):
                raise Fault("it gives no number for plain outputs")
            said = "one number" if len(found) == 1 else f"{len(found)} numbers"
    return said
