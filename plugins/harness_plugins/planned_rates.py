"""Learning rates of an epoch other than the schedule's, which goes on from its own when the epoch is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.training.networks import Network


class PlannedRates:
    """Keeps the schedule's learning rates of a network while an epoch trains at others.

    Change them in ``epoch_start`` and restore them in ``epoch_end``, before the schedule steps; keep :meth:`state_dict` in
    the part's own state, so that a trial that resumes within an epoch still knows them.
    """

    def __init__(self) -> None:
        self._planned: list[float] = []

    def scale(self, network: Network, factor: float) -> None:
        """Train at ``factor`` times the schedule's rates."""
        self._planned = [float(group["lr"]) for group in network.optimizer.param_groups]
        for group, planned in zip(network.optimizer.param_groups, self._planned, strict=True):
            group["lr"] = planned * factor

    def replace(self, network: Network, rate: float) -> None:
        """Train at one rate."""
        self.scale(network, 1.0)
        for group in network.optimizer.param_groups:
            group["lr"] = rate

    def restore(self, network: Network) -> None:
        """The schedule's rates again, where others were set."""
        for group, planned in zip(network.optimizer.param_groups, self._planned, strict=False):
            group["lr"] = planned
        self._planned = []

    def state_dict(self) -> dict[str, Any]:
        """The schedule's rates, where others are set."""
        return {"planned": list(self._planned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._planned = [float(rate) for rate in state["planned"]]
