"""A fixed stratified split for data that come without a test set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.training.data import stratified_subset


def stratified_holdout(targets: Tensor, test_size: int) -> tuple[Tensor, Tensor]:
    """Sorted indices of training and test samples; always the same for the same targets."""
    held = stratified_subset(targets, test_size, np.random.Generator(np.random.PCG64(0)))
    mask = torch.ones(len(targets), dtype=torch.bool)
    mask[held] = False
    return torch.nonzero(mask).squeeze(1), held
