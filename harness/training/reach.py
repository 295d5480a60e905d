"""What can be reached from an object: a walk over ``gc.get_referents``, by which clean labels are looked for."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CLOSED = (types.ModuleType, type, types.BuiltinFunctionType, types.CodeType, str, bytes, int, float, bool, type(None))


def reachable(root: Any, limit: int = 2_000_000) -> Iterator[tuple[Any, str]]:
    """Every object that is reachable from ``root``, with a path to it.

    The walk goes through attributes, containers, closures, defaults, bound methods, running generators and weak
    references. It does not go through modules, classes or the globals of functions, which belong to the program and
    not to the object.

    Args:
        root: where to start.
        limit: objects after which the walk gives up.

    Raises:
        RuntimeError: when the limit is reached.
    """
    module_dicts = {id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)}
    seen = {id(root)}
    keep: list[Any] = []  # objects made on the way stay alive, so that no id is used twice
    queue: deque[tuple[Any, str]] = deque([(root, type(root).__name__)])
    while queue:
        if len(seen) > limit:
            raise RuntimeError(f"more than {limit} objects are reachable")
        found, path = queue.popleft()
        yield found, path
        for part, name in _parts(found, module_dicts):
            if id(part) in seen or isinstance(part, _CLOSED) or id(part) in module_dicts:
                continue
            seen.add(id(part))
            keep.append(part)
            queue.append((part, f"{path}{name}"))


def _parts(found: Any, module_dicts: set[int]) -> Iterator[tuple[Any, str]]:
    if isinstance(found, types.FunctionType):
        module_dicts.add(id(found.__globals__))
        yield found.__defaults__, ".__defaults__"
        yield found.__kwdefaults__, ".__kwdefaults__"
        yield found.__dict__, ""
        names = found.__code__.co_freevars
        for name, cell in zip(names, found.__closure__ or (), strict=False):
            yield cell, f"<{name}>"
        return
    if isinstance(found, (types.FrameType, types.GeneratorType)):
        frame = found if isinstance(found, types.FrameType) else found.gi_frame
        for name, value in frame.f_locals.items() if frame is not None else ():
            yield value, f"<{name}>"
        return
    if isinstance(found, weakref.ReferenceType):
        yield found(), "()"
        return
    if isinstance(found, dict):
        for key, value in list(found.items()):
            yield key, "<key>"
            yield value, f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{str(key)[:40]!r}]"
        return
    if isinstance(found, Tensor):
        for name in ("grad", "_base"):
            if found.is_leaf or name == "_base":
                yield getattr(found, name), f".{name}"
    attributes = getattr(found, "__dict__", None)
    known = {id(attributes)}
    if isinstance(attributes, dict):
        yield from ((value, f".{key}") for key, value in list(attributes.items()))
    for slot in _slots(found):
        value = getattr(found, slot, None)
        known.add(id(value))
        yield value, f".{slot}"
    for part in gc.get_referents(found):
        if id(part) not in known:
            yield part, ""


def _slots(found: Any) -> Iterator[str]:
    for owner in type(found).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if not slot.startswith("__"):
                yield slot


def find_labels(root: Any, labels: Tensor) -> list[str]:
    """Paths from ``root`` to anything that holds ``labels`` in one of the forms of :func:`holds`.

    Args:
        root: where to start.
        labels: (N,) or (N, outputs) values that must not be found.
    """
    wanted = labels.detach().cpu()
    return [path for found, path in reachable(root) if holds(found, wanted)]


def holds(found: Any, wanted: Tensor) -> bool:
    """Whether one object is ``wanted`` in any usual form: same numbers in any type, one-hot rows, a plain list, or a
    column of a list of tuples."""
    if isinstance(found, np.ndarray) and found.dtype != object and len(found.shape) > 0:
        if found.dtype.kind not in "biuf" or found.shape[0] != len(wanted):
            return False
        found = torch.from_numpy(np.array(found, dtype=np.float64))
    elif isinstance(found, (list, tuple)):
        if len(found) != len(wanted):
            return False
        if isinstance(found[0] if found else None, tuple):  # (path, class), as torchvision's folders keep them
            width = len(found[0])
            rows = all(isinstance(row, tuple) and len(row) == width for row in found)
            return rows and any(holds(column, wanted) for column in zip(*found, strict=True))
        if not all(isinstance(item, (int, float, np.number)) for item in found):
            return False
        found = torch.tensor([float(item) for item in found], dtype=torch.float64)
    if not isinstance(found, Tensor) or found.ndim == 0 or found.shape[0] != len(wanted):
        return False
    values = found.detach().cpu()
    if values.is_complex() or values.is_sparse:
        return False
    values = values.double()
    if values.ndim == 2 and wanted.ndim == 1 and values.shape[1] > 1:
        one_hot = bool(((values == 0) | (values == 1)).all()) and bool((values.sum(1) == 1).all())
        return one_hot and torch.equal(values.argmax(1).double(), wanted.double())
    return values.numel() == wanted.numel() and torch.equal(values.reshape(wanted.shape), wanted.double())
