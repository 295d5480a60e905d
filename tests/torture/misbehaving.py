"""A plugin whose components misbehave: each takes ``at``, one of its hooks, and ``what`` it does there."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness import DataSplits, Declares, LabelledData, Pass, hookimpl

MARK = "MISBEHAVED"


class Own(BaseException):
    """A plugin's own exception, which is no ``Exception``."""


class Mute(Exception):
    """An exception whose words cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no words")


class _Mode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _raise(error: BaseException) -> None:
    raise error


def _recurse() -> None:
    _recurse()


def _kill(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def _thread(daemon: bool) -> None:
    threading.Thread(target=time.sleep, args=(5.0,), name="left behind", daemon=daemon).start()


def _orphan() -> None:
    """A child that holds every pipe of the worker for a while, whose parent then dies."""
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(7)


def _write_everywhere(content: bytes) -> None:
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2:
            with contextlib.suppress(OSError):
                if "pipe" in os.readlink(f"/proc/self/fd/{number}"):
                    os.set_blocking(number, False)
                    os.write(number, content)
                    os.set_blocking(number, True)


FORGED = b"".join(
    json.dumps({"event": kind, "id": "0123456789abcdef", "error": None, "attempt": "attempt-001", "epochs": 1}).encode()
    + b"\n"
    for kind in ("done", "failed", "start", "interrupted", "busy")
)

RAISES: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: _raise(ValueError("of the component")),
    "TypeError": lambda: _raise(TypeError("of the component")),
    "StopIteration": lambda: _raise(StopIteration("of the component")),
    "MemoryError": lambda: _raise(MemoryError()),
    "recursion": _recurse,
    "SystemExit": lambda: sys.exit(0),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "GeneratorExit": lambda: _raise(GeneratorExit()),
    "its own BaseException": lambda: _raise(Own("of the component")),
    "no words": lambda: _raise(Mute()),
    "surrogates": lambda: _raise(ValueError("\ud800 \x1b[31m \x00")),
    "huge words": lambda: _raise(ValueError("x" * 50_000_000)),
    "from another": lambda: _raise(RuntimeError("outer")) if not _caught() else None,
}
DIES: dict[str, Callable[[], Any]] = {
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(3)": lambda: os._exit(3),
    "SIGKILL": lambda: _kill(signal.SIGKILL),
    "SIGSEGV": lambda: _kill(signal.SIGSEGV),
    "abort": os.abort,
    "an orphan": _orphan,
}
HANGS: dict[str, Callable[[], Any]] = {"sleep": lambda: time.sleep(1000)}
LEAVES: dict[str, Callable[[], Any]] = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "no gradient": lambda: torch._C._set_grad_enabled(False),
    "inference": lambda: _keep(torch.inference_mode()).__enter__(),
    "device": lambda: torch.set_default_device("meta"),
    "autocast": lambda: _keep(torch.autocast("cpu", dtype=torch.bfloat16)).__enter__(),
    "function mode": lambda: _keep(_Mode()).__enter__(),
    "module hook": lambda: nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0.5),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "threads of torch": lambda: torch.set_num_threads(2),
    "denormals": lambda: torch.set_flush_denormal(True),
    "anomaly": lambda: torch.set_anomaly_enabled(True),
    "directory": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(OMP_NUM_THREADS="7", MISBEHAVED="1"),
    "umask": lambda: os.umask(0o777),
    "stdout": lambda: setattr(sys, "stdout", None),
    "closed stdout": lambda: (os.close(1), os.close(2)),
    "closed descriptors": lambda: os.closerange(3, 64),
    "SIGTERM": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "SIGINT": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    "alarm": lambda: signal.alarm(2),
    "thread": lambda: _thread(False),
    "daemon thread": lambda: _thread(True),
    "process": lambda: _keep(subprocess.Popen(["sleep", "20"])),
    "warnings": lambda: warnings.simplefilter("error"),
    "numpy": lambda: np.seterr(all="raise"),
    "collector": gc.disable,
    "recursion limit": lambda: sys.setrecursionlimit(100_000),
    "logging": lambda: logging.disable(logging.CRITICAL),
    "tracing": lambda: sys.setprofile(lambda *_: None),
}
SAYS: dict[str, Callable[[], Any]] = {
    "forged events": lambda: _write_everywhere(FORGED),
    "bad UTF-8": lambda: _write_everywhere(b"\xff\xfe{\n"),
    "an unfinished line": lambda: _write_everywhere(b'{"event": "done"'),
    "30 MB": lambda: os.write(1, b"x" * 10_000_000) and os.write(2, b"y" * 20_000_000),
    "global seeds": lambda: (torch.manual_seed(1), np.random.seed(1)),  # noqa: NPY002
}
DEEDS: dict[str, Callable[[], Any]] = {**RAISES, **DIES, **HANGS, **LEAVES, **SAYS}
_kept: list[Any] = []


def _keep(value: Any) -> Any:
    _kept.append(value)
    return value


def _caught() -> bool:
    try:
        raise KeyError("inner")
    except KeyError:
        return False


def wrong(what: str, value: Any) -> Any:
    """A wrong value in place of a right one; ``value`` where the misbehaviour is none of these."""
    match what:
        case "a string":
            return "wrong"
        case "an object":
            return object()
        case "nan":
            return value * float("nan") if isinstance(value, torch.Tensor) and value.is_floating_point() else object()
        case "of another shape":
            return value[..., None] if isinstance(value, torch.Tensor) else []
        case "float64":
            return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else object()
        case "on another device":
            return value.to("meta") if isinstance(value, torch.Tensor) else object()
    return value


WRONG = ("a string", "an object", "nan", "of another shape", "on another device")


class Misbehaving:
    """Does something in one of its hooks, every time."""

    at: str
    what: str

    def act(self, hook: str, value: Any = None) -> Any:
        """Misbehave if this is the hook; the value that goes on."""
        if hook != self.at:
            return value
        if self.what in DEEDS:
            DEEDS[self.what]()
            return value
        return wrong(self.what, value)


class _Hooks(Misbehaving):
    def __init__(self, at: str = "", what: str = "") -> None:
        self.at, self.what = at, what
        if at == "__init__" and what in WRONG:
            raise ValueError("a factory that gives no object raises")
        self.act("__init__")

    def setup(self, run: Any) -> None:
        if self.at == "setup" and self.what in WRONG:
            run.targets = wrong(self.what, run.targets)
        self.act("setup")

    def epoch_start(self, run: Any) -> None:
        if self.at == "epoch_start" and self.what in WRONG:
            run.targets = wrong(self.what, run.targets)
        self.act("epoch_start")

    def before_forward(self, run: Any, step: Any) -> None:
        step.inputs = self.act("before_forward", step.inputs)

    def after_forward(self, run: Any, step: Any) -> None:
        step.outputs = self.act("after_forward", step.outputs)

    def after_losses(self, run: Any, step: Any) -> None:
        step.losses = self.act("after_losses", step.losses)

    def after_backward(self, run: Any, step: Any) -> None:
        if self.at == "after_backward" and self.what in WRONG:
            step.weights = wrong(self.what, step.weights)
        self.act("after_backward")

    def after_step(self, run: Any, step: Any) -> None:
        if self.at == "after_step" and self.what in WRONG:
            step.penalty = wrong(self.what, torch.zeros(2))
        self.act("after_step")

    def epoch_end(self, run: Any) -> None:
        if self.at == "epoch_end" and self.what in WRONG:
            run.sample_scores["scores"] = (wrong(self.what, torch.zeros(run.num_samples)), True)
            if self.what == "nan":
                run.targets = object()
        self.act("epoch_end")

    def diagnostics(self, run: Any) -> Any:
        if self.at == "diagnostics" and self.what in WRONG:
            return {"number": object()} if self.what == "nan" else wrong(self.what, torch.zeros(3))
        self.act("diagnostics")
        return {}

    def state_dict(self) -> Any:
        if self.at == "state_dict" and self.what in WRONG:
            return {"state": Own("which cannot be read back")}
        self.act("state_dict")
        return {"state": torch.zeros(3)}

    def load_state_dict(self, state: Any) -> None: ...


class Algorithm(_Hooks):
    """An algorithm with most hooks."""

    def __init__(self, at: str = "", what: str = "") -> None:
        super().__init__(at, what)

    def next_pass(self, run: Any, number: int) -> Any:
        if number:
            return None
        everything = torch.arange(run.num_samples)
        return Pass(self.act("next_pass", everything))

    def train_step(self, run: Any, step: Any) -> Any:
        return self.act("train_step", None) if self.what not in WRONG or self.at != "train_step" else "wrong"

    def predict(self, run: Any, inputs: Any) -> Any:
        return self.act("predict", run.forward(inputs).log_softmax(1))


class Replacing(Misbehaving):
    """An algorithm that computes the losses itself."""

    declares = Declares(replaces="ce")

    def __init__(self, at: str = "", what: str = "") -> None:
        self.at, self.what = at, what

    def compute_losses(self, run: Any, step: Any) -> bool:
        step.losses = self.act("compute_losses", functional.cross_entropy(step.outputs, step.targets, reduction="none"))
        return True


class Loss(_Hooks):
    """Cross entropy with hooks."""

    def __init__(self, at: str = "", what: str = "") -> None:
        super().__init__(at, what)

    def __call__(self, outputs: Any, targets: Any, index: Any) -> Any:
        return self.act("__call__", functional.cross_entropy(outputs, targets, reduction="none"))


class Model(nn.Module, Misbehaving):
    """A linear model."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, at: str = "", what: str = "") -> None:
        super().__init__()
        self.at, self.what = at, what
        self.linear = nn.Linear(int(np.prod(input_shape)), num_outputs)
        if at == "__init__" and what in WRONG:
            raise ValueError("a factory that gives no model raises")
        self.act("__init__")

    def forward(self, inputs: Any) -> Any:
        return self.act("forward", self.linear(inputs.flatten(1)))


class Layer(nn.Module):
    """What the transform puts after a model's outputs."""

    def __init__(self, inner: nn.Module, owner: Misbehaving) -> None:
        super().__init__()
        self.inner = inner
        self.do = [owner.act]

    def forward(self, inputs: Any) -> Any:
        return self.do[0]("forward", self.inner(inputs))


class Transform(Misbehaving):
    """Wraps the linear layer of a model."""

    def __init__(self, at: str = "", what: str = "") -> None:
        self.at, self.what = at, what
        if at == "__init__" and what in WRONG:
            raise ValueError("a factory that gives no transform raises")
        self.act("__init__")

    def __call__(self, model: nn.Module) -> Any:
        model.linear = Layer(model.linear, self)
        return self.act("__call__", model) if self.what not in WRONG or self.at != "__call__" else "wrong"


class Noise(Misbehaving):
    """Every third class is another one."""

    def __init__(self, at: str = "", what: str = "") -> None:
        self.at, self.what = at, what
        if at == "__init__" and what in WRONG:
            raise ValueError("a factory that gives no noise raises")
        self.act("__init__")

    def __call__(self, data: LabelledData, *, rng: Any) -> Any:
        moved = torch.arange(len(data)) % 3 == 0
        return self.act("__call__", torch.where(moved, (data.targets + 1) % 10, data.targets))

    def transition_matrix(self, data: LabelledData) -> Any:
        return self.act("transition_matrix", torch.eye(10) * 2 / 3 + torch.eye(10).roll(1, 1) / 3)


def dataset(at: str = "", what: str = "") -> Any:
    """Ten classes of 96 features."""

    def draw(count: int, seed: int) -> LabelledData:
        targets = torch.arange(count) % 10
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(count, 16, generator=generator) + functional.one_hot(targets, 16)
        if at == "factory" and what in WRONG:
            inputs = wrong(what, inputs)
        return LabelledData(inputs, targets, 10)

    if at == "factory" and what in DEEDS:
        DEEDS[what]()
    return DataSplits(draw(96, 0), draw(48, 1))


dataset.declares = Declares(classes=10)  # type: ignore[attr-defined]


@hookimpl
def harness_trial_start(trial: Any) -> None:
    """Misbehaves where the trial's augmentation says so."""
    _host("harness_trial_start", trial)


@hookimpl
def harness_epoch_end(trial: Any) -> None:
    """The same, after every epoch."""
    _host("harness_epoch_end", trial)


@hookimpl
def harness_trial_finish(trial: Any) -> None:
    """The same, at the end."""
    _host("harness_trial_finish", trial)


def _host(hook: str, trial: Any) -> None:
    spec = trial.identity["model"]["params"]
    if spec.get("at") == hook:
        DEEDS.get(spec["what"], lambda: _raise(ValueError("of the hook")))()


@hookimpl
def harness_register_datasets(register: Any) -> None:
    """Data."""
    register("bad.data", dataset)


@hookimpl
def harness_register_noise(register: Any) -> None:
    """Noise."""
    register("bad.noise", Noise)


@hookimpl
def harness_register_models(register: Any) -> None:
    """A model."""
    register("bad.model", Model)


@hookimpl
def harness_register_transforms(register: Any) -> None:
    """A transform."""
    register("bad.transform", Transform)


@hookimpl
def harness_register_losses(register: Any) -> None:
    """A loss."""
    register("bad.loss", Loss)


@hookimpl
def harness_register_algorithms(register: Any) -> None:
    """Algorithms."""
    register("bad.algorithm", Algorithm)
    register("bad.replacing", Replacing)
