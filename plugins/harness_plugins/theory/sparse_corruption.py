"""SOP's theory (Liu et al., 2022, section 3): ``y = J theta + s`` with J of low rank and s sparse.

Two ways to separate the signal from its corruption: gradient descent on an over-parameterised least-squares problem
(eq. 16), and a convex program (eq. 26). Proposition 3.3 says that they agree where ``alpha = -log(gamma) / (2 lam)``;
Proposition 3.5 that the second is exact where rank and sparsity are small and ``lam`` is large enough.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError

Array = np.ndarray
GAMMA = math.exp(-8)
"""The paper's initialisation scale in figure 2."""
SAME_AS_ZERO = 1e-6
"""Singular values this far below the largest are rounding of single-precision inputs: J has a rank by construction."""


@dataclasses.dataclass(frozen=True)
class Instances:
    """T random problems: ``y = J theta + s``.

    Attributes:
        jacobian: (T, N, p), of rank r.
        theta: (T, p), the solution of least norm (eq. 14), so it lies in the row space of J.
        s: (T, N), with k entries that are not zero.
        y: (T, N).
    """

    jacobian: Array
    theta: Array
    s: Array
    y: Array


def draw_instances(
    trials: int, samples: int, features: int, rank: int, corrupted: int, rng: np.random.Generator
) -> Instances:
    """Problems as in the paper's simulations, drawn at once.

    ``J`` is a product of standard normal (N, r) and (r, p) matrices, ``theta`` is standard normal, projected to the row
    space of J, and ``s`` has standard normal entries at ``corrupted`` places chosen uniformly.

    Raises:
        HarnessError: when rank or sparsity is out of range.
    """
    if not 1 <= rank <= min(samples, features):
        raise HarnessError(f"rank {rank} is not in [1, {min(samples, features)}]", "theory.sparse_corruption")
    if not 0 <= corrupted <= samples:
        raise HarnessError(f"{corrupted} corrupted entries of {samples}", "theory.sparse_corruption")
    left = rng.standard_normal((trials, samples, rank))
    right = rng.standard_normal((trials, rank, features))
    basis, _ = np.linalg.qr(right.swapaxes(1, 2))
    theta = (basis @ (basis.swapaxes(1, 2) @ rng.standard_normal((trials, features, 1))))[..., 0]
    places = rng.random((trials, samples)).argsort(axis=1) < corrupted
    s = places * rng.standard_normal((trials, samples))
    jacobian = left @ right
    return Instances(jacobian, theta, s, (jacobian @ theta[..., None])[..., 0] + s)


def coherence(jacobian: Array) -> float:
    """``mu(J) = (N / r) max_i ||U^T e_i||^2`` (eq. 27) of an (N, p) matrix; in [1, N / r]."""
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    rank = int((values > values[0] * 1e-10).sum())
    return float(len(jacobian) / rank * np.square(left[:, :rank]).sum(1).max())


def matching_alpha(lam: float, gamma: float = GAMMA) -> float:
    """``alpha = -log(gamma) / (2 lam)`` (eq. 23): where gradient descent and the convex program agree."""
    return -math.log(gamma) / (2 * lam)


# --- the convex program ---------------------------------------------------------------------------------------------


def solve_convex(jacobian: Array, y: Array, lams: Sequence[float]) -> tuple[Array, Array]:
    """``argmin ||theta||^2 / 2 + lam ||s||_1`` with ``y = J theta + s`` (eq. 26), by CVXPY.

    A solution of least norm lies in the row space of J, so CVXPY is given r coordinates and not p, and all is divided
    by lam: the same program, ten times smaller and well scaled. The paper's ECOS is replaced by its successor CLARABEL,
    the default of CVXPY.

    Args:
        jacobian: (N, p).
        y: (N,).
        lams: L weights, above 0.

    Returns:
        (L, p) theta and (L, N) s.

    Raises:
        HarnessError: when CVXPY is not installed or fails.
    """
    cvxpy = _cvxpy()
    left, values, right = np.linalg.svd(jacobian, full_matrices=False)
    kept = values > values[0] * SAME_AS_ZERO
    left, values, right = left[:, kept], values[kept], right[kept]
    signal = cvxpy.Variable(len(values))
    weight = cvxpy.Parameter(nonneg=True)
    # J theta = U w with theta = V (w / values); divided by lam all numbers are of order 1, which the solver needs
    objective = weight * cvxpy.sum_squares(cvxpy.multiply(values[-1] / values, signal)) + cvxpy.norm1(y - left @ signal)
    problem = cvxpy.Problem(cvxpy.Minimize(objective))
    thetas = np.empty((len(lams), jacobian.shape[1]))
    for position, lam in enumerate(lams):
        weight.value = 1 / (2 * lam * values[-1] ** 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what cannot be solved is an error below
            status = _solve(problem)
        if status != cvxpy.OPTIMAL:
            where = f"theory.sparse_corruption, lam = {lam:g}"
            raise HarnessError(f"CVXPY finds no solution of the convex program ({status})", where)
        thetas[position] = right.T @ (signal.value / values)
    return thetas, y - thetas @ jacobian.T


def _cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError:
        raise HarnessError(
            "CVXPY is not installed", "theory.sparse_corruption", "pip install 'noisy-label-harness[theory]'"
        ) from None
    return cvxpy


def _solve(problem: Any) -> str:
    cvxpy = _cvxpy()
    try:
        problem.solve(solver=cvxpy.CLARABEL)
    except cvxpy.error.SolverError:
        return "solver error"
    return str(problem.status)


def relative_error(estimate: Array, truth: Array) -> Array:
    """``||estimate - truth|| / ||truth||`` over the last axis; infinite where the truth is 0 and the estimate not."""
    distance, size = np.linalg.norm(estimate - truth, axis=-1), np.linalg.norm(truth, axis=-1)
    ratio = np.divide(distance, size, out=np.full(distance.shape, np.inf), where=size > 0)
    return np.where(distance == 0, 0.0, ratio)


def recovery_errors(instances: Instances, lams: Sequence[float]) -> tuple[Array, Array]:
    """Relative errors of the convex program: (T, L) of theta and (T, L) of s."""
    solved = [solve_convex(jacobian, y, lams) for jacobian, y in zip(instances.jacobian, instances.y, strict=True)]
    thetas, corruptions = (np.stack(part) for part in zip(*solved, strict=True))
    return relative_error(thetas, instances.theta[:, None]), relative_error(corruptions, instances.s[:, None])


# --- gradient descent -----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Descent:
    """Gradient descent of eq. 16 on one problem for A values of alpha at once.

    Attributes:
        theta: (A, p), 0 at the start (eq. 19).
        u, v: (A, N), ``gamma`` at the start.
    """

    theta: Tensor
    u: Tensor
    v: Tensor

    @classmethod
    def start(cls, alphas: int, samples: int, features: int, gamma: float = GAMMA) -> Descent:
        """The initialisation of eq. 19, in double precision: u^2 starts at 1e-7 beside numbers of order 1."""
        scale = torch.full((alphas, samples), gamma, dtype=torch.float64)
        return cls(torch.zeros(alphas, features, dtype=torch.float64), scale, scale.clone())

    @property
    def s(self) -> Tensor:
        """(A, N) the modelled corruption ``u * u - v * v``."""
        return self.u.square() - self.v.square()

    def residual(self, jacobian: Tensor, y: Tensor) -> Tensor:
        """(A, N) ``J theta + u * u - v * v - y``."""
        return self.theta @ jacobian.T + self.s - y

    def run(self, jacobian: Tensor, y: Tensor, alpha: Tensor, tau: Tensor, steps: int) -> None:
        """``steps`` steps of eq. 16, in place.

        Args:
            jacobian: (N, p) float64.
            y: (N,) float64.
            alpha: (A,) ratio of the learning rates of u, v and of theta.
            tau: (A,) learning rates of theta.
            steps: how many.
        """
        along, across = (alpha * tau)[:, None] * 2, tau[:, None]
        for _ in range(steps):
            residual = self.residual(jacobian, y)
            self.theta -= across * (residual @ jacobian)
            residual *= along
            self.u -= self.u * residual
            self.v += self.v * residual


def step_sizes(jacobian: Tensor, y: Tensor, alpha: Tensor, change: float = 0.05) -> Tensor:
    """(A,) learning rates ``tau = 1 / (||J||^2 + 2 alpha max|y| / change)``.

    The paper takes a "finitely small" tau and does not say which. The first term keeps theta stable; by the second no
    step changes u or v by more than the share ``change``: a step multiplies them by ``1 -+ 2 alpha tau r``, the flow by
    its exponential, and with ``change = 0.5`` their mismatch doubles the distance to the convex program.
    """
    sizes: Tensor = 1 / (torch.linalg.matrix_norm(jacobian, 2) ** 2 + 2 * alpha * y.abs().max() / change)
    return sizes


def relative_differences(first: Tensor, second: Tensor) -> Tensor:
    """``||a - b|| / max(||a||, ||b||)`` of all pairs, (A, L), for (A, d) and (L, d); 0 where both are 0."""
    larger = torch.maximum(first.norm(dim=1)[:, None], second.norm(dim=1)[None])
    differences: Tensor = torch.where(larger > 0, torch.cdist(first, second) / larger, 0.0)
    return differences
