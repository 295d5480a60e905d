"""A method's own arithmetic: the rows that it sends through its networks, priced at what they cost plain cross entropy.

A method with several networks, views and passes takes many times as long as cross entropy, and should: it does more. What
the harness adds is what it takes beyond its rows. A row is an input that goes through a network; one with gradient goes
back too. Both are counted where they happen, in whichever network of the trial, and priced by an epoch of cross entropy and
by an epoch of forward passes alone, measured in turn with the method. The further views that it draws (``run.view``) are
counted too and priced by an epoch of drawing them: cross entropy draws none, but a method that learns from strong views cannot
do without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pairing import Ratio, Work, in_turn, ratio
from torch import Tensor
from training import harness_epoch, prepared

from harness import Run
from harness.testing.rows import Rows, counting
from harness.training.prepare import Prepared


def seconds(rows: Rows, samples: int, forward: float, trained: float) -> float:
    """What rows cost where an epoch of ``samples`` rows costs so much, views left out."""
    return (rows.forward * forward + rows.trained * trained) / samples


def drawing(rows: Rows, samples: int, prices: Mapping[str, float]) -> float:
    """What views cost where an epoch of ``samples`` of each name costs so much."""
    return sum(number * prices[name] for name, number in rows.views.items()) / samples


def batches(run: Run) -> Iterator[Tensor]:
    """The positions of every training sample once, in the batches of the trial."""
    yield from torch.randperm(run.num_samples).to(run.device).split(run.batch_size)


def forward_epoch(ready: Prepared) -> Work:
    """Every training sample once through the network, without gradient."""
    run = ready.run
    run.model.train()

    @torch.no_grad()
    def work() -> None:
        for index in batches(run):
            run.model(run.source.gather(index))
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return work


def drawing_epoch(ready: Prepared, name: str) -> Work:
    """A view of every training sample."""
    run = ready.run

    def work() -> None:
        for index in batches(run):
            run.view(index, name)
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return work


def priced(
    name: str, method: str, rounds: int, bound: float | None, **options: Any
) -> tuple[Ratio, Ratio, Ratio | None, Rows]:
    """An epoch of a method against one of cross entropy, and against its own rows at cross entropy's prices.

    Returns:
        both ratios; the ratio to its rows and views together, ``None`` for a method without views; and the rows of an epoch
        (their mean over the rounds).
    """
    ready, plain = prepared(method, **options), prepared(**options)
    epoch, counted = harness_epoch(ready), []

    def work() -> None:
        rows = Rows()
        with counting(ready.run, rows):
            epoch()
        counted.append(rows)

    for _ in range(
        2
    ):  # the first epoch may be a warm-up, without the method's views, and what ends it decides on the next
        work()
        if ready.run.stack.epoch_end is not None:
            ready.run.stack.epoch_end(run=ready.run)
    drawn = sorted(counted[-1].views)
    works = (work, harness_epoch(plain), forward_epoch(plain), *(drawing_epoch(plain, view) for view in drawn))
    own, base, forward, *views = in_turn(works, rounds)
    measured = counted[-rounds:]  # the first round is not counted
    samples = plain.run.num_samples
    prices = [seconds(rows, samples, f, t) for rows, f, t in zip(measured, forward, base, strict=True)]
    mean = Rows(*(round(sum(getattr(r, key) for r in measured) / rounds) for key in ("forward", "trained")))
    mean.views = Counter({view: round(sum(r.views[view] for r in measured) / rounds) for view in drawn})
    with_views = None
    if drawn:
        drawings = [
            drawing(r, samples, dict(zip(drawn, t, strict=True)))
            for r, t in zip(measured, zip(*views, strict=True), strict=True)
        ]
        both = [price + more for price, more in zip(prices, drawings, strict=True)]
        with_views = ratio(f"{name} / its rows and views", own, both)
    return ratio(f"{name} / CE", own, base), ratio(f"{name} / its rows", own, prices, bound), with_views, mean
