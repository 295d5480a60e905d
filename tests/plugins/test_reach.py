"""The walk by which clean labels are looked for."""

from __future__ import annotations

import functools
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.training.reach import find_labels, holds, reachable

LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])


class Slotted:
    __slots__ = ("hidden",)


def closure() -> Any:
    kept = LABELS.clone()
    return lambda: kept


def slotted() -> Any:
    made = Slotted()
    made.hidden = LABELS.clone()
    return made


def generator() -> Any:
    def run() -> Any:
        kept = LABELS.clone()
        yield 1
        yield kept

    running = run()
    next(running)
    return running


def register_buffer() -> torch.nn.Module:
    module = torch.nn.Linear(2, 2)
    module.register_buffer("quiet", LABELS.to(torch.int32))
    return module


KEPT = LABELS.clone().share_memory_()
HIDING: dict[str, Any] = {
    "an attribute": lambda: SimpleNamespace(a=SimpleNamespace(b=LABELS.clone())),
    "a list in a dictionary": lambda: {"x": [0, [LABELS.clone()]]},
    "a slot": slotted,
    "a closure": closure,
    "a default": lambda: eval("lambda x=x: x", {"x": LABELS.clone()}),
    "a partial": lambda: functools.partial(print, LABELS.clone()),
    "a bound method": lambda: SimpleNamespace(a=LABELS.clone()).__repr__,
    "a running generator": generator,
    "a weak reference": lambda: weakref.ref(KEPT),
    "a numpy array": lambda: [LABELS.numpy().astype(np.float32)],
    "a plain list": lambda: {"labels": LABELS.tolist()},
    "one-hot rows": lambda: (torch.nn.functional.one_hot(LABELS, 10).float(),),
    "a buffer of a module": register_buffer,
    "a view's base": lambda: LABELS.clone()[:],
}


@pytest.mark.parametrize("place", HIDING)
def test_labels_are_found_in(place: str) -> None:
    assert find_labels(HIDING[place](), LABELS)


def test_module_globals_are_not_reachable_through_a_function() -> None:
    assert find_labels(generator, LABELS) == []


def test_other_numbers_are_not_taken_for_the_labels() -> None:
    root = [LABELS + 1, LABELS[:4].clone(), LABELS.tolist()[::-1], np.zeros(8), torch.rand(8, 10)]
    assert find_labels(root, LABELS) == []


def test_regression_targets_are_found_as_a_column() -> None:
    targets = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert holds(targets[:, None].double(), targets)


def test_a_path_says_how_to_get_there() -> None:
    (path,) = find_labels(SimpleNamespace(a={"b": LABELS}), LABELS)
    assert path == "SimpleNamespace.a.b"


def test_cycles_end() -> None:
    root: list[Any] = []
    root.append(root)
    assert len(list(reachable(root))) == 1
