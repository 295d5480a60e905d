"""What models and transforms of models are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.testing.bench import Bench
from harness.testing.components import net
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, check

SHAPES: tuple[tuple[int, ...], ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (6,))
TEXT: tuple[int, ...] = (12,)
VOCABULARY = 50
OUTPUTS = 10
BATCH = 6


def example(subject: Subject) -> dict[str, Any]:
    """Parameters of the small data that a model takes: the first input shape that fits, last texts with a vocabulary."""
    words = ""
    tried: list[dict[str, Any]] = [{"shape": list(shape)} for shape in SHAPES]
    for data in [*tried, {"shape": list(TEXT), "tokens": VOCABULARY}]:
        try:
            model = _made(subject, data)
            with torch.no_grad():
                model.train()(_sample(data))
            return data
        except (HarnessError, RuntimeError, ValueError) as error:
            words = words or " ".join(str(error).split())[:160]
    raise Fault(f"it takes neither texts nor one of the input shapes {', '.join(map(str, SHAPES))}: {words}")


def _made(subject: Subject, data: Mapping[str, Any]) -> nn.Module:
    context = {"vocabulary": data["tokens"]} if "tokens" in data else {}
    made: nn.Module = subject.make(input_shape=tuple(data["shape"]), num_outputs=OUTPUTS, **context)
    return made


def _sample(data: Mapping[str, Any]) -> Tensor:
    shape = (BATCH, *data["shape"])
    return torch.randint(1, data["tokens"], shape) if "tokens" in data else torch.randn(shape)


@check(
    "model",
    reason="the loop, the evaluator and every transform rely on it",
    remedy="an nn.Module from input_shape and num_outputs that maps (B, *input_shape) to (B, num_outputs)",
)
def outputs(subject: Subject, bench: Bench) -> str | None:
    """(B, K) outputs, for one sample too; every parameter has a gradient; one seed makes one model."""
    data = example(subject)
    torch.manual_seed(0)
    model = _made(subject, data)
    torch.manual_seed(0)
    twin = _made(subject, data)
    if any(not torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True)):
        raise Fault("two models of one seed differ", "initialise with torch's global generator only")
    _check_module(model, _sample(data))
    return f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} parameters on {tuple(data['shape'])}"


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
        _check_module(model, torch.randn(BATCH, *shape))
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


def _check_module(model: nn.Module, sample: Tensor) -> None:
    model.train()
    made = model(sample)
    if made.shape != (BATCH, OUTPUTS):
        raise Fault(f"it maps {tuple(sample.shape)} to {tuple(made.shape)}, not {(BATCH, OUTPUTS)}")
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
