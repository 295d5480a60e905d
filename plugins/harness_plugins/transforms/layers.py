"""What every factorising transform does: find the weights, lay them out as matrices, register the parametrization.

A weight is laid out as ALGORITHMS' (in, out) matrix: a linear layer's transpose, (n_in, n_out); a convolution's kernel
(c_out, c_in, kh, kw) as (kh c_in, kw c_out), ``M[a c_in + c, b c_out + o] = kernel[o, c, a, b]``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness import HarnessError

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def factorable(module: nn.Module) -> bool:
    """Whether a module's weight is factorised: linear and two-dimensional, ungrouped convolution layers."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """(m, n) of the matrix that a weight is laid out as."""
    if weight.ndim == 2:
        return weight.shape[1], weight.shape[0]
    out, channels, height, width = weight.shape
    return height * channels, width * out


def to_matrix(weight: Tensor) -> Tensor:
    """A layer's weight as (m, n) matrix."""
    if weight.ndim == 2:
        return weight.t()
    m, n = matrix_shape(weight)
    return weight.permute(2, 1, 3, 0).reshape(m, n)


def to_weight(matrix: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`to_matrix`, for a weight of the given shape."""
    if len(shape) == 2:
        return matrix.t()
    out, channels, height, width = shape
    return matrix.reshape(height, channels, width, out).permute(3, 1, 0, 2)


def parametrize_layers(model: nn.Module, make: Callable[[Tensor], nn.Module], name: str) -> nn.Module:
    """Put a parametrization on the weight of every factorable layer, in place.

    Args:
        model: any model.
        make: a parametrization for a dense weight.
        name: of the transform, for errors.

    Raises:
        HarnessError: when the model has no weight to factorise, or one is already parametrized.
    """
    layers = [(path, module) for path, module in model.named_modules() if factorable(module)]
    if not layers:
        raise HarnessError("the model has no linear or convolution weight to factorise", f"transforms.{name}", "remove it")
    for path, module in layers:
        if parametrize.is_parametrized(module, "weight"):
            raise HarnessError(f"the weight of {path or 'the model'} is already parametrized", f"transforms.{name}", "use one factorisation")
        parametrize.register_parametrization(module, "weight", make(module.weight.detach()), unsafe=True)
    return model


def kaiming_variance(weight: Tensor) -> float:
    """Variance of the Kaiming initialisation with ReLU of a dense weight: ``2 / fan_in``."""
    return 2.0 / weight[0].numel()
