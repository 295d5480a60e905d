"""SOP on a linear model: gradient descent of eq. 16 beside the convex program of eq. 26 (SOP paper, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import Declares, HarnessError, Run, Step
from harness.parameters import Count, Positive
from harness_plugins.theory.sparse_corruption import GAMMA, Descent, relative_differences, solve_convex, step_sizes

REFUSES = dict.fromkeys(
    ("kpd", "rank_factorization"), "theta is the dense weight, which a factorisation does away with"
)


def linear_weight(run: Run, where: str) -> nn.Parameter:
    """The weight (1, p) of a linear model without a bias, on inputs as they are.

    Raises:
        HarnessError: for another model, inputs that are standardised, or batches.
    """
    parameters = run.model_parameters
    if len(parameters) != 1 or parameters[0].ndim != 2 or len(parameters[0]) != 1:
        raise HarnessError(
            "needs one linear layer with one output and no bias", where, 'model = { name = "linear", bias = false }'
        )
    standardiser = run.source.standardiser
    if standardiser is not None and not (bool((standardiser.mean == 0).all()) and bool((standardiser.std == 1).all())):
        raise HarnessError("needs inputs as they are", where, 'set normalize = "none" in the setting')
    if run.batch_size < run.num_samples:
        raise HarnessError(
            f"takes all {run.num_samples} samples at once", where, f"set training.batch_size = {run.num_samples}"
        )
    return parameters[0]


def jacobian_of(run: Run) -> Tensor:
    """(N, p) training inputs in double precision, on CPU."""
    return run.source.gather(torch.arange(run.num_samples, device=run.device)).double().cpu()


class SOPLinear:
    """Gradient descent on `||J theta + u*u - v*v - y||^2 / 2` for several `alpha`, next to eq. 26 for several `lam`.

    Each epoch takes `steps` full-batch steps of eq. 16 for all `alpha` at once, in double precision, from `theta = 0`,
    `u = v = gamma`. Diagnostics are the relative differences of theta and s to the convex program's solutions, solved
    by CVXPY at the start: `theta_difference@alpha=4@lam=0.1` and so on, and the largest residual of each `alpha`.
    The network's weight is theta of the last `alpha`. Deviation: `tau` is not given in the paper; here it is such
    that a step changes u and v by at most 5 % (:func:`step_sizes`).

    Args:
        alpha: ratios of learning rates.
        lam: weights of the convex program.
        gamma: initialisation scale; `exp(-8)` in the paper.
        steps: gradient steps in an epoch.
    """

    declares = Declares(tasks=("regression",), replaces="l2", own_step=True, sample_state=True, refuses=REFUSES)

    def __init__(
        self, alpha: list[Positive], lam: list[Positive], gamma: Positive = GAMMA, steps: Count = 10000
    ) -> None:
        self.alpha = torch.tensor(alpha, dtype=torch.float64)
        self.lam = lam
        self.gamma = gamma
        self.steps = steps

    def setup(self, run: Run) -> None:
        """Checks the setting and solves the convex program."""
        self.weight = linear_weight(run, "algorithms.sop_linear")
        self.jacobian = jacobian_of(run)
        self.y = run.targets.double().cpu().reshape(-1)
        self.tau = step_sizes(self.jacobian, self.y, self.alpha)
        samples, features = self.jacobian.shape
        self.descent = Descent.start(len(self.alpha), samples, features, self.gamma)
        theta, s = solve_convex(self.jacobian.numpy(), self.y.numpy(), self.lam)
        self.convex = {"theta": torch.from_numpy(np.ascontiguousarray(theta)), "s": torch.from_numpy(s)}

    def train_step(self, run: Run, step: Step) -> bool:
        """``steps`` gradient steps."""
        with torch.no_grad():
            self.descent.run(self.jacobian, self.y, self.alpha, self.tau, self.steps)
            self.weight.copy_(self.descent.theta[-1:])
            residual = self.descent.residual(self.jacobian, self.y)
        step.loss = residual[-1].square().sum().float().to(run.device) / 2
        return True

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Relative differences for every pair of ``alpha`` and ``lam``."""
        found = {}
        names = [f"@alpha={alpha:g}" for alpha in self.alpha.tolist()]
        for what, ours in (("theta", self.descent.theta), ("s", self.descent.s)):
            differences = relative_differences(ours, self.convex[what]).tolist()
            for name, row in zip(names, differences, strict=True):
                found.update({f"{what}_difference{name}@lam={lam:g}": d for lam, d in zip(self.lam, row, strict=True)})
        residuals = self.descent.residual(self.jacobian, self.y).abs().amax(1).tolist()
        return {**found, **{f"residual{name}": value for name, value in zip(names, residuals, strict=True)}}

    def state_dict(self) -> dict[str, Any]:
        """The iterate."""
        return {"theta": self.descent.theta, "u": self.descent.u, "v": self.descent.v}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.descent = Descent(*(state[name].cpu().clone() for name in ("theta", "u", "v")))
