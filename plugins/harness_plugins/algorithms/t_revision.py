"""T-Revision (Xia et al., NeurIPS 2019): importance re-weighting by a transition matrix, which is revised with the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness import Declares, Pass, Run, Step, hookimpl
from harness.parameters import Count, Positive
from harness_plugins.algorithms.forward import TWICE
from harness_plugins.algorithms.transition import MANY_CLASSES, OUTLIERS, estimate_matrix
from harness_plugins.losses.labels import of_target

NAME = "t_revision"
"""The network of the last stage, the label of its passes, and the head that holds the revision."""
SMALLEST = 1e-6


def importance_losses(outputs: Tensor, targets: Tensor, matrix: Tensor, *, through: bool = False) -> Tensor:
    """``p_y / (T'p)_y (-log p_y)`` per sample (Liu and Tao's importance weight times cross entropy).

    Args:
        outputs: (B, K) logits of clean classes.
        targets: (B,) int64 noisy classes.
        matrix: (K, K), rows are clean classes; or (B, K, K), one for each sample. Entries may be negative.
        through: whether the gradient passes through the weight too.

    Returns:
        (B,) losses; the denominator is at least 1e-6.
    """
    log_p = outputs.log_softmax(1)
    p = log_p.exp()
    columns = matrix[:, targets].T if matrix.ndim == 2 else matrix[torch.arange(len(targets)), :, targets]
    weights = of_target(p, targets, NAME) / (p * columns).sum(1).clamp_min(SMALLEST)
    return -(weights if through else weights.detach()) * of_target(log_p, targets, NAME)


class Revision(nn.Module):
    """``D``, (K, K) zeros that are trained with the network."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(num_classes, num_classes))


class TRevision:
    """Estimate T, weigh by it, then train `T + D` and the network together (Xia et al., 2019).

    Follows the official code (xiaoboxia/T-Revision, b598cf2800b9). Stage 1 is cross entropy; its network gives T by anchor
    points, on augmented inputs in eval mode. Stage 2 goes on by cross entropy times `p_y / (T'p)_y`, without gradient through the
    weight. Stage 3, the rest of the trial, trains that network and D by Adam, with gradient through the weight. Stages 1 and 2
    have the trial's optimizer and schedule, new at the start of stage 2; the network of stage 3 predicts by its own outputs.

    Deviations: the code's stage 3 takes `T + i D` for row i of a batch (`cumulative` replays it; the repository's other
    version gives D no gradient); its estimate zeroes outliers in place and divides columns by sums of rows, here rows are
    predictions, divided by their sums; `(T + D)'p`, which may be negative, is at least 1e-6; each stage ends with its last
    epoch, the code's with the one that is best on noisy validation.

    By data set: CIFAR-10 ResNet-18, CIFAR-100 ResNet-34 (`stage1 = 15`), MNIST LeNet (`stage2 = 100`); SGD 0.01 without momentum,
    weight decay 1e-4, a tenth after 40 and 80 epochs of stage 2, 200 epochs of stage 3, batch 128, a short last batch
    divided by its size (`last_batch = "mean"`).

    Args:
        stage1, stage2: epochs of the first two stages.
        lr: of Adam in stage 3, on network and D alike.
        anchors: `quantile`: the largest below the 97th percentile of a class; `max`: the largest; `auto`: `max` from 100 classes
            on, as the code does for CIFAR-100.
        cumulative: replay the code's `T + i D`.
    """

    declares = Declares(
        replaces="ce",
        needs_per_sample=True,
        views=("weak",),
        whole_batch="cumulative",
        refuses=dict.fromkeys(("forward", "vol_min_net"), TWICE),
    )

    def __init__(
        self,
        stage1: Count = 20,
        stage2: Count = 200,
        lr: Positive = 5e-7,
        anchors: Literal["auto", "quantile", "max"] = "auto",
        cumulative: bool = False,
    ) -> None:
        self.stage1 = stage1
        self.stage2 = stage2
        self.lr = lr
        self.anchors = anchors
        self.cumulative = cumulative
        self.matrix: Tensor | None = None

    def setup(self, run: Run) -> None:
        """The network of stage 3 and D, which its optimizer trains too."""
        adam = {"name": "adam", "lr": self.lr, "weight_decay": 1e-4}
        run.new_network(NAME, adam, {"name": "constant"}, max(1, run.epochs - self.stage1 - self.stage2))
        run.new_head(f"{NAME}.shift", NAME, lambda _: Revision(run.num_outputs))

    def shift(self, run: Run) -> nn.Parameter:
        """``D``."""
        found: nn.Parameter = run.heads[f"{NAME}.shift"].shift  # type: ignore[assignment]
        return found

    def revising(self, run: Run) -> bool:
        """Whether the epoch under way is one of stage 3."""
        return run.epoch > self.stage1 + self.stage2

    def epoch_start(self, run: Run) -> None:
        """A new optimizer at the start of stage 2; at that of stage 3 its network starts from where stage 2 ended."""
        if run.epoch == self.stage1 + 1:
            run.optimizer.state.clear()
        if run.epoch == self.stage1 + self.stage2 + 1:
            run.of(NAME).model.load_state_dict(run.model.state_dict())

    def next_pass(self, run: Run, number: int) -> Pass | None:
        """All samples, in stage 3 for its network."""
        if number:
            return None
        return Pass(network=NAME, label=NAME) if self.revising(run) else Pass()

    def compute_losses(self, run: Run, step: Step) -> bool | None:
        """Replaces cross entropy once there is a matrix."""
        if self.matrix is None:
            return None
        assert step.outputs is not None
        matrix = self.matrix
        if step.network == NAME:
            shift = self.shift(run)
            if self.cumulative and step.phase == "train":
                rows = torch.arange(1, len(step.index) + 1, device=run.device, dtype=run.dtype)
                matrix = matrix + rows[:, None, None] * shift
            else:
                matrix = matrix + shift
        step.losses = importance_losses(step.outputs, step.targets, matrix, through=step.network == NAME)
        return True

    @hookimpl(tryfirst=True)
    def epoch_end(self, run: Run) -> None:
        """Estimates the matrix at the end of stage 1, before other parts rank samples by the losses."""
        if run.epoch == self.stage1:
            self.matrix = self.estimate(run)

    @torch.no_grad()
    def estimate(self, run: Run) -> Tensor:
        """(K, K), rows sum to 1, of the network's predictions on augmented training inputs, in eval mode."""
        many = run.num_outputs >= MANY_CLASSES if self.anchors == "auto" else self.anchors == "max"
        with run.evaluating():
            views = (run.view(index, "weak") for index, _ in run.source.ordered(512))
            predictions = torch.cat([run.forward(view).softmax(1) for view in views])
        return estimate_matrix(predictions.double(), None if many else OUTLIERS).to(run.dtype)

    def predict(self, run: Run, inputs: Tensor) -> Tensor | None:
        """By the network of stage 3, once it is trained."""
        if not self.revising(run):
            return None
        return run.forward(inputs, run.of(NAME).model).log_softmax(1)

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean of the matrix' diagonal, the share of labels taken to be right, and the sum of D's sizes."""
        if self.matrix is None:
            return {}
        shift = self.shift(run).detach()
        return {
            f"{NAME}.diagonal": float((self.matrix + shift).diagonal().mean()),
            f"{NAME}.shift": float(shift.abs().sum()),
        }

    def state_dict(self) -> dict[str, Any]:
        """The matrix, once there is one."""
        return {} if self.matrix is None else {"matrix": self.matrix}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.matrix = None
        if "matrix" in state:
            self.matrix = state["matrix"].detach().clone()
