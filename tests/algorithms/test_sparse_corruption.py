"""SOP's theory: problems, convex program and gradient descent against independent computations."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.theory.sparse_corruption import (
    Descent,
    coherence,
    draw_instances,
    matching_alpha,
    recovery_errors,
    relative_differences,
    relative_error,
    solve_convex,
    step_sizes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from harness import HarnessError

cvxpy = pytest.importorskip("cvxpy")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- problems ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 8), st.integers(0, 100))
def test_an_instance_is_low_rank_sparse_and_has_the_least_norm_solution(rank: int, corrupted: int, seed: int) -> None:
    drawn = draw_instances(3, 8, 12, rank, corrupted, rng(seed))
    for jacobian, theta, s, y in zip(drawn.jacobian, drawn.theta, drawn.s, drawn.y, strict=True):
        assert np.linalg.matrix_rank(jacobian) == rank
        assert np.count_nonzero(s) == corrupted
        np.testing.assert_allclose(y, jacobian @ theta + s)
        np.testing.assert_allclose(theta, np.linalg.pinv(jacobian, rcond=1e-10) @ (y - s), atol=1e-8)


def test_corrupted_places_are_uniform_and_values_standard_normal() -> None:
    drawn = draw_instances(4000, 5, 6, 1, 2, rng())
    np.testing.assert_allclose((drawn.s != 0).mean(0), 0.4, atol=0.03)
    values = drawn.s[drawn.s != 0]
    assert abs(values.mean()) < 0.04
    assert abs(values.std() - 1) < 0.03


@pytest.mark.parametrize(("rank", "corrupted"), [(0, 1), (9, 1), (2, 9), (2, -1)])
def test_impossible_problems_are_refused(rank: int, corrupted: int) -> None:
    with pytest.raises(HarnessError):
        draw_instances(1, 8, 12, rank, corrupted, rng())


def test_coherence_is_one_for_spread_and_n_over_r_for_concentrated_columns() -> None:
    hadamard = np.array([[1, 1], [1, -1], [1, 1], [1, -1]]) @ rng().standard_normal((2, 6))
    assert coherence(hadamard) == pytest.approx(1.0)
    spike = np.zeros((4, 6))
    spike[2] = 1.0
    assert coherence(spike) == pytest.approx(4.0)


# --- the convex program -----------------------------------------------------------------------------------------------


def directly(jacobian: Any, y: Any, lam: float) -> tuple[Any, Any]:
    """Eq. 26 as it is printed, with p and N unknowns."""
    theta, s = cvxpy.Variable(jacobian.shape[1]), cvxpy.Variable(len(y))
    objective = cvxpy.Minimize(0.5 * cvxpy.sum_squares(theta) + lam * cvxpy.norm1(s))
    cvxpy.Problem(objective, [y == jacobian @ theta + s]).solve(solver=cvxpy.CLARABEL)
    return theta.value, s.value


@pytest.mark.parametrize("lam", [0.003, 0.03, 0.3])
def test_the_reduced_program_is_eq_26_as_printed(lam: float) -> None:
    drawn = draw_instances(1, 20, 40, 3, 3, rng(2))
    theta, s = directly(drawn.jacobian[0], drawn.y[0], lam)
    thetas, corruptions = solve_convex(drawn.jacobian[0], drawn.y[0], [lam])
    np.testing.assert_allclose(thetas[0], theta, atol=1e-4)
    np.testing.assert_allclose(corruptions[0], s, atol=1e-3)


def test_one_equation_has_a_closed_form() -> None:
    """With N = p = 1: theta = clip(lam J, y / J) and the rest is s, by the subgradient."""
    for lam, expected in ((0.5, 1.0), (10.0, 1.5)):
        thetas, s = solve_convex(np.array([[2.0]]), np.array([3.0]), [lam])
        assert thetas[0, 0] == pytest.approx(expected, abs=1e-6)
        assert s[0, 0] == pytest.approx(3 - 2 * expected, abs=1e-6)


def test_for_large_lam_s_is_the_least_l1_residual() -> None:
    """Then the l1 norm alone counts, which a linear program minimises."""
    drawn = draw_instances(1, 15, 20, 3, 5, rng(3))
    jacobian, y = drawn.jacobian[0], drawn.y[0]
    size, features = jacobian.shape
    cost = np.r_[np.zeros(features), np.ones(2 * size)]
    equations = np.hstack([jacobian, np.eye(size), -np.eye(size)])
    bounds = [(None, None)] * features + [(0, None)] * (2 * size)
    least = linprog(cost, A_eq=equations, b_eq=y, bounds=bounds).fun
    _, s = solve_convex(jacobian, y, [100.0])
    assert np.abs(s).sum() == pytest.approx(least, rel=1e-4)


def test_inputs_in_single_precision_keep_their_rank() -> None:
    drawn = draw_instances(1, 20, 40, 3, 3, rng(4))
    single = drawn.jacobian[0].astype(np.float32).astype(np.float64)
    theta, _ = solve_convex(drawn.jacobian[0], drawn.y[0], [0.3])
    rounded, _ = solve_convex(single, drawn.y[0], [0.3])
    np.testing.assert_allclose(rounded, theta, atol=1e-4)


def test_recovery_is_exact_for_few_corruptions_and_fails_for_many_or_for_small_lam() -> None:
    few, many = draw_instances(3, 60, 80, 5, 5, rng(5)), draw_instances(3, 60, 80, 30, 40, rng(5))
    theta, s = recovery_errors(few, [1e-4, 0.5])
    assert (theta[:, 1] < 1e-6).all()
    assert (s[:, 1] < 1e-5).all()
    assert (theta[:, 0] > 0.1).all()
    assert (recovery_errors(many, [0.5])[0] > 1e-3).all()


def test_without_cvxpy_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == "cvxpy":
            raise ImportError
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(HarnessError, match="CVXPY is not installed"):
        solve_convex(np.eye(2), np.ones(2), [0.1])


def test_relative_errors_of_nothing_are_zero_or_infinite() -> None:
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.ones(3), np.zeros(3)) == math.inf
    assert relative_error(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(1.0)


# --- gradient descent -------------------------------------------------------------------------------------------------


def test_a_step_is_the_gradient_of_eq_15() -> None:
    """Learning rates tau for theta and alpha tau for u and v, by autograd."""
    drawn = draw_instances(1, 6, 9, 2, 2, rng(6))
    jacobian, y = torch.from_numpy(drawn.jacobian[0]), torch.from_numpy(drawn.y[0])
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(n, generator=generator, dtype=torch.float64, requires_grad=True) for n in (9, 6, 6)]
    theta, u, v = start
    (0.5 * (jacobian @ theta + u * u - v * v - y).square().sum()).backward()  # type: ignore[no-untyped-call]
    alpha, tau = 7.0, 1e-3
    descent = Descent(*(part.detach().clone()[None] for part in start))
    descent.run(jacobian, y, torch.tensor([alpha]).double(), torch.tensor([tau]).double(), 1)
    for after, before, rate in zip(
        (descent.theta, descent.u, descent.v), start, (tau, alpha * tau, alpha * tau), strict=True
    ):
        assert before.grad is not None
        torch.testing.assert_close(after[0], (before - rate * before.grad).detach())


def test_alphas_run_side_by_side_as_each_alone() -> None:
    drawn = draw_instances(1, 6, 9, 2, 2, rng(7))
    jacobian, y = torch.from_numpy(drawn.jacobian[0]), torch.from_numpy(drawn.y[0])
    alpha = torch.tensor([5.0, 50.0]).double()
    tau = step_sizes(jacobian, y, alpha)
    together = Descent.start(2, 6, 9)
    together.run(jacobian, y, alpha, tau, 200)
    for position in range(2):
        alone = Descent.start(1, 6, 9)
        alone.run(jacobian, y, alpha[position : position + 1], tau[position : position + 1], 200)
        torch.testing.assert_close(together.theta[position], alone.theta[0])
        torch.testing.assert_close(together.s[position], alone.s[0])


def test_a_step_size_bounds_the_change_of_u_and_v() -> None:
    """The first residual is the largest, -y, by which u and v are multiplied as 1 +- 2 alpha tau y."""
    drawn = draw_instances(1, 20, 40, 3, 3, rng(8))
    jacobian, y = torch.from_numpy(drawn.jacobian[0]), torch.from_numpy(drawn.y[0])
    alpha = torch.tensor([4.0, 400.0, 4000.0]).double()
    descent = Descent.start(3, 20, 40)
    before = descent.u.clone()
    descent.run(jacobian, y, alpha, step_sizes(jacobian, y, alpha, change=0.05), 1)
    change = (descent.u / before - 1).abs().amax(1)
    assert bool((change <= 0.05 + 1e-12).all())
    assert float(change[-1]) > 0.049


def test_the_step_size_is_stable_at_every_alpha() -> None:
    drawn = draw_instances(1, 20, 40, 3, 3, rng(8))
    jacobian, y = torch.from_numpy(drawn.jacobian[0]), torch.from_numpy(drawn.y[0])
    alpha = torch.tensor([4.0, 400.0, 4000.0]).double()
    descent = Descent.start(3, 20, 40)
    descent.run(jacobian, y, alpha, step_sizes(jacobian, y, alpha), 20_000)
    assert bool((descent.residual(jacobian, y).norm(dim=1) < 0.1 * y.norm()).all())


def descended(lam: float, gamma: float, steps: int = 30_000) -> tuple[Any, Any, Any]:
    """Theta of gradient descent at the alpha that matches ``lam``, and the problem."""
    drawn = draw_instances(1, 20, 40, 3, 3, rng(9))
    jacobian, y = torch.from_numpy(drawn.jacobian[0]), torch.from_numpy(drawn.y[0])
    alpha = torch.tensor([matching_alpha(lam, gamma)]).double()
    descent = Descent.start(1, 20, 40, gamma)
    descent.run(jacobian, y, alpha, step_sizes(jacobian, y, alpha), steps)
    return descent.theta, drawn.jacobian[0], drawn.y[0]


def test_gradient_descent_agrees_with_the_convex_program_where_eq_23_says() -> None:
    theta, jacobian, y = descended(0.1, math.exp(-8))
    convex = torch.from_numpy(solve_convex(jacobian, y, [0.002, 0.1])[0])
    elsewhere, matching = relative_differences(theta, convex)[0].tolist()
    assert matching < 1e-3
    assert elsewhere > 0.5


def test_the_agreement_is_a_limit_of_small_initialisation() -> None:
    """Proposition 3.3 holds as gamma goes to 0; where s is dense the difference shrinks as 1 / log gamma."""
    apart = []
    for gamma in (math.exp(-8), math.exp(-24)):
        theta, jacobian, y = descended(0.01, gamma, 50_000)
        apart.append(float(relative_differences(theta, torch.from_numpy(solve_convex(jacobian, y, [0.01])[0]))))
    assert apart[1] < 0.5 * apart[0] < 0.06


def test_matching_alpha_is_eq_23() -> None:
    assert matching_alpha(1.0) == pytest.approx(4.0)
    assert matching_alpha(0.001) == pytest.approx(4000.0)


def test_relative_differences_are_of_all_pairs() -> None:
    first, second = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 10.0]])
    expected = torch.tensor([[0.0, 1.0, math.sqrt(45) / 10], [1.0, 0.0, 1.0]])
    torch.testing.assert_close(relative_differences(first, second), expected)


def test_a_general_optimiser_finds_no_better_solution_of_eq_26() -> None:
    drawn = draw_instances(1, 8, 10, 2, 2, rng(10))
    jacobian, y, lam = drawn.jacobian[0], drawn.y[0], 0.05

    def value(theta: Any) -> float:
        return float(0.5 * theta @ theta + lam * np.abs(y - jacobian @ theta).sum())

    ours = solve_convex(jacobian, y, [lam])[0][0]
    for start in (ours, np.zeros(10), ours + 0.01 * rng().standard_normal(10)):
        assert minimize(value, start, method="Powell", options={"maxiter": 200}).fun >= value(ours) - 1e-7
