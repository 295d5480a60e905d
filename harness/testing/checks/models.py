"""What models and transforms of models are held to."""

from __future__ import annotations

import torch
from torch import nn

from harness.errors import HarnessError
from harness.testing.bench import Bench
from harness.testing.components import net
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, check

SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (6,))
OUTPUTS = 10
BATCH = 6


def example_shape(subject: Subject) -> tuple[int, ...]:
    """The first input shape that a model takes."""
    words = ""
    for shape in SHAPES:
        try:
            model = subject.make(input_shape=shape, num_outputs=OUTPUTS)
            with torch.no_grad():
                model.train()(torch.randn(BATCH, *shape))
            return shape
        except (HarnessError, RuntimeError, ValueError) as error:
            words = words or " ".join(str(error).split())[:160]
    raise Fault(f"it takes none of the input shapes {', '.join(map(str, SHAPES))}: {words}")


@check(
    "model",
    reason="the loop, the evaluator and every transform rely on it",
    remedy="an nn.Module from input_shape and num_outputs that maps (B, *input_shape) to (B, num_outputs)",
)
def outputs(subject: Subject, bench: Bench) -> str | None:
    """(B, K) outputs, for one sample too; every parameter has a gradient; one seed makes one model."""
    shape = example_shape(subject)
    torch.manual_seed(0)
    model = subject.make(input_shape=shape, num_outputs=OUTPUTS)
    torch.manual_seed(0)
    twin = subject.make(input_shape=shape, num_outputs=OUTPUTS)
    if any(not torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True)):
        raise Fault("two models of one seed differ", "initialise with torch's global generator only")
    _check_module(model, shape)
    return f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} parameters on {shape}"


@check(
    "transform",
    reason="a transform must leave a model that trains, is saved, and has the same outputs' shape",
    remedy="use torch.nn.utils.parametrize on the weights and return the model",
)
def transforms(subject: Subject, bench: Bench) -> str | None:
    """A transformed model trains, keeps its outputs' shape, and its state goes into a fresh one."""
    counts = []
    for shape in ((1, 8, 8), (6,)):
        torch.manual_seed(0)
        plain = net(shape, OUTPUTS)
        before = sum(p.numel() for p in plain.parameters())
        model = subject.make()(plain)
        if not isinstance(model, nn.Module):
            raise Fault(f"it returns {type(model).__name__}, not a model", "return the model")
        _check_module(model, shape)
        fresh = subject.make()(net(shape, OUTPUTS))
        fresh.load_state_dict(model.state_dict())
        sample = torch.randn(BATCH, *shape)
        with torch.no_grad():
            if not torch.equal(model.eval()(sample), fresh.eval()(sample)):
                raise Fault(
                    "a fresh model with the same state gives other outputs", "keep all state in parameters and buffers"
                )
        counts.append(f"{before:,} -> {sum(p.numel() for p in model.parameters()):,}")
    return f"parameters {', '.join(counts)}"


def _check_module(model: nn.Module, shape: tuple[int, ...]) -> None:
    sample = torch.randn(BATCH, *shape)
    model.train()
    made = model(sample)
    if made.shape != (BATCH, OUTPUTS):
        raise Fault(f"it maps {(BATCH, *shape)} to {tuple(made.shape)}, not {(BATCH, OUTPUTS)}")
    if not bool(made.isfinite().all()):
        raise Fault("its outputs are not finite")
    made.square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise Fault(f"the parameter {idle[0]!r} takes no part in the outputs", "remove it, or set requires_grad=False")
    if not any(p.requires_grad for p in model.parameters()):
        raise Fault("it has no trained parameter")
    model.eval()
    with torch.no_grad():
        if model(sample[:1]).shape != (1, OUTPUTS):
            raise Fault("one sample does not give one row", "avoid squeeze() without a dimension")
        if not torch.equal(model(sample), model(sample)):
            raise Fault("in eval mode it gives other outputs each time", "switch randomness off in eval mode")
    if any(buffer.dtype == torch.float64 for buffer in model.state_dict().values()):
        raise Fault("it keeps float64 state", "use float32")
