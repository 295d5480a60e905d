"""The networks of a trial: its own, further ones with an optimizer and a schedule each, averages, and heads on features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harness.errors import HarnessError


class Network:
    """A model with its own optimizer and schedule: the trial's, or a further one of an algorithm.

    Attributes:
        model, optimizer, schedule: torch's; a constant learning rate has no schedule.
        parameters: those of the model that are trained, as they were when the optimizer was made.
        heads: parameters of heads that share the optimizer.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler | None) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameters: list[nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
        self.heads: list[nn.Parameter] = []

    def clip(self, norm: float) -> None:
        """Scale the gradients of all that the optimizer trains for the network to a norm of at most ``norm``."""
        torch.nn.utils.clip_grad_norm_([*self.parameters, *self.heads] if self.heads else self.parameters, norm)

    def share(self, head: nn.Module) -> None:
        """Let the optimizer train a head too, in the first group: at its learning rate, decay and schedule."""
        parameters = [p for p in head.parameters() if p.requires_grad]
        self.optimizer.param_groups[0]["params"].extend(parameters)
        self.heads.extend(parameters)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), **self.optimizer_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.load_optimizer_state(state)

    def optimizer_state(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
        }

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
            self.optimizer._opt_called = True  # type: ignore[attr-defined]  # torch warns of a schedule that steps first


class Average:
    """A model whose parameters follow those of a network; no optimizer trains it.

    Attributes:
        model: of the same architecture; its parameters ask for no gradient.
    """

    def __init__(self, model: nn.Module, of: Network) -> None:
        self.model = model.requires_grad_(False)
        self._of = of

    @torch.no_grad()
    def update(self, decay: float, *, buffers: bool = False) -> None:
        """Parameters become ``decay`` times themselves plus ``1 - decay`` times the network's.

        Parametrised weights (KPD) are averaged factor by factor; the average of factors is not the factor of the average.

        Args:
            decay: in [0, 1].
            buffers: whether the network's buffers (statistics of batch normalisation) are taken over as they are.
        """
        own: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(self._of.model.parameters())
        torch._foreach_lerp_(own, theirs, 1 - decay)
        if buffers:
            for buffer, value in zip(self.model.buffers(), self._of.model.buffers(), strict=True):
                buffer.copy_(value)


def classifier_of(model: nn.Module, num_outputs: int, where: str = "") -> nn.Module:
    """The layer whose inputs are a model's features: the last with ``in_features`` and ``out_features = num_outputs``.

    Raises:
        HarnessError: when the model has no such layer.
    """
    layers = [
        m for m in model.modules() if getattr(m, "out_features", None) == num_outputs and hasattr(m, "in_features")
    ]
    if not layers:
        raise HarnessError(
            f"the model has no linear layer of {num_outputs} outputs, so it has no features",
            where,
            "choose a model that ends in one, or another algorithm",
        )
    return layers[-1]


@contextlib.contextmanager
def catching(layer: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which a layer's inputs are added, one for each time it runs."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])

    handle = layer.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()
