"""CDR: robust early-learning (Xia et al., 2021): only critical parameters follow the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness import Declares, Run, Step
from harness.parameters import Count, NoiseRate
from harness_plugins.algorithms.running import EpochMean
from harness_plugins.algorithms.selection import kth_smallest


def ranked_weights(model: nn.Module, among: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The weights that CDR ranks: of convolution and linear layers, or the factors of their parametrization.

    Biases, batch normalisation and whatever an algorithm has added are left out; a weight that layers share counts
    once.
    """
    allowed = {id(parameter): parameter for parameter in among}
    found: list[nn.Parameter] = []
    for module in model.modules():
        if not isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            continue
        if parametrize.is_parametrized(module, "weight"):
            parameters = list(module.parametrizations["weight"].parameters(recurse=False))  # type: ignore[union-attr,index]
        else:
            parameters = [module.weight]
        found += [parameter for p in parameters if (parameter := allowed.pop(id(p), None)) is not None]
    return found


def critical_threshold(scores: Tensor, count: int) -> Tensor:
    """The ``count``-th largest of (m,) scores, a scalar, by partial selection."""
    return kth_smallest(scores, scores.numel() - count + 1)


def scheduled_tau(tau: float, epoch: int, num_gradual: int | None) -> float:
    """The share of weights that are not critical in an epoch.

    Args:
        tau: the noise rate.
        epoch: from 1.
        num_gradual: epochs over which the share rises linearly from 0 to ``tau``; ``None`` is ``tau`` throughout.
    """
    if num_gradual is None or num_gradual == 1:
        return tau
    return tau * min(1.0, (epoch - 1) / (num_gradual - 1))


@torch.no_grad()
def keep_critical(weights: Sequence[Tensor], gradients: Sequence[Tensor], tau: float) -> Tensor:
    """Scale the gradients of critical weights by ``1 - tau`` and zero the others, in place.

    Critical are the ``int((1 - tau) m)`` weights with the largest ``|w g|`` over all layers together; ties keep more.

    Args:
        weights, gradients: of the ranked layers, same shapes.
        tau: share of weights that are not critical: the noise rate.

    Returns:
        The share of weights that were critical, a scalar tensor.
    """
    scores = torch.cat([(w * g).abs_().flatten() for w, g in zip(weights, gradients, strict=True)])
    count = int((1 - tau) * scores.numel())
    if count == 0:
        for g in gradients:
            g.zero_()
        return torch.zeros((), device=scores.device)
    mask = scores >= critical_threshold(scores, count)
    for g, part in zip(gradients, torch.split(mask, [g.numel() for g in gradients]), strict=True):
        g.mul_(part.view_as(g)).mul_(1 - tau)
    return mask.count_nonzero() / mask.numel()


class CDR:
    """`g <- (1 - tau) g` for critical weights, those with large `|w g|`, and 0 for others (Xia et al., ICLR 2021).

    Follows the official code: one ranking over all convolution and linear weights (or their parametrization factors);
    biases and batch normalisation keep their gradient; weight decay is the optimizer's l2 (the CDR paper has l1), and
    with momentum non-critical weights still move through the buffer.

    Args:
        tau: the noise rate, given to the method (an oracle) unless a number is written.
        schedule: `constant`: `1 - tau` in every epoch, as the official code runs. `gradual`: from 1 down to `1 - tau`
            over the first `num_gradual` epochs, which that code computes and then overwrites.
        num_gradual: epochs of the gradual schedule; 10 for (Fashion-)MNIST, 20 for CIFAR in the official code.
    """

    declares = Declares(tasks=("classification", "regression"))

    def __init__(
        self,
        tau: NoiseRate = "noise.rate",
        schedule: Literal["constant", "gradual"] = "constant",
        num_gradual: Count = 10,
    ) -> None:
        self.tau = float(tau)
        self.num_gradual = num_gradual if schedule == "gradual" else None

    def setup(self, run: Run) -> None:
        """Finds the weights to rank; those of further networks when they are first trained."""
        self.weights = {"": ranked_weights(run.model, run.model_parameters)}
        self.shares = EpochMean(("cdr.critical_share",), run.device)

    def epoch_start(self, run: Run) -> None:
        """A new mean of the critical share."""
        self.shares.reset()

    def after_backward(self, run: Run, step: Step) -> None:
        """Masks and scales gradients of the network that is trained."""
        if step.network not in self.weights:
            network = run.of(step.network)
            self.weights[step.network] = ranked_weights(network.model, network.parameters)
        pairs = [(w, w.grad) for w in self.weights[step.network] if w.grad is not None]
        if pairs:
            tau = scheduled_tau(self.tau, run.epoch, self.num_gradual)
            self.shares.add(keep_critical([w for w, _ in pairs], [g for _, g in pairs], tau))

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean share of weights that were critical in the epoch's steps."""
        return self.shares.means()

    def state_dict(self) -> dict[str, Any]:
        """The mean of the epoch so far."""
        return {"shares": self.shares.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.shares.load_state_dict(state["shares"])
