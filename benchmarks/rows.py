"""A method's own arithmetic: the rows that it sends through its networks, priced at what they cost plain cross entropy.

A method with several networks, views and passes takes many times as long as cross entropy, and should: it does more. What
the harness adds is what it takes beyond its rows. A row is an input that goes through a network; one with gradient goes
back too. Both are counted where they happen, in whichever network of the trial, and priced by an epoch of cross entropy and
by an epoch of forward passes alone, measured in turn with the method.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from pairing import Ratio, Work, in_turn, ratio
from torch import nn
from training import harness_epoch, prepared

from harness.training.prepare import Prepared


@dataclasses.dataclass
class Rows:
    """Rows that went through networks: forward only, and forward and back."""

    forward: int = 0
    trained: int = 0

    def seconds(self, samples: int, forward: float, trained: float) -> float:
        """What they cost where an epoch of ``samples`` rows costs so much."""
        return (self.forward * forward + self.trained * trained) / samples


@contextlib.contextmanager
def counting(network: type[nn.Module], rows: Rows) -> Iterator[None]:
    """Add up what goes through every module of a class, which is that of the trial's networks and of none of their parts."""

    def count(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module) is network:
            if torch.is_grad_enabled():
                rows.trained += len(inputs[0])
            else:
                rows.forward += len(inputs[0])

    handle = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def forward_epoch(ready: Prepared) -> Work:
    """Every training sample once through the network, in the batches of the trial, without gradient."""
    run = ready.run
    run.model.train()

    @torch.no_grad()
    def work() -> None:
        order = torch.randperm(run.num_samples).to(run.device)
        for index in order.split(run.batch_size):
            run.model(run.source.gather(index))
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return work


def priced(name: str, method: str, rounds: int, bound: float | None, **options: Any) -> tuple[Ratio, Ratio, Rows]:
    """An epoch of a method against one of cross entropy and against its own rows at cross entropy's prices.

    Returns:
        both ratios, and the rows of an epoch (their mean over the rounds).
    """
    ready, plain = prepared(method, **options), prepared(**options)
    epoch, counted = harness_epoch(ready), []

    def work() -> None:
        rows = Rows()
        with counting(type(ready.run.model), rows):
            epoch()
        counted.append(rows)

    own, base, forward = in_turn((work, harness_epoch(plain), forward_epoch(plain)), rounds)
    measured = counted[1:]  # the first round is not counted
    samples = plain.run.num_samples
    prices = [rows.seconds(samples, f, t) for rows, f, t in zip(measured, forward, base, strict=True)]
    mean = Rows(*(round(sum(getattr(r, key) for r in measured) / rounds) for key in ("forward", "trained")))
    return ratio(f"{name} / CE", own, base), ratio(f"{name} / its rows", own, prices, bound), mean
