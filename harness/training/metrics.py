"""Metrics that plugins add: which of them a trial is measured by, and what they say of its outputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.errors import ComponentError
from harness.registry import Component, Measured, Registry
from harness.results.quantities import MOMENTS, Quantity

TAKEN: Mapping[str, tuple[str, ...]] = {
    "test": tuple(at for at in MOMENTS if at != "best_minus_last"),
    "train": ("last",),
    "scores": ("last",),
    "diagnostic": ("last", "last10", "selected"),
}
"""When a metric is taken: on test at every epoch, on training data at some, or from what algorithms record."""


class Metric:
    """One metric of a plugin, ready to measure with."""

    def __init__(self, component: Component) -> None:
        assert component.measured is not None
        self.component = component
        self.measured: Measured = component.measured
        self.name = component.name

    @functools.cached_property
    def _takes(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.component.load()).parameters)

    @property
    def needs_truth(self) -> bool:
        """Whether it is shown which training labels are wrong."""
        on = self.measured.on
        return not self.measured.diagnostic and (on == "scores" or (on == "train" and "clean" in self._takes))

    def quantity(self, names: Iterable[str] = ()) -> Quantity:
        """What results record of it. One that gives a number for each class has no pages of its own in a site."""
        kind = "diagnostic" if self.measured.diagnostic else self.measured.on
        scalar = kind != "diagnostic" and self.name in names
        return Quantity.from_json(
            {"name": self.name, **self.measured.quantity, "moments": list(TAKEN[kind]), "paged": scalar}
        )

    def __call__(self, outputs: Tensor, targets: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Its number by name; ``name@0`` and so on where it gives one for each class.

        Raises:
            ComponentError: when it gives something else.
        """
        value = self._value(outputs=outputs, targets=targets, clean=clean)
        if value.ndim == 0:
            return {self.name: value}
        if value.ndim == 1:
            return {f"{self.name}@{place}": each for place, each in enumerate(value)}
        raise ComponentError(
            f"gave shape {tuple(value.shape)}", self.component.label, "return one number, or one for each class"
        )

    def of_scores(self, scores: Tensor, targets: Tensor, clean: Tensor) -> Tensor:
        """Its number where it judges scores of training samples.

        Raises:
            ComponentError: when it gives something else.
        """
        value = self._value(scores=scores, targets=targets, clean=clean)
        if value.ndim:
            raise ComponentError(f"gave shape {tuple(value.shape)}", self.component.label, "return one number")
        return value

    def _value(self, **given: Tensor) -> Tensor:
        for name in self._takes:
            if name not in given:
                what = f"takes {name!r}, which there is not on {self.measured.on!r}"
                raise ComponentError(what, self.component.label, f"take of {', '.join(given)}")
        found = self.component.load()(**{name: given[name] for name in self._takes})
        return torch.as_tensor(found, device=given["targets"].device)


def asked_for(names: Sequence[str], registry: Registry, task: str) -> tuple[Metric, ...]:
    """The metrics of these names that are for the task."""
    found = (Metric(registry.find("metric", name)[0]) for name in names)
    return tuple(metric for metric in found if task in metric.measured.tasks)


def quantities_of(
    metrics: Iterable[Metric], registry: Registry, history: Sequence[Mapping[str, Any]]
) -> dict[str, Quantity]:
    """By the name under which values stand in the records of epochs: the quantities that plugins add to a trial.

    These are the metrics that it was to be measured by, and those that its algorithms have recorded the values of.
    """
    names = {name: None for epoch in history for name in epoch}
    by_base = {metric.name: metric for metric in metrics}
    found = {name: by_base[base].quantity(names) for name in names if (base := name.partition("@")[0]) in by_base}
    taken = {name.partition("@")[0] for name in found}
    for name in (name for name in by_base if name not in taken):
        found[name] = by_base[name].quantity((name,))  # of a run that diverged before anything was measured
    registered = {c.name: Metric(c) for c in registry.components("metric") if c.measured and c.measured.diagnostic}
    for name in dict.fromkeys(name for epoch in history for name in epoch.get("diagnostics", ())):
        metric = registered.get(name.partition("@")[0])
        if metric is not None:
            found[name] = metric.quantity()
    return found


def facts_of(quantities: Mapping[str, Quantity]) -> dict[str, Any]:
    """What is recorded of some quantities with a trial, by name without its member."""
    return {quantity.name: quantity.to_json() for quantity in quantities.values()}
