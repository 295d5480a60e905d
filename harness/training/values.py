"""What is wrong with a value that a hook has left, in words; an empty string for nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness.training.passes import Pass
    from harness.training.run import Run, Step


def described(value: Any) -> str:
    """A value's type; of a tensor its class, shape, type of numbers and device."""
    if issubclass(type(value), Tensor):
        kind = "" if type(value) in (Tensor, torch.nn.Parameter) else f"{type(value).__name__}, "
        return f"{kind}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"
    return f"a value of type {type(value).__name__}"


def value_of(step: Step, name: str) -> Any:
    """A step's value; weights that no hook has touched are ``None``."""
    if name == "weights":
        return step.weights if step.weighted else None
    return getattr(step, name)


def finite(value: Any) -> bool:
    """Whether a tensor's numbers, or a number, are finite; all else is."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or value.is_meta or bool(value.detach().isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)


def _numbers(value: Any, run: Run, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[torch.dtype, ...] = ()) -> str:
    """Floating-point numbers of one of some shapes (none: of any) on the run's device."""
    if not isinstance(value, Tensor):
        return f"as {described(value)}"
    if value.layout is not torch.strided or value.is_quantized:
        return f"as a {value.layout} tensor"
    if shapes and tuple(value.shape) not in shapes:
        return f"of shape {tuple(value.shape)} instead of {' or '.join(map(str, shapes))}"
    if not value.is_floating_point() or (dtypes and value.dtype not in dtypes):
        return f"of type {str(value.dtype).removeprefix('torch.')}"
    if value.device.type != run.device.type:
        return f"on {value.device} instead of {run.device}"
    return ""


def wrong_index(index: Any, run: Run) -> str:
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype != torch.int64:
        return f"as {described(index)}"
    if index.device.type != run.device.type:
        return f"on {index.device} instead of {run.device}"
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < run.num_samples):
        return f"outside [0, {run.num_samples})"
    return ""


def wrong_pass(walk: Pass, run: Run) -> str:
    for name in ("index", "beside"):
        positions = getattr(walk, name)
        if positions is None:
            continue
        if not isinstance(positions, Tensor) or positions.ndim != 1 or positions.dtype != torch.int64:
            return f"{name} as {described(positions)} instead of (n,) int64"
        if positions.device.type not in ("cpu", run.device.type):
            return f"{name} on {positions.device}"
        if len(positions) and not (int(positions.min()) >= 0 and int(positions.max()) < run.num_samples):
            return f"{name} outside [0, {run.num_samples})"
    for name in ("batch_size", "beside_size", "steps"):
        value = getattr(walk, name)
        if value is not None and (type(value) is not int or value < 1):
            return f"{name} = {value!r:.40}, not a whole number from 1"
    for name in ("network", "label"):
        if not isinstance(getattr(walk, name), str):
            return f"{name} as {described(getattr(walk, name))}"
    if walk.network and walk.network not in run.networks:
        return f"network {walk.network!r:.60}, which run.new_network has not made"
    for name in ("drop_last", "shuffle"):
        if not isinstance(getattr(walk, name), bool):
            return f"{name} as {described(getattr(walk, name))}"
    return ""


def wrong_inputs(step: Step, size: int, run: Run) -> str:
    inputs = step.inputs
    if not isinstance(inputs, Tensor):
        return f"as {described(inputs)}"
    rows = inputs.shape[0] if inputs.ndim else 0
    if inputs.ndim < 1 or bool(rows) != bool(size) or (size and rows % size):  # several views may be stacked
        return f"of shape {tuple(inputs.shape)} for a batch of {size}"
    if run.input_shape is not None and inputs.ndim != 1 + len(run.input_shape):
        return f"of shape {tuple(inputs.shape)} instead of {(size, *run.input_shape)}"
    if inputs.dtype not in (torch.float32, run.dtype, torch.int64):
        return f"of type {str(inputs.dtype).removeprefix('torch.')}"
    if inputs.device.type != run.device.type:
        return f"on {inputs.device} instead of {run.device}"
    return ""


def wrong_targets(targets: Any, size: int, run: Run) -> str:
    if not isinstance(targets, Tensor):
        return f"as {described(targets)}"
    if targets.device.type != run.device.type:
        return f"on {targets.device} instead of {run.device}"
    if run.num_classes is None:
        return _numbers(targets, run, ((size,), (size, run.num_outputs)), (run.dtype,))
    if run.task == "multilabel" and targets.dtype == torch.int64:
        if targets.shape != (size, run.num_classes):
            return f"as {described(targets)} instead of ({size}, {run.num_classes})"
        return "other than 0 and 1" if size and not (int(targets.min()) >= 0 and int(targets.max()) <= 1) else ""
    if targets.ndim == 2:
        return _numbers(targets, run, ((size, run.num_classes),), (run.dtype,))
    if targets.shape != (size,) or targets.dtype != torch.int64:
        return f"as {described(targets)} instead of ({size},) int64"
    if size and not (int(targets.min()) >= 0 and int(targets.max()) < run.num_classes):
        return f"outside [0, {run.num_classes})"
    return ""


def wrong_outputs(outputs: Any, size: int, run: Run, *, any_float: bool = False) -> str:
    dtypes = () if any_float else (run.dtype,)
    shapes: tuple[tuple[int, ...], ...] = ((size, run.num_outputs),)
    return _numbers(outputs, run, shapes, dtypes)


def wrong_step_outputs(step: Step, size: int, run: Run) -> str:
    stacked = len(step.outputs) if isinstance(step.outputs, Tensor) and step.outputs.ndim else size
    return wrong_outputs(step.outputs, stacked if stacked and stacked == len(step.inputs) else size, run)


def wrong_losses(losses: Any, size: int, run: Run) -> str:
    return _numbers(losses, run, ((),) if run.stack.per_batch else ((size,),))


def wrong_penalty(penalty: Any, run: Run) -> str:
    if isinstance(penalty, Tensor):
        return _numbers(penalty, run, ((), (1,)))
    return "" if isinstance(penalty, (int, float)) else f"as {described(penalty)}"


LOOKS: dict[str, Any] = {
    "inputs": wrong_inputs,
    "targets": lambda step, size, run: wrong_targets(step.targets, size, run),
    "outputs": lambda step, size, run: "" if step.outputs is None else wrong_step_outputs(step, size, run),
    "losses": lambda step, size, run: "" if step.losses is None else wrong_losses(step.losses, size, run),
    "weights": lambda step, size, run: _numbers(step.weights, run, ((size,),)) if step.weighted else "",
    "penalty": lambda step, size, run: "" if step.penalty is None else wrong_penalty(step.penalty, run),
}
