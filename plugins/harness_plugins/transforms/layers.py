"""What every factorising transform does: find the weights, lay them out as matrices, register the parametrization.

A weight is laid out as ALGORITHMS' (in, out) matrix: a linear layer's transpose, (n_in, n_out); a convolution's kernel
(c_out, c_in, kh, kw) as (kh c_in, kw c_out), ``M[a c_in + c, b c_out + o] = kernel[o, c, a, b]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from harness import HarnessError

ONCE = "each factorises the same weights, and a weight is factorised once"


def factorable(module: nn.Module) -> bool:
    """Whether a module's weight is factorised: linear and two-dimensional, ungrouped convolution layers.

    Other weights (grouped or one-dimensional convolutions, embeddings, `nn.MultiheadAttention`'s own) stay dense: the
    papers say nothing of them.
    """
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


class _Taps(torch.autograd.Function):
    """(kw, c_out, kh, c_in) as (c_out, c_in, kh, kw), contiguous, written once.

    A permuting copy runs over kw numbers at a time and takes three times as long as stacking kh kw planes; autograd's
    own backward of the stack would fill a whole array for each plane, where a permuted view is enough.
    """

    @staticmethod
    def forward(ctx: Any, planes: Tensor) -> Tensor:
        width, out, height, channels = planes.shape
        taps = [planes[b, :, a] for a in range(height) for b in range(width)]
        return torch.stack(taps, -1).view(out, channels, height, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].permute(3, 0, 2, 1)


def to_weight(matrix: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of :func:`to_matrix`, contiguous, for a weight of the given shape.

    Cheapest for a matrix whose transpose is contiguous: a linear or 1 x 1 layer then costs no copy, a larger
    kernel one.
    """
    if len(shape) == 2:
        return matrix.t().contiguous()
    out, channels, height, width = shape
    planes = matrix.t().reshape(width, out, height, channels)
    if height * width == 1:
        return planes.view(shape)
    weight: Tensor = _Taps.apply(planes)  # type: ignore[no-untyped-call]
    return weight


def parametrize_layers(model: nn.Module, make: Callable[[Tensor], nn.Module], name: str) -> nn.Module:
    """Put a parametrization on the weight of every factorable layer, in place.

    Args:
        model: any model.
        make: a parametrization for a dense weight.
        name: of the transform, for errors.

    Raises:
        HarnessError: when the model has no weight to factorise, or one is already parametrized, shared by two layers
            or without a shape yet.
    """
    where = f"transforms.{name}"
    layers = [(path or "the model", module) for path, module in model.named_modules() if factorable(module)]
    if not layers:
        raise HarnessError("the model has no linear or convolution weight to factorise", where, "remove the transform")
    owners: dict[int, str] = {}
    for path, module in layers:
        if parametrize.is_parametrized(module, "weight"):
            raise HarnessError(f"the weight of {path} is already parametrized", where, "use one factorisation")
        if isinstance(module.weight, UninitializedParameter):
            raise HarnessError(f"the weight of {path} has no shape yet", where, "give the layer its input size")
        if (other := owners.setdefault(id(module.weight), path)) != path:
            raise HarnessError(f"{other} and {path} share one weight", where, "remove the transform, or untie them")
    for _, module in layers:
        parametrize.register_parametrization(module, "weight", make(module.weight.detach()), unsafe=True)
    return model


def kaiming_variance(weight: Tensor) -> float:
    """Variance of the Kaiming initialisation with ReLU of a dense weight: ``2 / fan_in``."""
    return 2.0 / weight[0].numel()
