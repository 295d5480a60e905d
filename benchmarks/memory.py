"""Peak memory of training: the most that is allocated on a GPU, or the most that a process of its own holds on a CPU.

On a CPU it is what the process holds at most while it trains, less what it held before the trial was prepared, so that
libraries do not count. Linux only, since the kernel keeps the peak. The allocator is told to give back blocks of a
megabyte and more as soon as they are free; by itself it keeps what may be of use again, and the peak is that of luck.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from harness_plugins.algorithms.semi_supervised import mixture_posterior
from training import harness_epoch, prepared

EPOCHS = 2
MEGABYTE = 2**20
PROCESS = Path("/proc/self")


def held(what: str) -> float:
    """Megabytes of the process: ``VmRSS`` now, ``VmHWM`` at most since the peak was forgotten."""
    lines = (PROCESS / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


def settle() -> None:
    """Give freed memory back, and forget the peak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")


def _trained(method: str, options: dict[str, Any]) -> float:
    torch.set_num_threads(1)
    on_gpu = options.get("device", "cpu") != "cpu"
    prepared(**{**options, "model": "lenet"})  # the libraries
    mixture_posterior(torch.rand(64), 0)  # and scikit-learn, which methods import as they need it
    settle()
    before = held("VmRSS")
    epoch = harness_epoch(prepared(method, **options))
    settle()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(EPOCHS):
        epoch()
    return torch.cuda.max_memory_allocated() / MEGABYTE if on_gpu else held("VmHWM") - before


def peak(method: str = "", **options: Any) -> float:
    """Megabytes that two epochs of a method take at most."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(MEGABYTE)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_trained, method, options).result()


def network_with_optimizer(**options: Any) -> float:
    """Megabytes of a network's weights, their gradients and momentum, and of its buffers."""
    model = prepared(**options).run.model
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    return (3 * weights + buffers) / MEGABYTE
