"""UNICON: as many labelled samples of every class, and a contrastive loss on the rest (Karim et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from harness import Declares, Pass, Run, Step
from harness.parameters import Count, NonNegative, Positive, PositiveRate
from harness_plugins.algorithms.divide_mix import MIX, DivideMix, Views, labelled_losses, unlabelled_loss
from harness_plugins.algorithms.semi_supervised import balance, small_losses_by_class

SMALL = 1e-10
"""What the official code adds to probabilities within a logarithm."""
TRUSTED = 0.5
"""A label whose divergence is smaller is not refined."""


def divergences(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of each pair of rows in nats, (B,), at most ``log 2``, of probabilities (B, K) each."""
    mean = (first + second) / 2

    def relative(p: Tensor) -> Tensor:
        return (p * ((p + SMALL) / (mean + SMALL)).log()).sum(1)

    return (relative(first) + relative(second)) / 2


def division_threshold(divergence: Tensor, limit: float, filtering: float) -> Tensor:
    """The mean divergence, a scalar, of (N,); one above ``limit`` is lowered by ``1/filtering`` of what it is above the
    least."""
    mean = divergence.mean()
    return torch.where(mean > limit, mean - (mean - divergence.min()) / filtering, mean)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss (Chen et al., 2020), a scalar: each projection of a sample should be nearest to its other one.

    Args:
        first, second: (B, d) projections of two views of the same samples, of any length.
        temperature: that divides cosines.
    """
    rows = functional.normalize(torch.cat([first, second]), dim=1)
    similarities = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return functional.cross_entropy(similarities, partner)


class UNICON(DivideMix):
    """Samples with a small divergence from their label, as many of each class, are labelled (Karim et al., 2022).

    Before the pass of each network all samples are divided by the Jensen-Shannon divergence of both networks' mean
    prediction from the label. Below the mean divergence lies a share R of them; of each given class the `R N / K` least
    divergent are labelled, in batches of B, beside batches of `B / (2 R)` of the rest; incomplete ones are dropped. Then
    as in :class:`~harness_plugins.algorithms.divide_mix.DivideMix`, but targets come from two weak views and training
    takes two views under AutoAugment, and a projection of the features of those of unlabelled samples gets SimCLR's loss.

    Follows the official code (nazmul-karim170/UNICON-Noisy-Label, 616dc495f30c). As there divergences are in nats, at most
    .693, so that its limit of .7 on the mean is never met; `limit` can be set lower (there a NameError would end the code).
    A label is refined only where its divergence is at least .5. Deviations, besides those of DivideMix: every sample has
    its own divergence (the code writes those of the last evaluation batch to the wrong place where it is smaller); both
    networks are evaluated in eval mode (the second division of the code has network 1 in train mode); of each class at
    least one sample is labelled, and of one with fewer than its share all are, without others in their place; where no
    divergence is below the mean, all are labelled; a view is augmented by policy, then cropped and mirrored.

    Options by data set: CIFAR-10 `warmup` 10, CIFAR-100 30; asymmetric noise `confidence_penalty`. B 64, SGD at .02 with a
    cosine to 2e-4 over 280 of 350 epochs.

    Args:
        warmup, lambda_u, temperature, alpha, confidence_penalty, guess_mode: as in DivideMix.
        lambda_c: weight of the contrastive loss.
        contrast: its temperature.
        width: of the projection.
        limit: `d_u`, above which the mean divergence is lowered.
        filtering: `tau`, by which part of its height above the least.
    """

    declares = Declares(
        replaces="ce", own_step=True, descends=True, needs_per_sample=True, views=("weak", "autoaugment")
    )
    name = "unicon"

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 10,
        lambda_u: NonNegative = 30.0,
        lambda_c: NonNegative = 0.025,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        contrast: Positive = 0.05,
        width: Count = 128,
        limit: PositiveRate = 0.7,
        filtering: Annotated[float, Ge(1)] = 5.0,
        confidence_penalty: bool = False,
        guess_mode: Literal["train", "eval"] = "train",
    ) -> None:
        super().__init__(
            warmup,
            lambda_u,
            temperature=temperature,
            alpha=alpha,
            confidence_penalty=confidence_penalty,
            guess_mode=guess_mode,
        )
        self.lambda_c = lambda_c
        self.contrast = contrast
        self.width = width
        self.limit = limit
        self.filtering = filtering
        self.share = 1.0
        self.head_names = dict(zip(self.names, (f"{self.name}.projection_1", f"{self.name}.projection_2"), strict=True))

    def setup(self, run: Run) -> None:
        """DivideMix's, and a projection of each network's features, which the network's optimizer trains too."""
        super().setup(run)
        for name in self.names:
            run.new_head(self.head_names[name], name, self._projection)
        self.divergence = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)

    def _projection(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Linear(features, self.width), nn.BatchNorm1d(self.width))

    # --- the passes ----------------------------------------------------------------------------------------------------

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """One pass for each network; after the warm-up the samples are divided anew before it."""
        if run.epoch <= self.warmup or number == len(self.names):
            return super().next_pass(run, number)
        network = self.names[number]
        self.divide_for(run, network)
        labelled, unlabelled = self.parts[self.other(network)]
        if len(labelled) < 2:
            return self.warmup_pass(run, network)
        return self.mixed_pass(run, network, labelled, unlabelled)

    def divide_for(self, run: Run, network: str) -> None:
        """Parts the samples by what both networks make of them, for the pass of one."""
        predictions = [run.examine(name, ("outputs",)).outputs.softmax(1) for name in self.names]
        labels = functional.one_hot(run.targets, run.num_outputs).to(run.dtype)
        self.divergence = divergences((predictions[0] + predictions[1]) / 2, labels)
        below = self.divergence < division_threshold(self.divergence, self.limit, self.filtering)
        self.share = float(below.double().mean()) or 1.0
        quota = torch.full((run.num_outputs,), int(self.share * run.num_samples / run.num_outputs), device=run.device)
        chosen = small_losses_by_class(self.divergence, run.targets, quota)
        if self.share == 1:
            chosen = torch.ones_like(chosen)
        judge = self.other(network)
        self.clean[judge] = torch.where(self.divergence < TRUSTED, 1.0, 1 - self.divergence).to(run.dtype)
        self.parts[judge] = (chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0])

    def mixed_pass(self, run: Run, network: str, labelled: Tensor, unlabelled: Tensor) -> Pass:
        """One lap over the labelled samples, beside larger batches the fewer there are."""
        size = max(1, int(run.batch_size / (2 * self.share)))
        return Pass(labelled, network, beside=unlabelled, beside_size=size, drop_last=True, label=MIX)

    # --- a step --------------------------------------------------------------------------------------------------------

    def views(self, run: Run, step: Step) -> Views:
        """Two weak views of every sample for guessing, two under AutoAugment for training."""
        assert step.beside is not None
        weak = super().views(run, step)
        labelled, unlabelled = (
            [run.view(index, "autoaugment") for _ in range(2)] for index in (step.index, step.beside.index)
        )
        return Views(weak.labelled, weak.unlabelled, labelled, unlabelled)

    def train_step(self, run: Run, step: Step) -> bool:
        """A step of warm-up, or on mixed rows with the contrastive loss beside them."""
        if step.label != MIX or step.beside is None:
            self.warmup_step(run, step)
            return True
        views = self.views(run, step)
        rows = self.mix(run, step, views)
        contrast = self.contrastive(run, step.network, views)
        outputs = run.forward(rows.inputs, run.of(step.network).model)
        step.index, step.divisor = rows.owners, rows.labelled
        step.losses = labelled_losses(outputs, rows.targets, rows.labelled)
        semi = self.unlabelled_weight(run, step) * unlabelled_loss(outputs, rows.targets, rows.labelled)
        step.penalty = semi + self.lambda_c * contrast + balance(outputs)
        run.descend(step)
        return True

    def contrastive(self, run: Run, network: str, views: Views) -> Tensor | float:
        """SimCLR's loss of the unlabelled samples; 0 of a single one, which has none to be told from."""
        if not self.lambda_c or len(views.trained_unlabelled[0]) < 2:
            return 0.0
        model, head = run.of(network).model, run.heads[self.head_names[network]]
        projected = [head(run.forward(view, model, features=True)[1]) for view in views.trained_unlabelled]
        return contrastive_loss(projected[0], projected[1], self.contrast)

    # --- what is scored and kept ---------------------------------------------------------------------------------------

    def epoch_end(self, run: Run) -> None:
        """Scores samples by the divergence of the mean prediction from their label."""
        run.score_samples(f"{self.name}.divergence", self.divergence)

    def state_dict(self) -> dict[str, Any]:
        """DivideMix's, and the divergences."""
        return {**super().state_dict(), "divergence": self.divergence, "share": self.share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        self.divergence = state["divergence"].to(self.divergence.device, copy=True)
        self.share = float(state["share"])
