"""SuperLoss (Castells, Weinzaepfel and Revaud, NeurIPS 2020): each loss by the confidence that fits it best."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import Positive, Rate


def lambert_w(values: Tensor) -> Tensor:
    """The principal branch of Lambert's function: `w` with `w exp(w) = x`.

    Args:
        values: `x` >= -1/e, of any shape.

    Returns:
        `w` >= -1, to the precision of the type, without gradient.
    """
    x = values.detach()
    root = (2 * (1 + math.e * x)).clamp_min(0).sqrt()
    w = torch.where(x < -0.1, -1 + root - root**2 / 3, x.clamp_min(-0.1).log1p())
    for _ in range(6):  # Halley's method
        error = w - x * (-w).exp()
        slope = (w + 1).clamp_min(torch.finfo(x.dtype).eps)
        w = w - error / (slope - (w + 2) * error / (2 * slope))
    return w.clamp_min(-1)


def confidence(losses: Tensor, tau: Tensor | float, lam: float) -> Tensor:
    """`sigma* = exp(-W(max(-2/e, (l - tau) / lam) / 2))` per sample: above 1 where a loss is below `tau` (eq. 8)."""
    return (-lambert_w(((losses - tau) / lam).clamp_min(-2 / math.e) / 2)).exp()


def super_losses(losses: Tensor, tau: Tensor | float, lam: float) -> Tensor:
    """`min_sigma (l - tau) sigma + lam (log sigma)^2` per sample (eq. 7); `sigma*` is the derivative by the loss."""
    sigma = confidence(losses, tau, lam)
    return (losses - tau) * sigma + lam * sigma.log() ** 2


class SuperLoss:
    """A curriculum in one step: small losses count more, large ones less (Castells et al., 2020).

    It takes the losses of whatever stands in the stack. In the limit of a large `lam` every sample counts alike. The
    confidence itself carries no gradient, as in the official code: it is a minimum, so its derivative is 0.

    Args:
        tau: what a loss is compared with: `classes`, the loss `log K` of a guess, or `average`, a running average of
            the losses.
        lam: strength; the paper searches 1 and 0.25 for classification.
        decay: of the running average; 0.9.
    """

    declares = Declares(needs_per_sample=True)

    def __init__(self, tau: Literal["classes", "average"] = "classes", lam: Positive = 1.0, decay: Rate = 0.9) -> None:
        self.averages = tau == "average"
        self.lam = lam
        self.decay = decay

    def setup(self, run: Run) -> None:
        """`tau`, and each sample's last confidence."""
        self.tau = torch.full((), math.log(run.num_outputs), device=run.device, dtype=run.dtype)
        self.confidence = torch.ones(run.num_samples, device=run.device, dtype=run.dtype)

    def after_losses(self, run: Run, step: Step) -> None:
        """Replaces the losses of a training step."""
        if step.phase != "train":
            return
        losses = step.losses.detach()
        if self.averages:
            self.tau = torch.lerp(losses.mean(), self.tau, self.decay)
        self.confidence.index_copy_(0, step.index, confidence(losses, self.tau, self.lam))
        step.losses = super_losses(step.losses, self.tau, self.lam)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how little confidence they were given last."""
        run.score_samples("superloss.doubt", -self.confidence)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """What losses are compared with, and the mean confidence."""
        return {"superloss.tau": float(self.tau), "superloss.confidence": float(self.confidence.mean())}

    def state_dict(self) -> dict[str, Any]:
        """The average and the confidences."""
        return {"tau": self.tau, "confidence": self.confidence}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.tau = state["tau"].to(self.tau.device, copy=True)
        self.confidence.copy_(state["confidence"])
