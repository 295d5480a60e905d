"""SOP+: SOP with consistency between two views and balance between classes (Liu et al., ICML 2022, appendix A.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness import Declares, Run, Step, hookimpl
from harness.parameters import NonNegative
from harness_plugins.algorithms.sop import EPSILON, SOP, sop_losses


def consistency(outputs: Tensor, view_outputs: Tensor) -> Tensor:
    """``KL(sg(softmax z1) || softmax z2)`` per sample, (B,), of logits on two views, (B, K) each."""
    return functional.kl_div(
        view_outputs.log_softmax(1), outputs.detach().log_softmax(1), reduction="none", log_target=True
    ).sum(1)


def class_balance(corrected: Tensor) -> Tensor:
    """``-(1/K) sum_k log clamp(mean_i r_ik, 1e-4, 1)``, a scalar, of predictions (B, K): least when classes are
    even."""
    return -corrected.mean(0).clamp(EPSILON, 1.0).log().mean()


class SOPPlus(SOP):
    """SOP + `lam_c` consistency with a strong view + `lam_b` class balance (Liu et al., 2022, appendix A.3).

    As in the official code: both views go through the network as one batch; the balance term takes the predictions
    after `U` and `V` (the paper: the plain ones), so it moves `u` too; the consistency term takes plain predictions
    and its first argument carries no gradient; each sample's loss has the balance of its batch added, so that in a short
    last batch both terms are divided alike. Deviations: the view is the setting's augmentation followed by
    :func:`harness.training.views.strong_view`, standardised with the data set's own statistics (the code normalises
    CIFAR-100's second view with CIFAR-10's). Passes that only score samples use SOP's own losses.

    Args:
        lr_u: learning rate of u; CIFAR-10 10, CIFAR-100 1.
        lr_v: learning rate of v; CIFAR-10 10 (asymmetric 100), CIFAR-100 10 (asymmetric 100).
        lam_c: weight of consistency; 0.9 in Table A.1.
        lam_b: weight of class balance; 0.1 in Table A.1.
    """

    declares = Declares(
        replaces="ce", sample_state=True, needs_per_sample=True, whole_batch="always", views=("strong",)
    )

    def __init__(
        self, lr_u: NonNegative = 10.0, lr_v: NonNegative = 10.0, lam_c: NonNegative = 0.9, lam_b: NonNegative = 0.1
    ) -> None:
        super().__init__(lr_u, lr_v)
        self.lam_c = lam_c
        self.lam_b = lam_b
        self._views: tuple[Tensor, Tensor] | None = None

    @hookimpl(trylast=True)
    def before_forward(self, run: Run, step: Step) -> None:
        """Appends the strong views, so that batch normalisation sees both as one batch."""
        if step.phase == "train" and self.lam_c:
            step.inputs = torch.cat([step.inputs, run.view(step.index, "strong")])

    @hookimpl(tryfirst=True)
    def after_forward(self, run: Run, step: Step) -> None:
        """Takes the views' outputs away again before any other hook sees them."""
        if step.phase == "train" and self.lam_c:
            assert step.outputs is not None
            batch = len(step.index)
            self._views = (step.outputs[:batch], step.outputs[batch:])
            step.inputs, step.outputs = step.inputs[:batch], step.outputs[:batch]

    def compute_losses(self, run: Run, step: Step) -> bool:
        """Replaces cross entropy."""
        assert step.outputs is not None
        losses, corrected = sop_losses(step.outputs, step.targets, self.u[step.index], self.v[step.index])
        if step.phase == "train":
            if self._views is not None:
                losses = losses + self.lam_c * consistency(*self._views)
                self._views = None
            if self.lam_b:
                losses = losses + self.lam_b * class_balance(corrected)
        step.losses = losses
        return True
