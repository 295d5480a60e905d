"""LoRA: a weight that stays as it is, plus a product of low rank that is trained (Hu et al., ICLR 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness import Declares, HarnessError
from harness.parameters import Count, Positive
from harness_plugins.transforms.layers import ONCE, factorable, matrix_shape, to_weight

WHERE = "transforms.lora"


class LowRankUpdate(nn.Module):
    """The parametrization of one weight: ``W + (alpha / rank) A B``, with ``W`` frozen, laid out as (in, out).

    A (m, r) starts Kaiming uniform with ``a = sqrt(5)`` as in the official code (microsoft/LoRA, a LoRA of a linear layer:
    ``U(-1/sqrt(m), 1/sqrt(m))``), B (r, n) at zero, so that the model starts as it was.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        m, n = matrix_shape(weight)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, m, dtype=weight.dtype, device=weight.device))
        self.b = nn.Parameter(torch.zeros(n, rank, dtype=weight.dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        if weight.ndim == 2:
            return torch.addmm(weight, self.b, self.a, alpha=self.scale)
        return weight + self.scale * to_weight((self.b @ self.a).t(), weight.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What stays as it is for a weight that is assigned, as where an algorithm renews a layer: without the update."""
        return weight - self.forward(torch.zeros_like(weight))


def named(path: str, name: str) -> bool:
    """Whether a path is a name, or ends in it after a dot; of names with ``|`` between them, any."""
    return any(path == one or path.endswith(f".{one}") for one in name.split("|"))


class LoRA:
    """Chosen linear and convolution weights stay as they are and get an update of low rank, which alone is trained.

    As Hugging Face's peft has it without dropout: ``W + (alpha / rank) B A``, for the layers whose names end in one of
    `targets`. Only these weights are frozen here; `freeze` freezes the rest of a model. Their biases stay trained without it.

    Table 12 of the RRM paper: `transforms = [{ name = "freeze", except = ["pre_classifier", "classifier"] },
    { name = "lora", rank = 4, targets = ["q_lin"] }]` on `distilbert` trains 628,994 parameters as printed.

    Args:
        targets: names of layers, such as `q_lin` or `attention.self.query`: the ends of their paths. `q_lin|query` is
            whichever the model has.
        rank: of the update.
        alpha: the update is scaled by `alpha / rank`.
    """

    declares = Declares(
        tasks=("classification", "multilabel", "regression"),
        refuses={
            **dict.fromkeys(("kpd", "rank_factorization", "lora"), ONCE),
            **dict.fromkeys(("sop_linear", "sparse_recovery"), "theta is the dense weight, which here is frozen"),
        },
    )

    def __init__(self, targets: list[str], rank: Count = 4, alpha: Positive = 8.0) -> None:
        self.targets = targets
        self.rank = rank
        self.alpha = alpha

    def __call__(self, model: nn.Module) -> nn.Module:
        """Parametrize a model in place and return it.

        Raises:
            HarnessError: when a target names no linear or convolution layer, or one whose weight is factorised already.
        """
        if not self.targets:
            raise HarnessError("no layer is named", f"{WHERE}.targets", 'name some, such as ["query"]')
        layers = [(path, module) for path, module in model.named_modules() if factorable(module)]
        for target in self.targets:
            if not any(named(path, target) for path, _ in layers):
                known = sorted({path.rpartition(".")[2] for path, _ in layers})
                raise HarnessError(
                    f"no linear or convolution layer is named {target!r}",
                    f"{WHERE}.targets",
                    f"choose from {', '.join(known)}" if known else "choose a model that has some",
                )
        for path, module in layers:
            if not any(named(path, target) for target in self.targets):
                continue
            if parametrize.is_parametrized(module, "weight"):
                raise HarnessError(f"the weight of {path} is already parametrized", WHERE, "use one factorisation")
            module.weight.requires_grad_(False)  # type: ignore[union-attr]
            update = LowRankUpdate(module.weight.detach(), self.rank, self.alpha)  # type: ignore[operator, arg-type]
            parametrize.register_parametrization(module, "weight", update)
        return model
