"""Methods with several networks, heads and averages train under bfloat16; what they keep of samples stays in float32."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from harness.plugins import load_host
from harness.suite.load import load_suite
from harness.testing.bench import Silent
from harness.training.loop import Loop
from harness.training.prepare import prepare


class Quiet:
    """A journal that keeps nothing."""

    def epoch(self, record: Any, timing: Any) -> None: ...

    def should_stop(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ('"elr_plus"', "t"),
        ('{ name = "pro_mix", warmup = 1, ramp = 2 }', "prior"),
        ('{ name = "cc", warmup = 1, discrepancy_steps = 2, consistency = 0.1 }', "clean"),
        ('{ name = "unicon", warmup = 1 }', "divergence"),
        ('{ name = "cc", form = "clothing1m", warmup = 1, discrepancy_steps = 2, subset = 80, scored = 100 }', "clean"),
        ('{ name = "long_re_mix", warmup = 1, stage1 = 1 }', "clean"),
        ('{ name = "pes", warmup = 1, refine = 1 }', "doubt"),
        ('{ name = "jocor", forget_rate = 0.2 }', "losses"),
        ('{ name = "cores2_star", warmup = 0, ramp = 1, sieve_after = 0, phase1 = 1, order = "balanced" }', "scores"),
    ],
)
def test_it_trains_in_bfloat16(write_suite: Any, method: str, kept: str) -> None:
    path = write_suite(
        epochs=2,
        training="validation = 0.0\nprecision = 'bfloat16'",
        setting="subset = 150",
        methods=f'[[method]]\nname = "m"\nalgorithms = [{method}]\noptimizer = {{ lr = 0.02 }}',
    )
    prepared = prepare(next(iter(load_suite(path).entries())).trial, load_host(), torch.device("cpu"))
    history = Loop(prepared.run, Silent(), Quiet()).fit()  # type: ignore[arg-type]
    assert len(history) == 2 and all(math.isfinite(epoch["train_loss"]) for epoch in history)
    (name,) = [name for name in prepared.run.stack.parts if not name.startswith("loss")]
    state = getattr(prepared.run.stack.parts[name], kept)
    tensors = state.values() if isinstance(state, dict) else [state]
    assert all(one.dtype == torch.float32 and bool(one.isfinite().all()) for one in tensors)
