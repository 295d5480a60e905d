"""What a component changes of the process is put back after its trial, and told with its name."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.running import Marker, Source
from harness.training.guard import Guard

MINE = Source("algorithms.mine", "mine.py")
_kept: list[Any] = []


def kept(value: Any) -> Any:
    _kept.append(value)
    return value


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Guard, Marker]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return Guard(), Marker()


def multiply() -> torch.Tensor:
    """What a trial computes, in short: it depends on most of torch's defaults."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 4)
    out = layer(torch.linspace(0, 1, 16).reshape(2, 8)).relu() * 1e-39
    out.sum().backward()
    assert layer.weight.grad is not None
    return torch.cat([out.detach().flatten(), layer.weight.grad.flatten(), torch.zeros(2)])


CHANGES: dict[str, tuple[Callable[[], Any], str]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype"),
    "gradient": (lambda: torch._C._set_grad_enabled(False), "torch's gradient mode"),
    "inference": (lambda: kept(torch.inference_mode()).__enter__(), "torch's inference mode"),
    "device": (lambda: torch.set_default_device("meta"), "torch's modes of functions"),
    "autocast": (lambda: kept(torch.autocast("cpu", torch.bfloat16)).__enter__(), "torch's autocast"),
    "module hook": (
        lambda: nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 2),
        "torch's global forward hooks",
    ),
    "denormals": (lambda: torch.set_flush_denormal(True), "flushing of denormal numbers"),
    "anomaly": (lambda: torch.set_anomaly_enabled(True), "torch's anomaly mode"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), "torch's deterministic algorithms"),
    "saved tensors": (
        lambda: kept(torch.autograd.graph.save_on_cpu()).__enter__(),
        "torch's hooks of saved tensors",
    ),
    "directory": (lambda: os.chdir("/"), "the working directory"),
    "environment": (lambda: os.environ.update(OMP_NUM_THREADS="63", NEW="1"), "the environment"),
    "umask": (lambda: os.umask(0o777), "the mask of new files"),
    "stdout": (lambda: setattr(sys, "stdout", None), "sys.stdin, sys.stdout or sys.stderr"),
    "SIGTERM": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), "signal handlers"),
    "alarm": (lambda: signal.alarm(1000), "a timer"),
    "numpy": (lambda: np.seterr(all="raise"), "numpy's handling of errors"),
    "recursion": (lambda: sys.setrecursionlimit(5000), "the limit of recursion"),
    "logging": (lambda: logging.disable(logging.CRITICAL), "logging"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_put_back_and_told_with_its_author(change: str, guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    guard.enter(marker)
    expected = multiply()
    before = (os.getcwd(), dict(os.environ), sys.stdout, signal.getsignal(signal.SIGTERM))
    timer = signal.getitimer(signal.ITIMER_REAL)[0]  # the time limit of a test is one
    do, name = CHANGES[change]
    with marker.at(MINE, "setup"):
        do()
    guard.leave()
    assert {"what": name, "component": "algorithms.mine", "owner": "mine.py", "hook": "setup"} in guard.left
    assert {left.get("component") for left in guard.left} == {"algorithms.mine"}
    assert guard.beyond_repair == []
    assert torch.equal(multiply(), expected)
    assert (os.getcwd(), dict(os.environ), sys.stdout, signal.getsignal(signal.SIGTERM)) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= timer and not logging.root.manager.disable


def test_what_others_compute_under_is_put_back_before_the_next_hook(guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    guard.enter(marker)
    with marker.at(MINE, "setup"):
        torch.set_default_dtype(torch.float64)
        os.umask(0o777)
    assert torch.zeros(1).dtype == torch.float32
    now = os.umask(0o777)
    guard.leave()
    assert (now, os.umask(0o022)) == (0o777, 0o022), "the rest is put back after the trial"


def test_what_the_harness_changes_itself_is_nobodys_doing(guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    before = torch.get_num_threads()
    guard.enter(marker)
    with guard.changing():
        torch.set_num_threads(before + 1)
    with marker.at(MINE, "setup"):
        multiply()
    with guard.changing():
        torch.set_num_threads(before)
    guard.leave()
    assert guard.left == []


def test_a_timer_that_has_run_out_is_not_set_again(guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    guard.enter(marker)
    while not rung:
        signal.sigtimedwait([], 0.01)
    guard.leave()
    signal.sigtimedwait([], 0.1)
    signal.signal(signal.SIGALRM, handler)
    assert len(rung) == 1 and guard.left == []


def test_a_filter_of_warnings_is_put_back_without_a_word(guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    guard.enter(marker)
    before = list(warnings.filters)
    with marker.at(MINE, "setup"):
        warnings.simplefilter("ignore")
    guard.leave()
    assert list(warnings.filters) == before and guard.left == []


def test_closed_streams_are_opened_again(guarded: tuple[Guard, Marker], capfd: pytest.CaptureFixture[str]) -> None:
    guard, marker = guarded
    guard.enter(marker)
    with marker.at(MINE, "after_step"):
        os.close(1)
    guard.leave()
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"
    assert [left["what"] for left in guard.left] == ["standard output"] and guard.beyond_repair == []


@pytest.mark.parametrize(
    "worker, daemon, counts", [(True, True, True), (True, False, True), (False, True, False), (False, False, True)]
)
def test_a_thread_that_goes_on_is_beyond_repair(worker: bool, daemon: bool, counts: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("harness.training.guard.ENDING_S", 0.05)
    end = threading.Event()
    guard, marker = Guard(worker=worker), Marker()
    guard.enter(marker)
    with marker.at(MINE, "epoch_start"):
        thread = threading.Thread(target=end.wait, name="mine", daemon=daemon)
        thread.start()
    guard.leave()
    end.set()
    thread.join()
    assert [left["component"] for left in guard.left] == ["algorithms.mine"]
    assert guard.beyond_repair == (
        ["thread 'mine', changed or left behind by epoch_start of algorithms.mine"] if counts else []
    )


def test_a_trial_that_changes_nothing_leaves_nothing(guarded: tuple[Guard, Marker]) -> None:
    guard, marker = guarded
    guard.enter(marker)
    with marker.at(MINE, "setup"):
        multiply()
    guard.leave()
    assert guard.left == [] and guard.beyond_repair == []
