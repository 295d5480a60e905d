"""A trial's stack: its algorithms and its loss, called in the order of the suite.

A private pluggy manager checks the hooks and puts them in order: the stack registers in reverse, as pluggy calls the last
registered first; ``tryfirst`` and ``trylast`` move a hook to the first or last of three stages. Each hook is then one
function that calls the parts in turn and notes which one it is in (:mod:`harness.running`). A hook that nobody implements
is ``None`` here and costs one comparison.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from harness import hookspecs, running
from harness.hookspecs import TRAINING_HOOKS
from harness.running import NOBODY, Source
from harness.training.watch import Watch

Hook = Callable[..., Any] | None
Implementation = tuple[int, Callable[..., Any]]


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
    """Loss and algorithms with their hooks. ``loss`` comes last in the stack's order.

    Args:
        loss: called as it is.
        algorithms, names: in the suite's order.
        loss_name: the loss's registered name.
        per_batch: whether the loss is one number per batch.
        sources: whose the parts are, by name, the loss under ``loss <name>``.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        algorithms: Sequence[Any],
        names: Sequence[str],
        loss_name: str,
        per_batch: bool,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        self.loss = loss
        self.loss_name = loss_name
        self.per_batch = per_batch
        self.parts: dict[str, Any] = {**dict(zip(names, algorithms, strict=True)), f"loss {loss_name}": loss}
        self.sources = {
            **{name: Source(f"algorithms.{name}") for name in names},
            f"loss {loss_name}": Source(f"losses.{loss_name}"),
            **(sources or {}),
        }
        self.watch = Watch(running.current())
        self.only: dict[str, int] = {}
        manager = _Manager("harness_training")
        manager.add_hookspecs(hookspecs)
        for name, part in reversed(list(self.parts.items())):
            manager.register(part, name=name)

        find = functools.partial(self._find, manager)
        self.setup = find("setup")
        self.epoch_start = find("epoch_start")
        self.next_pass = find("next_pass")
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
        self.loss_number = self.number(f"loss {loss_name}", call_name(loss))
        self.ask_loss = _one(self.watch, self.loss_number, loss)

    def number(self, part: str, hook: str) -> int:
        """The number of a part's hook, by which the process notes that it runs."""
        return self.watch.marker.number(self.sources[part], hook)

    def _find(self, manager: pluggy.PluginManager, name: str) -> Hook:
        caller = getattr(manager.hook, name)
        found = caller.get_hookimpls()
        if not found:
            return None
        given = tuple(inspect.signature(getattr(hookspecs, name)).parameters)
        parts = [(self.number(one.plugin_name, name), _taking(one.function, one.argnames, given)) for one in found]
        parts.reverse()
        self.only[name] = parts[0][0] if len(parts) == 1 else NOBODY
        if any(one.wrapper or one.hookwrapper for one in found):
            for one in found:
                one.function = _one(self.watch, self.number(one.plugin_name, name), one.function)
            wrapped: Callable[..., Any] = caller
            return wrapped
        compose: Callable[..., Callable[..., Any]] = _KINDS.get(name, _each)
        return compose(self.watch, name, given, tuple(parts))

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts that have one."""
        states = {}
        for name, part in self.parts.items():
            if hasattr(part, "state_dict"):
                with self.watch.marker.at(self.sources[name], "state_dict"):
                    states[name] = part.state_dict()
        return states

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name, state in states.items():
            with self.watch.marker.at(self.sources[name], "load_state_dict"):
                self.parts[name].load_state_dict(state)


def call_name(part: Any) -> str:
    """What a plugin's author calls the function that runs when a part is called."""
    forward = "forward" if hasattr(part, "_call_impl") else "__call__"  # a torch module's
    return part.__name__ if inspect.isroutine(part) and hasattr(part, "__name__") else forward


def _taking(function: Callable[..., Any], taken: Sequence[str], given: Sequence[str]) -> Callable[..., Any]:
    """A function that takes all of a hook's arguments by position, from one that takes some, in any order."""
    if tuple(taken) == tuple(given):
        return function
    places = [given.index(name) for name in taken]
    if not places:
        return lambda *_: function()
    if places == [0]:
        return lambda first, *_: function(first)
    if places == [1]:
        return lambda _, second, *__: function(second)
    return lambda *values: function(*[values[place] for place in places])


def _one(watch: Watch, number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that notes that it runs."""
    marker, page = watch.marker, watch.marker.page

    def call(*values: Any) -> Any:
        before = page[0]
        page[0] = number
        try:
            return function(*values)
        except BaseException as error:
            marker.note(error, number)
            raise
        finally:
            page[0] = before

    return call


def _each(watch: Watch, name: str, given: Sequence[str], parts: tuple[Implementation, ...]) -> Callable[..., Any]:
    """A hook of which every implementation is called and returns nothing; it may have gained arguments after ``step``."""
    marker, page = watch.marker, watch.marker.page
    if len(given) == 1:

        def once(run: Any) -> None:
            before = page[0]
            number = NOBODY
            try:
                for number, function in parts:
                    page[0] = number
                    entry = marker.moment()
                    function(run)
                    watch.left(name, number, run, entry)
            except BaseException as error:
                marker.note(error, number)
                raise
            finally:
                page[0] = before

        return once

    def call(run: Any, step: Any, **further: Any) -> None:
        before = page[0]
        number = NOBODY
        values = (run, step, *[further[name] for name in given[2:]]) if further else (run, step)
        try:
            for number, function in parts:
                page[0] = number
                if watch.on:
                    entry = watch.moment()
                    function(*values)
                    watch.left(name, number, run, entry, step)
                else:
                    function(*values)
        except BaseException as error:
            marker.note(error, number)
            raise
        finally:
            page[0] = before

    return call


def _first(watch: Watch, name: str, given: Sequence[str], parts: tuple[Implementation, ...]) -> Callable[..., Any]:
    """A hook of which the first result counts: ``True`` for done, ``None`` passes."""
    marker, page = watch.marker, watch.marker.page

    def call(run: Any, step: Any) -> bool:
        before = page[0]
        number = NOBODY
        try:
            for number, function in parts:
                page[0] = number
                entry = watch.moment() if watch.on else None
                done = function(run, step)
                if watch.on:
                    watch.left(name, number, run, entry, step)
                if done is None:
                    continue
                if done is not True and done is not False:
                    remedy = "return True when it has done the work, else None"
                    raise watch.refuse(number, name, f"returned {type(done).__name__}", remedy)
                return done
        except BaseException as error:
            marker.note(error, number)
            raise
        finally:
            page[0] = before
        return False

    return call


def _pass(watch: Watch, name: str, given: Sequence[str], parts: tuple[Implementation, ...]) -> Callable[..., Any]:
    """The first pass that is not ``None``, and that it is one."""
    marker, page = watch.marker, watch.marker.page

    def call(run: Any, number: int) -> Any:
        before = page[0]
        whose = NOBODY
        try:
            for whose, function in parts:
                page[0] = whose
                entry = marker.moment()
                found = function(run, number)
                watch.left(name, whose, run, entry)
                if found is not None:
                    return watch.passed(whose, run, found)
        except BaseException as error:
            marker.note(error, whose)
            raise
        finally:
            page[0] = before
        return None

    return call


def _predict(watch: Watch, name: str, given: Sequence[str], parts: tuple[Implementation, ...]) -> Callable[..., Any]:
    """The first prediction that is not ``None``, and that it is one."""
    marker, page = watch.marker, watch.marker.page

    def call(run: Any, inputs: Any) -> Any:
        before = page[0]
        number = NOBODY
        try:
            for number, function in parts:
                page[0] = number
                entry = watch.moment_of(number, run)
                predicted = function(run, inputs)
                if predicted is not None:
                    return watch.predicted(number, run, inputs, predicted, entry)
        except BaseException as error:
            marker.note(error, number)
            raise
        finally:
            page[0] = before
        return None

    return call


def _collected(watch: Watch, name: str, given: Sequence[str], parts: tuple[Implementation, ...]) -> Callable[..., Any]:
    """A hook whose results are all kept, those that are not ``None``, in the order of the calls."""
    marker, page = watch.marker, watch.marker.page

    def call(run: Any) -> list[Any]:
        before = page[0]
        number = NOBODY
        results = []
        try:
            for number, function in parts:
                page[0] = number
                entry = marker.moment()
                result = watch.diagnosed(number, function(run))
                watch.left(name, number, run, entry)
                if result is not None:
                    results.append(result)
        except BaseException as error:
            marker.note(error, number)
            raise
        finally:
            page[0] = before
        return results

    return call


_KINDS: dict[str, Callable[..., Callable[..., Any]]] = {
    "next_pass": _pass,
    "train_step": _first,
    "compute_losses": _first,
    "predict": _predict,
    "diagnostics": _collected,
}
