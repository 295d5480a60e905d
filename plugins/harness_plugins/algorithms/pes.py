"""PES (Bai et al., NeurIPS 2021): early stopping layer by layer; what the renewed network agrees with keeps its label."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from harness import Declares, Pass, Run, Step
from harness.parameters import NonNegative, Positive
from harness.training.networks import classifier_of
from harness_plugins.algorithms.divide_mix import MIX, in_mode, unlabelled_loss
from harness_plugins.algorithms.semi_supervised import Blend, linear_ramp, sharpen

REFINE = "refine"
"""The label of passes that train a new last layer alone."""
LARGEST_WEIGHT = 3.0
RAMP = 16


def class_weights(counts: Tensor) -> Tensor:
    """``min(3, mean of the counts above 0 / n_j)`` per class, (K,), of counts ``n`` (K,); 0 for a class without samples."""
    present = counts > 0
    mean = counts.sum() / present.sum().clamp_min(1)
    return torch.where(present, (mean / counts.clamp_min(1)).clamp_max(LARGEST_WEIGHT), torch.zeros_like(counts))


def weighted_cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """``-sum_k w_k t_k log softmax(z)_k`` per row, (R,), of logits and targets (R, K) and weights of classes (K,)."""
    return -(weights * targets * outputs.log_softmax(1)).sum(1)


def batch_sizes(labelled: int, unlabelled: int, batch: int) -> tuple[int, int]:
    """Samples of each part in a batch: half of it unlabelled where they are more, else their share, rounded down."""
    share = batch // 2 if unlabelled > labelled else int(unlabelled / (labelled + unlabelled) * batch)
    return batch - share, share


def renewed(layer: nn.Module) -> nn.Module:
    """A copy of a linear layer with new weights, drawn as torch does; a factorised weight (KPD) stays factorised."""
    twin = copy.deepcopy(layer)
    fresh = nn.Linear(int(layer.in_features), int(layer.out_features)).to(twin.weight)  # type: ignore[arg-type]
    with torch.no_grad():
        if parametrize.is_parametrized(twin, "weight"):
            twin.weight = fresh.weight.detach()
        else:
            twin.weight.copy_(fresh.weight)  # type: ignore[operator,union-attr]
        if twin.bias is not None:
            twin.bias.copy_(fresh.bias)  # type: ignore[operator,union-attr]
    return twin


class PES:
    """Train a while, renew the last layer, then learn by MixMatch from the labels that the network agrees with (PES, semi).

    Follows the official code (tmllab/PES, 54662382dca2). After `warmup` epochs of cross entropy the last layer begins anew
    and is trained alone by Adam for `refine` passes, with the network in train mode, so that statistics of batch
    normalisation move. Then in each epoch the samples whose given label is what two weak views predict together, in eval
    mode, are labelled. A step has a batch of both parts, by their sizes; each class counts by `min(3, mean n / n_j)`; the
    targets of unlabelled samples are guessed in train mode. An epoch has as many steps as all samples have full batches.

    The code's SGD was made before the last layer was renewed and never holds the new one, so from then on the classifier
    stays as Adam left it: `classifier` `frozen`. Deviations: without unlabelled samples, of which the code's loader fails,
    or with so few that a batch has none, an epoch is a pass of cross entropy over the labelled ones; with fewer than two
    labelled ones over all. Batch normalisation has no statistics of one sample, so a single unlabelled one is guessed in
    eval mode. The code drops short last batches in the warm-up (`last_batch = "drop"`).

    By data set: CIFAR-10 `warmup` 20, CIFAR-100 35, CIFAR-N 5; `lambda_u` 15 for instance noise of 40 % on CIFAR-10, 50 for
    pair flips of 45 % on CIFAR-100, 75 on CIFAR-N, else 150. SGD at 0.02, cosine to 2e-4 over 300 epochs, weight decay 5e-4,
    batches of 128; PreActResNet-18, on CIFAR-N ResNet-34.

    Args:
        warmup: `T1`, epochs of cross entropy.
        refine: `T2`, passes that train the new last layer; with 0 there is none.
        refine_lr: learning rate of Adam.
        lambda_u: weight of the squared error on unlabelled rows, which rises over 16 epochs after the warm-up.
        temperature: by which guesses are sharpened.
        alpha: of the Beta distribution of the mixing in the first half of the epochs.
        late_alpha: the same in the second half.
        classifier: whether the renewed last layer is `frozen`, or `trained` on by the setting's optimizer.
    """

    declares = Declares(replaces="ce", own_step=True, descends=True, needs_per_sample=True, views=("weak",))

    def __init__(
        self,
        warmup: Annotated[int, Ge(0)] = 20,
        refine: Annotated[int, Ge(0)] = 5,
        refine_lr: Positive = 1e-4,
        lambda_u: NonNegative = 150.0,
        temperature: Positive = 0.5,
        alpha: Positive = 4.0,
        late_alpha: Positive = 0.75,
        classifier: Literal["frozen", "trained"] = "frozen",
    ) -> None:
        self.warmup = warmup
        self.refine = refine
        self.refine_lr = refine_lr
        self.lambda_u = lambda_u
        self.temperature = temperature
        self.alpha = alpha
        self.late_alpha = late_alpha
        self.frozen = classifier == "frozen" and refine > 0

    def setup(self, run: Run) -> None:
        """The new last layer with its Adam; no sample is doubted yet."""
        self.layer = classifier_of(run.model, run.num_outputs, run.name)
        adam, constant = {"name": "adam", "lr": self.refine_lr}, {"name": "constant"}
        self.head = run.new_head("pes", "", lambda _: renewed(self.layer), adam, constant)
        self.weights = torch.ones(run.num_outputs, device=run.device, dtype=run.dtype)
        self.doubt = torch.zeros(run.num_samples, device=run.device, dtype=run.dtype)
        self.share = 1.0

    # --- the passes ----------------------------------------------------------------------------------------------------

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """Cross entropy; then once the passes of the new layer; then a pass over labelled beside unlabelled samples."""
        refining = self.refine if run.epoch == self.warmup + 1 else 0
        if number < refining:
            return Pass(label=REFINE)
        if number > refining:
            return None
        if run.epoch <= self.warmup:
            return Pass()
        if refining:
            self.adopt(run)
        return self.divide(run)

    def adopt(self, run: Run) -> None:
        """The new layer takes the place of the last one, without its momentum."""
        self.layer.load_state_dict(self.head.state_dict())
        for parameter in self.layer.parameters():
            run.optimizer.state.pop(parameter, None)

    def divide(self, run: Run) -> Pass:
        """A pass by what the network predicts now."""
        predictions = self.predictions(run)
        agreed = predictions.argmax(1) == run.targets
        self.doubt = 1 - predictions.gather(1, run.targets[:, None])[:, 0]
        labelled, unlabelled = agreed.nonzero()[:, 0], (~agreed).nonzero()[:, 0]
        self.share = len(labelled) / run.num_samples
        if len(labelled) < 2:
            return Pass()
        counts = torch.bincount(run.targets[labelled], minlength=run.num_outputs)
        self.weights = class_weights(counts.to(run.dtype))
        size, beside = batch_sizes(len(labelled), len(unlabelled), run.batch_size)
        if not beside:
            return Pass(labelled)
        steps = self.steps(run)
        return Pass(
            labelled, batch_size=size, beside=unlabelled, beside_size=beside, steps=steps, drop_last=True, label=MIX
        )

    @staticmethod
    def steps(run: Run) -> int:
        """Steps of an epoch of both parts."""
        return max(1, run.num_samples // run.batch_size)

    @torch.no_grad()
    def predictions(self, run: Run, batch_size: int = 512) -> Tensor:
        """(N, K) mean prediction of all samples over two weak views, in eval mode."""
        found = torch.empty(run.num_samples, run.num_outputs, device=run.device, dtype=run.dtype)
        with in_mode(run.model, training=False):
            for index in torch.arange(run.num_samples, device=run.device).split(batch_size):
                found[index] = self.guess(run, [run.view(index, "weak"), run.view(index, "weak")])
        return found

    @staticmethod
    def guess(run: Run, views: list[Tensor]) -> Tensor:
        """(B, K) mean prediction over views of the same samples, in the mode that the network is in."""
        return torch.stack([run.forward(view).softmax(1) for view in views]).mean(0)

    # --- a step --------------------------------------------------------------------------------------------------------

    def train_step(self, run: Run, step: Step) -> bool | None:
        """A step of the new layer, or on mixed rows; else the loop's own, on labels as given."""
        trained = not (self.frozen and run.epoch > self.warmup)
        for parameter in self.layer.parameters():
            parameter.requires_grad_(trained)
        if step.label == REFINE:
            self.refine_step(run, step)
            return True
        if step.label != MIX or step.beside is None:
            return None
        self.mixed_step(run, step, step.beside)
        return True

    def refine_step(self, run: Run, step: Step) -> None:
        """Cross entropy of the new layer on features that carry no gradient."""
        run.zero_grad(("",))
        with torch.no_grad():
            _, features = run.forward(step.inputs, features=True)
        step.losses = functional.cross_entropy(self.head(features), step.targets, reduction="none")
        run.descend(step, networks=("pes",))

    def mixed_step(self, run: Run, step: Step, beside: Step) -> None:
        """MixMatch on two views of each sample; labels of labelled ones are not refined."""
        labelled = [step.inputs, run.view(step.index, "weak")]
        unlabelled = [beside.inputs, run.view(beside.index, "weak")]
        with torch.no_grad(), in_mode(run.model, training=len(beside.index) > 1):
            guessed = sharpen(self.guess(run, unlabelled), self.temperature)
        given = functional.one_hot(step.targets, run.num_outputs).to(run.dtype)
        alpha = self.alpha if 2 * (run.epoch - 1) < run.epochs else self.late_alpha
        inputs = torch.cat([*labelled, *unlabelled])
        blend = Blend.draw(len(inputs), alpha, run.generator("algorithm"), run.device)
        targets = blend(torch.cat([given, given, guessed, guessed]))
        outputs, rows = run.forward(blend(inputs)), 2 * len(step.index)
        step.index, step.divisor = step.index.repeat(2), rows
        step.losses = weighted_cross_entropy(outputs[:rows], targets[:rows], self.weights)
        ramp = linear_ramp(run.epoch - 1 + step.number / self.steps(run), self.warmup, RAMP)
        step.penalty = self.lambda_u * ramp * unlabelled_loss(outputs, targets, rows)
        run.descend(step)

    # --- what is scored and kept ---------------------------------------------------------------------------------------

    def epoch_end(self, run: Run) -> None:
        """Scores samples by the probability that the last division left for other labels than the given one."""
        run.score_samples("pes.doubt", self.doubt)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """The share of samples whose label the network agreed with."""
        return {} if run.epoch <= self.warmup else {"pes.labelled_share": self.share}

    def state_dict(self) -> dict[str, Any]:
        """Weights of classes, doubts and share; the new layer and its optimizer are in the run's state."""
        return {"weights": self.weights, "doubt": self.doubt, "share": self.share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.weights = state["weights"].to(self.weights.device, copy=True)
        self.doubt = state["doubt"].to(self.doubt.device, copy=True)
        self.share = float(state["share"])
