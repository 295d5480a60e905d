"""CC: centrality and consistency divide the samples of two networks that train as in DivideMix (Zhao et al., ECCV 2022)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import HarnessError, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, Rate
from harness.training import seeds
from harness_plugins.algorithms.divide_mix import (
    MIX,
    DivideMix,
    MixedRows,
    class_balanced,
    in_mode,
    labelled_losses,
    unlabelled_loss,
)
from harness_plugins.algorithms.semi_supervised import balance, fit_seed, minmax, mixture_posterior, negative_entropy

DISCREPANCY = "discrepancy"
"""The label of passes in which the heads of a network are driven apart."""
SCORED = 512
"""Samples of a forward pass that only scores."""
BINS = 256
DEEP_WIDTH = 64
DROPOUT = 0.5


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


def otsu_threshold(values: Tensor) -> float:
    """What parts values (n,) into two groups with the largest variance between them (Otsu, 1979).

    As scikit-image's `threshold_otsu`: over a histogram of 256 even bins from the least to the largest value, the centre of
    the last bin of the lower group; the first of equals. Where all values are equal nothing is to be parted, and it lies
    below them.
    """
    numbers = values.detach().double().cpu().numpy()
    if numbers.min() == numbers.max():
        return -np.inf
    counts, edges = np.histogram(numbers, BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    lower, upper = counts.cumsum(), counts[::-1].cumsum()[::-1]
    below = (counts * centres).cumsum() / lower
    above = (counts * centres)[::-1].cumsum()[::-1] / upper
    return float(centres[(lower[:-1] * upper[1:] * (below[:-1] - above[1:]) ** 2).argmax()])


def above_threshold_of_class(scores: Tensor, given: Tensor) -> Tensor:
    """(n,) 1 where a score (n,) lies above Otsu's threshold of the scores of its given class (n,), else 0."""
    chosen = torch.zeros_like(scores)
    for label in given.unique().tolist():
        own = given == label
        chosen[own] = (scores[own] > otsu_threshold(scores[own])).to(scores.dtype)
    return chosen


def evened(held: Tensor, given: Tensor, classes: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions of about ``size`` samples, those held and the others: of each part its share, as many of each class.

    Args:
        held: (n,) bool.
        given: (n,) int64 classes.
        classes: how many share a part.
        size: of both parts together.
        generator: on the CPU.

    Returns:
        Two of int64; of a class all that there are where they are fewer than its share, which is rounded down.
    """

    def part(positions: Tensor) -> Tensor:
        each = int(size / len(held) * len(positions) / classes)
        return positions[class_balanced(given[positions], each * classes, classes, generator)]

    return part(held.nonzero()[:, 0]), part((~held).nonzero()[:, 0])


def shallow(width: int, classes: int) -> nn.Module:
    """A classifier of reduced features: BatchNorm, ReLU, linear."""
    return nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))


def deep(width: int, classes: int) -> nn.Module:
    """A classifier of reduced features: twice linear, BatchNorm, ReLU and dropout, then linear."""
    return nn.Sequential(
        *(nn.Linear(width, DEEP_WIDTH), nn.BatchNorm1d(DEEP_WIDTH), nn.ReLU(), nn.Dropout(DROPOUT)),
        *(nn.Linear(DEEP_WIDTH, DEEP_WIDTH), nn.BatchNorm1d(DEEP_WIDTH), nn.ReLU(), nn.Dropout(DROPOUT)),
        nn.Linear(DEEP_WIDTH, classes),
    )


class Heads(nn.Module):
    """A reduction of the features, and two classifiers on it, made by ``make(width, classes)``."""

    def __init__(self, features: int, width: int, classes: int, make: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.reduction = nn.Linear(features, width)
        self.pair = nn.ModuleList(make(width, classes) for _ in range(2))

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
    rate. RRM weighs rows of the main classifier's labelled loss only.

    The code has another form for Clothing1M, `form` `clothing1m`. Each network draws and scores `scored` samples, as many of
    each given class; candidates are those above Otsu's threshold of their class's scores, the rest is dropped. Both pairs of
    heads are driven apart before either network has its pass. A candidate is labelled where its consistency's posterior,
    which then is its `w`, exceeds `threshold`, else unlabelled; of both parts together `subset` samples, as many of each class,
    make the pass, whose rows are the labelled ones alone. The heads have two more layers with dropout, and train on the mean
    of their losses, in the warm-up with the `confidence_penalty`. There the script divides at the end of an epoch, here at the
    start of the next; it tests the epoch that is best on clean validation.

    Options by data set: CIFAR-10 `threshold` .4; CIFAR-100 .4, .5, .3 at 20, 40, 60 %, there `consistency` .3. B 64.
    Clothing1M: that form, `warmup` 1, `threshold` .5, `alpha` .5, `discrepancy_steps` 1500, `driving` 2.3, `subset` 32000,
    `scored` 160000, `confidence_penalty`; B 32, SGD at .002, a tenth from epoch 40 of 80 on, weight decay 1e-3, ResNet-50.

    Args:
        warmup, lambda_u, temperature, alpha, confidence_penalty, guess_mode: as in DivideMix.
        threshold: `tau`, above which a centrality's posterior makes a sample a candidate, or see the other form.
        consistency: `d_tau`, which the posterior of its discrepancy must reach; not of the other form.
        discrepancy_steps: of driving the heads apart, for each network and epoch.
        discrepancy: `m`, the weight of bringing them together, and of driving them apart but for `driving`.
        width: of the reduction.
        form: `cifar` or `clothing1m`.
        driving: the weight of driving the heads apart, where it is another.
        subset: in the other form the samples of an epoch of each network (twice as many for the warm-up); all without.
        scored: in the other form the samples that each network scores in an epoch; all without.
    """

    declares = dataclasses.replace(DivideMix.declares, later=("form", "driving", "subset", "scored"))
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
        form: Literal["cifar", "clothing1m"] = "cifar",
        driving: NonNegative | None = None,
        subset: Count | None = None,
        scored: Count | None = None,
    ) -> None:
        self.shop = form == "clothing1m"
        for key, value in (("subset", subset), ("scored", scored)):
            if value is not None and not self.shop:
                raise HarnessError("goes with another form", f"algorithms.cc.{key}", "add form = 'clothing1m'")
        super().__init__(
            warmup,
            lambda_u,
            threshold,
            temperature,
            alpha,
            confidence_penalty=confidence_penalty,
            guess_mode=guess_mode,
            rows="labelled" if self.shop else "all",
            subset=subset,
        )
        self.consistency = consistency
        self.discrepancy_steps = discrepancy_steps
        self.discrepancy = discrepancy
        self.driving = discrepancy if driving is None else driving
        self.width = width
        self.scored = scored
        first, second = self.names
        driven, trained = [(DISCREPANCY, second), (DISCREPANCY, first)], [(MIX, first), (MIX, second)]
        self.order = [driven[0], trained[0], driven[1], trained[1]]
        if self.shop:
            self.order = [driven[1], driven[0], *trained]
        self.head_names = dict(zip(self.names, (f"{self.name}.heads_1", f"{self.name}.heads_2"), strict=True))
        self.pair_names = dict(zip(self.names, (f"{self.name}.pair_1", f"{self.name}.pair_2"), strict=True))

    def setup(self, run: Run) -> None:
        """DivideMix's, and the heads of each network with their optimizers, of which the second has the pair alone."""
        super().setup(run)
        make = deep if self.shop else shallow
        for name in self.names:
            head = run.new_head(
                self.head_names[name], name, lambda features: Heads(features, self.width, run.num_outputs, make), "own"
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
        """Passes of each network's heads over its candidates, and of the other network over what is labelled."""
        if run.epoch <= self.warmup:
            return super().next_pass(run, number)
        if number == len(self.order):
            return None
        if number == 0:
            self.divide(run)
        elif self.order[number - 1][0] == DISCREPANCY:
            self.keep_consistent(run, self.order[number - 1][1])
        kind, network = self.order[number]
        if kind == DISCREPANCY:
            return self.discrepancy_pass(run, network)
        labelled, unlabelled = self.parts[self.other(network)]
        if len(labelled) < 2:
            return self.warmup_pass(run, network)
        return self.mixed_pass(run, network, labelled, unlabelled)

    def divide(self, run: Run) -> None:
        """Parts the samples by both networks' posteriors; in the form for Clothing1M there are candidates only."""
        if not self.shop:
            super().divide(run)
            return
        for name in self.names:
            index = torch.arange(run.num_samples, device=run.device)
            if self.scored is not None:
                index = self.draw(run, name, self.scored)
            found = self.posterior(run, name, index)
            self.clean[name][index] = found
            self.parts[name] = (index[found > self.threshold], index[:0])

    def posterior(self, run: Run, network: str, index: Tensor) -> Tensor:
        """(n,) posteriors of the upper of two centralities; in the form for Clothing1M 1 or 0, by class."""
        heads = self.heads(run, network)
        features = run.examine(network, ("features",), index if self.shop else None).features
        with torch.no_grad(), in_mode(heads, training=False):
            reduced, first, second = heads(features)
        predicted, given = (first + second).argmax(1), run.targets[index]
        scores = central_scores(functional.normalize(reduced, dim=1), predicted, given, run.num_outputs)
        if self.shop:
            return above_threshold_of_class(scores, given)
        return mixture_posterior(minmax(scores), fit_seed(run.seed, run.epoch, network), "upper", 100, 1e-1)

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
        if not self.consistency and not self.shop:
            return
        index = self.parts[judge][0]
        posterior = torch.ones(len(index), device=run.device, dtype=run.dtype)
        apart, given = self.apart(run, judge, index), run.targets[index]
        for label in range(run.num_outputs):
            own = (given == label).nonzero()[:, 0]
            seed = fit_seed(run.seed, run.epoch, judge, "consistency", label)
            posterior[own] = mixture_posterior(minmax(apart[own]), seed)
        if self.shop:
            self.keep_even(run, judge, index, posterior)
            return
        labelled = torch.zeros(run.num_samples, device=run.device, dtype=torch.bool)
        labelled[index[posterior >= self.consistency]] = True
        self.parts[judge] = (labelled.nonzero()[:, 0], (~labelled).nonzero()[:, 0])

    def keep_even(self, run: Run, judge: str, index: Tensor, posterior: Tensor) -> None:
        """Parts a network's candidates by their consistency, and keeps as many of each class as make an epoch."""
        self.clean[judge][index] = posterior
        held = posterior > self.threshold
        parts = held.nonzero()[:, 0], (~held).nonzero()[:, 0]
        if self.subset is not None and len(index):
            generator = seeds.torch_stream(run.seed, "subset", run.epoch, judge, "kept")
            parts = evened(held, run.targets[index], run.num_outputs, self.subset, generator)
        self.parts[judge] = (index[parts[0]], index[parts[1]])

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
        losses = [self.head_warmup_loss(outputs, targets) for outputs in (first, second)]
        self.lower(run, step, losses[0] + losses[1], self.head_names[step.network])

    def head_warmup_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What one head lowers in the warm-up."""
        loss = functional.cross_entropy(outputs, targets)
        if not self.shop:
            return loss
        return (loss + negative_entropy(outputs) if self.confidence_penalty else loss) / 2

    def drive_apart(self, run: Run, step: Step) -> None:
        """Raises the discrepancy of a network's heads, classes weighted by their shares of its candidates."""
        _, first, second = self.heads(run, step.network)(self.features(run, step.network, step.inputs))
        given = run.targets[self.parts[step.network][0]]
        shares = torch.bincount(given, minlength=run.num_outputs) / len(given)
        weighted = discrepancies(first, second) * class_shares(step.targets, shares.to(run.dtype))
        self.lower(run, step, -self.driving * weighted.mean(), self.pair_names[step.network])

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
        if self.shop:
            return (supervised + balance(outputs)) / 2
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

    # --- what is told --------------------------------------------------------------------------------------------------

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """DivideMix's; nothing in an epoch in which a network has no candidates."""
        return super().diagnostics(run) if all(any(map(len, self.parts[name])) for name in self.names) else {}
