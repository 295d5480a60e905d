"""CC: centrality and consistency divide the samples of two networks that train as in DivideMix (Zhao et al., ECCV 2022)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, Rate
from harness_plugins.algorithms.divide_mix import MIX, DivideMix, MixedRows, in_mode, labelled_losses, unlabelled_loss
from harness_plugins.algorithms.semi_supervised import balance, fit_seed, minmax, mixture_posterior

DISCREPANCY = "discrepancy"
"""The label of passes in which the heads of a network are driven apart."""
SCORED = 512
"""Samples of a forward pass that only scores."""


def central_scores(vectors: Tensor, predicted: Tensor, given: Tensor, classes: int) -> Tensor:
    """(N,) cosine of each vector with the centre of its given class, the normalised mean over samples predicted as it.

    The official code's centre of a class that nobody is predicted as is NaN; here it is that of the samples given this
    label.

    Args:
        vectors: (N, d) of length 1.
        predicted, given: (N,) int64 classes.
        classes: their number.
    """

    def sums(labels: Tensor) -> Tensor:
        return vectors.new_zeros(classes, vectors.shape[1]).index_add_(0, labels, vectors)

    empty = torch.bincount(predicted, minlength=classes) == 0
    centres = functional.normalize(torch.where(empty[:, None], sums(given), sums(predicted)), dim=1)
    return (vectors * centres[given]).sum(1)


def discrepancies(first: Tensor, second: Tensor) -> Tensor:
    """``|softmax z1 - softmax z2|_1`` per row, (B,), of logits (B, K) each."""
    return (first.softmax(1) - second.softmax(1)).abs().sum(1)


def class_shares(targets: Tensor, shares: Tensor) -> Tensor:
    """(B,) the share of each sample's class, normalised over the batch, of classes (B,) and shares (K,)."""
    own = shares[targets]
    return own / own.sum()


class Heads(nn.Module):
    """A reduction of the features, and two classifiers on it: BatchNorm, ReLU, linear."""

    def __init__(self, features: int, width: int, classes: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(features, width)
        self.pair = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes)) for _ in range(2)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, width) reduced features and both classifiers' logits (B, K)."""
        reduced = self.reduction(features)
        return reduced, self.pair[0](reduced), self.pair[1](reduced)


class CC(DivideMix):
    """Clean are samples near the centre of their class on which two driven heads agree (Zhao et al., 2022).

    Each network has a reduction of its features and two heads on it. In an epoch after the warm-up both networks score all
    samples by their cosine with the centre of their given class; `w` is the posterior of the upper of two Gaussians, S
    what lies above `threshold`. Then for network 1, after it for network 2: the heads of the *other* network are driven
    apart on its S for `discrepancy_steps` steps; on a fresh view of S, per given class, the posterior of the smaller of
    two discrepancies must reach `consistency`; what does is labelled, all else is unlabelled in a pass as in
    :class:`~harness_plugins.algorithms.divide_mix.DivideMix` with `w`. The heads train on the same mixed rows, from detached
    features; last, the network lowers their discrepancy. Prediction is by the mean of the main classifiers' logits.

    Follows the official code (uitrbn/TSCSI_IDN, 13bb0edf4219) for CIFAR. With `consistency` 0, its value but for CIFAR-100
    at 60 %, every posterior reaches it, so that these are not fitted then. Deviations, besides those of DivideMix: the
    centre of a class that nobody is predicted as is that of its given samples (NaN in the code); a class with fewer than
    two samples in S keeps them (an assertion fails); in the step that lowers the discrepancy the main classifier is left
    alone, as in today's torch (the authors' kept zero gradients, by which momentum and decay moved it). The heads'
    optimizers are like the trial's; a second one, with a momentum of its own, drives them apart, at the trial's present
    rate. The variant for Clothing1M is not offered. RRM weighs rows of the main classifier's labelled loss only.

    Options by data set: CIFAR-10 `threshold` .4; CIFAR-100 .4, .5, .3 at 20, 40, 60 %, there `consistency` .3. B 64.

    Args:
        warmup, lambda_u, temperature, alpha, confidence_penalty, guess_mode: as in DivideMix.
        threshold: `tau`, above which a centrality's posterior makes a sample a candidate.
        consistency: `d_tau`, which the posterior of its discrepancy must reach.
        discrepancy_steps: of driving the heads apart, for each network and epoch.
        discrepancy: `m`, the weight of driving them apart and of bringing them together.
        width: of the reduction.
    """

    name = "cc"

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 30,
        lambda_u: NonNegative = 25.0,
        threshold: Rate = 0.4,
        consistency: Rate = 0.0,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        discrepancy_steps: Count = 100,
        discrepancy: NonNegative = 0.1,
        width: Count = 128,
        confidence_penalty: bool = False,
        guess_mode: Literal["train", "eval"] = "train",
    ) -> None:
        super().__init__(
            warmup,
            lambda_u,
            threshold,
            temperature,
            alpha,
            confidence_penalty=confidence_penalty,
            guess_mode=guess_mode,
        )
        self.consistency = consistency
        self.discrepancy_steps = discrepancy_steps
        self.discrepancy = discrepancy
        self.width = width
        self.head_names = dict(zip(self.names, (f"{self.name}.heads_1", f"{self.name}.heads_2"), strict=True))
        self.pair_names = dict(zip(self.names, (f"{self.name}.pair_1", f"{self.name}.pair_2"), strict=True))

    def setup(self, run: Run) -> None:
        """DivideMix's, and the heads of each network with their optimizers, of which the second has the pair alone."""
        super().setup(run)
        for name in self.names:
            head = run.new_head(
                self.head_names[name], name, lambda features: Heads(features, self.width, run.num_outputs), "own"
            )
            assert isinstance(head, Heads)
            pair = head.pair
            run.new_head(self.pair_names[name], name, lambda _, pair=pair: pair, "own", "constant")  # type: ignore[misc]

    def heads(self, run: Run, network: str) -> Heads:
        """The heads of a network."""
        head = run.heads[self.head_names[network]]
        assert isinstance(head, Heads)
        return head

    # --- the passes ----------------------------------------------------------------------------------------------------

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """For each network: a pass of the other one's heads over its candidates, then one over what is labelled."""
        if run.epoch <= self.warmup:
            return super().next_pass(run, number)
        if number == 2 * len(self.names):
            return None
        if number == 0:
            self.divide(run)
        network = self.names[number // 2]
        judge = self.other(network)
        if number % 2 == 0:
            return self.discrepancy_pass(run, judge)
        if self.consistency:
            self.keep_consistent(run, judge)
        labelled, unlabelled = self.parts[judge]
        if len(labelled) < 2:
            return self.warmup_pass(run, network)
        return self.mixed_pass(run, network, labelled, unlabelled)

    def posterior(self, run: Run, network: str, index: Tensor) -> Tensor:
        """(N,) posteriors of the upper of two centralities."""
        heads = self.heads(run, network)
        features = run.examine(network, ("features",)).features
        with torch.no_grad(), in_mode(heads, training=False):
            reduced, first, second = heads(features)
        predicted = (first + second).argmax(1)
        vectors = functional.normalize(reduced, dim=1)
        scores = minmax(central_scores(vectors, predicted, run.targets, run.num_outputs))
        return mixture_posterior(scores, fit_seed(run.seed, run.epoch, network), "upper", 100, 1e-1)

    def discrepancy_pass(self, run: Run, judge: str) -> Pass:
        """Steps of a network's heads on its candidates; none where there are fewer than two."""
        candidates = self.parts[judge][0]
        if len(candidates) < 2:
            candidates = candidates[:0]
        rate = run.of(judge).optimizer.param_groups[0]["lr"]
        for group in run.nets.trainee(self.pair_names[judge]).optimizer.param_groups:
            group["lr"] = rate
        return Pass(candidates, judge, steps=self.discrepancy_steps, label=DISCREPANCY)

    def keep_consistent(self, run: Run, judge: str) -> None:
        """Parts the samples by what of a network's candidates is consistent."""
        index = self.parts[judge][0]
        posterior = torch.ones(len(index), device=run.device, dtype=run.dtype)
        apart, given = self.apart(run, judge, index), run.targets[index]
        for label in range(run.num_outputs):
            own = (given == label).nonzero()[:, 0]
            seed = fit_seed(run.seed, run.epoch, judge, "consistency", label)
            posterior[own] = mixture_posterior(minmax(apart[own]), seed)
        labelled = torch.zeros(run.num_samples, device=run.device, dtype=torch.bool)
        labelled[index[posterior >= self.consistency]] = True
        self.parts[judge] = (labelled.nonzero()[:, 0], (~labelled).nonzero()[:, 0])

    @torch.no_grad()
    def apart(self, run: Run, network: str, index: Tensor) -> Tensor:
        """(n,) discrepancies of a network's heads on fresh weak views of samples, in eval mode."""
        model, heads = run.of(network).model, self.heads(run, network)
        found = [run.targets.new_zeros(0).to(run.dtype)]
        with in_mode(model, training=False), in_mode(heads, training=False):
            for part in index.split(SCORED) if len(index) else ():
                _, features = run.forward(run.view(part, "weak"), model, features=True)
                found.append(discrepancies(*heads(features)[1:]))
        return torch.cat(found)

    # --- a step --------------------------------------------------------------------------------------------------------

    def train_step(self, run: Run, step: Step) -> bool:
        """A step of warm-up, of driving heads apart, or on mixed rows."""
        if step.label == DISCREPANCY:
            self.drive_apart(run, step)
        elif step.label != MIX or step.beside is None:
            self.warmup_step(run, step)
        else:
            self.mixed_step(run, step)
        return True

    def warmup_step(self, run: Run, step: Step) -> None:
        """Cross entropy of the network, then, after another forward pass, of both heads."""
        inputs, targets = step.inputs, step.targets
        super().warmup_step(run, step)
        _, first, second = self.heads(run, step.network)(self.features(run, step.network, inputs))
        losses = [functional.cross_entropy(outputs, targets) for outputs in (first, second)]
        self.lower(run, step, losses[0] + losses[1], self.head_names[step.network])

    def drive_apart(self, run: Run, step: Step) -> None:
        """Raises the discrepancy of a network's heads, classes weighted by their shares of its candidates."""
        _, first, second = self.heads(run, step.network)(self.features(run, step.network, step.inputs))
        given = run.targets[self.parts[step.network][0]]
        shares = torch.bincount(given, minlength=run.num_outputs) / len(given)
        weighted = discrepancies(first, second) * class_shares(step.targets, shares.to(run.dtype))
        self.lower(run, step, -self.discrepancy * weighted.mean(), self.pair_names[step.network])

    def mixed_step(self, run: Run, step: Step) -> None:
        """The network on mixed rows, its heads on the same, and the network once more, to bring the heads together."""
        network = step.network
        model, heads = run.of(network).model, self.heads(run, network)
        rows, weight = self.mix(run, step, self.views(run, step)), self.unlabelled_weight(run, step)
        outputs, features = run.forward(rows.inputs, model, features=True)
        _, first, second = heads(features.detach())
        step.index, step.divisor = rows.owners, rows.labelled
        step.inputs, step.targets = rows.inputs[: rows.labelled], rows.targets[: rows.labelled]
        step.losses = labelled_losses(outputs, rows.targets, rows.labelled)
        step.penalty = weight * unlabelled_loss(outputs, rows.targets, rows.labelled) + balance(outputs)
        run.descend(step)
        losses = [self.head_loss(one, rows, weight) for one in (first, second)]
        self.lower(run, step, losses[0] + losses[1], self.head_names[network])
        _, features = run.forward(rows.inputs, model, features=True)
        apart = discrepancies(*heads(features)[1:]).mean()
        self.lower(run, step, self.discrepancy * apart, network)

    def head_loss(self, outputs: Tensor, rows: MixedRows, weight: float) -> Tensor:
        """The loss of one head on mixed rows; of the balance each head has half."""
        supervised = labelled_losses(outputs, rows.targets, rows.labelled).mean()
        return supervised + weight * unlabelled_loss(outputs, rows.targets, rows.labelled) + balance(outputs) / 2

    @staticmethod
    @torch.no_grad()
    def features(run: Run, network: str, inputs: Tensor) -> Tensor:
        """(B, d) features without gradient, in the mode of the network, whose statistics move in train mode."""
        return run.forward(inputs, run.of(network).model, features=True)[1]

    @staticmethod
    def lower(run: Run, step: Step, loss: Tensor, name: str) -> None:
        """One step of a network or of heads on a loss that belongs to no sample."""
        apart = Step(step.index[:0], step.inputs[:0], step.targets[:0], "train", step.number, step.network, step.label)
        apart.losses, apart.penalty, apart.divisor = loss.new_zeros(0), loss, 1
        run.descend(apart, (name,))
        if step.loss is None:
            step.loss = loss.detach()
