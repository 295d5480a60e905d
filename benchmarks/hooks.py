"""What hooks cost: ``HARNESS_DATA=... python benchmarks/hooks.py [--pairs N]``.

A stack of five algorithms that implement every training hook and do nothing, against a stack of none: LeNet on 2,560
images of MNIST at batch 128, an epoch each in turn. A control row (none against none) says how far to trust the ratio,
and the last row counts in microseconds a batch what the hooks take by themselves, without a network.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import torch
from history import History
from pairing import HEAD, Work, paired
from training import harness_epoch, prepared

from harness.hookspecs import TRAINING_HOOKS
from harness.training.run import Step
from harness.training.stack import Stack

ALGORITHMS = 5
SAMPLES = 2_560
BATCH = 128
IN_A_BATCH = (
    "train_step",
    "before_forward",
    "after_forward",
    "compute_losses",
    "after_losses",
    "after_backward",
    "after_step",
)


class Empty:
    """Every training hook, with both arguments, and nothing in it."""

    def setup(self, run: Any) -> None: ...
    def epoch_start(self, run: Any) -> None: ...
    def train_step(self, run: Any, step: Any) -> None: ...
    def before_forward(self, run: Any, step: Any) -> None: ...
    def after_forward(self, run: Any, step: Any) -> None: ...
    def compute_losses(self, run: Any, step: Any) -> None: ...
    def after_losses(self, run: Any, step: Any) -> None: ...
    def after_backward(self, run: Any, step: Any) -> None: ...
    def after_step(self, run: Any, step: Any) -> None: ...
    def epoch_end(self, run: Any) -> None: ...
    def diagnostics(self, run: Any) -> dict[str, float]:
        return {}

    def predict(self, run: Any, inputs: Any) -> None: ...


def epoch(algorithms: int) -> Work:
    """An epoch with that many empty algorithms in the stack."""
    ready = prepared(batch=BATCH, samples=SAMPLES)
    ready.run.stack = empty_stack(ready.run.stack, algorithms)
    return harness_epoch(ready)


def empty_stack(stack: Stack, algorithms: int) -> Stack:
    """The same loss under empty algorithms."""
    names = [f"empty {number}" for number in range(algorithms)]
    return Stack(stack.loss, [Empty() for _ in names], names, stack.loss_name, stack.per_batch)


def microseconds_a_batch(rounds: int = 20_000) -> float:
    """Median time of all hooks of one mini-batch with five empty algorithms, in microseconds."""
    stack = empty_stack(Stack(lambda *_: None, [], [], "none", False), ALGORITHMS)
    step = Step(torch.arange(BATCH), torch.zeros(BATCH, 1), torch.zeros(BATCH))
    hooks = [getattr(stack, name) for name in IN_A_BATCH]
    times = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(rounds // 9):
            for hook in hooks:
                hook(run=None, step=step)
        times.append((time.perf_counter() - started) / (rounds // 9))
    return 1e6 * statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=61)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    assert all(hasattr(Empty, name) for name in TRAINING_HOOKS)
    print(HEAD)
    history = History("hooks")
    history.ratio(paired("control: none / none", epoch(0), epoch(0), pairs))
    ratio = paired(f"{ALGORITHMS} empty algorithms / none, batch {BATCH}", epoch(ALGORITHMS), epoch(0), pairs, 1.02)
    history.ratio(ratio)
    alone = microseconds_a_batch()
    batch = 1e6 * ratio.seconds_b / (SAMPLES // BATCH)
    history.row("hooks alone, of a batch", alone, "us")
    print(f"{100 * alone / batch:.2f} % of the {batch:.0f} us of a batch; kept in {history.keep()}")
    return 0 if ratio.holds else 1


if __name__ == "__main__":
    sys.exit(main())
