"""CORES2*: the sieve of CORES^2, then consistency training of a new network on what it kept and removed (Cheng et al., ICLR
2021, phase 2)."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from harness import Declares, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive
from harness.training import seeds
from harness.training.views import square
from harness_plugins.algorithms.cores2 import CORES2
from harness_plugins.algorithms.sop_plus import consistency

SECOND = "cores2_star"
"""The name of the network of phase 2, and the label of its passes."""
CLIP = 5.0
WARMUP = 120 / 1600
START = 1 / 300


def second_rate(time: float, epochs: int, peak: float) -> float:
    """The learning rate of phase 2: linear from ``peak / 300`` to ``peak`` over 7.5 % of its epochs (120 of 1600), then a
    half cosine to 0.

    Args:
        time: epochs of phase 2 that are done, with a part for the steps of the current one.
        epochs: of phase 2.
        peak: 0.3.
    """
    rise = WARMUP * epochs
    if time <= rise:
        return peak * (START + (1 - START) * time / rise)
    return peak / 2 * (1 + math.cos(math.pi * min(1.0, (time - rise) / (epochs - rise))))


def spread_by_class(targets: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """An order (n,) of samples in which each class is spread evenly, the official code's `spotifyShuffle`.

    Samples of a class of ``m`` are shuffled; the first stands at ``U(0, 1) / m``, each further one ``U(.8, 1.2) / m`` behind
    the one before; the order is that of the places.

    Args:
        targets: (n,) int64 given classes, on any device.
        classes: their number.
        generator: on the CPU.
    """
    given = targets.cpu()
    shuffled = torch.randperm(len(given), generator=generator)
    order = shuffled[given[shuffled].argsort(stable=True)]
    counts = torch.bincount(given, minlength=classes)
    first = (counts.cumsum(0) - counts)[counts > 0]
    steps = 0.8 + 0.4 * torch.rand(len(order), generator=generator, dtype=torch.float64)
    steps[first] = torch.rand(len(first), generator=generator, dtype=torch.float64)
    walked = steps.cumsum(0)
    own = given[order]
    before = torch.zeros(classes, dtype=torch.float64)
    before[counts > 0] = walked[first] - steps[first]
    places = (walked - before[own]) / counts[own]
    return order[places.argsort(stable=True)].to(targets.device)


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) standardised images without a square of half the side, which is 0."""
    centre = torch.rand(len(images), 2, generator=generator, device=generator.device).to(images.dtype)
    return images.masked_fill(square(images, centre, images.new_full((len(images),), 0.5)), 0.0)


class CORES2Star(CORES2):
    """CORES^2's sieve, and a new network that learns from what it kept and from what it removed (Cheng et al., 2021).

    Follows the official code (UCSC-REAL/cores, cf0945e2d5eb). Phase 1 is `cores2`; its last epoch hands over the samples
    with a sieve score above 0, as recorded in training: each under the weights of its batch. Phase 2 trains a new network by
    cross entropy on the others, with labels as given, beside `ratio KL(sg p_u || p_s)` on those that were removed, of a weak
    and a strong view; all three views go through it as one batch. Labelled samples are seen by strong views too: AutoAugment's
    policy for CIFAR-10, the setting's augmentation, a cutout of half the side. Its gradients are clipped at a norm of 5. A
    short last batch of either part is left out.

    Phase 1 predicts until phase 2 begins. Deviations: the code takes epoch 41 of a phase 1 that goes on to 100, whose
    later epochs nothing uses; it walks the labelled samples in an order in which classes are spread evenly, here the order is
    plain unless `order` is `balanced`; its scheduler has one step at another rate after the rise, which depends on the
    version. Of no removed samples it fails; here they are left out.
    1600 epochs are the paper's budget; the rise and the fall of the learning rate scale with what there is.

    By data set, instance noise on CIFAR-10 of 20, 40, 60 %: `share` 0.25, 0.5, 0.75 (of a batch of 320) and `ratio` 0.2, 0.4,
    0.9; nothing is published for other noise. ResNet-34.

    Args:
        beta, warmup, ramp, sieve_after: of phase 1, see `cores2`.
        phase1: its epochs; 41. The rest is phase 2.
        share: removed samples beside a batch, as a share of the batch size.
        ratio: weight of the consistency.
        gradual: let that weight rise with the epochs of phase 2, from its share of one to all of it.
        optimizer: of phase 2: `official`, SGD with Nesterov momentum 0.9 and weight decay 5e-4 at a rate that rises to `lr`
            and falls to 0 step by step; or the `setting`'s own optimizer and schedule.
        lr: the highest rate of the official optimizer.
        order: of the labelled samples in an epoch of phase 2: `plain`, shuffled, or `balanced`.
    """

    declares = Declares(
        replaces="ce",
        needs_per_sample=True,
        sample_state=True,
        own_step=True,
        descends=True,
        views=("autoaugment",),
        later=("order",),
    )

    def __init__(
        self,
        beta: NonNegative = 2.0,
        warmup: Annotated[int, Ge(0)] = 10,
        ramp: Count = 30,
        sieve_after: Annotated[int, Ge(0)] = 31,
        phase1: Count = 41,
        share: Positive = 0.5,
        ratio: NonNegative = 0.4,
        gradual: bool = False,
        optimizer: Literal["official", "setting"] = "official",
        lr: Positive = 0.3,
        order: Literal["plain", "balanced"] = "plain",
    ) -> None:
        super().__init__(beta, warmup, ramp, sieve_after)
        self.phase1 = phase1
        self.share = share
        self.ratio = ratio
        self.gradual = gradual
        self.official = optimizer == "official"
        self.lr = lr
        self.balanced = order == "balanced"

    def setup(self, run: Run) -> None:
        """Phase 1's state, and the network of phase 2."""
        super().setup(run)
        epochs = max(1, run.epochs - self.phase1)
        if self.official:
            sgd = {"name": "sgd", "lr": self.lr, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
            run.new_network(SECOND, sgd, {"name": "constant"}, epochs)
        else:
            run.new_network(SECOND, epochs=epochs)
        self.handed, self.steps = False, 1

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """Phase 1: all samples. Phase 2: those kept, beside those removed; all of them where not even two were kept."""
        if number:
            return None
        if run.epoch <= self.phase1:
            return Pass()
        removed = self.scores > 0
        kept, out = (~removed).nonzero()[:, 0], removed.nonzero()[:, 0]
        self.steps = max(1, (len(kept) if len(kept) > 1 else run.num_samples) // run.batch_size)
        walk = Pass(network=SECOND, drop_last=True, label=SECOND)
        if len(kept) > 1:
            size = max(1, round(self.share * run.batch_size))
            walk = dataclasses.replace(walk, index=kept, beside=out, beside_size=size)
        return self.spread(run, walk) if self.balanced else walk

    @staticmethod
    def spread(run: Run, walk: Pass) -> Pass:
        """A pass in an order in which classes are spread evenly."""
        index = torch.arange(run.num_samples, device=run.device) if walk.index is None else walk.index
        generator = seeds.torch_stream(run.seed, "order", run.epoch, "spread")
        order = spread_by_class(run.targets[index], run.num_outputs, generator)
        return dataclasses.replace(walk, index=index[order], shuffle=False)

    def train_step(self, run: Run, step: Step) -> bool | None:
        """A step of phase 2; in phase 1 the loop's."""
        if step.label != SECOND:
            return None
        if self.official:
            self.set_rate(run, step)
        views = [self.strong(run, step.index)]
        if step.beside is not None:
            views += [step.beside.inputs, self.strong(run, step.beside.index)]
        labelled, *others = run.forward(torch.cat(views), run.of(SECOND).model).split([len(view) for view in views])
        step.losses = functional.cross_entropy(labelled, step.targets, reduction="none")
        step.divisor = len(step.index)
        if others:
            done = (run.epoch - self.phase1) / (run.epochs - self.phase1) if self.gradual else 1.0
            step.penalty = self.ratio * done * consistency(*others).mean()
        with self.clipped(run):
            run.descend(step)
        return True

    def strong(self, run: Run, index: Tensor) -> Tensor:
        """Strong views of samples: a policy, the setting's augmentation, a cutout."""
        return cut_out(run.view(index, "autoaugment"), run.generator("view"))

    def set_rate(self, run: Run, step: Step) -> None:
        """The official learning rate after this step's share of the epoch."""
        time = run.epoch - self.phase1 - 1 + (step.number + 1) / self.steps
        for group in run.of(SECOND).optimizer.param_groups:
            group["lr"] = second_rate(time, run.epochs - self.phase1, self.lr)

    @staticmethod
    @contextlib.contextmanager
    def clipped(run: Run) -> Iterator[None]:
        """Gradients of phase 2 have a norm of at most 5, or less where the setting says so."""
        before = run.clip
        run.clip = CLIP if before is None else min(CLIP, before)
        try:
            yield
        finally:
            run.clip = before

    def predict(self, run: Run, inputs: Tensor) -> Tensor | None:
        """By the network of phase 2, once it is trained."""
        if not self.handed:
            return None
        return run.forward(inputs, run.of(SECOND).model).log_softmax(1)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by what the sieve compared with 0 in phase 1."""
        self.handed = run.epoch > self.phase1
        run.score_samples("cores2_star.sieve", self.scores)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """The share of a batch that the sieve kept, and in phase 2 the share of samples that were removed."""
        if run.epoch <= self.phase1:
            return {f"{SECOND}.kept_share": value for value in self.kept.means().values()}
        return {f"{SECOND}.removed_share": float((self.scores > 0).double().mean())}

    def state_dict(self) -> dict[str, Any]:
        """Phase 1's state, whether phase 2 predicts, and the steps of its epochs."""
        return {**super().state_dict(), "handed": self.handed, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        self.handed = bool(state["handed"])
        self.steps = int(state["steps"])
