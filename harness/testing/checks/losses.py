"""What a loss is held to: one value per sample, types and devices kept, gradients that are finite and right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from harness.testing.bench import Bench
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, check

BATCH = 12
OUTPUTS = 10
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _loss(subject: Subject, bench: Bench) -> Loss:
    """The loss, after ``setup`` and an epoch where it has hooks."""
    made: Any = bench.fit(epochs=1).run.stack.loss if subject.facts.hooks else subject.make()
    return made  # type: ignore[no-any-return]


def _batch(subject: Subject, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = 1 if subject.task == "regression" else OUTPUTS
    outputs = scale * torch.randn(BATCH, width, generator=generator, dtype=torch.float64)
    if subject.task == "classification":
        targets = torch.randint(OUTPUTS, (BATCH,), generator=generator)
    elif subject.task == "multilabel":
        targets = torch.randint(2, (BATCH, OUTPUTS), generator=generator)
    else:
        targets = torch.randn(BATCH, generator=generator, dtype=torch.float64).to(dtype)
    return outputs.to(dtype), targets, torch.randperm(BATCH, generator=generator)


@check(
    "loss",
    reason="the harness weights and sums: loss = (weights * losses).sum() / batch_size",
    remedy="return (B,) losses, unreduced; one that exists per batch only declares Declares(per_batch=True)",
)
def per_sample(subject: Subject, bench: Bench) -> str | None:
    """One value per sample, which depends on that sample alone; a declared batch loss gives one number."""
    loss = _loss(subject, bench)
    outputs, targets, index = _batch(subject)
    losses = loss(outputs, targets, index)
    if not isinstance(losses, Tensor):
        raise Fault(f"it returns {type(losses).__name__}, not a tensor")
    if subject.facts.declares.per_batch:
        if losses.ndim != 0:
            raise Fault(f"it declares per_batch and returns shape {tuple(losses.shape)}", "return one number")
        return "declared per batch"
    if losses.shape != (BATCH,):
        raise Fault(f"it returns shape {tuple(losses.shape)} for a batch of {BATCH}")
    some = torch.arange(0, BATCH, 2)
    alone = loss(outputs[some], targets[some], index[some])
    if not torch.allclose(alone, losses[some], rtol=1e-4, atol=1e-5):
        worst = float((alone - losses[some]).abs().max())
        raise Fault(
            f"the loss of a sample changes by {worst:.2g} with the rest of its batch",
            "use sums over classes only, never means over the batch; or declare per_batch and return one number",
        )
    return None


@check(
    "loss",
    reason="runs are float32 or bfloat16 on any device",
    remedy="make new tensors with outputs.new_zeros, zeros_like, or .to(outputs)",
)
def shapes(subject: Subject, bench: Bench) -> str | None:
    """The losses have the type and device of the outputs, for a batch of one as well."""
    loss = _loss(subject, bench)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() and not subject.facts.hooks else [])]
    for device in devices:
        outputs, targets, index = (part.to(device) for part in _batch(subject))
        losses = loss(outputs, targets, index)
        if losses.dtype != torch.float32 or losses.device != outputs.device:
            raise Fault(f"float32 outputs on {outputs.device} give {losses.dtype} on {losses.device}")
        if not subject.facts.declares.per_batch and loss(outputs[:1], targets[:1], index[:1]).shape != (1,):
            raise Fault("a batch of one sample does not give one loss", "avoid squeeze() without a dimension")
    return " and ".join(devices)


@check(
    "loss",
    reason="one infinite gradient ends a training",
    remedy="work with log_softmax, and clamp inside logarithms and roots",
)
def gradients(subject: Subject, bench: Bench) -> str | None:
    """Losses and gradients are finite, for very sure outputs too."""
    loss = _loss(subject, bench)
    for scale in (1.0, 30.0) if subject.task == "regression" else (1.0, 30.0, 1000.0):
        outputs, targets, index = _batch(subject, scale=scale)
        outputs.requires_grad_(True)
        losses = loss(outputs, targets, index)
        if not bool(losses.isfinite().all()):
            raise Fault(f"the loss is not finite for outputs of size {scale:g}")
        if not losses.requires_grad:
            raise Fault(
                "the loss has no gradient", "compute it with torch operations on the outputs, without detach or numpy"
            )
        (gradient,) = torch.autograd.grad(losses.sum(), outputs, allow_unused=True)
        if gradient is None or not bool(gradient.isfinite().all()):
            raise Fault(f"the gradient is not finite for outputs of size {scale:g}")
    return None


@check(
    "loss",
    reason="a gradient that is not the loss's own trains something else",
    remedy="remove detach() or item() from the formula; if a factor is meant to be constant, say so: "
    'declines = {"gradcheck": "the weight is constant, as in the paper"}',
)
def gradcheck(subject: Subject, bench: Bench) -> str | None:
    """In float64 the gradient equals finite differences (``torch.autograd.gradcheck``)."""
    loss = _loss(subject, bench)
    outputs, targets, index = _batch(subject, torch.float64)
    outputs.requires_grad_(True)
    if loss(outputs, targets, index).dtype != torch.float64:
        raise Fault(
            "float64 outputs give a loss of another type", "make new tensors with outputs.new_zeros or zeros_like"
        )
    try:
        torch.autograd.gradcheck(lambda z: loss(z, targets, index), (outputs,), eps=1e-6, atol=1e-5, rtol=1e-3)
    except GradcheckError as error:
        raise Fault(f"finite differences disagree with the gradient: {' '.join(str(error).split())[:120]}") from None
    return None
