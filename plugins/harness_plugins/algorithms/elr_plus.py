"""ELR+: early-learning regularisation with two networks, averaged teachers and mixup (Liu et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from harness import Declares, Pass, Run, Step
from harness.parameters import NonNegative, Positive, Rate
from harness_plugins.algorithms.elr import CLAMP, elr_penalty
from harness_plugins.algorithms.semi_supervised import Blend, refuse_tokens, sigmoid_ramp, soft_cross_entropy

PEER = "elr_plus"
NETWORKS = ("", PEER)
TEACHERS = (f"{PEER}.average_1", f"{PEER}.average_2")
GATED_CLASSES = 100


def average_decay(step: int, decay: float, ramp_steps: int) -> float:
    """How much an average keeps of itself after step ``step``, counted from 1 over all epochs.

    ``sigmoid_ramp(step + 1, ramp_steps) * decay``; with ``ramp_steps`` 0 a true average at first, ``min(1 - 1 / (step +
    1), decay)``.
    """
    if ramp_steps == 0:
        return min(1 - 1 / (step + 1), decay)
    return sigmoid_ramp(step + 1, ramp_steps) * decay


def gated(targets: Tensor, averages: Tensor) -> Tensor:
    """Mixed labels times mixed averages, (B, K) each, normalised; what the official code does with 100 classes."""
    products = targets * averages
    return products / products.sum(1, keepdim=True).clamp_min(torch.finfo(products.dtype).tiny)


class ELRPlus:
    """ELR with two networks that mixup trains, each pulled to targets that the average of the other network makes.

    In an epoch network 1 has its whole pass, then network 2. A step mixes the batch, moves the samples' targets `t` by the
    other network's average on the unmixed view, and takes `soft CE + ramp lam log(1 - <q, p>)`, `q` the mixed targets. Then
    the average of the network that was trained follows. Prediction is by the mean of both networks' logits; the averages only
    teach.

    Follows the official code (shengliu66/ELR at 934af53434a3) in its order on one GPU: the targets take the plain softmax
    of the average, which stays in train mode and whose batch statistics are those of the batch; a mean over the batch's
    own samples. Deviations: one split and one set of noisy labels for both networks (the code draws both anew for each);
    with parametrised weights (KPD) the factors are averaged, and the average of factors is not the factor of the
    average. Samples that RRM weighs own the row of their larger share; the regularisation is not weighted.

    Defaults are those of CIFAR-10 with symmetric noise.

    | | CIFAR-10 | asymmetric | CIFAR-100 | Clothing1M | WebVision |
    |---|---|---|---|---|---|
    | lam, beta | 3, .7 | 1, .9 | 7, .9 | 3, .7 | 3, .7 |
    | penalty_steps | 0 | 0 | 40000 | 0 | 0 |
    | decay, decay_steps | .997, 40000 | same | same | .9999, 0 | .997, 0 |
    | alpha | 1 | 1 | 1 | 1 | 1.5 |

    Args:
        lam: weight of the regularisation.
        beta: momentum of the targets.
        alpha: of mixup's Beta distribution.
        penalty_steps: steps over which the regularisation rises, of both networks alike; 0 is none.
        decay: what an average keeps of itself in the end.
        decay_steps: steps over which that rises; 0 is a true average at first (the code's `ema_update` off).
        gate: whether labels are multiplied by the targets; `auto`: with 100 classes, as in the code.
    """

    declares = Declares(own_step=True, descends=True, replaces="ce", needs_per_sample=True)

    def __init__(
        self,
        lam: NonNegative = 3.0,
        beta: Rate = 0.7,
        alpha: Positive = 1.0,
        penalty_steps: Annotated[int, Ge(0)] = 0,
        decay: Rate = 0.997,
        decay_steps: Annotated[int, Ge(0)] = 40_000,
        gate: Literal["auto", "on", "off"] = "auto",
    ) -> None:
        self.lam = lam
        self.beta = beta
        self.alpha = alpha
        self.penalty_steps = penalty_steps
        self.decay = decay
        self.decay_steps = decay_steps
        self.gate = gate

    def setup(self, run: Run) -> None:
        """Network 2, both averages, each initialised by a stream of its own, and the targets (2, N, K), zeros."""
        run.new_network(PEER)
        self.averages = [run.average(name, of, "fresh") for name, of in zip(TEACHERS, NETWORKS, strict=True)]
        self.t = torch.zeros(2, run.num_samples, run.num_outputs, device=run.device, dtype=run.dtype)
        self.steps = self.steps_of_epoch = 0

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """Network 1 over all samples, then network 2."""
        return Pass(network=NETWORKS[number]) if number < len(NETWORKS) else None

    def train_step(self, run: Run, step: Step) -> bool:
        """One step of the pass's network, then of its average."""
        refuse_tokens(step.inputs, PEER)
        k = NETWORKS.index(step.network)
        blend = Blend.draw(len(step.index), self.alpha, run.generator("algorithm"), run.device)
        outputs = run.forward(blend(step.inputs), run.of(step.network).model)
        q = blend(self._teach(run, step, k))
        labels = blend(functional.one_hot(step.targets, run.num_outputs).to(run.dtype))
        if self.gate == "on" or (self.gate == "auto" and run.num_outputs == GATED_CLASSES):
            labels = gated(labels, q)
        step.losses = soft_cross_entropy(outputs, labels)
        step.divisor = len(step.index)
        done = self.steps + step.number + 1
        pull = elr_penalty(outputs.softmax(1).clamp(CLAMP, 1 - CLAMP), q).mean()
        step.penalty = sigmoid_ramp(done, self.penalty_steps) * self.lam * pull
        run.descend(step)
        self.averages[k].update(average_decay(done, self.decay, self.decay_steps))
        if k == 0:
            self.steps_of_epoch = step.number + 1
        return True

    @torch.no_grad()
    def _teach(self, run: Run, step: Step, k: int) -> Tensor:
        """(B, K) targets of the batch, moved towards what the average of the other network says."""
        said = run.forward(step.inputs, self.averages[1 - k].model).softmax(1)
        rows = self.beta * self.t[k].index_select(0, step.index) + (1 - self.beta) * said
        self.t[k].index_copy_(0, step.index, rows)
        return rows

    def epoch_end(self, run: Run) -> None:
        """Counts the epoch's steps, and scores samples by how little of their targets lies on the given label."""
        self.steps += self.steps_of_epoch
        given = self.t.mean(0).gather(1, run.targets[:, None]).squeeze(1)
        run.score_samples("elr_plus.disagreement", 1 - given)

    def predict(self, run: Run, inputs: Tensor) -> Tensor:
        """Log-probabilities of the mean logits of both networks."""
        return ((run.forward(inputs) + run.forward(inputs, run.of(PEER).model)) / 2).log_softmax(1)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean squared norm of the targets: how confident they are."""
        return {"elr_plus.confidence": float(self.t.square().sum(2).mean())}

    def state_dict(self) -> dict[str, Any]:
        """Targets and numbers of steps; networks and averages are in the run's state."""
        return {"t": self.t, "steps": self.steps, "steps_of_epoch": self.steps_of_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.t = state["t"].to(self.t.device, copy=True)
        self.steps, self.steps_of_epoch = int(state["steps"]), int(state["steps_of_epoch"])
