"""The two networks of the RRM and A-RRM experiments on MNIST, as the authors' code has them."""

from __future__ import annotations

import math

from torch import nn

from harness import HarnessError
from harness_plugins.models.mlp import mlp

HIDDEN = (320, 320, 200)


def rrm_mlp(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The MNIST-3 network of the RRM paper (appendix C): 784-320-320-200-3 with ReLU and without biases.

    417,880 parameters on 28 x 28 x 1 with three classes. Weights start Glorot uniform, Keras' default.
    """
    model = mlp(input_shape, num_outputs, hidden=list(HIDDEN), bias=False)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return model


def rrm_cnn(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The A-RRM network (RRM paper, section 4.2.2): conv 32, pool, conv 64, conv 64, pool, 100, K.

    Kernels are 3 x 3 without padding, pools 2 x 2: 159,254 parameters on 28 x 28 x 1 with ten classes. The text has a
    pool after each convolution; the code has two pools, which is followed here. As in the code, weights start He
    uniform (`U(-l, l)`, `l = sqrt(6 / fan_in)`), those of the last layer Glorot uniform, and biases zero.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 14:
        raise HarnessError(
            f"needs images of at least 14 x 14, got shape {tuple(input_shape)}", "models.rrm_cnn", "choose mlp"
        )
    channels, *sides = input_shape
    flat = 64 * math.prod(((side - 2) // 2 - 4) // 2 for side in sides)
    model = nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, 100),
        nn.ReLU(),
        nn.Linear(100, num_outputs),
    )
    for layer in model:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.xavier_uniform_(model[-1].weight)  # type: ignore[arg-type]
    return model
