"""What the benchmarks time: an epoch of a method in the harness's own loop, and of the bare loop that it is held to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from harness.plugins import load_host
from harness.suite.load import load_suite
from harness.training.loop import Loop
from harness.training.prepare import Prepared, prepare

SUITE = """
[suite]
name = "benchmark"
seeds = [0]
[training]
epochs = 1000
batch_size = {batch}
last_batch = "mean"                # as the bare loop below has it
optimizer = {{ name = "sgd", lr = {lr}, momentum = 0.9 }}
validation = 0.0
{training}
[evaluation]
train_every = 1000
[[setting]]
dataset = {dataset}
model = {model}
noise = {{ name = "symmetric", rate = 0.4 }}
subset = {samples}
augment = {augment}
[[method]]
name = "timed"
{method}
"""


class Silent:
    """A journal that keeps nothing."""

    def epoch(self, record: Any, timing: Any) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool:
        return False


def prepared(
    method: str = "", *, batch: int = 128, samples: int = 6400, dataset: str = "mnist", model: str = "lenet",
    lr: float = 0.01, device: str = "cpu", augment: str = "{}", training: str = "",
) -> Prepared:  # fmt: skip
    """A trial ready to train, as a worker would prepare it. Data set and model are names, or tables as in a suite."""
    named = {k: v if v.startswith("{") else f'"{v}"' for k, v in {"dataset": dataset, "model": model}.items()}
    text = SUITE.format(batch=batch, samples=samples, lr=lr, method=method, augment=augment, training=training, **named)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.toml"
        path.write_text(text)
        (entry,) = load_suite(path).entries()
    return prepare(entry.trial, load_host(), torch.device(device))


def harness_epoch(ready: Prepared, *, with_epoch_end: bool = False) -> Callable[[], None]:
    """One epoch of the harness's loop without evaluation."""
    loop = Loop(ready.run, ready.evaluator, Silent())
    run = ready.run
    run.model.train()

    def work() -> None:
        run.epoch += 1
        loop._rewind()
        if run.stack.epoch_start is not None:
            run.stack.epoch_start(run=run)
        loop._train_epoch()
        if with_epoch_end and run.stack.epoch_end is not None:
            run.stack.epoch_end(run=run)

    return work


def bare_epoch(ready: Prepared, *, lr: float = 0.01) -> Callable[[], None]:
    """The loop that a researcher writes: cross entropy, SGD, gathers on the same resident tensors."""
    run = ready.run
    model: nn.Module = run.model
    model.train()
    inputs = run.source.gather(torch.arange(run.num_samples, device=run.device))
    targets = run.targets
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def work() -> None:
        order = torch.randperm(len(inputs)).to(run.device)
        for index in order.split(run.batch_size):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[index]), targets[index])
            loss.backward()
            optimizer.step()
        if run.device.type == "cuda":
            torch.cuda.synchronize()

    return work
