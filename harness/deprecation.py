"""Deprecations: what goes, since and until which version, and what to use instead.

    @deprecated("0.3", removed="0.5", instead="harness.create")
    def make(...): ...

A name that is deprecated works on for at least one minor version. An argument of a hook is deprecated in its spec:
``@hookspec(warn_on_impl_args={"step": deprecation("the argument 'step'", "0.3", removed="0.5", instead="'batch'")})``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class HarnessDeprecationWarning(FutureWarning):
    """Something of the public interface is going away. Shown by default, since plugin authors must see it."""


def deprecation(what: str, since: str, *, removed: str, instead: str) -> HarnessDeprecationWarning:
    """The warning in words: ``harness.make is deprecated since 0.3 and goes in 0.5; use harness.create``."""
    return HarnessDeprecationWarning(f"{what} is deprecated since {since} and goes in {removed}; use {instead}")


def warn_deprecated(what: str, since: str, *, removed: str, instead: str, stacklevel: int = 2) -> None:
    """Warn the caller's caller; ``stacklevel`` counts from here as in :func:`warnings.warn`."""
    warnings.warn(deprecation(what, since, removed=removed, instead=instead), stacklevel=stacklevel + 1)


def deprecated(since: str, *, removed: str, instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that is going away."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            name = f"{function.__module__}.{function.__qualname__}"
            warn_deprecated(name, since, removed=removed, instead=instead)
            return function(*args, **kwargs)

        return call

    return wrap


def renamed_parameters(
    values: Mapping[str, Any], names: Mapping[str, str], since: str, *, removed: str, where: str
) -> dict[str, Any]:
    """``values`` with old names of parameters replaced by new ones, each with a warning.

    Args:
        values: what a caller gave.
        names: new name by old name.
        since: version in which the old name was deprecated.
        removed: version in which it goes.
        where: what the parameters belong to, such as ``losses.gce``.
    """
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if key in names:
            warn_deprecated(
                f"{where}: parameter {key!r}", since, removed=removed, instead=repr(names[key]), stacklevel=3
            )
        changed[names.get(key, key)] = value
    return changed
