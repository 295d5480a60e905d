"""A trial's stack: its algorithms and its loss in one private pluggy manager, called in the order of the suite.

pluggy calls the last registered first, so the stack registers in reverse; ``tryfirst`` and ``trylast`` move a hook to
the first or last of three stages. A hook that nobody implements is ``None`` here and costs one comparison.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from harness import hookspecs
from harness.hookspecs import TRAINING_HOOKS

Hook = Callable[..., Any] | None


class _Manager(pluggy.PluginManager):
    """Takes every method named like a training hook for an implementation, marked or not."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if name not in TRAINING_HOOKS:
            return None
        method = getattr(plugin, name)
        if not inspect.isroutine(method):
            return None
        return getattr(method, "harness_impl", None) or {
            "wrapper": False,
            "hookwrapper": False,
            "optionalhook": False,
            "tryfirst": False,
            "trylast": False,
            "specname": None,
        }


class Stack:
    """Loss and algorithms with their hooks. ``loss`` comes last in the stack's order."""

    def __init__(
        self, loss: Callable[..., Any], algorithms: Sequence[Any], names: Sequence[str], loss_name: str, per_batch: bool
    ) -> None:
        self.loss = loss
        self.loss_name = loss_name
        self.per_batch = per_batch
        self.parts: dict[str, Any] = {**dict(zip(names, algorithms, strict=True)), f"loss {loss_name}": loss}
        manager = _Manager("harness_training")
        manager.add_hookspecs(hookspecs)
        for name, part in reversed(list(self.parts.items())):
            manager.register(part, name=name)

        def find(name: str) -> Hook:
            caller: Hook = getattr(manager.hook, name)
            return caller if getattr(manager.hook, name).get_hookimpls() else None

        self.setup = find("setup")
        self.epoch_start = find("epoch_start")
        self.train_step = find("train_step")
        self.before_forward = find("before_forward")
        self.after_forward = find("after_forward")
        self.compute_losses = find("compute_losses")
        self.after_losses = find("after_losses")
        self.after_backward = find("after_backward")
        self.after_step = find("after_step")
        self.epoch_end = find("epoch_end")
        self.predict = find("predict")
        self.diagnostics = find("diagnostics")

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts that have one."""
        return {name: part.state_dict() for name, part in self.parts.items() if hasattr(part, "state_dict")}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name, state in states.items():
            self.parts[name].load_state_dict(state)
