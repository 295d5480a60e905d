"""A pass: one walk over training samples. An epoch is one over all of them, or what the hook ``next_pass`` says."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
    """One walk over samples: over which, for which network, in what batches, and beside which others.

    Attributes:
        index: (n,) int64 positions of the samples; ``None`` is all. Of no samples there is no step.
        network: the name of the network that is trained; ``""`` is the trial's own.
        batch_size: samples of a batch; ``None`` is the trial's.
        beside: (m,) int64 positions of samples that are drawn beside these, a batch with each batch, shuffled anew
            whenever they are used up; ``None`` or of no samples: none.
        beside_size: samples of a batch of those; ``None`` is the pass's own.
        steps: batches of the pass; its samples start over, shuffled anew, when they are used up. ``None`` is one lap.
        drop_last: leave out a short last batch of a lap, of both streams, where there is a whole one.
        label: handed to every step, for an algorithm to tell its passes apart.
        shuffle: whether each lap has an order of its own; else all laps are in that of ``index``. The samples beside are
            shuffled in either case.

    A last batch of one sample is left out of a lap that has others, as batch normalisation has no statistics of it; not of
    the samples beside.
    """

    index: Tensor | None = None
    network: str = ""
    batch_size: int | None = None
    beside: Tensor | None = None
    beside_size: int | None = None
    steps: int | None = None
    drop_last: bool = False
    label: str = ""
    shuffle: bool = True

    def state_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Laps:
    """How a stream of samples is cut into batches, lap after lap.

    Attributes:
        samples: samples of a lap that are walked.
        size: of a batch.
    """

    samples: int
    size: int

    @classmethod
    def over(cls, count: int, size: int, *, drop_last: bool = False, keep_single: bool = False) -> Laps:
        """Laps over ``count`` samples, less a short last batch where that is left out."""
        left = count % size
        short = left > 0 and count > size
        dropped = left if short and (drop_last or (left == 1 and not keep_single)) else 0
        return cls(count - dropped, size)

    @property
    def steps(self) -> int:
        """Batches of a lap."""
        return -(-self.samples // self.size)

    def walked(self, steps: int) -> int:
        """Samples in so many batches."""
        if not self.samples:
            return 0
        laps, rest = divmod(steps, self.steps)
        return laps * self.samples + min(rest * self.size, self.samples)
