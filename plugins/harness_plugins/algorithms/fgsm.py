"""FGSM adversarial training (Goodfellow et al., 2015); with RRM it makes A-RRM."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Declares, HarnessError, Run, Step
from harness.parameters import NonNegative


def fgsm_perturbation(gradient: Tensor, epsilon: float) -> Tensor:
    """``epsilon * sign(gradient)``, the shape of the inputs."""
    return epsilon * gradient.sign()


class FGSM:
    """Train on `x + epsilon sign(grad_x J)`, recomputed for every batch (Goodfellow et al., 2015).

    As in the RRM paper's A-RRM: `epsilon` is in standardised units, the result is not clipped, `J` is the stack's
    unweighted loss. The perturbation also applies in the passes by which RRM ranks samples.

    Args:
        epsilon: size of the step in standardised units (on MNIST 1 is .308 of the pixel range).
    """

    declares = Declares(tasks=("classification", "regression"), perturbs_inputs=True)

    def __init__(self, epsilon: NonNegative = 0.1) -> None:
        self.epsilon = epsilon

    def before_forward(self, run: Run, step: Step) -> None:
        """Moves the inputs."""
        if not step.inputs.is_floating_point():
            raise HarnessError(
                "perturbs real-valued inputs, these are tokens", "algorithms.fgsm", "remove it from the stack"
            )
        if self.epsilon == 0:
            return
        with torch.enable_grad():
            inputs = step.inputs.detach().requires_grad_(True)
            losses = run.losses(inputs, step.targets, step.index, "probe")
            (gradient,) = torch.autograd.grad(losses.sum(), inputs)
        step.inputs = step.inputs.detach() + fgsm_perturbation(gradient, self.epsilon)
