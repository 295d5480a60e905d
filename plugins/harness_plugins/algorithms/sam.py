"""SAM: sharpness-aware minimisation (Foret et al., ICLR 2021): the gradient is taken where the loss is largest nearby."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares, Run, Step, hookimpl
from harness.parameters import Positive

EPSILON = 1e-12


def climbs(gradients: list[Tensor], rho: float) -> list[Tensor]:
    """``rho g / (|g| + 1e-12)``, with the norm of all gradients together."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return list(torch._foreach_mul(gradients, rho / (norm + EPSILON)))


class SAM:
    """Step from `w` by the gradient at `w + rho g / |g|` (Foret et al., 2021).

    As in the official code of SURE (YutingLi0606/SURE, a355ecfcd1f8), whose part it is: the norm is that of all
    parameters, the loss at the climbed weights is that of the same batch through the same stack, with what is drawn at
    random drawn anew (RegMixup's mixtures, dropout); statistics of batch normalisation move in both passes; weight decay
    is the optimizer's, in the step from `w` only. Weights of samples and rows of per-sample state (ELR's averages, SOP's u)
    are those of the first pass. Other parts of the stack that change gradients (CDR, RDI) change those of the second.

    Args:
        rho: how far to climb; 0.05.
    """

    declares = Declares(
        tasks=("classification", "multilabel", "regression"),
        steps_again=True,
        refuses={"sop_plus": "the pass at the climbed weights has no second view to compare with"},
    )

    def __init__(self, rho: Positive = 0.05) -> None:
        self.rho = rho

    @hookimpl(tryfirst=True)
    def after_backward(self, run: Run, step: Step) -> None:
        """Replaces gradients by those at the climbed weights."""
        weights: list[Tensor] = [p for p in run.of(step.network).parameters if p.grad is not None]
        gradients = [w.grad for w in weights if w.grad is not None]
        with torch.no_grad():
            before = [w.clone() for w in weights]
            torch._foreach_add_(weights, climbs(gradients, self.rho))
        run.zero_grad((step.network,))
        run.reduce(run.again(step, statistics=True)).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
