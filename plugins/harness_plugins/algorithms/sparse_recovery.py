"""Exact recovery by the convex program of eq. 26, over random problems like the trial's (SOP paper, figures 3, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from harness import Declares, Run, Step
from harness.parameters import Count, NoiseRate, Positive
from harness_plugins.algorithms.sop_linear import REFUSES, jacobian_of, linear_weight
from harness_plugins.theory.sparse_corruption import draw_instances, recovery_errors, solve_convex


class SparseRecovery:
    """Relative errors of `min ||theta||^2 / 2 + lam ||s||_1, y = J theta + s` over `instances` problems.

    A trial never sees clean targets, so it cannot know whether it recovers its own. It therefore draws further problems
    of the same law, whose truth it knows: N, p and the rank are those of the trial's inputs, the sparsity is `rate` N.
    Diagnostics for each `lam`: the means of `theta_error@lam=0.1` and `s_error@lam=0.1`, and `theta_success@lam=0.1`,
    `s_success@lam=0.1`, the shares below `tolerance`. The network's weight is the solution for the trial's own data at
    the last `lam`, so that its test error is measured as any method's.

    Args:
        lam: weights of the convex program.
        instances: problems drawn; 10 in figure 3, 20 in figure 4.
        rate: share of corrupted samples; the noise rate unless a number is written.
        tolerance: relative error below which a recovery is a success; 0.001 in the paper.
    """

    declares = Declares(tasks=("regression",), replaces="l2", own_step=True, refuses=REFUSES)

    def __init__(
        self,
        lam: list[Positive] = [0.1],  # noqa: B006 -- read, never changed
        instances: Count = 20,
        rate: NoiseRate = "noise.rate",
        tolerance: Positive = 1e-3,
    ) -> None:
        self.lam = lam
        self.instances = instances
        self.rate = float(rate)
        self.tolerance = tolerance
        self.found: dict[str, float] = {}

    def setup(self, run: Run) -> None:
        """Checks the setting."""
        self.weight = linear_weight(run, "algorithms.sparse_recovery")

    def train_step(self, run: Run, step: Step) -> bool:
        """Solves everything in the first epoch; later ones have nothing to add."""
        jacobian, y = jacobian_of(run).numpy(), run.targets.double().cpu().reshape(-1).numpy()
        if not self.found:
            rank = int(np.linalg.matrix_rank(jacobian, tol=1e-4 * np.linalg.norm(jacobian, 2)))
            seed = int(torch.randint(2**62, (), generator=run.generator("algorithm")))
            samples, features = jacobian.shape
            corrupted = round(self.rate * samples)
            rng = np.random.default_rng(seed)
            problems = draw_instances(self.instances, samples, features, rank, corrupted, rng)
            for what, errors in zip(("theta", "s"), recovery_errors(problems, self.lam), strict=True):
                for lam, of_lam in zip(self.lam, errors.T, strict=True):
                    self.found[f"{what}_error@lam={lam:g}"] = float(of_lam.mean())
                    self.found[f"{what}_success@lam={lam:g}"] = float((of_lam < self.tolerance).mean())
            theta, _ = solve_convex(jacobian, y, self.lam[-1:])
            with torch.no_grad():
                self.weight.copy_(torch.from_numpy(theta))
        return True

    def diagnostics(self, run: Run) -> Mapping[str, float]:
        """Errors and success rates."""
        return self.found

    def state_dict(self) -> dict[str, Any]:
        """What was found."""
        return {"found": self.found}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.found = dict(state["found"])
