"""RegMixup (Pinto et al., NeurIPS 2022): mixup beside the clean batch, as a regulariser, in place of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness import Declares, HarnessError, Run, Step, hookimpl
from harness.parameters import NonNegative, Positive
from harness_plugins.algorithms.mixup import draw_beta, mix


def mixture_losses(outputs: Tensor, targets: Tensor, partners: Tensor, lam: float) -> Tensor:
    """Cross entropy of mixed samples, each label's share in the row of the sample whose label it is.

    Their mean is ``mean_i (lam CE(z_i, y_i) + (1 - lam) CE(z_i, y_pi(i)))``, the loss of RegMixup.

    Args:
        outputs: (B, K) logits of ``lam x_i + (1 - lam) x_pi(i)``.
        targets: (B,) classes or (B, K) probabilities of the unmixed samples.
        partners: (B,) the permutation ``pi``.
        lam: in [0, 1].

    Returns:
        (B,): row ``i`` is ``lam CE(z_i, y_i) + (1 - lam) CE(z_j, y_i)`` with ``pi(j) = i``.
    """
    own = functional.cross_entropy(outputs, targets, reduction="none")
    other = functional.cross_entropy(outputs, targets.index_select(0, partners), reduction="none")
    return lam * own + (1 - lam) * torch.zeros_like(other).index_copy(0, partners, other)


class RegMixup:
    """The stack's loss plus `weight` times cross entropy on mixed samples (Pinto et al., 2022).

    As in the official code of SURE (YutingLi0606/SURE, a355ecfcd1f8), whose part it is: one `l ~ Beta(alpha, alpha)` for a
    batch, not raised to its larger side, which for `alpha` = 10 mostly lies near one half; partners by a permutation; a
    forward pass of its own, so that statistics of batch normalisation move once more. The mixed loss is cross entropy
    whatever the stack's loss is. Each label's share counts with the weight of its own sample, so that what RRM prunes is
    pruned here too.

    Args:
        alpha: of the Beta distribution; 10 in SURE, 10 or 20 in RegMixup.
        weight: of the mixed loss; 1.
    """

    declares = Declares(steps_again=True)

    def __init__(self, alpha: Positive = 10.0, weight: NonNegative = 1.0) -> None:
        self.alpha = alpha
        self.weight = weight

    @hookimpl(trylast=True)
    def after_losses(self, run: Run, step: Step) -> None:
        """Adds the mixed losses in training steps, from inputs and targets as other parts have left them."""
        if step.phase not in ("train", "again"):
            return
        if not step.inputs.is_floating_point():
            raise HarnessError(
                "mixes real-valued inputs, these are tokens", "algorithms.reg_mixup", "remove it from the stack"
            )
        assert step.losses is not None
        generator = run.generator("algorithm")
        lam = draw_beta(self.alpha, generator)
        partners = torch.randperm(len(step.index), generator=generator).to(run.device, non_blocking=True)
        outputs = run.forward(mix(step.inputs, partners, lam), run.of(step.network).model)
        rows = self.weight * mixture_losses(outputs, step.targets, partners, lam)
        step.losses = step.losses + (rows if step.losses.ndim else rows.mean())
