"""Clean labels: what is compared with them is an exact tensor, and what a run reaches makes no data."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import harness
from harness.errors import HarnessError
from harness.plugins import Host, load_host
from harness.results.records import final_attempt, read_json, trial_folder
from harness.suite.load import load_suite
from harness.training.evaluation import labels_at_hand
from harness.training.prepare import prepare
from harness.training.reach import reachable
from harness.training.watch import exact
from harness.trial import Trial

Write = Callable[..., Path]


class Listening(torch.Tensor):
    """Keeps what it is compared with."""

    heard: list[Any] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.heard.append((func, args))
        return super().__torch_function__(func, types, args, kwargs or {})


class Wrapper(torch.Tensor):
    """A tensor whose operations are all its own."""

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, value.shape, dtype=value.dtype)

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return Wrapper(torch.zeros(2, 3)) if func is torch.ops.aten.alias.default else func(*args, **(kwargs or {}))


def test_a_subclass_becomes_an_exact_tensor_of_the_same_numbers_and_gradient() -> None:
    leaf = torch.ones(2, 3, requires_grad=True)
    made = (leaf * 2).as_subclass(Listening)
    Listening.heard.clear()
    plain = exact(made)
    assert plain is not None and type(plain) is torch.Tensor and Listening.heard == []
    plain.sum().backward()
    assert torch.equal(leaf.grad, torch.full((2, 3), 2.0))  # type: ignore[arg-type]
    parameter = exact(torch.nn.Parameter(torch.zeros(2)))
    assert type(parameter) is torch.Tensor


@pytest.mark.parametrize("value", [None, "wrong", [1.0], 3.0, object()])
def test_what_is_no_tensor_is_none(value: Any) -> None:
    assert exact(value) is None


def test_a_wrapper_keeps_no_say() -> None:
    found = exact(Wrapper(torch.zeros(2, 3)))
    assert found is None or (
        type(found) is torch.Tensor and not torch._C._dispatch_keys(found).has(torch._C.DispatchKey.Python)
    )


def test_no_mode_hears_of_labels() -> None:
    heard: list[Any] = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(func)
            return func(*args, **(kwargs or {}))

    labels = torch.arange(3)
    with Mode():
        with labels_at_hand():
            assert bool((labels == torch.arange(3)).all())
        assert heard == []
        assert bool((labels == labels).all())
    assert heard != []


PEEKING = '''
import torch
import harness
from harness import hookimpl

HEARD = []

class Ears(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        HEARD.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})

class Listens:
    "Predicts by a tensor that listens."
    def predict(self, run, inputs):
        HEARD.clear()
        return run.forward(inputs).log_softmax(1).as_subclass(Ears)
    def epoch_start(self, run):
        assert HEARD == [], HEARD

class Creates:
    "Makes the data set anew."
    def setup(self, run):
        harness.create("dataset", "digits")

class CreatesNoise:
    "Makes noise."
    def epoch_end(self, run):
        harness.create("noise", "none")

def built():
    """Data on other data."""
    return harness.create("dataset", "digits")

@hookimpl
def harness_register_algorithms(register):
    register("listens", Listens)
    register("creates", Creates)
    register("createsnoise", CreatesNoise)

@hookimpl
def harness_register_datasets(register):
    register("built", built)
'''


@pytest.fixture
def peeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "peeking.py"
    path.write_text(textwrap.dedent(PEEKING))
    return path


def test_a_method_makes_no_data_and_hears_no_labels_but_a_data_set_may_build_on_another(
    write_suite: Write, tmp_path: Path, peeking: Path
) -> None:
    names = ("listens", "creates", "createsnoise")
    methods = "".join(f'[[method]]\nname = "{name}"\nalgorithms = ["{name}"]\n' for name in names)
    path = write_suite(methods=methods, setting="subset = 128")
    path.write_text(path.read_text().replace('dataset = "digits"', 'dataset = "built"'))
    plan = harness.run(load_suite(path, plugins=[peeking]), tmp_path / "r", "inline")
    found = {}
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(plan.results, planned.id))
        assert attempt is not None
        found[planned.entry.method] = read_json(attempt / "result.json")
    assert found["listens"]["status"] == "done", found["listens"]["error"]
    for name, kind, hook in (("creates", "dataset", "setup"), ("createsnoise", "noise", "epoch_end")):
        error = found[name]["error"]
        assert f"a {kind} cannot be made while a method trains" in error["message"]
        assert (error["component"], error["hook"]) == (f"algorithms.{name}", hook)
    assert len(harness.create("dataset", "digits").train) > 1000, "after the trials it may be made again"


def test_a_run_reaches_neither_trial_nor_host(write_suite: Write) -> None:
    methods = '[[method]]\nname = "m"\nalgorithms = ["co_teaching"]\ntransforms = ["kpd"]\n'
    (entry,) = load_suite(write_suite(methods=methods, setting="subset = 64")).entries()
    prepared = prepare(entry.trial, load_host(), torch.device("cpu"))
    with pytest.raises(AttributeError):  # the frames of an exception lead to all that there is
        prepared.run.forward("no tensor")  # type: ignore[arg-type]
    found = [path for part, path in reachable(prepared.run) if isinstance(part, (Trial, Host))]
    assert found == []


def test_a_noise_may_be_made_outside_of_a_trial() -> None:
    with pytest.raises(HarnessError, match="unknown noise"):
        harness.create("noise", "no such noise")
    harness.create("noise", "none")
