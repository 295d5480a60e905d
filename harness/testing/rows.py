"""What a training sends through its networks, and what it asks for: counted where it happens.

A row is an input that goes through a network; one with gradient goes back too. The cost of a method is told in rows
(:class:`harness.needs.Described`), and ``benchmarks/methods.py`` prices them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from harness.training.run import Run


@dataclasses.dataclass
class Rows:
    """Rows and views of a stretch of training.

    Attributes:
        forward, trained: rows that went through networks forward only, and forward and back.
        views: samples that further views were drawn of, by the view's name.
        networks: names of those that rows went through to be trained.
        features: whether the inputs of a last linear layer were asked for.
    """

    forward: int = 0
    trained: int = 0
    views: Counter[str] = dataclasses.field(default_factory=Counter)
    networks: set[str] = dataclasses.field(default_factory=set)
    features: bool = False


@contextlib.contextmanager
def counting(run: Run, rows: Rows) -> Iterator[None]:
    """Add up what goes through the networks and averages of a run, through each as a whole, and the views that are drawn."""

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nets = run.nets
        networks = {id(network.model): name for name, network in {"": nets.main, **nets.further}.items()}
        if id(module) in networks and torch.is_grad_enabled():
            rows.trained += len(inputs[0])
            rows.networks.add(networks[id(module)])
        elif id(module) in networks or any(average.model is module for average in nets.averages.values()):
            rows.forward += len(inputs[0])

    def draw(self: Run, index: Tensor, name: str) -> Tensor:
        rows.views[name] += len(index)
        return view(self, index, name)

    def forward(self: Run, inputs: Tensor, model: nn.Module | None = None, *, features: bool = False) -> Any:
        rows.features |= features
        return plain(self, inputs, model, features=features)

    view = Run.view
    plain: Any = Run.forward
    handle = nn.modules.module.register_module_forward_pre_hook(count)
    with mock.patch.object(Run, "view", draw), mock.patch.object(Run, "forward", forward):
        try:
            yield
        finally:
            handle.remove()
