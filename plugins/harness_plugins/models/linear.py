"""A linear model: one layer from flattened inputs to outputs."""

from __future__ import annotations

import math

from torch import nn


def linear(input_shape: tuple[int, ...], num_outputs: int, bias: bool = True) -> nn.Module:
    """One linear layer on flattened inputs.

    Args:
        bias: whether the layer has a bias.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), num_outputs, bias=bias))
