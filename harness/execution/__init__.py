"""Where trials run: the worker, and the executors ``inline`` and ``local``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness.registry import Register


@hookimpl
def harness_register_executors(register: Register) -> None:
    """The executors that need nothing but this machine."""
    register("inline", "harness.execution.inline:Inline")
    register("local", "harness.execution.local:Local")
