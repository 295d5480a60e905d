"""The SLURM executor: grids of trials as packed array jobs through submitit. Importing this imports no submitit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness.registry import Register


@hookimpl
def harness_register_executors(register: Register) -> None:
    """The executor for clusters."""
    register("slurm", "harness_slurm.executor:Slurm")
