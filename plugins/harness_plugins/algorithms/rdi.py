"""RDI: regularisation by the distance to the initialisation (Hu, Li and Yu, 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness import Declares, Run, Step, hookimpl
from harness.parameters import NonNegative


@torch.no_grad()
def add_pull(parameters: Sequence[Tensor], initial: Sequence[Tensor], strength: float) -> None:
    """Add ``strength * (w - w0)`` to the gradients of ``parameters``, in place; a missing gradient counts as 0."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    distances = torch._foreach_sub(list(parameters), list(initial))
    torch._foreach_add_(gradients, list(distances), alpha=strength)


class RDI:
    """Distance to initialisation: `(1/N) (sum_i loss_i + B lam^2/2 ||w - w0||^2)`, batches of B (Hu et al., 2020, eq. 3).

    Every step adds `lam^2 (B / N) (w - w0)` to the gradient of the batch's mean loss, on all parameters of the network;
    `lam^2 (w - w0)` when a batch holds all samples. Hu et al. have `sum_i loss_i + lam^2/2 ||w - w0||^2`: their lambda is
    `sqrt(B) lam`. With half the squared error, `||z - y||^2 / 2`, and AUX's
    rows at the network's learning rate, a linear model trained by full-batch gradient descent takes the same path under
    AUX and under RDI; with `l2`, which has no half, AUX at lam is RDI at `sqrt(2) lam`. In CDR + RDI the pull stands
    outside CDR's mask, like weight decay, which it replaces: set `weight_decay = 0`. No official code is reachable.

    Args:
        lam: strength; to be chosen on noisy validation from {1, 2, 4, 8, 16}.
    """

    declares = Declares(tasks=("classification", "regression"))

    def __init__(self, lam: NonNegative = 1.0) -> None:
        self.lam = lam
        self.initial: dict[str, list[Tensor]] = {}

    def setup(self, run: Run) -> None:
        """``w0``: a copy of the parameters; of further networks when they are first trained."""
        self.parameters = run.model_parameters
        self.initial = {"": [parameter.detach().clone() for parameter in self.parameters]}

    @hookimpl(trylast=True)
    def after_backward(self, run: Run, step: Step) -> None:
        """Pulls the network that is trained to its initialisation, after every mask on the gradients."""
        parameters = run.of(step.network).parameters
        if step.network not in self.initial:
            self.initial[step.network] = [parameter.detach().clone() for parameter in parameters]
        share = min(run.batch_size, run.num_samples) / run.num_samples
        add_pull(parameters, self.initial[step.network], self.lam**2 * share)

    @torch.no_grad()
    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Euclidean distance of the trial's own network from its initial parameters."""
        squares = [(w - w0).square().sum() for w, w0 in zip(self.parameters, self.initial[""], strict=True)]
        return {"rdi.distance": float(torch.stack(squares).sum().sqrt())}

    def state_dict(self) -> dict[str, Any]:
        """The initial parameters."""
        further = {name: initial for name, initial in self.initial.items() if name}
        return {"initial": self.initial[""], "further": further}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        device = self.parameters[0].device
        saved = {"": state["initial"], **state.get("further", {})}  # checkpoints of earlier harnesses know one network
        self.initial = {name: [w0.to(device) for w0 in initial] for name, initial in saved.items()}
