"""mixup (Zhang et al., ICLR 2018): convex combinations of pairs of samples and of their labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness import Declares, HarnessError, Run, Step
from harness.parameters import Positive


def mix(values: Tensor, partners: Tensor, lam: float) -> Tensor:
    """``lam * x + (1 - lam) * x[partners]`` along the first axis.

    Args:
        values: (B, ...) real numbers.
        partners: (B,) int64 positions in the batch.
        lam: in [0, 1].
    """
    return torch.lerp(values.index_select(0, partners), values, lam)


def draw_beta(alpha: float, generator: torch.Generator) -> float:
    """One number from Beta(alpha, alpha) by a CPU generator: a symmetric Dirichlet of two."""
    concentration = torch.full((1, 2), alpha, dtype=torch.float64)
    return float(torch._sample_dirichlet(concentration, generator=generator)[0, 0])


class Mixup:
    """Train on `lam x_i + (1 - lam) x_j` with targets mixed alike (Zhang et al., 2018, eq. 1).

    As in the official code: one `lam ~ Beta(alpha, alpha)` per batch, partners by a random permutation of the batch.
    The code mixes two losses, `lam CE(y_i) + (1 - lam) CE(y_j)`; for cross entropy, which is linear in the target, the
    soft targets of the paper give the same.

    Args:
        alpha: of the Beta distribution; 1 for CIFAR-10. The paper's experiments with corrupted labels (section 3.4)
            take 8 and 32.
    """

    declares = Declares(mixes_samples=True)

    def __init__(self, alpha: Positive = 1.0) -> None:
        self.alpha = alpha

    def before_forward(self, run: Run, step: Step) -> None:
        """Mixes inputs and targets of a training step; passes that score single samples see them unmixed."""
        if step.phase != "train":
            return
        if not step.inputs.is_floating_point():
            raise HarnessError(
                "mixes real-valued inputs, these are tokens", "algorithms.mixup", "remove it from the stack"
            )
        generator = run.generator("algorithm")
        lam = draw_beta(self.alpha, generator)
        partners = torch.randperm(len(step.index), generator=generator).to(run.device, non_blocking=True)
        targets = step.targets
        if targets.ndim == 1:
            targets = functional.one_hot(targets, run.num_outputs).to(step.inputs.dtype)
        step.inputs = mix(step.inputs, partners, lam)
        step.targets = mix(targets, partners, lam)
