"""The views that a component draws are those that it declares, so that a plan knows what a data set must store."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import harness
from harness.plugins import load_host
from harness.training.run import Run

K, N = 3, 24
RATE = {"forget_rate": 0.2}
UNIFORM = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
PARAMS: dict[str, dict[str, Any]] = {
    "backward": {"matrix": UNIFORM},
    "cal": {"stage1": 1},
    "cc": {"warmup": 1, "consistency": 0.1, "discrepancy_steps": 1},
    "cdr": {"tau": 0.2},
    "co_teaching": RATE,
    "co_teaching_plus": RATE,
    "cores2_star": {"warmup": 0, "ramp": 1, "sieve_after": 0, "phase1": 1, "optimizer": "setting"},
    "disc": {"warmup": 1},
    "divide_mix": {"warmup": 1},
    "forward": {"matrix": UNIFORM},
    "jocor": RATE,
    "long_re_mix": {"warmup": 1},
    "peer": {"alpha": 1.0},
    "pes": {"warmup": 1, "refine": 1},
    "pro_mix": {"warmup": 1, "ramp": 1},
    "rrm": {"contamination": 0.2, "every": 1},
    "t_revision": {"stage1": 1, "stage2": 1},
    "unicon": {"warmup": 1},
}
"""What leads a component past its warm-up, and what noise would say."""
CHOSEN = [
    *(("algorithm", "strong_augmentation", {"policy": policy}) for policy in ("strong", "promix", "autoaugment")),
    *(("loss", "gjs", {"view": view}) for view in ("strong", "weak")),
]
"""Those whose parameter says which of the views that they declare they draw."""
THEIR_OWN_DATA = {"sop_linear", "sparse_recovery", "score_census"}


def components() -> list[tuple[str, str, dict[str, Any]]]:
    registry = load_host().registry
    named = {name for _, name, _ in CHOSEN} | THEIR_OWN_DATA
    found = list(CHOSEN)
    for kind in ("algorithm", "loss"):
        for component in registry.components(kind):
            fits = "classification" in registry.facts(component).declares.tasks
            if fits and component.name not in named and component.owner.startswith("noisy-label-harness "):
                found.append((kind, component.name, PARAMS.get(component.name, {})))
    return found


@pytest.mark.parametrize(("kind", "name", "params"), components(), ids=str)
def test_what_is_drawn_is_declared(
    kind: str, name: str, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = set(load_host().registry.facts(load_host().registry.find(kind, name)[0]).declares.views)
    drawn: set[str] = set()
    view = Run.view

    def noted(run: Run, index: torch.Tensor, which: str) -> torch.Tensor:
        drawn.add(which)
        return view(run, index, which)

    monkeypatch.setattr(Run, "view", noted)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    targets = torch.arange(N) % K
    inputs = torch.rand(N, 1, 8, 8) + targets.view(-1, 1, 1, 1)
    epochs = [torch.randperm(N).split(8) for _ in range(4)]
    part = {"name": name, **params}
    stack = {"loss": part} if kind == "loss" else {"algorithms": [part]}
    harness.drive(stack, nn.Sequential(*body, nn.Linear(16, K)), inputs, targets, seed=0, batches=epochs)
    assert drawn == ({*params.values()} if (kind, name, params) in CHOSEN else declared)
