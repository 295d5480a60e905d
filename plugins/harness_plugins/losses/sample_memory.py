"""One number for each training sample, which a loss keeps for itself (pruning weights, lambdas)."""

from __future__ import annotations

import torch
from torch import Tensor


class SampleMemory:
    """A vector with an entry for each sample, ``init`` at first.

    In a trial :meth:`allocate` makes all entries at once; without one the vector grows to the largest index it meets,
    so that a loss works by itself.
    """

    def __init__(self, init: float) -> None:
        self.init = init
        self.data = torch.empty(0)
        self._allocated = False

    def allocate(self, num_samples: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """``num_samples`` entries on a device; from here on the vector never grows."""
        self.data = torch.full((num_samples,), self.init, device=device, dtype=dtype)
        self._allocated = True

    def read(self, index: Tensor | None, like: Tensor) -> Tensor:
        """(B,) entries of the samples ``index`` in the type of ``like``; fresh ones when ``index`` is ``None``."""
        if index is None:
            return like.new_full((len(like),), self.init)
        self._reach(index, like)
        return self.data.index_select(0, index).to(like.dtype)

    def write(self, index: Tensor | None, entries: Tensor) -> None:
        """Keep (B,) entries of the samples ``index``; without an index there is nothing to keep them by."""
        if index is not None:
            self._reach(index, entries)
            self.data.index_copy_(0, index, entries.to(self.data.dtype))

    def load(self, data: Tensor) -> None:
        """Take over entries from a checkpoint."""
        self.data = data.detach().to(self.data.device, copy=True)

    def _reach(self, index: Tensor, like: Tensor) -> None:
        if self._allocated or not len(index):
            return
        missing = int(index.max()) + 1 - len(self.data)
        if missing > 0:
            self.data = torch.cat([self.data.to(like), like.new_full((missing,), self.init)]).detach()
