"""RRM: the closed form against a linear-programming solver, the threshold against its definition, the weights in
training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.elr import ELR
from harness_plugins.algorithms.fgsm import FGSM
from harness_plugins.algorithms.rrm import RRM, contamination_threshold, reweight
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn
from torch.nn import functional

import harness
from harness import HarnessError

tied = st.lists(st.integers(0, 6).map(lambda k: k / 2), min_size=2, max_size=12)
distinct = st.lists(st.floats(0, 20), min_size=2, max_size=12, unique=True)


def lp_optimum(losses: np.ndarray, coefficient: float) -> float:
    """``min_u sum u_i c_i + coefficient ||u||_1`` over ``sum u = 0, u >= -1/N``, by HiGHS with ``u = p - n``."""
    size = len(losses)
    solved = linprog(
        np.concatenate([losses + coefficient, coefficient - losses]),
        A_ub=np.hstack([-np.eye(size), np.eye(size)]),
        b_ub=np.full(size, 1 / size),
        A_eq=np.concatenate([np.ones(size), -np.ones(size)])[None],
        b_eq=[0.0],
        bounds=(0, None),
        method="highs",
    )
    assert solved.status == 0
    return float(solved.fun)


@settings(max_examples=150, deadline=None)
@given(
    losses=tied | distinct, gamma=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5]), penalty=st.sampled_from(["half", "full"])
)
def test_argmin_solves_the_linear_program(losses: list[float], gamma: float, penalty: Any) -> None:
    u = RRM(gamma=gamma, penalty=penalty, spread="argmin").solve(torch.tensor(losses, dtype=torch.float64)).numpy()
    coefficient = gamma / 2 if penalty == "half" else gamma
    assert abs(u.sum()) < 1e-12 and (u >= -1 / len(u) - 1e-12).all()
    value = float(u @ np.array(losses) + coefficient * np.abs(u).sum())
    assert value == pytest.approx(lp_optimum(np.array(losses), coefficient), abs=1e-7)


@given(losses=tied, gamma=st.sampled_from([0.0, 0.5, 1.0]))
def test_argmin_is_the_closed_form_of_the_corollary(losses: list[float], gamma: float) -> None:
    c = np.array(losses)
    chi, least = c > c.min() + gamma, c == c.min()
    expected = np.where(chi, -1 / len(c), np.where(least, chi.sum() / (len(c) * least.sum()), 0.0))
    u = RRM(gamma=gamma, penalty="half", spread="argmin").solve(torch.tensor(losses, dtype=torch.float64))
    np.testing.assert_allclose(u, expected, atol=1e-15)


@given(losses=tied | distinct, contamination=st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 0.9, 1.0]))
def test_threshold_is_the_largest_loss_with_enough_losses_above_it(losses: list[float], contamination: float) -> None:
    c = np.array(losses)
    share_above = (c[None, :] > c[:, None]).sum(1) / len(c)
    qualifying = c[share_above >= contamination - 1e-12]
    expected = qualifying.max() if len(qualifying) else c.min()
    assert float(contamination_threshold(torch.tensor(losses, dtype=torch.float64), contamination)) == expected


@given(losses=distinct, contamination=st.sampled_from([0.1, 0.2, 1 / 3, 0.5]))
def test_with_distinct_losses_the_threshold_is_an_order_statistic(losses: list[float], contamination: float) -> None:
    above = math.ceil(contamination * len(losses) - 1e-9)
    expected = sorted(losses, reverse=True)[min(above, len(losses) - 1)]
    assert float(contamination_threshold(torch.tensor(losses, dtype=torch.float64), contamination)) == expected


@given(losses=tied | distinct, contamination=st.sampled_from([0.1, 0.25, 0.5]))
def test_at_least_the_contamination_is_pruned_unless_ties_at_the_bottom_forbid(
    losses: list[float], contamination: float
) -> None:
    c = torch.tensor(losses, dtype=torch.float64)
    u = RRM(contamination=contamination, spread="argmin").solve(c)
    pruned = int((u < 0).sum())
    assert pruned >= min(contamination * len(losses), int((c > c.min()).sum())) - 1e-9


@given(losses=tied | distinct, contamination=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_lowest_moves_the_mass_to_the_lowest_losses_with_bounded_weights(
    losses: list[float], contamination: float
) -> None:
    c = torch.tensor(losses, dtype=torch.float64)
    size = len(losses)
    threshold = contamination_threshold(c, contamination)
    u = reweight(c, threshold, "lowest")
    removed = int((c > threshold).sum())
    assert abs(float(u.sum())) < 1e-12
    assert torch.equal(u < 0, c > threshold) and torch.allclose(u[u < 0], torch.tensor(-1 / size, dtype=torch.float64))
    if 2 * removed <= size:
        assert float(u.max()) <= 1 / size + 1e-12
    if 0 < removed < size:
        assert float(c[u > 0].max()) <= c.sort().values[min(removed, size - removed) - 1]


def test_equal_losses_prune_nothing() -> None:
    for spread in ("argmin", "lowest"):
        assert torch.equal(RRM(contamination=0.3, spread=spread).solve(torch.ones(10)), torch.zeros(10))


def test_losses_that_are_not_finite_are_pruned_first() -> None:
    u = RRM(contamination=0.5, spread="argmin").solve(torch.tensor([0.1, float("nan"), 0.2, float("inf")]))
    assert torch.allclose(u, torch.tensor([0.5, -0.25, 0.0, -0.25]))


def setting(classes: int = 3, size: int = 12, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    targets = torch.arange(size) % classes
    return nn.Linear(4, classes), torch.randn(size, 4, generator=generator), targets


def test_losses_are_weighted_by_one_plus_n_u(make_run: Any, train: Any) -> None:
    model, inputs, targets = setting()
    rrm = RRM(contamination=0.25)
    run = make_run(model, inputs, targets, [rrm], batch_size=6, lr=0.0)
    rrm.u = torch.linspace(-1 / 12, 1 / 12, 12)
    index = torch.tensor([0, 3, 4, 7, 11])
    plain = functional.cross_entropy(model(inputs[index]), targets[index], reduction="none").detach()
    step = train(run, index)
    assert float(step.loss) == pytest.approx(float((plain * (1 + 12 * rrm.u[index])).sum() / 6), rel=1e-6)


def test_u_moves_by_mu_at_every_sigma_epochs_and_not_after_the_last(make_run: Any) -> None:
    model, inputs, targets = setting()
    rrm = RRM(gamma=0.1, mu=0.5, every=2, spread="argmin")
    run = make_run(model, inputs, targets, [rrm], epochs=6)
    seen = []
    for epoch in range(1, 7):
        run.epoch = epoch
        run.stack.epoch_end(run=run)
        seen.append(rrm.u.clone())
    target = rrm.solve(run.score_losses())
    for number, share in ((0, 0.0), (1, 0.5), (2, 0.5), (3, 0.75), (4, 0.75), (5, 0.75)):
        assert torch.allclose(seen[number], share * target, atol=1e-7)
    assert run.stack.diagnostics(run=run)[0]["rrm.pruned_share"] == pytest.approx(float((target < 0).float().mean()))


def test_mu_defaults_to_1_with_contamination_and_a_half_with_gamma() -> None:
    assert RRM(contamination=0.2).mu == 1.0 and RRM(gamma=0.4).mu == 0.5
    assert RRM(gamma=0.0).mu == 0.5


def test_ranked_cross_entropy_is_of_clipped_probabilities(make_run: Any) -> None:
    model = nn.Linear(2, 2, bias=False)
    nn.init.eye_(model.weight)
    inputs = torch.tensor([[40.0, 0.0], [0.0, 40.0], [1.0, 0.0]])
    run = make_run(model, inputs, torch.tensor([0, 0, 1]), [RRM(contamination=0.2)])
    p = np.array([1.0, math.exp(-40), 1 / (1 + math.e)])
    np.testing.assert_allclose(run.score_losses(), -np.log(np.clip(p, 1e-7, 1 - 1e-7)), rtol=1e-5, atol=1e-9)


def test_what_other_algorithms_add_to_the_losses_is_ranked_unclipped(make_run: Any) -> None:
    model, inputs, targets = setting()
    elr = ELR(lam=3.0)
    for order in (0, 1):
        rrm = RRM(contamination=0.25)
        run = make_run(model, inputs, targets, [elr, rrm] if order else [rrm, elr])
        elr.t.data.copy_(torch.full((12, 3), 0.3).scatter_(1, targets[:, None], 0.39))
        with torch.no_grad():
            p = model(inputs).softmax(1)
            expected = -p.gather(1, targets[:, None]).squeeze(1).log() + 3 * (1 - (elr.t.data * p).sum(1)).log()
        assert torch.allclose(run.score_losses(), expected, atol=1e-5)
        assert (expected < 0).any()


def test_a_rrm_ranks_losses_at_perturbed_inputs(make_run: Any) -> None:
    _, inputs, targets = setting()
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    run = make_run(model, inputs, targets, [RRM(contamination=0.25), FGSM(epsilon=0.5)])
    model.eval()
    x = inputs.clone().requires_grad_(True)
    functional.cross_entropy(model(x), targets, reduction="sum").backward()
    moved = inputs + 0.5 * x.grad.sign()
    expected = functional.cross_entropy(model(moved), targets, reduction="none").detach()
    model.train()
    assert torch.allclose(run.score_losses(), expected, atol=1e-6)
    assert model.training


def test_a_threshold_by_gamma_needs_no_noise_rate_to_be_created() -> None:
    assert harness.create("algorithm", "rrm", gamma=0.4).gamma == 0.4
    with pytest.raises(HarnessError, match="refers to the noise rate"):
        harness.create("algorithm", "rrm")
