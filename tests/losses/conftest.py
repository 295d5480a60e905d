"""A small real run (model, optimizer, data, stack) for losses that implement training hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.training.augment import Augmentation
from harness.training.data import ResidentSource
from harness.training.loop import Loop
from harness.training.run import Network, Run
from harness.training.stack import Stack

MakeRun = Callable[..., Run]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Nothing:
    """An evaluator that measures nothing and a journal that keeps nothing but checkpoints."""

    def __init__(self) -> None:
        self.checkpoints: list[dict[str, Any]] = []

    def epoch(self, *_: Any, **__: Any) -> dict[str, float | None]:
        return {}

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.checkpoints.append(state)

    def should_stop(self) -> bool:
        return False


@pytest.fixture
def make_run() -> MakeRun:
    """``make_run(loss, ...)``: a run of a linear model, with the loss in its stack and ``setup`` called."""

    def make(
        loss: Any,
        inputs: Tensor,
        targets: Tensor,
        num_classes: int | None,
        epochs: int = 1,
        batch_size: int = 4,
        algorithms: Sequence[Any] = (),
        lr: float = 0.1,
    ) -> Run:
        outputs = num_classes if num_classes is not None else (1 if targets.ndim == 1 else targets.shape[1])
        torch.manual_seed(0)
        model = nn.Linear(inputs.shape[1], outputs)
        run = Run(
            network=Network(model, torch.optim.SGD(model.parameters(), lr=lr), None),
            stack=Stack(loss, list(algorithms), [f"part{i}" for i in range(len(algorithms))], "loss", False),
            source=ResidentSource(inputs, None, Augmentation(), torch.device("cpu")),
            targets=targets,
            num_classes=num_classes,
            num_outputs=outputs,
            epochs=epochs,
            batch_size=batch_size,
            seed=0,
            device=torch.device("cpu"),
            build_network=lambda name: pytest.fail(f"no further network is asked for, got {name}"),
        )
        if run.stack.setup is not None:
            run.stack.setup(run=run)
        return run

    return make


@pytest.fixture
def make_loop() -> Callable[[Run], Loop]:
    """``make_loop(run)``: the real training loop around a run, with nothing to measure."""

    def make(run: Run) -> Loop:
        nothing: Any = Nothing()
        return Loop(run=run, evaluator=nothing, journal=nothing)

    return make
