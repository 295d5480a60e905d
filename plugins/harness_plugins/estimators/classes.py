"""Classes that no label names: an estimate is made of the others, and says of these what is defined."""

from __future__ import annotations

import torch
from torch import Tensor


def present_classes(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(k,) classes that have a label, and (N,) labels counted among them."""
    present = torch.bincount(labels, minlength=num_classes).nonzero().squeeze(1)
    place = torch.zeros(num_classes, dtype=torch.int64)
    place[present] = torch.arange(len(present))
    return present, place[labels]


def among_all(matrix: Tensor, prior: Tensor, present: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """A (k, k) matrix and a (k,) prior among all K classes. One that no label names has prior 0 and keeps its label, the
    row of the identity: there is nothing that it could be read from."""
    whole = torch.eye(num_classes, dtype=torch.float64)
    whole[present[:, None], present] = matrix.double()
    shares = torch.zeros(num_classes, dtype=torch.float64)
    shares[present] = prior.double()
    return whole, shares
