"""A run made by hand: real hooks and a real training step on data that a test controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from harness_plugins.losses.ce import CrossEntropy
from torch import Tensor, nn

from harness.training.augment import Augmentation
from harness.training.data import ResidentSource
from harness.training.loop import Loop
from harness.training.optim import make_optimizer
from harness.training.run import Network, Run, Step
from harness.training.stack import Stack


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run() -> MakeRun:
    """Make a run of ``model`` on ``inputs`` and ``targets`` with a stack of algorithms, set up."""

    def make(
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        algorithms: Sequence[Any] = (),
        *,
        loss: Callable[..., Tensor] | None = None,
        loss_name: str = "ce",
        batch_size: int | None = None,
        num_outputs: int | None = None,
        epochs: int = 10,
        second_model: Callable[[], nn.Module] | None = None,
        **sgd: Any,
    ) -> Run:
        classes = int(targets.max()) + 1 if not targets.is_floating_point() else None

        def network(module: nn.Module, optimizer: Mapping[str, Any] | None = None) -> Network:
            own = torch.optim.SGD(module.parameters(), **{"lr": 0.1, **sgd})
            return Network(module, make_optimizer(optimizer, module) if optimizer else own, None)

        def build(
            name: str, optimizer: Any = None, head: nn.Module | None = None, schedule: Any = None, epochs: Any = None
        ) -> Network:
            return network(head if head is not None else second_model() if second_model else model, optimizer)

        names = [f"{type(part).__name__}" for part in algorithms]
        run = Run(
            network=network(model),
            stack=Stack(loss or CrossEntropy(), algorithms, names, loss_name, False),
            source=ResidentSource(inputs, None, Augmentation(), torch.device("cpu")),
            targets=targets,
            num_classes=num_outputs or classes,
            num_outputs=num_outputs or classes or 1,
            epochs=epochs,
            batch_size=batch_size or len(targets),
            seed=0,
            device=torch.device("cpu"),
            build_network=build,
        )
        run.epoch = 1
        if run.stack.setup is not None:
            run.stack.setup(run=run)
        if run.stack.epoch_start is not None:
            run.stack.epoch_start(run=run)
        return run

    return make


@pytest.fixture
def train() -> Callable[..., Step]:
    """One training step on the samples ``index``, as the loop makes it; the step's loss comes detached."""

    def one(run: Run, index: Tensor | None = None, number: int = 0) -> Step:
        index = torch.arange(run.num_samples) if index is None else index
        step = Step(index, run.source.gather(index), run.targets[index], "train", number)
        loop = Loop(run, None, None)  # type: ignore[arg-type]
        if run.stack.train_step is None or not run.stack.train_step(run=run, step=step):
            loop.train_batch(step)
        assert step.loss is not None
        step.loss = step.loss.detach()
        return step

    return one
