"""SOP: sparse over-parameterisation (Liu et al., ICML 2022): each sample learns its own label noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from harness import Declares, Run, Step
from harness.parameters import NonNegative
from harness.training.run import SampleState

EPSILON = 1e-4
INIT_STD = 1e-8


def sop_noise(u: Tensor, v: Tensor, onehot: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of the modelled noise, ``U = u^2 Y`` and ``V = v^2 (1 - Y)``, each clamped to [0, 1].

    Args:
        u: (B, 1), only the entry of the given label is used.
        v: (B, K).
        onehot: (B, K) given labels.
    """
    return (u.square() * onehot).clamp(0, 1), (v.square() * (1 - onehot)).clamp(0, 1)


def sop_losses(outputs: Tensor, targets: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of SOP's official code, per sample.

    ``CE(normalise(clamp(p + U - sg(V))), y) + ||onehot(argmax z) + U - V - Y||^2``.

    Args:
        outputs: (B, K) logits.
        targets: (B,) int64 classes.
        u, v: (B, 1) and (B, K) rows of the samples.

    Returns:
        (B,) losses, and (B, K) the corrected, normalised predictions.
    """
    onehot = functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    noise_u, noise_v = sop_noise(u, v, onehot)
    shifted = (outputs.softmax(1) + noise_u - noise_v.detach()).clamp(min=EPSILON)
    corrected = (shifted / shifted.sum(1, keepdim=True).clamp(min=EPSILON)).clamp(EPSILON, 1.0)
    ce = -corrected.log().gather(1, targets[:, None]).squeeze(1)
    predicted = functional.one_hot(outputs.argmax(1), outputs.shape[1]).to(outputs.dtype)
    mse = (predicted + noise_u - noise_v - onehot).square().sum(1)
    return ce + mse, corrected


class SOP:
    """Sparse over-parameterisation: noise `u^2 Y - v^2 (1 - Y)` per sample, learnt with the network (Liu et al., 2022).

    Follows the official code where it departs from the paper's Algorithm 1: `u` is (N, 1); `u` gets gradients of both
    terms, `v` of the squared error only, the network of cross entropy only; `u^2` and `v^2` are clamped inside the
    loss; `u` and `v` step with every batch at absolute learning rates on the batch-mean loss (no momentum, decay or
    schedule). Scale `lr_u`, `lr_v` with B / 128 for another batch size.

    Args:
        lr_u: learning rate of u; CIFAR-10 10, CIFAR-100 1.
        lr_v: learning rate of v; CIFAR-10 10 (asymmetric 100), CIFAR-100 10 (asymmetric 100).
    """

    declares = Declares(replaces="ce", sample_state=True, needs_per_sample=True)

    def __init__(self, lr_u: NonNegative = 10.0, lr_v: NonNegative = 10.0) -> None:
        self.lr_u = lr_u
        self.lr_v = lr_v

    def setup(self, run: Run) -> None:
        """``u`` (N, 1) and ``v`` (N, K), both N(0, 1e-8^2)."""

        def tiny(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
            return INIT_STD * torch.randn(shape, generator=generator)

        self.u: SampleState = run.sample_state("sop.u", 1, tiny, self.lr_u)
        self.v: SampleState = run.sample_state("sop.v", run.num_outputs, tiny, self.lr_v)

    def compute_losses(self, run: Run, step: Step) -> bool:
        """Replaces cross entropy."""
        assert step.outputs is not None
        step.losses, _ = sop_losses(step.outputs, step.targets, self.u[step.index], self.v[step.index])
        return True

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how much the learnt noise takes from their given label."""
        run.score_samples("sop.noise", self.noise_scores(run))

    def noise_scores(self, run: Run) -> Tensor:
        """(N,) mass of the learnt noise: ``u_y^2 + sum_{k != y} v_k^2``, each clamped to 1."""
        v = self.v.data.square().clamp(0, 1)
        v = v.scatter(1, run.targets[:, None], 0.0)
        return self.u.data.square().clamp(0, 1).squeeze(1) + v.sum(1)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean of u^2, mean row sum of v^2, and the share of samples whose learnt noise exceeds 0.5."""
        scores = self.noise_scores(run)
        return {
            "sop.u_squared": float(self.u.data.square().mean()),
            "sop.v_squared": float(self.v.data.square().sum(1).mean()),
            "sop.recovered_share": float((scores > 0.5).float().mean()),
        }
