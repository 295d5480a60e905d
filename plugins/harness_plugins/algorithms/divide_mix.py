"""DivideMix (Li, Socher and Hoi, ICLR 2020): two networks that divide the samples for each other and train by MixMatch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import Declares, HarnessError, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, Rate
from harness.training import seeds
from harness_plugins.algorithms.semi_supervised import (
    Blend,
    balance,
    fit_seed,
    linear_ramp,
    minmax,
    mixture_posterior,
    negative_entropy,
    sharpen,
    soft_cross_entropy,
)

MIX = "mix"
"""The label of passes over labelled samples beside unlabelled ones."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Views of a batch: by which its targets are guessed, and on which the network is trained. (B, ...) each.

    Attributes:
        labelled, unlabelled: of the two parts, for guessing.
        trained_labelled, trained_unlabelled: for training; each has the targets of its sample.
    """

    labelled: Sequence[Tensor]
    unlabelled: Sequence[Tensor]
    trained_labelled: Sequence[Tensor]
    trained_unlabelled: Sequence[Tensor]


@dataclasses.dataclass(frozen=True)
class MixedRows:
    """What a network is trained on: mixed rows, the labelled ones first.

    Attributes:
        inputs, targets: (R, ...) and (R, K).
        owners: (L,) int64, the sample that each of the first L rows belongs to; those are the labelled ones.
    """

    inputs: Tensor
    targets: Tensor
    owners: Tensor

    @property
    def labelled(self) -> int:
        """How many of the first rows are labelled."""
        return len(self.owners)


def refined_labels(labels: Tensor, guesses: Tensor, clean: Tensor) -> Tensor:
    """``w Y + (1 - w) p``, (B, K), of one-hot labels and predictions (B, K) and posteriors ``w`` (B,) of being clean."""
    return torch.lerp(guesses, labels, clean[:, None])


def labelled_losses(outputs: Tensor, targets: Tensor, labelled: int) -> Tensor:
    """Soft cross entropy of the first rows, (labelled,), of logits and targets (R, K)."""
    return soft_cross_entropy(outputs[:labelled], targets[:labelled])


def unlabelled_loss(outputs: Tensor, targets: Tensor, labelled: int) -> Tensor:
    """Mean over the other rows and classes of ``(softmax(z) - t)^2``, a scalar; 0 where there are none."""
    if len(outputs) <= labelled:
        return outputs.new_zeros(())
    return (outputs[labelled:].softmax(1) - targets[labelled:]).square().mean()


def class_balanced(targets: Tensor, size: int, classes: int, generator: torch.Generator) -> Tensor:
    """Positions of ``size // classes`` samples of each given class, (n,) int64; all of a class that has fewer.

    Args:
        targets: (N,) int64 classes, on any device.
        size, classes: of the whole, and how many classes share it.
        generator: on the CPU.
    """
    order = torch.randperm(len(targets), generator=generator).to(targets.device)
    shuffled = targets[order]
    grouped = shuffled.argsort(stable=True)
    counts = torch.bincount(targets, minlength=classes)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(targets), device=targets.device) - starts[shuffled[grouped]]
    return order[grouped[rank < size // classes]]


@contextlib.contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """A model in train or eval mode, and back."""
    before = model.training
    if before != training:
        model.train(training)
    try:
        yield
    finally:
        if before != training:
            model.train(before)


class DivideMix:
    """Samples that the other network's losses call clean keep their labels, the rest is guessed (Li et al., 2020).

    Follows the official code (LiJunnan1992/DivideMix, d9d3058fa69a). After `warmup` epochs of cross entropy, with batches
    of twice the size, each network scores all samples; the posterior of the component with the smaller losses is a
    sample's `w`. Network 1 passes over the samples that network 2 holds clean, beside the others, then network 2 over
    those of network 1, both by the fits from before. Set the batch size to B, 64 on CIFAR: a step has B labelled and B
    unlabelled samples in two views each. Where the paper says otherwise (a batch of 128), the code counts.

    Deviations: mixtures are fitted in float64 with a seed from trial, epoch and network; where all losses are equal every
    sample is clean. The code ends with an error where a part is empty: without unlabelled samples a step is one of
    warm-up, on the labelled ones; with fewer than two labelled ones the network makes a pass of warm-up. Batch
    normalisation has no statistics of one sample, so a single unlabelled one is guessed in eval mode. The code runs one
    epoch more than it is told. Only the rows of labelled samples have losses of their own, two views each, mixed with
    at least half of themselves, by which RRM weights them.

    Options by data set: CIFAR-10 `lambda_u` 0 at 20 % symmetric and 40 % asymmetric noise, 25 at 50 and 80 %, 50 at 90 %;
    CIFAR-100 `warmup` 30, `lambda_u` 25 at 20 %, else 150; at 90 % `threshold` 0.6 and `history` 5; asymmetric noise
    `confidence_penalty`. CIFAR-N: 25 throughout. Mini-WebVision: `warmup` 1, `lambda_u` 0, `alpha` 0.5, `rows` `labelled`,
    B 32. Clothing1M: the same with `confidence_penalty` and `subset` 32000.

    Args:
        warmup: `W`, epochs of cross entropy.
        lambda_u: weight of the squared error on unlabelled rows, which rises over 16 epochs after the warm-up.
        threshold: `tau`; labelled is what has `w` above it.
        temperature: `T`, by which guesses are sharpened.
        alpha: of the Beta distribution of the mixing.
        history: of how many epochs the mean of the normalised losses is fitted; 1 is the last alone.
        confidence_penalty: add the negative entropy of predictions to the loss of the warm-up.
        guess_mode: whether the network that is trained guesses in `train` mode, as the code does, or in `eval` mode.
        rows: train on `all` mixed rows, or on the `labelled` ones alone, mixed with partners of all.
        subset: samples that each network draws and scores in an epoch, as many of each given class (twice as many for
            the warm-up); all without.
    """

    declares = Declares(replaces="ce", own_step=True, descends=True, needs_per_sample=True, views=("weak",))
    name = "divide_mix"
    ramp = 16

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 10,
        lambda_u: NonNegative = 25.0,
        threshold: Rate = 0.5,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        history: Count = 1,
        confidence_penalty: bool = False,
        guess_mode: Literal["train", "eval"] = "train",
        rows: Literal["all", "labelled"] = "all",
        subset: Count | None = None,
    ) -> None:
        if subset is not None and history > 1:
            raise HarnessError(
                "averages losses of epochs that score other samples", f"algorithms.{self.name}.history", "leave one out"
            )
        self.warmup = warmup
        self.lambda_u = lambda_u
        self.threshold = threshold
        self.temperature = temperature
        self.alpha = alpha
        self.history = history
        self.confidence_penalty = confidence_penalty
        self.guess_mode = guess_mode
        self.rows = rows
        self.subset = subset
        self.names: tuple[str, str] = ("", self.name)

    def other(self, network: str) -> str:
        """The name of the network that divides the samples for this one."""
        return self.names[1 - self.names.index(network)]

    def age(self, run: Run) -> int:
        """The epoch, from 1, as the networks count it."""
        return run.epoch

    def setup(self, run: Run) -> None:
        """The second network; posteriors of 1, and no losses yet."""
        run.new_network(self.names[1])
        everything = torch.arange(run.num_samples, device=run.device)
        self.clean = {name: torch.ones(run.num_samples, device=run.device, dtype=run.dtype) for name in self.names}
        self.losses: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.parts = dict.fromkeys(self.names, (everything, everything[:0]))

    # --- the passes ----------------------------------------------------------------------------------------------------

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """One pass for each network, of warm-up or over what the other one holds clean."""
        if number == len(self.names):
            return None
        network = self.names[number]
        if self.age(run) <= self.warmup:
            return self.warmup_pass(run, network)
        if number == 0:
            self.divide(run)
        labelled, unlabelled = self.parts[self.other(network)]
        if len(labelled) < 2:
            return self.warmup_pass(run, network)
        return self.mixed_pass(run, network, labelled, unlabelled)

    def warmup_pass(self, run: Run, network: str) -> Pass:
        """Over all samples, or a class-balanced draw, in batches of twice the size."""
        index = None if self.subset is None else self.draw(run, network, 2 * self.subset)
        return Pass(index, network, batch_size=2 * run.batch_size)

    def mixed_pass(self, run: Run, network: str, labelled: Tensor, unlabelled: Tensor) -> Pass:
        """One lap over the labelled samples."""
        return Pass(labelled, network, beside=unlabelled, label=MIX)

    def draw(self, run: Run, network: str, size: int) -> Tensor:
        """A class-balanced draw of samples for a network in this epoch."""
        generator = seeds.torch_stream(run.seed, "subset", run.epoch, network)
        return class_balanced(run.targets, size, run.num_outputs, generator)

    def divide(self, run: Run) -> None:
        """Fits both networks' losses and parts the samples by the posteriors."""
        for name in self.names:
            index = torch.arange(run.num_samples, device=run.device)
            if self.subset is not None:
                index = self.draw(run, name, self.subset)
            self.clean[name][index] = self.posterior(run, name, index)
            mask = self.labelled(run, name)[index]
            self.parts[name] = (index[mask], index[~mask])

    def posterior(self, run: Run, network: str, index: Tensor) -> Tensor:
        """(n,) posteriors of being clean of the samples ``index``, by a network's losses."""
        losses = run.examine(network, index=None if self.subset is None else index).losses
        largest = torch.finfo(losses.dtype).max
        normalised = minmax(losses.nan_to_num(nan=largest, posinf=largest))
        self.losses[network] = [*self.losses[network], normalised][-self.history :]
        mean = torch.stack(self.losses[network]).mean(0)
        return mixture_posterior(mean, fit_seed(run.seed, run.epoch, network))

    def labelled(self, run: Run, network: str) -> Tensor:
        """(N,) bool: what is held clean by a network, once it has scored the samples."""
        return self.clean[network] > self.threshold

    # --- a step --------------------------------------------------------------------------------------------------------

    def train_step(self, run: Run, step: Step) -> bool:
        """A step of warm-up, or on mixed rows of labelled and unlabelled samples."""
        if step.label != MIX or step.beside is None:
            self.warmup_step(run, step)
            return True
        rows = self.mix(run, step, self.views(run, step))
        outputs = run.forward(rows.inputs, run.of(step.network).model)
        step.index, step.divisor = rows.owners, rows.labelled
        step.losses = labelled_losses(outputs, rows.targets, rows.labelled)
        step.penalty = balance(outputs)
        if self.rows == "all" and self.lambda_u:
            weight = self.unlabelled_weight(run, step)
            step.penalty = step.penalty + weight * unlabelled_loss(outputs, rows.targets, rows.labelled)
        run.descend(step)
        return True

    def warmup_step(self, run: Run, step: Step) -> None:
        """Cross entropy of the labels as given."""
        outputs = run.forward(step.inputs, run.of(step.network).model)
        step.losses, step.divisor = run.stack.loss(outputs, step.targets, step.index), len(step.index)
        if self.confidence_penalty:
            step.penalty = negative_entropy(outputs)
        run.descend(step)

    def unlabelled_weight(self, run: Run, step: Step) -> float:
        """``lambda_u`` times its ramp, which counts in parts of epochs from 0."""
        steps = len(self.parts[self.other(step.network)][0]) // run.batch_size + 1
        return self.lambda_u * linear_ramp(self.age(run) - 1 + step.number / steps, self.warmup, self.ramp)

    def views(self, run: Run, step: Step) -> Views:
        """Two weak views of every sample, for guessing and for training."""
        assert step.beside is not None
        labelled = (step.inputs, run.view(step.index, "weak"))
        unlabelled = (step.beside.inputs, run.view(step.beside.index, "weak"))
        return Views(labelled, unlabelled, labelled, unlabelled)

    def mix(self, run: Run, step: Step, views: Views) -> MixedRows:
        """The mixed rows of a step, with targets by both networks."""
        labelled, unlabelled = self.targets(run, step, views)
        targets = [labelled] * len(views.trained_labelled) + [unlabelled] * len(views.trained_unlabelled)
        inputs, rows = torch.cat([*views.trained_labelled, *views.trained_unlabelled]), torch.cat(targets)
        owners = step.index.repeat(len(views.trained_labelled))
        blend = Blend.draw(len(inputs), self.alpha, run.generator("algorithm"), run.device)
        kept = None if self.rows == "all" else len(owners)
        return MixedRows(blend(inputs, kept), blend(rows, kept), owners)

    @torch.no_grad()
    def targets(self, run: Run, step: Step, views: Views) -> tuple[Tensor, Tensor]:
        """Sharpened targets of the labelled samples (B, K), refined by the network itself, and of the unlabelled ones, by
        both networks."""
        model, other = (run.of(name).model for name in (step.network, self.other(step.network)))
        guesses = self.guesses(run, model, views.unlabelled)
        with in_mode(other, training=False):
            others = run.forward(torch.cat(list(views.unlabelled)), other).softmax(1)
        both = (guesses + others.view(-1, *guesses.shape).mean(0)) / 2
        labels = functional.one_hot(step.targets, run.num_outputs).to(run.dtype)
        clean = self.clean[self.other(step.network)].index_select(0, step.index)
        refined = refined_labels(labels, self.guesses(run, model, views.labelled), clean)
        return sharpen(refined, self.temperature), sharpen(both, self.temperature)

    def guesses(self, run: Run, model: nn.Module, views: Sequence[Tensor]) -> Tensor:
        """(B, K) mean prediction over views of the same samples, by the network that is trained."""
        training = self.guess_mode == "train" and len(views[0]) > 1
        with in_mode(model, training):
            predictions = [run.forward(view, model).softmax(1) for view in views]
        return torch.stack(predictions).mean(0)

    # --- what is predicted, scored and kept -----------------------------------------------------------------------------

    def predict(self, run: Run, inputs: Tensor) -> Tensor:
        """Log-probabilities of the mean of both networks' logits; the code adds them, to the same class."""
        outputs = [run.forward(inputs, run.of(name).model) for name in self.names]
        return torch.stack(outputs).mean(0).log_softmax(1)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how little both networks hold them clean."""
        run.score_samples(f"{self.name}.noisy", 1 - torch.stack([self.clean[name] for name in self.names]).mean(0))

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Shares of the samples scored that each network holds clean, after the warm-up."""
        if self.age(run) <= self.warmup:
            return {}
        parts = [self.parts[name] for name in self.names]
        sizes = [(len(labelled), len(labelled) + len(rest)) for labelled, rest in parts]
        return {f"{self.name}.labelled_{k}": part / whole for k, (part, whole) in enumerate(sizes, 1)}

    def state_dict(self) -> dict[str, Any]:
        """Posteriors, losses and parts; the networks are in the run's state."""
        return {
            "clean": dict(self.clean),
            "losses": {name: list(losses) for name, losses in self.losses.items()},
            "parts": {name: list(parts) for name, parts in self.parts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        device = self.clean[self.names[0]].device
        self.clean = {name: clean.to(device, copy=True) for name, clean in state["clean"].items()}
        self.losses = {name: [one.to(device) for one in losses] for name, losses in state["losses"].items()}
        self.parts = {name: (parts[0].to(device), parts[1].to(device)) for name, parts in state["parts"].items()}
