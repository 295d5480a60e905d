"""Co-teaching (Han et al., NeurIPS 2018): two networks, each trained on the samples whose loss is small for the
other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import Count, NoiseRate, Positive
from harness_plugins.algorithms.running import EpochMean
from harness_plugins.algorithms.selection import small_loss_mask


def forget_schedule(forget_rate: float, epoch: int, warmup: int, exponent: float = 1.0) -> float:
    """The share forgotten in an epoch: ``tau^c min(epoch / (warmup - 1), 1)`` while ``epoch < warmup``, then ``tau``.

    Args:
        forget_rate: ``tau``.
        epoch: from 1.
        warmup: ``T_k``.
        exponent: ``c``; as in the official code it bends the height that the ramp reaches, not its shape.
    """
    if epoch >= warmup:
        return forget_rate
    return float(forget_rate**exponent) * epoch / (warmup - 1)


def selected_mean(losses: Tensor, mask: Tensor, divisor: float) -> Tensor:
    """Mean of the selected losses (B,), times ``B / divisor``, so that a short last batch may count less; 0 of none."""
    return (losses * mask).sum() / mask.sum().clamp_min(1) * (len(losses) / divisor)


class CoTeaching:
    """Two networks that teach each other: each steps on the small-loss samples of the other (Han et al., 2018).

    Follows the official code: the share forgotten rises over `warmup` epochs, of which the first already forgets
    `tau / (warmup - 1)`; `int((1 - R) B)` samples of a batch are kept. Deviation: the code divides the mean over the
    kept samples by their number once more, which Adam cancels and SGD does not; here it is the mean. Any per-sample
    loss may stand in for cross entropy. Prediction is by network 1, as the code reports each network by itself, or by
    both.

    Args:
        forget_rate: `tau`, the noise rate (an oracle) unless a number is written.
        warmup: `T_k`, epochs of the rise; 10.
        exponent: `c` of the rise; 1.
        ensemble: predict by the mean of both networks' log-probabilities, normalised.
    """

    declares = Declares(own_step=True, needs_per_sample=True)
    name = "co_teaching"

    def __init__(
        self,
        forget_rate: NoiseRate = "noise.rate",
        warmup: Count = 10,
        exponent: Positive = 1.0,
        ensemble: bool = False,
    ) -> None:
        self.forget_rate = float(forget_rate)
        self.warmup = warmup
        self.exponent = exponent
        self.ensemble = ensemble

    def setup(self, run: Run) -> None:
        """The second network, and the samples' last losses."""
        run.new_network(self.name)
        self.losses = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)
        self.means = EpochMean((f"{self.name}.selected_share", f"{self.name}.disagreement"), run.device)

    def epoch_start(self, run: Run) -> None:
        """New means."""
        self.means.reset()

    def select(self, run: Run, step: Step, losses: Tensor, disagree: Tensor) -> Tensor:
        """(B,) bool: what one network teaches the other, from its losses (B,) and where predictions differ (B,)."""
        return small_loss_mask(losses, forget_schedule(self.forget_rate, run.epoch, self.warmup, self.exponent))

    def reduce(self, losses: Tensor, mask: Tensor, divisor: float) -> Tensor:
        """The scalar that a network steps on, from its losses (B,) and what it was taught (B,)."""
        return selected_mean(losses, mask, divisor)

    def train_step(self, run: Run, step: Step) -> bool:
        """One step of both networks, each on the other's selection."""
        networks = (run.network, run.networks[self.name])
        outputs = [run.forward(step.inputs, network.model) for network in networks]
        losses = [run.stack.loss(output, step.targets, step.index) for output in outputs]
        disagree = outputs[0].argmax(1) != outputs[1].argmax(1)
        taught = [self.select(run, step, loss.detach(), disagree) for loss in losses]
        reduced = []
        for network, loss, mask in zip(networks, losses, reversed(taught), strict=True):
            network.optimizer.zero_grad(set_to_none=True)
            reduced.append(self.reduce(loss, mask, run.divisor(step)))
            reduced[-1].backward()  # type: ignore[no-untyped-call]
            if run.clip is not None:
                torch.nn.utils.clip_grad_norm_(network.model.parameters(), run.clip)
            network.optimizer.step()
        step.loss = torch.stack(reduced).detach().mean()
        self.losses.index_copy_(0, step.index, torch.stack(losses).detach().mean(0))
        self.means.add(taught[0].float().mean(), disagree.float().mean())
        return True

    def predict(self, run: Run, inputs: Tensor) -> Tensor | None:
        """Log-probabilities of both networks together; by network 1 alone unless ``ensemble``."""
        if not self.ensemble:
            return None
        models = (run.model, run.networks[self.name].model)
        logs = [run.forward(inputs, model).log_softmax(1) for model in models]
        return torch.stack(logs).mean(0).log_softmax(1)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by their mean loss under both networks, as of their last batch."""
        run.score_samples(f"{self.name}.loss", self.losses)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Means over the epoch: the share of a batch that network 1 taught, and the share on which the networks
        differ."""
        return self.means.means()

    def state_dict(self) -> dict[str, Any]:
        """Losses and means; the network is in the run's state."""
        return {"losses": self.losses, "means": self.means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.losses = state["losses"].to(self.losses.device, copy=True)
        self.means.load_state_dict(state["means"])
