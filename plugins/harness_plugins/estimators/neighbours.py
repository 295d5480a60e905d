"""Nearest neighbours by cosine similarity, by blocks of rows; ties go to the smaller index, and no sample is its own."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

ENTRIES = 2**25
"""Similarities that are held at once: 128 MiB."""
FOUND = 16
"""Neighbours within a drawn subset that a list should hold on average: fewer than two then happens once in 2 million."""


def directions(features: Tensor) -> Tensor:
    """(N, d) rows of norm 1; a row of zeros stays, and is at distance 1 from all."""
    return torch.nn.functional.normalize(features, dim=1)


def nearest(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` nearest others of every sample.

    Args:
        rows: (N, d) of norm 1.
        count: below N.

    Returns:
        (N, count) similarities, from the largest, and (N, count) int32 indices. Of several that tie at the end of a list
        any may be in it.
    """
    similarities = torch.empty(len(rows), count, dtype=rows.dtype)
    indices = torch.empty(len(rows), count, dtype=torch.int32)
    size = max(1, ENTRIES // len(rows))
    for start in range(0, len(rows), size):
        block = rows[start : start + size] @ rows.T
        own = torch.arange(len(block))
        block[own, start + own] = -math.inf
        found, index = block.topk(count)
        index, order = index.sort(1)
        found, by_value = found.gather(1, order).sort(dim=1, descending=True, stable=True)
        similarities[start : start + size] = found
        indices[start : start + size] = index.gather(1, by_value).int()
    return similarities, indices


def two_nearest(rows: Tensor, asked: Tensor, subset: Tensor) -> Tensor:
    """The two nearest of some samples within a subset, searched for.

    Args:
        rows: (N, d) of norm 1.
        asked: (m,) samples.
        subset: (n,) samples among which is searched, in order of their index.

    Returns:
        (m, 2) indices.
    """
    found = torch.empty(len(asked), 2, dtype=torch.int64)
    among = rows[subset]
    size = max(1, ENTRIES // len(subset))
    for start in range(0, len(asked), size):
        part = asked[start : start + size]
        block = rows[part] @ among.T
        block[part[:, None] == subset] = -math.inf
        for which in range(2):
            best = block.argmax(1)
            found[start : start + size, which] = subset[best]
            block[torch.arange(len(part)), best] = -math.inf
    return found


class Subsets:
    """Drawn subsets with the two nearest neighbours of each member within the subset.

    Where it costs less than searching each subset, all samples are searched once and the subsets are read off the lists.
    A member of whom a list holds fewer than two others of the subset, or of whose neighbours the last ties with the end
    of the list, is searched for. So the result is that of searching each subset.
    """

    def __init__(self, features: Tensor, size: int, rounds: int) -> None:
        self.rows = directions(features)
        self.count = len(features)
        self.size = min(size, self.count)
        self.rounds = rounds if self.size < self.count else 1  # of all samples there is one subset
        self.lists: tuple[Tensor, Tensor] | None = None
        length = 3 if self.size == self.count else math.ceil(FOUND * self.count / self.size)
        if self.rounds * self.size**2 >= self.count**2:
            self.lists = nearest(self.rows, min(self.count - 1, length))

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """For each round (n,) members, in order of their index, and (n, 2) their nearest two."""
        for _ in range(self.rounds):
            members = torch.from_numpy(np.sort(rng.choice(self.count, self.size, replace=False)))
            yield members, self.within(members)

    def within(self, members: Tensor) -> Tensor:
        """(n, 2) the two nearest of each member among the members."""
        if self.lists is None:
            return two_nearest(self.rows, members, members)
        similarities, indices = self.lists
        inside = torch.zeros(self.count, dtype=torch.bool)
        inside[members] = True
        near = indices[members]
        belongs = inside[near]
        order = belongs.cumsum(1)
        place = torch.stack([((order == number) & belongs).int().argmax(1) for number in (1, 2)], 1)
        found = near.gather(1, place).long()
        last = similarities[members].gather(1, place[:, 1:]).squeeze(1)
        whole = indices.shape[1] == self.count - 1
        unsure = order[:, -1] < 2
        if not whole:
            unsure |= last <= similarities[members, -1]
        if bool(unsure.any()):
            found[unsure] = two_nearest(self.rows, members[unsure], members)
        return found
