"""A guard around a trial: what belongs to the process and not to the trial is saved, put back, and told with its author.

Torch's defaults and modes that other components compute under (type of numbers, gradient, device, autocast) are put back
right after the hook that has left them otherwise, so that the next hook does not stumble; everything else after the
trial. What cannot be put back, such as a thread that goes on, is in :attr:`Guard.beyond_repair`: a worker then ends and
another one goes on; in a user's own process the run stops, and nothing is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import locale
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _python_dispatch

from harness import faults
from harness.errors import kind_of, said
from harness.running import Marker, Place, ignore, nothing

log = logging.getLogger("harness.guard")
ENDING_S = 1.0
"""How long a thread that a trial has started may take to end after it."""
DEVICES = ("cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Setting:
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


class Guard:
    """Saves on entry, restores on exit. One guard serves one trial.

    Args:
        streams: whether the file descriptors of the standard streams are looked at; a worker puts them back by itself.
        worker: whether the process is a worker, which may be ended: any thread that is left behind then counts.

    Attributes:
        beyond_repair: what could not be put back, in words with its author.
        left: all that was changed, with the component and hook where they are known, for the environment record.
    """

    def __init__(self, *, streams: bool = True, worker: bool = False) -> None:
        self.beyond_repair: list[str] = []
        self.left: list[dict[str, str]] = []
        self._worker = worker
        self._marker: Marker | None = None
        self._settings = [*_torch_now(), *_torch_later(), *_process()]
        self._at_once = [number for number, setting in enumerate(self._settings) if setting.at_once]
        self._later = [number for number, setting in enumerate(self._settings) if not setting.at_once]
        self._streams = _Streams() if streams else None
        self._saved: list[Any] = []
        self._known: list[Any] = []
        self._normal: list[Any] = []
        self._places: dict[str, Place | None] = {}
        self._threads: set[threading.Thread] = set()
        self._mine: frozenset[int] = frozenset()
        self._children: dict[int, Place | None] = {}

    def enter(self, marker: Marker) -> None:
        """Save everything; from now on the marker's places are looked at as they are left."""
        self._marker = marker
        self._places = {}
        self._saved = [setting.read() for setting in self._settings]
        self._known, self._normal = list(self._saved), list(self._saved)
        self._threads = set(threading.enumerate())
        self._children = dict.fromkeys(_children())
        self._mine = frozenset(self._children)
        if self._streams is not None:
            self._streams.save()
        marker.look, marker.moment = self.look, self.moment

    def moment(self) -> list[Any]:
        """What others compute under, as it is now: a hook may be called under ``no_grad`` and has to leave that."""
        return [_reading(self._settings[number]) for number in self._at_once]

    def look(self, place: Place | None, entry: list[Any] | None = None) -> None:
        """Find what has changed since the last look, and remember whose it is.

        Args:
            place: what was called since.
            entry: :meth:`moment` when it was called; by default when the trial began.
        """
        if entry is None:
            entry = [self._saved[number] for number in self._at_once]
        for number, before in zip(self._at_once, entry, strict=True):
            setting = self._settings[number]
            if not _same(_reading(setting), before):
                self._places.setdefault(setting.name, place)
                self._restore(number, before)
        for number in self._later:
            setting, now = self._settings[number], _reading(self._settings[number])
            if _same(now, self._known[number]):
                continue
            self._known[number] = now
            if setting.told and not _same(now, self._normal[number]):
                self._places.setdefault(setting.name, place)
        for name in self._new_threads():
            self._places.setdefault(name, place)
        for child in _children():
            self._children.setdefault(child, place)
        if self._streams is not None:
            for name in self._streams.changed():
                self._places.setdefault(name, place)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """What the harness itself changes in this context is nobody's doing."""
        self.look(None)
        yield
        self._known = [_reading(setting) for setting in self._settings]
        self._normal = list(self._known)

    def suspect(self) -> Place | None:
        """Who has changed what others compute under, if anybody: what fails without an author may be its doing."""
        self.look(None)
        at_once = {setting.name for setting in self._settings if setting.at_once}
        return next((place for name, place in self._places.items() if name in at_once and place is not None), None)

    def leave(self) -> None:
        """Put everything back, tell what was changed, and note what could not be put back."""
        self.look(None)
        if self._marker is not None:
            self._marker.look, self._marker.moment = ignore, nothing
        settings = zip(self._settings, self._saved, strict=True)
        broken = [s.name for number, (s, saved) in enumerate(settings) if not self._restore(number, saved)]
        if self._streams is not None:
            broken += self._streams.restore()
        ended = time.monotonic() + ENDING_S
        for thread in self._started():
            thread.join(max(0.0, ended - time.monotonic()))
        broken += [_thread_name(t) for t in self._started() if self._worker or not t.daemon]
        for name in broken:
            self._places.setdefault(name, None)
        for child in sorted(_children() - self._mine):
            self._end_child(child)
        for name, place in self._places.items():
            self._tell(name, place, beyond=name in broken)

    # --- restoring -----------------------------------------------------------------------------------------------------

    def _restore(self, number: int, saved: Any) -> bool:
        """Put one setting back and see that it is."""
        setting = self._settings[number]
        if _same(_reading(setting), saved):
            return True
        try:
            setting.restore(saved)
        except Exception as error:  # whatever it is, the setting stays as it is, which is what is told
            log.debug("%s: %s", setting.name, said(error))
        self._known[number] = _reading(setting)
        return _same(self._known[number], saved)

    def _started(self) -> list[threading.Thread]:
        now = set(threading.enumerate()) - self._threads
        return [t for t in now if t.is_alive() and t is not threading.current_thread() and not _own(t)]

    def _new_threads(self) -> list[str]:
        return [_thread_name(thread) for thread in self._started()]

    def _end_child(self, pid: int) -> None:
        """A process that the trial has left behind: a worker ends it, a user's process only tells."""
        import psutil

        try:
            child = psutil.Process(pid)
            words = " ".join(child.cmdline())
            if child.status() == psutil.STATUS_ZOMBIE or "multiprocessing.resource_tracker" in words:
                return
            if self._worker:
                for one in (*child.children(recursive=True), child):
                    one.kill()
        except psutil.Error:
            return
        self._places.setdefault("a process that goes on", self._children.get(pid))

    def _tell(self, name: str, place: Place | None, *, beyond: bool) -> None:
        who = place.words() if place is not None else "a component of the trial"
        outcome = "cannot be put back" if beyond else "is put back"
        log.warning("%s: changed or left behind by %s; it %s", name, who, outcome)
        self.left.append({"what": name, **(place.record() if place is not None else {})})
        if beyond:
            self.beyond_repair.append(f"{name}, changed or left behind by {who}")
        if place is not None and place.source.file:
            faults.note(Path(place.source.file), place.hook, f"it leaves {name} changed or behind")


def _same(first: Any, second: Any) -> bool:
    """Whether two readings are equal; objects of components are compared by identity only."""
    if type(first) is not type(second):
        return False
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, (int, float, str, bytes, frozenset, torch.dtype, torch.device)):
        return bool(first == second)
    return first is second


def _reading(setting: Setting) -> Any:
    try:
        return setting.read()
    except Exception as error:  # a working directory that was removed, a mode that cannot be asked
        return f"unreadable: {kind_of(error)}"


def _own(thread: threading.Thread) -> bool:
    """Threads of the harness itself, and those of libraries that idle between uses."""
    idle = type(thread).__name__ in ("TMonitor", "_DummyThread")
    return idle or thread.name == "collector" or thread.name.startswith("heartbeat ")


def _thread_name(thread: threading.Thread) -> str:
    return f"thread {str(thread.name)[:60]!r}"


def _children() -> set[int]:
    """Processes that this one has started, where the system tells without a search."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            found |= {int(word) for word in path.read_text().split()}
    return found


# --- torch -------------------------------------------------------------------------------------------------------------


def _torch_now() -> list[Setting]:
    """What other components compute under."""
    settings = [
        Setting("torch's inference mode", torch.is_inference_mode_enabled, _leave_inference, at_once=True),
        Setting("torch's modes of functions", _function_modes, _restore_function_modes, at_once=True),
        Setting(
            "torch's modes of dispatch",
            lambda: list(_python_dispatch._get_current_dispatch_mode_stack()),
            _restore_dispatch_modes,
            at_once=True,
        ),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, at_once=True),
        Setting("torch's gradient mode", torch.is_grad_enabled, torch._C._set_grad_enabled, at_once=True),
        Setting("torch's autocast", _autocast, _restore_autocast, at_once=True),
        Setting("flushing of denormal numbers", _flushes, torch.set_flush_denormal, at_once=True),
        Setting("torch's anomaly mode", _anomaly, lambda saved: torch.set_anomaly_enabled(*saved), at_once=True),
        Setting("torch's hooks of saved tensors", _saved_hooks, _restore_saved_hooks, at_once=True),
    ]
    settings += [
        Setting(
            f"torch's {name.strip('_').replace('_', ' ')}", _copy_of(owner, name), _refill(owner, name), at_once=True
        )
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
    while not _same(_saved_hooks(), saved) and _saved_hooks() is not None:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _torch_later() -> list[Setting]:
    """What decides how fast and how exactly torch computes; it may hold for the rest of the trial."""
    settings = [
        Setting(
            "torch's deterministic algorithms",
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda saved: torch.use_deterministic_algorithms(saved[0], warn_only=saved[1]),
        ),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
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
            settings.append(Setting(words, read, write))
    return settings


# --- the process -------------------------------------------------------------------------------------------------------


def _process() -> list[Setting]:
    timer = _Timer()
    return [
        Setting("the working directory", os.getcwd, os.chdir),
        Setting("the environment", _environment, _restore_environment),
        Setting("the mask of new files", _umask, os.umask),
        Setting("sys.stdin, sys.stdout or sys.stderr", _stream_objects, _restore_stream_objects),
        Setting("signal handlers", _handlers, _restore_handlers),
        Setting("the mask of signals", _signal_mask, _restore_signal_mask),
        Setting("a timer", timer.read, timer.restore),
        Setting("numpy's handling of errors", np.geterr, lambda saved: np.seterr(**saved)),
        Setting("the garbage collector", _collector, _restore_collector),
        Setting("the limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit),
        Setting("a trace or profile function", _tracing, _restore_tracing),
        Setting("hooks of exceptions", _exception_hooks, _restore_exception_hooks),
        Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda s: locale.setlocale(locale.LC_ALL, s)),
        Setting("logging", _logging, _restore_logging),
        Setting("limits of resources", _limits, _restore_limits),
        Setting("the cores of the process", _cores, _restore_cores),
        Setting("filters of warnings", _warnings, _restore_warnings, told=False),
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
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


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


def _exception_hooks() -> tuple[Any, ...]:
    return sys.excepthook, sys.unraisablehook, threading.excepthook


def _restore_exception_hooks(saved: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, threading.excepthook = saved


def _logging() -> tuple[Any, ...]:
    ours = [logging.getLogger(), *(logging.getLogger(name) for name in ("harness", "harness.trial", "harness.guard"))]
    return logging.root.manager.disable, *((logger.level, logger.disabled, logger.propagate) for logger in ours)


def _restore_logging(saved: tuple[Any, ...]) -> None:
    logging.disable(saved[0])
    ours = [logging.getLogger(), *(logging.getLogger(name) for name in ("harness", "harness.trial", "harness.guard"))]
    for logger, (level, disabled, propagate) in zip(ours, saved[1:], strict=True):
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


def _limits() -> dict[int, tuple[int, int]]:
    try:
        import resource
    except ImportError:
        return {}
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {number: resource.getrlimit(number) for number in {getattr(resource, name) for name in names}}


def _restore_limits(saved: dict[int, tuple[int, int]]) -> None:
    import resource

    for number, limits in saved.items():
        if resource.getrlimit(number) != limits:
            resource.setrlimit(number, limits)


def _cores() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _restore_cores(saved: frozenset[int]) -> None:
    os.sched_setaffinity(0, saved)


def _warnings() -> tuple[list[Any], Any]:
    return list(warnings.filters), warnings.showwarning


def _restore_warnings(saved: tuple[list[Any], Any]) -> None:
    warnings.filters[:] = saved[0]  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()
    warnings.showwarning = saved[1]


class _Streams:
    """File descriptors 0, 1 and 2, kept by copies."""

    def __init__(self) -> None:
        self._copies: dict[int, int] = {}
        self._files: dict[int, tuple[int, int] | None] = {}

    def save(self) -> None:
        for number in (0, 1, 2):
            self._files[number] = _file_of(number)
            if self._files[number] is not None:
                self._copies[number] = os.dup(number)

    def changed(self) -> list[str]:
        names = ("standard input", "standard output", "standard error")
        return [names[number] for number, file in self._files.items() if _file_of(number) != file]

    def restore(self) -> list[str]:
        """Put them back; what could not be is returned in words."""
        for number, copy in self._copies.items():
            with contextlib.suppress(OSError):
                if _file_of(number) != self._files[number]:
                    os.dup2(copy, number)
            with contextlib.suppress(OSError):
                os.close(copy)
        self._copies.clear()
        return self.changed()


def _file_of(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
