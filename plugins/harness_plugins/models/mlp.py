"""Multi-layer perceptrons."""

from __future__ import annotations

import itertools
import math

from torch import nn

from harness.parameters import Count


def mlp(
    input_shape: tuple[int, ...],
    num_outputs: int,
    hidden: list[Count] = [256, 256],  # noqa: B006 -- a parameter's default is read, never changed
    bias: bool = True,
) -> nn.Module:
    """Linear layers with ReLU between them, on flattened inputs.

    Args:
        hidden: widths of the hidden layers.
        bias: whether layers have biases.
    """
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_outputs, bias=bias))
