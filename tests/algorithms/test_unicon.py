"""UNICON: divergences, even division, the contrastive loss, an epoch against a loop written out, parts that are empty."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.unicon import UNICON, contrastive_loss, divergences, division_threshold
from scipy.spatial.distance import jensenshannon
from torch import Tensor, nn

import harness
from harness.training import seeds
from harness.training.policies import autoaugment_view

K, N, SIDE, SIZE, WIDTH = 3, 40, 4, 8, 5


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    """Small images in float64 whose mean tells the class, a third of the labels wrong."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.arange(N) % K
    images = torch.rand(N, 1, SIDE, SIDE, generator=generator, dtype=torch.float64) * 0.4 + 0.3 * clean.view(
        -1, 1, 1, 1
    )
    return images, torch.where(torch.rand(N, generator=generator) < 0.3, (clean + 1) % K, clean)


def network(norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    middle = nn.BatchNorm1d(8) if norm else nn.Tanh()
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 8), middle, nn.Linear(8, K)).double()


def test_divergences_are_those_of_scipy_and_at_most_log_two() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(K), size=9), np.eye(K)[rng.integers(0, K, 9)]
    found = divergences(torch.tensor(p), torch.tensor(y))
    np.testing.assert_allclose(found, jensenshannon(p, y, axis=1) ** 2, atol=1e-8)
    assert float(divergences(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))) == pytest.approx(np.log(2))


def test_a_high_mean_divergence_is_lowered() -> None:
    divergence = torch.tensor([0.1, 0.5, 0.6])
    assert float(division_threshold(divergence, 0.7, 5)) == pytest.approx(0.4)
    assert float(division_threshold(divergence, 0.3, 5)) == pytest.approx(0.4 - 0.3 / 5)


def test_the_contrastive_loss_is_simclrs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 6))
    z = np.concatenate([a, b])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similar = np.exp(z @ z.T / 0.05)
    terms = []
    for i in range(8):
        others = sum(similar[i, j] for j in range(8) if j != i)
        terms.append(-np.log(similar[i, (i + 4) % 8] / others))
    assert float(contrastive_loss(torch.tensor(a), torch.tensor(b), 0.05)) == pytest.approx(np.mean(terms), rel=1e-12)


def ce(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.log_softmax(1)).sum(1)


def written_out(
    first: nn.Module, data: tuple[Tensor, Tensor], warm: list[list[Tensor]], epochs: int
) -> tuple[list[float], list[nn.Module]]:
    """Losses and networks of warm-up and of epochs after it: SGD at 0.05 with momentum 0.9, B 8, lambda_c .5."""
    inputs, targets = data
    labels = torch.eye(K, dtype=torch.float64)[targets]
    nets, heads = [first, copy.deepcopy(first)], []
    with torch.random.fork_rng():
        torch.manual_seed(seeds.derive(0, "init", "unicon"))
        for part in nets[1].modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
        for k in (1, 2):
            torch.manual_seed(seeds.derive(0, "init", f"unicon.projection_{k}"))
            heads.append(nn.Sequential(nn.Linear(8, WIDTH), nn.BatchNorm1d(WIDTH)).double())
    sgd = [
        torch.optim.SGD([*n.parameters(), *h.parameters()], lr=0.05, momentum=0.9)
        for n, h in zip(nets, heads, strict=True)
    ]
    draws, views, losses = seeds.torch_stream(0, "algorithm"), seeds.torch_stream(0, "view"), []

    def step(k: int, loss: Tensor) -> None:
        sgd[k].zero_grad()
        loss.backward()
        sgd[k].step()
        losses.append(loss.item())

    for batches in warm:
        for k in (0, 1):
            for ix in batches:
                step(k, ce(nets[k](inputs[ix]), labels[ix]).mean())
    for epoch in range(len(warm) + 1, len(warm) + 1 + epochs):
        for k in (0, 1):
            net, other = nets[k], nets[1 - k]
            with torch.no_grad():
                mean = (net(inputs).softmax(1) + other(inputs).softmax(1)) / 2
            jsd = torch.from_numpy(jensenshannon(mean.numpy(), labels.numpy(), axis=1) ** 2)
            share = float((jsd < jsd.mean()).double().mean())
            x_all = []
            for j in range(K):
                own = sorted((i for i in range(N) if targets[i] == j), key=lambda i: float(jsd[i]))
                x_all += own[: int(share * N / K)]
            u_all = [i for i in range(N) if i not in x_all]
            w = torch.where(jsd < 0.5, 1.0, 1 - jsd)

            def lap(part: list[int], size: int, *keys: Any, epoch: int = epoch, number: int = k) -> list[Tensor]:
                stream = seeds.torch_stream(0, "order", epoch, number, *keys)
                order = torch.tensor(sorted(part))[torch.randperm(len(part), generator=stream)]
                whole = [batch for batch in order.split(size) if len(batch) == size]
                return whole or [order]

            size = int(SIZE / (2 * share))
            beside = [batch for j in range(9) for batch in lap(u_all, size, "beside", j)]
            for b, (x, u) in enumerate(zip(lap(x_all, SIZE, 0), beside, strict=False)):
                strong = [autoaugment_view(inputs[i], views) for i in (x, x, u, u)]
                with torch.no_grad():
                    pu = (net(inputs[u]).softmax(1) + other(inputs[u]).softmax(1)) / 2
                    px = w[x][:, None] * labels[x] + (1 - w[x][:, None]) * net(inputs[x]).softmax(1)
                    tu, tx = (q**2 / (q**2).sum(1, keepdim=True) for q in (pu, px))
                lam = draw_beta(4.0, draws)
                rows, t = torch.cat(strong), torch.cat([tx, tx, tu, tu])
                lam, pi = max(lam, 1 - lam), torch.randperm(len(rows), generator=draws)
                a, c = (heads[k](net[:-1](view)) for view in strong[2:])  # type: ignore[index]
                z, t, n = net(lam * rows + (1 - lam) * rows[pi]), lam * t + (1 - lam) * t[pi], 2 * len(x)
                rise = 30 * min(max((epoch - 1 + b / (len(x_all) // SIZE + 1) - len(warm)) / 16, 0), 1)
                semi = ce(z[:n], t[:n]).mean() + rise * ((z[n:].softmax(1) - t[n:]) ** 2).mean()
                even = (torch.log((1 / K) / z.softmax(1).mean(0)) / K).sum()
                step(k, semi + even + 0.5 * contrastive_loss(a, c, 0.05))
    return losses, nets


def test_whole_epochs_are_those_of_a_loop_written_out(data: tuple[Tensor, Tensor]) -> None:
    first = network()
    warm = [list(torch.randperm(N, generator=torch.Generator().manual_seed(e)).split(SIZE)) for e in range(3)]
    expected, nets = written_out(copy.deepcopy(first), data, warm, epochs=2)
    batches = [[b.tolist() for b in order] for order in (*warm, *warm[:2])]
    algorithm = UNICON(warmup=3, lambda_c=0.5, width=WIDTH)
    history = harness.drive([algorithm], first, *data, seed=0, batches=batches)
    found = [loss for epoch in history for loss in epoch["losses"]]
    assert len(found) == len(expected) >= 2 * 3 * 5 + 4
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # the code's 1e-10 in logarithms is not scipy's
    for ours, theirs in zip(first.parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def driven(algorithm: UNICON, data: tuple[Tensor, Tensor], model: nn.Module | None = None, epochs: int = 2) -> Any:
    batches = [[list(range(k, N, 5)) for k in range(5)]] * epochs
    return harness.drive([algorithm], model or network(), *data, seed=0, batches=batches)


class Divided(UNICON):
    """Labels the first samples."""

    def __init__(self, count: int, share: float) -> None:
        super().__init__(warmup=1, width=WIDTH)
        self.count, self.given = count, share

    def divide_for(self, run: Any, network: str) -> None:
        everything = torch.arange(run.num_samples)
        self.share = self.given
        self.parts[self.other(network)] = (everything[: self.count], everything[self.count :])


@pytest.mark.parametrize("count", [0, 1, 2, N - 2, N - 1, N])
@pytest.mark.parametrize("norm", [False, True])
def test_no_division_ends_a_run(data: tuple[Tensor, Tensor], count: int, norm: bool) -> None:
    history = driven(Divided(count, max(count, 1) / N), data, network(norm), epochs=3)
    assert np.isfinite([loss for epoch in history for loss in epoch["losses"]]).all()


def test_equal_divergences_and_a_class_without_samples_end_no_run(data: tuple[Tensor, Tensor]) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(SIDE * SIDE, K).double()

        def forward(self, x: Tensor) -> Tensor:
            return 0 * self.last(x.flatten(1))

    algorithm = UNICON(warmup=0)
    driven(algorithm, data, Flat(), epochs=1)
    assert len(algorithm.parts[""][0]) == N
    rare = UNICON(warmup=1)
    history = driven(rare, (data[0], data[1].clamp_max(1) * 2))
    assert np.isfinite(history[-1]["losses"]).all()
    counts = torch.bincount(data[1].clamp_max(1)[rare.parts[""][0]])
    assert int(counts.max()) <= N // K and len(rare.parts[""][0]) + len(rare.parts[""][1]) == N
