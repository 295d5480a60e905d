"""A mean over the steps of an epoch, kept on the device and checkpointed with its owner."""

from __future__ import annotations

import torch
from torch import Tensor


class EpochMean:
    """Mean of a few scalars over the steps since :meth:`reset`. Adding reads nothing back from the device."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names), dtype=torch.float64, device=device)
        self.steps = 0

    def reset(self) -> None:
        """Start a new epoch."""
        self.sums = torch.zeros_like(self.sums)
        self.steps = 0

    def add(self, *values: Tensor) -> None:
        """One step's scalars, in the order of the names."""
        self.sums += torch.stack([value.detach().to(torch.float64) for value in values])
        self.steps += 1

    def means(self) -> dict[str, float]:
        """The means by name."""
        return dict(zip(self.names, (self.sums / max(1, self.steps)).tolist(), strict=True))

    def state_dict(self) -> dict[str, object]:
        """Sums and number of steps."""
        return {"sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """The inverse of :meth:`state_dict`."""
        assert isinstance(state["sums"], Tensor) and isinstance(state["steps"], int)
        self.sums = state["sums"].to(self.sums.device, copy=True)
        self.steps = state["steps"]
