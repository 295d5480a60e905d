"""SOP and SOP+: three steps of training against an implementation by hand, gradients written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.sop import SOP
from harness_plugins.algorithms.sop_plus import SOPPlus, class_balance, consistency
from torch import nn

E = 1e-4


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sop_step(
    w: np.ndarray, x: np.ndarray, y: np.ndarray, u: np.ndarray, v: np.ndarray, lr: float, lr_u: float, lr_v: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """One step of SOP on logits ``x w``; every gradient by hand."""
    batch, classes = x.shape[0], w.shape[1]
    onehot = np.eye(classes)[y]
    rows = np.arange(batch)
    p = softmax(x @ w)
    noise_u = np.clip(u**2 * onehot, 0, 1)
    noise_v = np.clip(v**2 * (1 - onehot), 0, 1)
    raw = p + noise_u - noise_v
    a = np.maximum(raw, E)
    total = a.sum(1)
    q = a / total[:, None]
    ce = -np.log(np.clip(q, E, 1)[rows, y])
    h = np.eye(classes)[(x @ w).argmax(1)]
    residual = h + noise_u - noise_v - onehot
    loss = (ce + (residual**2).sum(1)).mean()
    alive = (q[rows, y] > E)[:, None]
    d_raw = alive * (1 / total[:, None] - onehot / a) * (raw > E)
    d_z = p * (d_raw - (p * d_raw).sum(1, keepdims=True)) / batch
    a_y = a[rows, y]
    d_u = np.where(
        u[:, 0] ** 2 <= 1,
        alive[:, 0] * (raw[rows, y] > E) * -2 * u[:, 0] * (1 / a_y - 1 / total) + 4 * u[:, 0] * residual[rows, y],
        0.0,
    )
    d_v = np.where((onehot == 0) & (v**2 <= 1), -4 * v * (h - v**2), 0.0)
    return w - lr * x.T @ d_z, u - lr_u * d_u[:, None] / batch, v - lr_v * d_v / batch, float(loss)


def start(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size, classes = 6, 4
    x, w = rng.normal(size=(size, 5)), rng.normal(size=(5, classes))
    u, v = rng.uniform(0.1, 0.9, (size, 1)), rng.uniform(-0.7, 0.7, (size, classes))
    u[0], v[1, 0], v[2] = 1.3, 1.2, 1e-8
    return x, w, rng.integers(classes, size=size), u, v


def run_of(make_run: Any, algorithm: Any, x: np.ndarray, w: np.ndarray, y: np.ndarray, batch: int) -> tuple[Any, Any]:
    model = nn.Linear(*w.shape, bias=False)
    model.weight.data.copy_(torch.from_numpy(w.T))
    run = make_run(
        model, torch.from_numpy(x).float(), torch.from_numpy(y), [algorithm], batch_size=batch, num_outputs=4, lr=0.3
    )
    return run, model


@pytest.mark.parametrize("seed", range(4))
def test_three_steps_agree_with_gradients_written_out(make_run: Any, train: Any, seed: int) -> None:
    x, w, y, u, v = start(seed)
    sop = SOP(lr_u=0.7, lr_v=1.1)
    run, model = run_of(make_run, sop, x, w, y, batch=3)
    sop.u.data.copy_(torch.from_numpy(u))
    sop.v.data.copy_(torch.from_numpy(v))
    for index in ([0, 1, 2], [3, 4, 5], [2, 0, 4]):
        w, u[index], v[index], loss = sop_step(w, x[index], y[index], u[index], v[index], 0.3, 0.7, 1.1)
        step = train(run, torch.tensor(index))
        assert float(step.loss) == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(model.weight.detach().numpy().T, w, atol=2e-6)
        np.testing.assert_allclose(sop.u.data, u, atol=2e-6)
        np.testing.assert_allclose(sop.v.data, v, atol=2e-6)


def test_noise_starts_tiny_and_grows_by_the_time_scale_of_the_code(make_run: Any, train: Any) -> None:
    x, w, _, _, _ = start()
    y = (x @ w).argmin(1)
    sop = SOP(lr_u=10.0, lr_v=10.0)
    run, model = run_of(make_run, sop, x, w, y, batch=128)
    model.weight.requires_grad_(False)
    run.optimizer.param_groups[0]["lr"] = 0.0
    before = sop.v.data.clone()
    assert 0 < float(before.abs().max()) < 1e-7
    model.weight.requires_grad_(True)
    train(run)
    predicted = torch.from_numpy((x @ w).argmax(1))
    grown = sop.v.data.gather(1, predicted[:, None]) / before.gather(1, predicted[:, None])
    assert torch.allclose(grown, torch.tensor(1 + 4 * 10 / 128), rtol=1e-4)


def test_scores_are_the_learnt_noise(make_run: Any) -> None:
    x, w, y, u, v = start()
    sop = SOP()
    run, _ = run_of(make_run, sop, x, w, y, batch=6)
    sop.u.data.copy_(torch.from_numpy(u))
    sop.v.data.copy_(torch.from_numpy(v))
    run.stack.epoch_end(run=run)
    onehot = np.eye(4)[y]
    expected = np.clip(u[:, 0] ** 2, 0, 1) + (np.clip(v**2, 0, 1) * (1 - onehot)).sum(1)
    np.testing.assert_allclose(run.sample_scores["sop.noise"][0], expected, rtol=1e-5)
    assert run.stack.diagnostics(run=run)[0]["sop.recovered_share"] == pytest.approx((expected > 0.5).mean())


def test_consistency_is_the_kl_divergence_from_the_first_view(make_run: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(5, 4, generator=generator, requires_grad=True)
    second = torch.randn(5, 4, generator=generator, requires_grad=True)
    p, q = softmax(first.detach().double().numpy()), softmax(second.detach().double().numpy())
    losses = consistency(first, second)
    np.testing.assert_allclose(losses.detach(), (p * np.log(p / q)).sum(1), rtol=1e-5)
    losses.sum().backward()
    assert first.grad is None
    np.testing.assert_allclose(second.grad, q - p, atol=1e-6)


def test_class_balance_is_least_for_even_predictions_and_clamped() -> None:
    assert float(class_balance(torch.eye(4))) == pytest.approx(math.log(4))
    one_sided = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert float(class_balance(one_sided)) == pytest.approx(-math.log(1e-4) / 2)


class Images(nn.Module):
    """Counts how large the batches are that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        return self.head(images.flatten(1))


def test_sop_plus_adds_both_terms_in_training_only(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    model = Images()
    plus = SOPPlus(lr_u=0.0, lr_v=0.0, lam_c=0.9, lam_b=0.1)
    run = make_run(model, inputs, targets, [plus], batch_size=6, lr=0.0)
    state = run.generator("view").get_state()
    view = run.view(torch.arange(6), "strong")
    run.generator("view").set_state(state)
    model.seen.clear()
    step = train(run)
    assert model.seen == [12] and step.outputs.shape == (6, 3) and step.inputs.shape == inputs.shape
    with torch.no_grad():
        p, q = model(inputs).softmax(1), model(view).softmax(1)
        ce = -p.clamp(E, 1).gather(1, targets[:, None]).squeeze(1).log()
        wrong = p.argmax(1) != targets
        kl = (p * (p / q).log()).sum(1)
        expected = (ce + 2 * wrong + 0.9 * kl).mean() - 0.1 * p.mean(0).log().mean()
    assert float(step.loss) == pytest.approx(float(expected), rel=1e-4)
    before = run.generator("view").get_state()
    assert torch.allclose(run.score_losses(), ce + 2 * wrong, atol=1e-5)
    assert torch.equal(before, run.generator("view").get_state())


def test_class_balance_moves_u_as_in_the_official_code(make_run: Any, train: Any) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    moved = []
    for lam_b in (0.0, 5.0):
        plus = SOPPlus(lr_u=1.0, lr_v=0.0, lam_c=0.0, lam_b=lam_b)
        torch.manual_seed(0)
        run = make_run(Images(), inputs, targets, [plus], lr=0.0)
        plus.u.data.fill_(0.5)
        train(run)
        moved.append(plus.u.data.clone())
    assert not torch.allclose(moved[0], moved[1])


def test_tabular_inputs_have_no_strong_view(make_run: Any, train: Any) -> None:
    from harness import HarnessError

    run = make_run(nn.Linear(4, 3), torch.randn(6, 4), torch.arange(6) % 3, [SOPPlus()])
    with pytest.raises(HarnessError, match="only images have augmented views"):
        train(run)
