"""Trials of one network and one pass are what they were before an epoch could be several: ids and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.plugins import load_host
from harness.suite.load import load_suite
from harness.training.loop import Loop
from harness.training.prepare import prepare

BEFORE: dict[str, tuple[str, str, list[float], float]] = {
    "ce": (
        'loss = "ce"',
        "f6801054bdcf33d1",
        [2.23434557, 2.05314228, 1.96712007],
        0.57660167,
    ),
    "sop": (
        'algorithms = ["sop"]',
        "776d0490505393ec",
        [3.8479468, 3.48436293, 3.28551246],
        0.57660167,
    ),
    "rrm": (
        'algorithms = [{ name = "rrm", every = 1 }]',
        "bdf63a8f11cb4462",
        [2.23434538, 1.67648518, 1.24675391],
        0.63788301,
    ),
    "a-rrm": (
        'algorithms = [{ name = "rrm", gamma = 0.4, every = 1 }, { name = "fgsm", epsilon = 0.1 }]',
        "8fd7c8186fade602",
        [2.35935368, 2.18237644, 1.66603638],
        0.42896936,
    ),
    "cdr": (
        'algorithms = ["cdr"]',
        "231e4d18f779261b",
        [2.25283422, 2.10379184, 1.99317538],
        0.57381616,
    ),
    "cdr and rdi": (
        'algorithms = [{ name = "rdi", lam = 0.5 }, "cdr"]',
        "27d8f212e4d309cd",
        [2.25362607, 2.1141165, 2.01012712],
        0.57381616,
    ),
    "co_teaching": (
        'algorithms = [{ name = "co_teaching", warmup = 2 }]',
        "7fd26faf8bcf16f3",
        [2.02057781, 1.60376335, 1.46593276],
        0.56267409,
    ),
}
"""A method, the trial's id, the training losses of three epochs and the last test accuracy. They were bit-identical on
the machine that wrote them (commit 6f5f7f5); another processor may round otherwise."""


class Quiet:
    def epoch(self, record: Any, timing: Any) -> None: ...

    def should_stop(self) -> bool:
        return False


@pytest.mark.parametrize("name", BEFORE)
def test_a_trial_of_before_has_its_id_and_its_numbers(name: str, tmp_path: Path) -> None:
    method, id_, losses, accuracy = BEFORE[name]
    path = tmp_path / "s.toml"
    path.write_text(
        f"""
[suite]
name = "s"
seeds = [0]
[training]
epochs = 3
batch_size = 64
last_batch = "scaled"
optimizer = {{ name = "sgd", lr = 0.1, momentum = 0.9 }}
[evaluation]
train_every = 1
[[setting]]
dataset = "digits"
model = {{ name = "mlp", hidden = [32] }}
noise = {{ name = "symmetric", rate = 0.3 }}
augment = {{ crop = 1, flip = true }}
[[method]]
name = "m"
{method}
"""
    )
    trial = next(iter(load_suite(path).entries())).trial
    assert trial.id == id_
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        prepared = prepare(trial, load_host(), torch.device("cpu"))
        history = Loop(prepared.run, prepared.evaluator, Quiet()).fit()  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(threads)
    assert [epoch["train_loss"] for epoch in history] == pytest.approx(losses, rel=1e-4)
    assert history[-1]["test_accuracy"] == pytest.approx(accuracy, abs=0.02)
