"""What of the process a component may change under the others: how each is read and put back, for the guard of a trial."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _python_dispatch

from harness.errors import kind_of

DEVICES = ("cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Kept:
    """Something of the process that a component may change.

    Attributes:
        name: in words, for a message.
        read: its value now; two readings are equal when nothing has changed.
        restore: put a value back.
        told: whether a change is told; what a mere import changes is put back in silence.
        at_once: whether it is put back right after the hook that has left it.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    told: bool = True
    at_once: bool = False


def everything() -> list[Kept]:
    """All that is kept; what is put back at once comes in an order in which that works."""
    return [*_computed_under(), *_computed_by(), *_of_the_process()]


def same(first: Any, second: Any) -> bool:
    """Whether two readings are equal; objects of components are compared by identity only."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, (int, float, str, bytes, frozenset, torch.dtype, torch.device)):
        return bool(first == second)
    return first is second


def reading(kept: Kept) -> Any:
    try:
        return kept.read()
    except Exception as error:  # a working directory that was removed, a mode that cannot be asked
        return f"unreadable: {kind_of(error)}"


# --- torch -------------------------------------------------------------------------------------------------------------


def _computed_under() -> list[Kept]:
    """What other components compute under."""
    settings = [
        Kept("torch's inference mode", torch.is_inference_mode_enabled, _leave_inference, at_once=True),
        Kept("torch's modes of functions", _function_modes, _restore_function_modes, at_once=True),
        Kept(
            "torch's modes of dispatch",
            lambda: list(_python_dispatch._get_current_dispatch_mode_stack()),
            _restore_dispatch_modes,
            at_once=True,
        ),
        Kept("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, at_once=True),
        Kept("torch's gradient mode", torch.is_grad_enabled, torch._C._set_grad_enabled, at_once=True),
        Kept("torch's autocast", _autocast, _restore_autocast, at_once=True),
        Kept("flushing of denormal numbers", _flushes, torch.set_flush_denormal, at_once=True),
        Kept("torch's anomaly mode", _anomaly, lambda saved: torch.set_anomaly_enabled(*saved), at_once=True),
        Kept("torch's hooks of saved tensors", _saved_hooks, _restore_saved_hooks, at_once=True),
    ]
    settings += [
        Kept(f"torch's {name.strip('_').replace('_', ' ')}", _copy_of(owner, name), _refill(owner, name), at_once=True)
        for owner in (torch_module, torch_optimizer)
        for name in sorted(vars(owner))
        if name.startswith("_global_")
    ]
    return settings


def _copy_of(owner: Any, name: str) -> Callable[[], Any]:
    def read() -> Any:
        value = getattr(owner, name)
        return dict(value) if isinstance(value, dict) else value

    return read


def _refill(owner: Any, name: str) -> Callable[[Any], None]:
    held = getattr(owner, name)

    def restore(saved: Any) -> None:
        if isinstance(held, dict):
            held.clear()
            held.update(saved)
            setattr(owner, name, held)
        else:
            setattr(owner, name, saved)

    return restore


_held: list[Any] = []


def _leave_inference(saved: bool) -> None:
    """Inference mode is held by an object of whoever entered it; another one over it takes its effect away."""
    mode = torch.inference_mode(saved)
    mode.__enter__()
    _held.append(mode)
    torch._C._set_grad_enabled(True)  # it is restored by its own setting, which is read after this one


def _function_modes() -> tuple[list[Any], Any]:
    return list(_get_current_function_mode_stack()), getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)


def _restore_function_modes(saved: tuple[list[Any], Any]) -> None:
    modes, device = saved
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    for mode in modes:
        torch._C._push_on_torch_function_stack(mode)
    torch._GLOBAL_DEVICE_CONTEXT.device_context = device


def _restore_dispatch_modes(saved: list[Any]) -> None:
    while _python_dispatch._get_current_dispatch_mode_stack():
        _python_dispatch._pop_mode()
    for mode in saved:
        _python_dispatch._push_mode(mode)


def _autocast() -> tuple[Any, ...]:
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    states = [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in DEVICES]
    return depth, torch.is_autocast_cache_enabled(), *states


def _restore_autocast(saved: tuple[Any, ...]) -> None:
    depth, cached, *states = saved
    while (now := torch.autocast_increment_nesting() - 1) != depth:
        torch.autocast_decrement_nesting()
        if now > depth:
            torch.autocast_decrement_nesting()
        else:
            torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    torch.set_autocast_cache_enabled(cached)
    for device, enabled, dtype in states:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
    torch.clear_autocast_cache()


def _flushes() -> bool:
    return 5e-324 * (len(DEVICES) / len(DEVICES)) == 0.0  # the least positive number; torch's switch is the processor's


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _saved_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _restore_saved_hooks(saved: Any) -> None:
    while not same(_saved_hooks(), saved) and _saved_hooks() is not None:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _computed_by() -> list[Kept]:
    """What decides how fast and how exactly torch computes; it may hold for the rest of the trial."""
    settings = [
        Kept(
            "torch's deterministic algorithms",
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda saved: torch.use_deterministic_algorithms(saved[0], warn_only=saved[1]),
        ),
        Kept("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    ]
    for words, name in (
        ("cuDNN", "cudnn_enabled"),
        ("cuDNN's benchmark mode", "cudnn_benchmark"),
        ("cuDNN's deterministic mode", "cudnn_deterministic"),
        ("cuDNN's TF32", "cudnn_allow_tf32"),
        ("cuBLAS's TF32", "cublas_allow_tf32"),
        ("the precision of matrix products", "float32_matmul_precision"),
        ("oneDNN", "mkldnn_enabled"),
        ("NNPACK", "nnpack_enabled"),
    ):
        read, write = getattr(torch._C, f"_get_{name}", None), getattr(torch._C, f"_set_{name}", None)
        if read is not None and write is not None:
            settings.append(Kept(words, read, write))
    return settings


# --- the process -------------------------------------------------------------------------------------------------------


def _of_the_process() -> list[Kept]:
    timer = _Timer()
    return [
        Kept("the working directory", os.getcwd, os.chdir),
        Kept("the environment", _environment, _restore_environment),
        Kept("the mask of new files", _umask, os.umask),
        Kept("sys.stdin, sys.stdout or sys.stderr", _stream_objects, _restore_stream_objects),
        Kept("signal handlers", _handlers, _restore_handlers),
        Kept("the mask of signals", _signal_mask, _restore_signal_mask),
        Kept("a timer", timer.read, timer.restore),
        Kept("numpy's handling of errors", np.geterr, lambda saved: np.seterr(**saved)),
        Kept("the garbage collector", _collector, _restore_collector),
        Kept("the limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit),
        Kept("a trace or profile function", _tracing, _restore_tracing),
        Kept("logging", _logging, _restore_logging),
        Kept("filters of warnings", _warnings, _restore_warnings, told=False),
    ]


def _environment() -> dict[str, str]:
    """All but what libraries set for OpenMP when they are imported, which it reads once."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}


def _restore_environment(saved: dict[str, str]) -> None:
    for name in set(_environment()) - set(saved):
        del os.environ[name]
    for name, value in saved.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


def _stream_objects() -> tuple[Any, ...]:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return *streams, *(bool(getattr(stream, "closed", False)) for stream in streams)


def _restore_stream_objects(saved: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = saved[:3]


def _handlers() -> dict[int, Any]:
    kept = {int(number): signal.getsignal(number) for number in signal.Signals}
    kept.pop(getattr(signal, "SIGCHLD", -1), None)  # torch's loaders set it once, to hear of processes that died
    return kept


def _restore_handlers(saved: dict[int, Any]) -> None:
    for number, handler in saved.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


def _signal_mask() -> frozenset[int]:
    if not hasattr(signal, "pthread_sigmask"):
        return frozenset()
    return frozenset(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))


def _restore_signal_mask(saved: frozenset[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, saved)


class _Timer:
    """The timer of the process (``timeout_s`` of the executor ``inline`` is one): set or not, and until when."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._known = False

    def read(self) -> str:
        left = signal.getitimer(signal.ITIMER_REAL)[0] if hasattr(signal, "getitimer") else 0.0
        now = time.monotonic()
        end = now + left if left else None
        if not self._known:
            self._known, self._end = True, end
        if self._end is not None and now > self._end - 0.5:
            return "set"  # it has run out, as it should
        if end is None or self._end is None:
            return "none" if end is None else "set"
        return "set" if abs(end - self._end) < 0.5 else "moved"

    def restore(self, _: str) -> None:
        left = 0.0 if self._end is None else max(0.001, self._end - time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, left)


def _collector() -> tuple[bool, tuple[int, ...]]:
    return gc.isenabled(), gc.get_threshold()


def _restore_collector(saved: tuple[bool, tuple[int, ...]]) -> None:
    (gc.enable if saved[0] else gc.disable)()
    gc.set_threshold(*saved[1])


def _tracing() -> tuple[Any, Any]:
    return sys.gettrace(), sys.getprofile()


def _restore_tracing(saved: tuple[Any, Any]) -> None:
    sys.settrace(saved[0])
    sys.setprofile(saved[1])


def _logging() -> tuple[Any, ...]:
    ours = [logging.getLogger(), *(logging.getLogger(name) for name in ("harness", "harness.trial", "harness.guard"))]
    return logging.root.manager.disable, *((logger.level, logger.disabled, logger.propagate) for logger in ours)


def _restore_logging(saved: tuple[Any, ...]) -> None:
    logging.disable(saved[0])
    ours = [logging.getLogger(), *(logging.getLogger(name) for name in ("harness", "harness.trial", "harness.guard"))]
    for logger, (level, disabled, propagate) in zip(ours, saved[1:], strict=True):
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


def _warnings() -> tuple[list[Any], Any]:
    return list(warnings.filters), warnings.showwarning


def _restore_warnings(saved: tuple[list[Any], Any]) -> None:
    warnings.filters[:] = saved[0]  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()
    warnings.showwarning = saved[1]
