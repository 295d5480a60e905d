"""JoCoR (Wei et al., CVPR 2020): two networks with one loss, which also asks them to agree; large losses are left out."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness import Declares, Run, Step
from harness.parameters import Count, NoiseRate, Rate

NAME = "jocor"


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """`KL(p1 || p2) + KL(p2 || p1)` per sample (eq. 4).

    Args:
        first, second: (B, K) logits of the two networks.

    Returns:
        (B,) divergences >= 0.
    """
    log_1, log_2 = first.log_softmax(1), second.log_softmax(1)
    one = functional.kl_div(log_2, log_1, reduction="none", log_target=True).sum(1)
    other = functional.kl_div(log_1, log_2, reduction="none", log_target=True).sum(1)
    return one + other


def joint_losses(first: Tensor, second: Tensor, lam: float, agreement: Tensor) -> Tensor:
    """`(1 - lam) (l_1 + l_2) + lam D` per sample (eq. 2), from losses (B,) and divergences (B,)."""
    return (1 - lam) * (first + second) + lam * agreement


def kept_share(forget_rate: float, epoch: int, warmup: int) -> float:
    """`R(t) = 1 - tau min(t / T_k, 1)`, t from 1 (section 3.4)."""
    return 1 - forget_rate * min(epoch / warmup, 1.0)


class JoCoR:
    """JoCoR: `(1 - lam)(l_1 + l_2) + lam (KL + KL)`, on the small-loss samples of the batch (Wei et al., 2020).

    Both networks step on the mean joint loss of the kept samples. Deviation: the official code trains both networks
    with one Adam; here each has the setting's optimizer, which is the same for plain updates per parameter. Prediction
    is by the first network, as in the official code. It replaces the training step, so algorithms that act between
    forward pass and step cannot stand beside it.

    Args:
        lam: weight of the agreement; 0.9 in the paper for MNIST and CIFAR-10, 0.85 for CIFAR-100.
        forget_rate: `tau`, the noise rate (an oracle) unless a number is written.
        warmup: `T_k`, epochs over which the forgotten share grows; 10.
    """

    declares = Declares(own_step=True, needs_per_sample=True)

    def __init__(self, lam: Rate = 0.9, forget_rate: NoiseRate = "noise.rate", warmup: Count = 10) -> None:
        self.lam = lam
        self.forget_rate = float(forget_rate)
        self.warmup = warmup

    def setup(self, run: Run) -> None:
        """Adds the second network, and keeps each sample's last joint loss."""
        run.new_network(NAME)
        self.last = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)

    def train_step(self, run: Run, step: Step) -> bool:
        """One step of both networks on the joint loss."""
        networks = (run.network, run.networks[NAME])
        outputs = [run.forward(step.inputs, network.model) for network in networks]
        losses = [run.stack.loss(output, step.targets, step.index) for output in outputs]
        joint = joint_losses(losses[0], losses[1], self.lam, disagreement(*outputs))
        count = max(1, int(kept_share(self.forget_rate, run.epoch, self.warmup) * len(joint)))
        kept = torch.topk(joint.detach(), count, largest=False).indices
        step.loss = joint[kept].mean() * (len(joint) / run.divisor(step))
        for network in networks:
            network.optimizer.zero_grad(set_to_none=True)
        step.loss.backward()
        for network in networks:
            network.optimizer.step()
        self.last.index_copy_(0, step.index, joint.detach())
        return True

    def epoch_end(self, run: Run) -> None:
        """Scores samples by their last joint loss: large ones are likely corrupted."""
        run.score_samples("jocor.joint_loss", self.last)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """The share of each batch that was kept."""
        return {"jocor.kept": kept_share(self.forget_rate, run.epoch, self.warmup)}

    def state_dict(self) -> dict[str, Any]:
        """The last losses; the second network is in the run's state."""
        return {"last": self.last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.last.copy_(state["last"])
