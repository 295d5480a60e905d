"""AUX: auxiliary variables (Hu, Li and Yu, 2020): a trainable shift of each sample's logits absorbs its label noise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harness import Declares, Run, Step
from harness.parameters import NonNegative, Positive
from harness.training.run import SampleState


def shift_logits(outputs: Tensor, rows: Tensor, lam: float) -> Tensor:
    """``z + lam * b`` with the samples' rows ``b`` (B, K)."""
    return outputs + lam * rows


class AUX:
    """Auxiliary variables: `(1/N) sum_i loss(z_i + lam b_i)` over w and b, where b steps B times as far (Hu et al., 2020).

    Prediction is by `z_i`. `b` starts at 0 and is trained by plain SGD on the summed loss of a batch of B, by rows: no
    momentum, which would move samples that are not in the batch, and no weight decay. Hu et al. step on w and b alike:
    their lambda is `sqrt(B) lam`. With the squared loss and `lr_b` = the network's learning rate this is
    RDI on a linear model, to rounding. No official code is reachable; `lam` is to be chosen on noisy validation from
    {1, 2, 4, 8, 16}: the effective strength is `lam^2 lr_b`.

    Args:
        lam: strength of the shift.
        lr_b: learning rate of b; the network's initial learning rate when absent.
    """

    declares = Declares(tasks=("classification", "regression"), needs_per_sample=True, sample_state=True)

    def __init__(self, lam: NonNegative = 1.0, lr_b: Positive | None = None) -> None:
        self.lam = lam
        self.lr_b = lr_b

    def setup(self, run: Run) -> None:
        """``b`` (N, K) zeros."""
        group = run.optimizer.param_groups[0]
        # a warm-up schedule has already lowered "lr" when setup runs
        lr = self.lr_b if self.lr_b is not None else float(group.get("initial_lr", group["lr"]))
        self.b: SampleState = run.sample_state("aux.b", run.num_outputs, 0.0, lr, reduction="sum")

    def after_forward(self, run: Run, step: Step) -> None:
        """Shifts the logits, in every pass of training."""
        assert step.outputs is not None
        step.outputs = shift_logits(step.outputs, self.b[step.index], self.lam)

    def epoch_end(self, run: Run) -> None:
        """Scores samples by how far the shift moves towards the given label; in regression by its size."""
        if run.task == "classification":
            run.score_samples("aux.shift", self.lam * self.b.data.gather(1, run.targets[:, None]).squeeze(1))
        else:
            run.score_samples("aux.shift", self.lam * self.b.data.abs().sum(1))

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Mean absolute shift of a logit: the noise absorbed."""
        return {"aux.absorbed": float(self.lam * self.b.data.abs().mean())}
