"""ProMix: two networks that pick more and more clean samples, with a debiased second head (Xiao et al., IJCAI 2023)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import Declares, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, PositiveRate, Rate
from harness_plugins.algorithms.divide_mix import in_mode
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.running import EpochMean
from harness_plugins.algorithms.semi_supervised import (
    Blend,
    fmix_mask,
    linear_ramp,
    negative_entropy,
    sharpen,
    small_losses_by_class,
    soft_cross_entropy,
)

PEER = "pro_mix"
NETWORKS = ("", PEER)
HEADS = (f"{PEER}.pseudo_1", f"{PEER}.pseudo_2")
MOST_CHOSEN = 0.9
"""Of a batch with as large a share chosen no more labels are guessed."""
UNRELIABLE = 0.1
"""What the weight of the unreliable part rises to."""


def debiased_margin(outputs: Tensor, prior: Tensor, strength: float) -> Tensor:
    """``z + a log pi``, (B, K), of logits (B, K) and a class prior (K,): what training losses take."""
    return outputs + strength * prior.clamp_min(torch.finfo(prior.dtype).tiny).log()


def debiased_prediction(outputs: Tensor, prior: Tensor, strength: float) -> Tensor:
    """``softmax(z - b log pi)``, (B, K): what pseudo-labels are made of."""
    return debiased_margin(outputs, prior, -strength).softmax(1)


def guessed_by_agreement(chosen: Tensor, first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """(B,) bool: what is chosen, and of the rest what both networks predict alike and with confidence.

    As many are added as bring a batch to ``int(.9 B)``, those with the highest mean of both confidences, the first of equals;
    none where so many are chosen already.

    Args:
        chosen: (B,) bool.
        first, second: (B, K) predictions of the networks.
        threshold: above which both confidences lie.
    """
    (one, class_one), (two, class_two) = first.max(1), second.max(1)
    sure = (one > threshold) & (two > threshold) & (class_one == class_two) & ~chosen
    order = ((one + two) / 2).masked_fill(~sure, -1.0).argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return chosen | (sure & (rank < int(MOST_CHOSEN * len(chosen)) - chosen.sum()))


@dataclasses.dataclass(frozen=True)
class Patches:
    """FMix of a batch: one mask for all, ``lam`` of it from the sample itself.

    Attributes:
        lam: share of ones in the mask, in [0, 1].
        partners: (B,) int64, a permutation.
        mask: (H, W) of 0 and 1.
    """

    lam: float
    partners: Tensor
    mask: Tensor

    @classmethod
    def draw(cls, images: Tensor, generator: torch.Generator) -> Patches:
        """``lam ~ Beta(1, 1)``, partners and a mask for images (B, C, H, W), by a CPU generator."""
        lam = draw_beta(1.0, generator)
        partners = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
        mask = fmix_mask(images.shape[-2], images.shape[-1], lam, generator, dtype=images.dtype)
        return cls(lam, partners, mask.to(images.device, non_blocking=True))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W): the image where the mask is 1, its partner where it is 0."""
        return torch.lerp(images.index_select(0, self.partners), images, self.mask)

    def losses(self, outputs: Tensor, classes: Tensor) -> Tensor:
        """(B,) cross entropy of mixed images to their own class and that of their partner, by share."""
        own = functional.cross_entropy(outputs, classes, reduction="none")
        other = functional.cross_entropy(outputs, classes.index_select(0, self.partners), reduction="none")
        return self.lam * own + (1 - self.lam) * other


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one network makes of a batch: logits (B, K) of its primary and its pseudo head on the weak and strong view."""

    weak: Tensor
    weak_pseudo: Tensor
    strong: Tensor
    strong_pseudo: Tensor


class ProMix:
    """Clean samples are picked by small loss per class, by confidence in the label and by agreement (Xiao et al., 2023).

    Follows the official code (Justherozen/ProMix, 40d8378193f1). After `warmup` epochs of cross entropy each network marks
    the samples of each given class with the smallest losses, `rho N / K` of them. In a step a network also takes what it
    predicts as labelled with more than `threshold`; late in training, where these are few, what both predict alike with
    confidence, with the predicted label. On these C both heads get cross entropy on the weak view, and rising with the
    epochs on the strong view, on mixup and on FMix; on the rest R the pseudo head gets sharpened predictions. Logits are
    debiased by running class priors of C and R. Prediction is by the mean logits of both primary heads.

    Deviations: an empty C or R adds nothing and leaves its prior (the code ends in NaN); of equal losses the first are
    taken; where `confidence_penalty`, the negative entropy (the code clamps logits); a single chosen sample is mixed in
    eval mode, as batch normalisation has no statistics of it; the code's third head, of which no loss depends, is left
    out. As in the code the unreliable part is trained in the first `2 ramp` epochs only (the paper: throughout;
    `beta_after`). A sample's row holds all its terms on C, of both heads; RRM weighs these rows. That is up to eight cross
    entropies, so steps are as much longer than those of plain training at the same rate, and weights whose mean over C is
    above 1 (`rrm.labelled_weight`: 1.7 at first) lengthen them again. LeNet, without batch normalisation, learns so at 0.01;
    at 0.05 it falls from 90 to 15 % once the warm-up is over, and with RRM to chance.

    Options by data set: `rho` .7 at 20 % symmetric, else .5; CIFAR-10 and CIFAR-10N `threshold` .99, `strength` .8, `warmup`
    10; CIFAR-100 and CIFAR-100N `threshold` .95, `strength` .5, `warmup` 30. Batch size 256; a last, incomplete batch is
    dropped after the warm-up. For instance noise the author takes `quota` `class`, and later `predicted_after` 50.

    Args:
        warmup: epochs of cross entropy.
        rho: share of the samples that small losses mark.
        threshold: `tau_c`, above which a prediction is confident.
        strength: `a` and `b` of debiasing.
        temperature: `T` of the pseudo-labels of R.
        alpha: of mixup's Beta distribution.
        ramp: epochs, counted from the first, over which the weight of the further terms rises to 1.
        guess_epochs: in how many last epochs labels are guessed by agreement.
        beta_after: weight of the unreliable part after epoch `2 ramp`.
        momentum: of the class priors.
        confidence_penalty: add the negative entropy to the loss of the warm-up, for asymmetric noise.
        quota: of a class: `even`, `rho N / K`, or `class`, `rho` of its own samples.
        predicted_after: epochs after which small losses are taken by predicted class; never without.
    """

    declares = Declares(replaces="ce", own_step=True, descends=True, needs_per_sample=True, views=("promix",))

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 10,
        rho: PositiveRate = 0.5,
        threshold: Rate = 0.99,
        strength: NonNegative = 0.8,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        ramp: Count = 50,
        guess_epochs: Annotated[int, Ge(0)] = 250,
        beta_after: NonNegative = 0.0,
        momentum: Rate = 0.9999,
        confidence_penalty: bool = False,
        quota: Literal["even", "class"] = "even",
        predicted_after: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        self.warmup = warmup
        self.rho = rho
        self.threshold = threshold
        self.strength = strength
        self.temperature = temperature
        self.alpha = alpha
        self.ramp = ramp
        self.guess_epochs = guess_epochs
        self.beta_after = beta_after
        self.momentum = momentum
        self.confidence_penalty = confidence_penalty
        self.quota = quota
        self.predicted_after = predicted_after

    def setup(self, run: Run) -> None:
        """Network 2, a pseudo head on each network, uniform priors of chosen and other samples (2, K)."""
        run.new_network(PEER)
        classes = run.num_outputs
        for head, network in zip(HEADS, NETWORKS, strict=True):
            run.new_head(head, network, functools.partial(nn.Linear, out_features=classes))
        self.prior = torch.full((2, classes), 1 / classes, device=run.device, dtype=run.dtype)
        self.prior_rest = self.prior.clone()
        self.small = torch.zeros(2, run.num_samples, device=run.device, dtype=torch.bool)
        self.losses = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)
        self.means = EpochMean((f"{PEER}.chosen_1", f"{PEER}.chosen_2"), run.device)

    def epoch_start(self, run: Run) -> None:
        """New means."""
        self.means.reset()

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """One pass, of both networks on the same batches; small losses are marked before it."""
        if number:
            return None
        if run.epoch > self.warmup:
            self.mark(run)
        return Pass(drop_last=run.epoch > self.warmup)

    def mark(self, run: Run) -> None:
        """Marks each network's small losses."""
        found = []
        for k, network in enumerate(NETWORKS):
            seen = run.examine(network, ("losses", "outputs"))
            losses = seen.losses.nan_to_num(torch.finfo(run.dtype).max)
            predicted = self.predicted_after is not None and run.epoch - 1 > self.predicted_after
            classes = seen.outputs.argmax(1) if predicted else run.targets
            self.small[k] = small_losses_by_class(losses, classes, self.quotas(classes, run.num_outputs))
            found.append(losses)
        self.losses = torch.stack(found).mean(0)

    def quotas(self, classes: Tensor, count: int) -> Tensor:
        """(K,) how many samples of a class are marked."""
        if self.quota == "even":
            return torch.full((count,), math.ceil(len(classes) / count * self.rho), device=classes.device)
        return (torch.bincount(classes, minlength=count) * self.rho).ceil().long()

    # --- a step --------------------------------------------------------------------------------------------------------

    def train_step(self, run: Run, step: Step) -> bool:
        """One step of both networks on the same batch."""
        work = self._warm_up if run.epoch <= self.warmup else self._train
        losses = [one.loss.detach() for one in work(run, step) if one.loss is not None]
        step.loss, step.divisor = (torch.stack(losses).sum() if losses else None), len(step.index)
        return True

    @staticmethod
    def _part(step: Step, network: str, rows: Tensor | None = None) -> Step:
        """The batch, or some rows of it, as a step of one of the networks."""
        taken = (step.index, step.inputs, step.targets)
        index, inputs, targets = taken if rows is None else (value[rows] for value in taken)
        part = Step(index, inputs, targets, "train", step.number, network, step.label)
        part.divisor = max(1, len(index))
        return part

    def _warm_up(self, run: Run, step: Step) -> list[Step]:
        parts = [self._part(step, network) for network in NETWORKS]
        for part in parts:
            outputs = run.forward(part.inputs, run.of(part.network).model)
            part.losses = run.stack.loss(outputs, part.targets, part.index)
            if self.confidence_penalty:
                part.penalty = negative_entropy(outputs)
            run.descend(part)
        return parts

    def _train(self, run: Run, step: Step) -> list[Step]:
        strong = run.view(step.index, "promix")
        seen = [self._see(run, k, step.inputs, strong) for k in range(2)]
        predictions = [one.weak.detach().softmax(1) for one in seen]
        parts, shares = [], []
        for k, network in enumerate(NETWORKS):
            targets, chosen = self._choose(run, step, k, seen[k], predictions)
            own, rest = chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
            part = self._part(step, network, own)
            part.losses = self._rows(run, k, part.inputs, seen[k], own, targets[own])
            part.penalty = self._unreliable(run, k, seen[k], rest)
            if len(own) or part.penalty is not None:
                run.descend(part)
            self._move(self.prior[k], predictions[k][own])
            self._move(self.prior_rest[k], predictions[k][rest])
            parts.append(part)
            shares.append(chosen.to(run.dtype).mean())
        self.means.add(*shares)
        return parts

    def _see(self, run: Run, k: int, weak: Tensor, strong: Tensor) -> Seen:
        model, head = run.of(NETWORKS[k]).model, run.heads[HEADS[k]]
        weak_outputs, weak_features = run.forward(weak, model, features=True)
        strong_outputs, strong_features = run.forward(strong, model, features=True)
        return Seen(weak_outputs, head(weak_features), strong_outputs, head(strong_features))

    def _choose(self, run: Run, step: Step, k: int, seen: Seen, predictions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Targets (B, K), one-hot, and which samples are chosen (B,)."""
        given = predictions[k].gather(1, step.targets[:, None])[:, 0]
        matched = self.small[k].index_select(0, step.index) | (given > self.threshold)
        guess = debiased_prediction(seen.weak.detach(), self.prior[k], self.strength).argmax(1)
        targets = functional.one_hot(torch.where(matched, step.targets, guess), run.num_outputs).to(run.dtype)
        if run.epoch - 1 > run.epochs - self.guess_epochs:
            return targets, guessed_by_agreement(matched, predictions[0], predictions[1], self.threshold)
        return targets, matched

    def _rows(self, run: Run, k: int, images: Tensor, seen: Seen, own: Tensor, targets: Tensor) -> Tensor:
        """(|C|,) losses of the chosen samples: all terms of both heads."""
        later = min((run.epoch - 1) / self.ramp, 1.0)
        pairs = ((seen.weak, seen.strong), (seen.weak_pseudo, seen.strong_pseudo))
        rows = images.new_zeros(len(own))
        for head, (weak, strong) in enumerate(pairs):
            rows = rows + soft_cross_entropy(self._margin(weak[own], k), targets)
            if later and len(own):
                further = soft_cross_entropy(self._margin(strong[own], k), targets)
                rows = rows + later * (further + self._mixed(run, k, bool(head), images, targets))
        return rows

    def _mixed(self, run: Run, k: int, pseudo: bool, images: Tensor, targets: Tensor) -> Tensor:
        """(|C|,) losses of one head on mixup and on FMix of the chosen samples."""
        generator = run.generator("algorithm")
        blend = Blend.draw(len(images), self.alpha, generator, run.device)
        found = soft_cross_entropy(self._margin(self._outputs(run, k, pseudo, blend(images)), k), blend(targets))
        patches = Patches.draw(images, generator)
        outputs = self._margin(self._outputs(run, k, pseudo, patches(images)), k)
        return found + patches.losses(outputs, targets.argmax(1))

    def _outputs(self, run: Run, k: int, pseudo: bool, inputs: Tensor) -> Tensor:
        model = run.of(NETWORKS[k]).model
        with in_mode(model, training=len(inputs) > 1):
            if not pseudo:
                return run.forward(inputs, model)
            _, features = run.forward(inputs, model, features=True)
        outputs: Tensor = run.heads[HEADS[k]](features)
        return outputs

    def _margin(self, outputs: Tensor, k: int) -> Tensor:
        return debiased_margin(outputs, self.prior[k], self.strength)

    def _unreliable(self, run: Run, k: int, seen: Seen, rest: Tensor) -> Tensor | None:
        """The pseudo head's loss on samples that are not chosen, with its weight; ``None`` where there is none."""
        epoch, length = run.epoch - 1, 2 * self.ramp
        weight = UNRELIABLE * linear_ramp(epoch, 0, length) if epoch < length else self.beta_after
        if not weight or not len(rest):
            return None
        prior = self.prior_rest[k]
        targets = sharpen(debiased_prediction(seen.weak.detach()[rest], prior, self.strength), self.temperature)
        weak, strong = (
            soft_cross_entropy(debiased_margin(outputs[rest], prior, self.strength), targets).mean()
            for outputs in (seen.weak_pseudo, seen.strong_pseudo)
        )
        return weight * (weak + min(epoch / self.ramp, 1.0) * strong)

    def _move(self, prior: Tensor, predictions: Tensor) -> None:
        """Moves a class prior (K,) towards the mean of predictions (n, K), if there are any."""
        if len(predictions):
            prior.lerp_(predictions.mean(0), 1 - self.momentum)

    # --- what is predicted, scored and kept -----------------------------------------------------------------------------

    def predict(self, run: Run, inputs: Tensor) -> Tensor:
        """Log-probabilities of the mean logits of both primary heads."""
        return ((run.forward(inputs) + run.forward(inputs, run.of(PEER).model)) / 2).log_softmax(1)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by their mean loss under both networks when they were last marked."""
        run.score_samples(f"{PEER}.loss", self.losses)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Share of a batch that each network chooses, a mean over the epoch, after the warm-up."""
        return self.means.means() if run.epoch > self.warmup else {}

    def state_dict(self) -> dict[str, Any]:
        """Priors, marks, losses and means; networks and heads are in the run's state."""
        return {
            "prior": self.prior,
            "prior_rest": self.prior_rest,
            "small": self.small,
            "losses": self.losses,
            "means": self.means.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name in ("prior", "prior_rest", "small", "losses"):
            setattr(self, name, state[name].to(self.losses.device, copy=True))
        self.means.load_state_dict(state["means"])
