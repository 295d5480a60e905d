"""Forward and backward correction: Patrini's theorems, the anchor-point estimate, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.backward import BackwardCorrection, backward_corrected
from harness_plugins.algorithms.forward import ForwardCorrection, forward_corrected
from harness_plugins.algorithms.mixup import Mixup
from harness_plugins.algorithms.transition import estimate_matrix
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from harness import HarnessError


def random_matrix(seed: int, classes: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(0.6 * np.eye(classes) + 0.4 * rng.dirichlet(np.ones(classes), classes))


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
def test_backward_is_unbiased(seed: int, classes: int) -> None:
    matrix = random_matrix(seed, classes)
    outputs = torch.randn(classes, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    clean = torch.arange(classes)
    by_noisy = torch.stack([backward_corrected(outputs, torch.full_like(clean, k), inverse) for k in range(classes)], 1)
    expectation = (matrix * by_noisy).sum(1)
    assert torch.allclose(expectation, functional.cross_entropy(outputs, clean, reduction="none"), atol=1e-9)


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
def test_forward_is_the_cross_entropy_of_noisy_predictions(seed: int, classes: int) -> None:
    matrix = random_matrix(seed, classes)
    outputs = torch.randn(5, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    targets = torch.arange(5) % classes
    noisy = np.exp(outputs.numpy()) / np.exp(outputs.numpy()).sum(1, keepdims=True) @ matrix.numpy()
    found = functional.cross_entropy(forward_corrected(outputs, matrix), targets, reduction="none")
    np.testing.assert_allclose(found, -np.log(noisy[np.arange(5), targets.numpy()]), atol=1e-9)


def test_without_noise_both_are_cross_entropy_with_its_gradient() -> None:
    outputs = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets, eye = torch.arange(6) % 4, torch.eye(4, dtype=torch.float64)
    (plain,) = torch.autograd.grad(functional.cross_entropy(outputs, targets), outputs)
    (forward,) = torch.autograd.grad(functional.cross_entropy(forward_corrected(outputs, eye), targets), outputs)
    (backward,) = torch.autograd.grad(backward_corrected(outputs, targets, eye).mean(), outputs)
    assert torch.allclose(forward, plain) and torch.allclose(backward, plain)


def test_forward_keeps_a_finite_gradient_where_a_label_is_impossible() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    outputs = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = functional.cross_entropy(forward_corrected(outputs, matrix), torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


def test_the_minimiser_of_forward_is_the_clean_posterior(make_run: Any, train: Any) -> None:
    matrix = random_matrix(3, 3)
    posterior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    noisy = posterior @ matrix
    counts = (noisy * 3000).round().long()
    targets = torch.repeat_interleave(torch.arange(3), counts)
    model = nn.Linear(1, 3)
    run = make_run(model, torch.zeros(len(targets), 1), targets, [ForwardCorrection(matrix=matrix.tolist())], lr=2.0)
    for _ in range(600):
        train(run)
    assert torch.allclose(run.predict(torch.zeros(1, 1)).exp()[0].double(), posterior, atol=5e-3)


def test_backward_takes_soft_targets_linearly() -> None:
    outputs = torch.randn(4, 3, dtype=torch.float64)
    inverse = torch.linalg.inv(random_matrix(1, 3))
    soft = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    hard = [backward_corrected(outputs, torch.full((4,), k), inverse) for k in range(3)]
    assert torch.allclose(backward_corrected(outputs, soft, inverse), torch.stack(hard).mean(0))
    assert BackwardCorrection.declares.soft_targets and Mixup.declares.mixes_samples


def test_anchor_points_recover_the_matrix() -> None:
    matrix = random_matrix(5, 4)
    clean = torch.from_numpy(np.random.default_rng(0).dirichlet(0.3 * np.ones(4), 3000))
    clean = torch.cat([clean, torch.eye(4, dtype=torch.float64)])
    assert torch.allclose(estimate_matrix(clean @ matrix, None), matrix, atol=1e-12)


def test_the_estimate_passes_over_outliers_as_numpy_counts_them() -> None:
    rng = np.random.default_rng(1)
    eta = rng.dirichlet(np.ones(3), 257)
    rows = []
    for k in range(3):
        column = eta[:, k].copy()
        column[column >= np.percentile(column, 97, method="higher")] = 0.0
        rows.append(eta[column.argmax()])
    np.testing.assert_allclose(estimate_matrix(torch.from_numpy(eta)), np.array(rows), atol=1e-12)


def test_the_estimate_of_a_constant_prediction_is_that_prediction() -> None:
    constant = torch.tensor([[0.2, 0.3, 0.5]]).repeat(50, 1)
    assert torch.allclose(estimate_matrix(constant), constant[:3])


@pytest.mark.parametrize("factory", [ForwardCorrection, BackwardCorrection])
def test_estimation_waits_for_the_warm_up_and_happens_once(make_run: Any, train: Any, factory: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(60, 4), torch.arange(60) % 3
    part = factory(matrix="estimated", warmup=2)
    run = make_run(model, inputs, targets, [part], epochs=6, lr=0.5)
    plain = functional.cross_entropy(model(inputs), targets).item()
    assert float(train(run).loss) == pytest.approx(plain, rel=1e-5)
    found = []
    for epoch in (1, 2, 3):
        run.epoch = epoch
        run.stack.epoch_end(run=run)
        found.append(part.matrix)
        train(run)
    assert found[0] is None and found[1] is not None and found[2] is found[1]
    assert torch.allclose(found[1].sum(1), torch.ones(3, dtype=torch.float64))
    corrected = run.losses(inputs, targets, torch.arange(60), "score")
    assert not torch.allclose(corrected, functional.cross_entropy(model(inputs), targets, reduction="none"))


def test_the_warm_up_takes_at_most_half_of_the_epochs(make_run: Any) -> None:
    model, inputs, targets = nn.Linear(4, 3), torch.randn(60, 4), torch.arange(60) % 3
    part = ForwardCorrection(matrix="estimated", warmup=10)
    run = make_run(model, inputs, targets, [part], epochs=4)
    run.epoch = 2
    run.stack.epoch_end(run=run)
    assert part.matrix is not None


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], "is not 3 x 3"),
        ([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "no distribution"),
        ([[1.5, -0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "no distribution"),
        ([[1 / 3, 1 / 3, 1 / 3]] * 3, "no useful inverse"),
        ("noise.matrix", "refers to the noise"),
    ],
)
def test_a_bad_matrix_is_refused_in_one_line(make_run: Any, matrix: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        make_run(nn.Linear(4, 3), torch.randn(6, 4), torch.arange(6) % 3, [BackwardCorrection(matrix=matrix)])
    assert "\n" not in str(caught.value)
