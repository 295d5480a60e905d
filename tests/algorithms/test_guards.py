"""No method with several networks or unlabelled samples ends on data that leave it nothing to divide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import harness

K, N, BATCH = 3, 25, 8
METHODS: dict[str, dict[str, Any]] = {
    "cc": {"warmup": 1, "consistency": 0.1, "discrepancy_steps": 2},
    "cc, Clothing1M": {"name": "cc", "form": "clothing1m", "warmup": 1, "discrepancy_steps": 2, "threshold": 0.5},
    "cores2_star": {"warmup": 0, "ramp": 1, "sieve_after": 0, "phase1": 1, "optimizer": "setting"},
    "cores2_star, balanced": {"name": "cores2_star", "warmup": 0, "ramp": 1, "phase1": 1, "order": "balanced"},
    "divide_mix": {"warmup": 1},
    "elr_plus": {},
    "jocor": {"forget_rate": 0.4},
    "long_re_mix": {"warmup": 1, "agreeing": 1},
    "pes": {"warmup": 1, "refine": 1},
    "pro_mix": {"warmup": 1, "ramp": 1},
    "unicon": {"warmup": 1},
}


def samples(count: int = N) -> tuple[Tensor, Tensor]:
    """Images of three classes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % K
    return torch.rand(count, 1, 8, 8, generator=generator) + targets.view(-1, 1, 1, 1), targets


def a_class_without_samples() -> tuple[Tensor, Tensor]:
    inputs, targets = samples()
    return inputs, 2 * (targets > 0)


def a_single_class() -> tuple[Tensor, Tensor]:
    inputs, targets = samples()
    return inputs, torch.ones_like(targets)


def equal_losses() -> tuple[Tensor, Tensor]:
    inputs, _ = samples()
    return torch.ones_like(inputs), torch.zeros(N, dtype=torch.int64)


def a_single_sample_of_two_classes() -> tuple[Tensor, Tensor]:
    inputs, targets = samples()
    return inputs, torch.where(torch.arange(N) < 3, targets, 0)


def two_samples() -> tuple[Tensor, Tensor]:
    return samples(2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "make",
    [samples, a_class_without_samples, a_single_class, equal_losses, a_single_sample_of_two_classes, two_samples],
    ids=lambda make: make.__name__.replace("_", " "),
)
def test_it_ends_no_run(method: str, make: Any) -> None:
    inputs, targets = make()
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    parts = {"name": method, **METHODS[method]}
    # the last batch of 25 samples by 8 is one by itself, which a pass over all leaves out
    epochs = [[batch for batch in torch.randperm(len(inputs)).split(BATCH) if len(batch) > 1] for _ in range(4)]
    model = nn.Sequential(*body, nn.Linear(16, K))
    optimizer = {"name": "sgd", "lr": 0.02}
    history = harness.drive(
        {"algorithms": [parts]}, model, inputs, targets, seed=0, batches=epochs, optimizer=optimizer
    )
    assert len(history) == 4
    assert np.isfinite([loss for epoch in history for loss in epoch["losses"]]).all()
