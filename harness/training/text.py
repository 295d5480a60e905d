"""Batches of texts: cut to their longest sample, and made of samples of about the same length where a suite asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.training.augment import Augmentation
from harness.training.data import ResidentSource

PAD = 0


def by_length(order: Tensor, lengths: Tensor, batch_size: int, window: int) -> Tensor:
    """An order whose batches hold samples of about the same length.

    Within each ``window`` batches samples are sorted by length, and the batches then stand in the order that the first of
    them has by chance; a short last batch stays the last. ``order`` alone decides, so an epoch can be gone on with.

    Args:
        order: (n,) positions of samples, in an order drawn by chance.
        lengths: (N,) of all samples.
        batch_size: samples of a batch.
        window: batches that are sorted together; 1 leaves every batch as it is.

    Returns:
        (n,) the same positions.
    """
    parts: list[Tensor] = []
    for chunk in order.split(batch_size * window):
        batches = chunk[lengths[chunk].argsort(stable=True)].split(batch_size)
        whole = len(chunk) // batch_size
        parts += [batches[k] for k in chunk[:whole].argsort().tolist()] + list(batches[whole:])
    return torch.cat(parts) if parts else order


class PaddedSource(ResidentSource):
    """Texts as (N, L) int64 tokens on the device, padded at the end by 0; a batch is as long as its longest sample.

    How long, is known on the host before a pass begins: no batch waits for the device.

    Args:
        inputs: (N, L) int64 tokens.
        device: where they live.
        window: batches whose samples are sorted by length together (:func:`by_length`); 0 for none.
    """

    def __init__(self, inputs: Tensor, device: torch.device, window: int = 0) -> None:
        super().__init__(inputs, None, Augmentation(), device)
        places = torch.arange(1, inputs.shape[1] + 1)
        self.lengths = torch.cat([torch.where(part != PAD, places, 1).amax(1) for part in inputs.cpu().split(4096)])
        self.window = window

    def gather(self, index: Tensor) -> Tensor:
        return self._cut(index, int(self.lengths[index.cpu()].max())) if len(index) else super().gather(index)

    def shuffled(
        self, order: Tensor, batch_size: int, skip: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = order.cpu()
        yield from self._walk(
            by_length(order, self.lengths, batch_size, self.window) if self.window else order, batch_size, skip
        )

    def ordered(self, batch_size: int, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        return self._walk(torch.arange(self.num_samples) if index is None else index.cpu(), batch_size, 0)

    def _walk(self, order: Tensor, batch_size: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        if not len(order):
            return
        longest = [int(part.max()) for part in self.lengths[order].split(batch_size)]
        parts = order.to(self.device).split(batch_size)
        for index, length in zip(parts[skip:], longest[skip:], strict=True):
            yield index, self._cut(index, length)

    def _cut(self, index: Tensor, length: int) -> Tensor:
        return self.inputs[:, :length].index_select(0, index)
