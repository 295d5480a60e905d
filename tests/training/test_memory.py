"""Freed memory stays with the process: fewer page faults, the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRAIN = """
import resource, sys, torch
from harness.training.memory import keep_freed_memory
print(keep_freed_memory())
torch.manual_seed(0)
layer = torch.nn.Conv2d(1, 32, 3)
inputs = torch.randn(64, 1, 28, 28)
for number in range(42):
    if number == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layer(inputs).square().mean().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(layer.weight.grad.sum().item().hex())
"""


def outcome(**environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_batches_reuse_memory_and_numbers_stay():
    tries = [outcome() for _ in range(3)]  # a busy system takes pages back: the fewest faults count
    left, many_faults, same_numbers = outcome(MALLOC_ARENA_MAX="2")
    assert ({kept for kept, _, _ in tries}, left) == ({"True"}, "False")
    assert min(int(faults) for _, faults, _ in tries) < 0.1 * int(many_faults)
    assert {numbers for _, _, numbers in tries} == {same_numbers}
