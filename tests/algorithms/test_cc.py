"""CC: centrality, consistency, whole epochs against a loop written out, and parts that are empty."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.cc import CC, central_scores, class_shares, discrepancies
from harness_plugins.algorithms.mixup import draw_beta
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

import harness
from harness import Declares
from harness.training import seeds

K, N, WIDTH, SIZE = 3, 40, 5, 8


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    """Samples of three classes in float64, a third of them with a wrong label."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.arange(N) % K
    inputs = torch.randn(N, 4, generator=generator, dtype=torch.float64) + 2 * nn.functional.one_hot(clean, 4)
    return inputs, torch.where(torch.rand(N, generator=generator) < 0.33, (clean + 1) % K, clean)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, K)).double()


def test_scores_are_cosines_with_the_centre_of_the_given_class() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=(12, 4))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    predicted, given = np.array([0, 1] * 6), rng.integers(0, K, size=12)  # nobody is predicted as class 2
    given[:3] = 2
    scores = central_scores(torch.tensor(v), torch.tensor(predicted), torch.tensor(given), K)
    for i in range(12):
        mean = v[predicted == given[i]].mean(0) if given[i] < 2 else v[given == 2].mean(0)
        assert float(scores[i]) == pytest.approx(v[i] @ mean / np.linalg.norm(mean), rel=1e-12)


def test_discrepancies_and_shares_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 6, K))
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    found = discrepancies(torch.tensor(z[0]), torch.tensor(z[1]))
    np.testing.assert_allclose(found, np.abs(p[0] - p[1]).sum(1), rtol=1e-13)
    shares, targets = np.array([0.5, 0.3, 0.2]), np.array([0, 2, 2, 1])
    expected = shares[targets] / shares[targets].sum()
    np.testing.assert_allclose(class_shares(torch.tensor(targets), torch.tensor(shares)), expected, rtol=1e-14)


def posterior(values: Tensor, upper: bool, seed: int, iterations: int, tol: float) -> Tensor:
    column = ((values - values.min()) / (values.max() - values.min())).numpy()[:, None]
    mixture = GaussianMixture(2, max_iter=iterations, tol=tol, reg_covar=5e-4, random_state=seed).fit(column)
    means = mixture.means_[:, 0]
    return torch.from_numpy(mixture.predict_proba(column)[:, means.argmax() if upper else means.argmin()])


def ce(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.log_softmax(1)).sum(1)


def balance(outputs: Tensor) -> Tensor:
    return (torch.log((1 / K) / outputs.softmax(1).mean(0)) / K).sum()


class Reference:
    """Two networks with heads, six optimizers, and the epochs of CC written out."""

    def __init__(self, first: nn.Module, data: tuple[Tensor, Tensor], **p: Any) -> None:
        self.inputs, self.targets, self.p = *data, p
        self.labels = torch.eye(K, dtype=torch.float64)[self.targets]
        other = copy.deepcopy(first)
        self.r, self.h = [], []
        with torch.random.fork_rng():
            torch.manual_seed(seeds.derive(0, "init", "cc"))
            for part in other.modules():
                if isinstance(part, nn.Linear):
                    part.reset_parameters()
            for k in (1, 2):
                torch.manual_seed(seeds.derive(0, "init", f"cc.heads_{k}"))
                self.r.append(nn.Linear(8, WIDTH).double())
                two = [nn.Sequential(nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, K)).double() for _ in range(2)]
                self.h.append(nn.ModuleList(two))
        self.nets = [first, other]

        def sgd(*modules: nn.Module) -> torch.optim.SGD:
            return torch.optim.SGD([q for m in modules for q in m.parameters()], lr=0.05, momentum=0.9)

        self.a = [sgd(net) for net in self.nets]
        self.b = [sgd(r, h) for r, h in zip(self.r, self.h, strict=True)]
        self.d = [sgd(h) for h in self.h]
        self.draws = seeds.torch_stream(0, "algorithm")
        self.losses: list[float] = []
        self.dropped = 0

    def both(self, k: int, features: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self.r[k](features)
        return self.h[k][0](reduced), self.h[k][1](reduced)

    def step(self, optimizer: torch.optim.SGD, loss: Tensor) -> float:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def warm(self, k: int, batch: Tensor) -> None:
        x, y = self.inputs[batch], self.labels[batch]
        self.losses.append(self.step(self.a[k], ce(self.nets[k](x), y).mean()))
        first, second = self.both(k, self.nets[k][:-1](x).detach())  # type: ignore[index]
        self.step(self.b[k], ce(first, y).mean() + ce(second, y).mean())

    def central(self, k: int, epoch: int) -> Tensor:
        with torch.no_grad():
            self.h[k].eval()
            features = self.nets[k][:-1](self.inputs)  # type: ignore[index]
            v = nn.functional.normalize(self.r[k](features), dim=1)
            first, second = self.both(k, features)
            self.h[k].train()
        predicted = ((first + second) / 2).argmax(1)
        members = [predicted == j if (predicted == j).any() else self.targets == j for j in range(K)]
        centres = torch.stack([nn.functional.normalize(v[own].mean(0), dim=0) for own in members])
        seed = seeds.derive(0, "mixture", epoch, ("", "cc")[k]) % 2**32
        return posterior((v * centres[self.targets]).sum(1), True, seed, 100, 1e-1)

    def lap(self, part: Tensor, epoch: int, *keys: Any) -> list[Tensor]:
        stream = seeds.torch_stream(0, "order", epoch, *keys)
        batches = list(part[torch.randperm(len(part), generator=stream)].split(SIZE))
        return batches[:-1] if len(batches[-1]) == 1 and "beside" not in keys else batches

    def epoch(self, epoch: int) -> None:
        w = [self.central(k, epoch) for k in (0, 1)]
        for k in (0, 1):
            j = 1 - k
            s = (w[j] > self.p["threshold"]).nonzero()[:, 0]
            shares = torch.bincount(self.targets[s], minlength=K) / len(s)
            laps = [batch for lap in range(9) for batch in self.lap(s, epoch, 2 * k, lap)]
            for batch in laps[: self.p["steps"]]:
                q = shares[self.targets[batch]].double()
                first, second = self.both(j, self.nets[j][:-1](self.inputs[batch]).detach())  # type: ignore[index]
                apart = (first.softmax(1) - second.softmax(1)).abs().sum(1) * (q / q.sum())
                self.losses.append(self.step(self.d[j], -self.p["m"] * apart.mean()))
            g = -torch.ones(N, dtype=torch.float64)
            with torch.no_grad():
                self.h[j].eval()
                first, second = self.both(j, self.nets[j][:-1](self.inputs[s]))  # type: ignore[index]
                self.h[j].train()
            d = (first.softmax(1) - second.softmax(1)).abs().sum(1)
            for label in range(K):
                own = self.targets[s] == label
                seed = seeds.derive(0, "mixture", epoch, ("", "cc")[j], "consistency", label) % 2**32
                g[s[own]] = posterior(d[own], False, seed, 10, 1e-2)
            x_all, u_all = (g >= self.p["d_tau"]).nonzero()[:, 0], (g < self.p["d_tau"]).nonzero()[:, 0]
            self.dropped += len(s) - len(x_all)
            beside = [b for lap in range(9) for b in self.lap(u_all, epoch, 2 * k + 1, "beside", lap)]
            for b, (x, u) in enumerate(zip(self.lap(x_all, epoch, 2 * k + 1, 0), beside, strict=False)):
                lam_u = 25.0 * min(max((epoch - 1 + b / (len(x_all) // SIZE + 1) - self.p["warmup"]) / 16, 0), 1)
                self.mixed(k, x, u, w[j], lam_u)

    def mixed(self, k: int, x: Tensor, u: Tensor, w: Tensor, lam_u: float) -> None:
        net, other, inputs = self.nets[k], self.nets[1 - k], self.inputs
        with torch.no_grad():
            pu = (net(inputs[u]).softmax(1) + other(inputs[u]).softmax(1)) / 2
            px = w[x][:, None] * self.labels[x] + (1 - w[x][:, None]) * net(inputs[x]).softmax(1)
            tu, tx = (q**2 / (q**2).sum(1, keepdim=True) for q in (pu, px))
        rows, t = torch.cat([inputs[x], inputs[x], inputs[u], inputs[u]]), torch.cat([tx, tx, tu, tu])
        lam = draw_beta(4.0, self.draws)
        lam, pi = max(lam, 1 - lam), torch.randperm(len(rows), generator=self.draws)
        rows, t, n = lam * rows + (1 - lam) * rows[pi], lam * t + (1 - lam) * t[pi], 2 * len(x)

        def semi(z: Tensor) -> Tensor:
            return ce(z[:n], t[:n]).mean() + lam_u * ((z[n:].softmax(1) - t[n:]) ** 2).mean()

        features = net[:-1](rows)  # type: ignore[index]
        z = net[-1](features)  # type: ignore[index]
        first, second = self.both(k, features.detach())
        heads = semi(first) + semi(second) + (balance(first) + balance(second)) / 2
        self.losses.append(self.step(self.a[k], semi(z) + balance(z)))
        self.step(self.b[k], heads)
        first, second = self.both(k, net[:-1](rows))  # type: ignore[index]
        self.step(self.a[k], self.p["m"] * (first.softmax(1) - second.softmax(1)).abs().sum(1).mean())


def test_whole_epochs_are_those_of_a_loop_written_out(data: tuple[Tensor, Tensor]) -> None:
    first = network()
    reference = Reference(copy.deepcopy(first), data, warmup=8, threshold=0.3, d_tau=0.4, steps=7, m=0.2)
    orders = [torch.randperm(N, generator=torch.Generator().manual_seed(e)).split(SIZE) for e in range(10)]
    for order in orders[:8]:
        for k in (0, 1):
            for batch in order:
                reference.warm(k, batch)
    for epoch in (9, 10):
        reference.epoch(epoch)
    algorithm = CC(warmup=8, threshold=0.3, consistency=0.4, discrepancy_steps=7, discrepancy=0.2, width=WIDTH)
    history = harness.drive([algorithm], first, *data, seed=0, batches=[[b.tolist() for b in o] for o in orders])
    found = [loss for epoch in history for loss in epoch["losses"]]
    assert reference.dropped > 0 and len(history[9]["losses"]) > 16
    np.testing.assert_allclose(found, reference.losses, rtol=1e-9)
    for ours, theirs in zip(first.parameters(), reference.nets[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


class Central(CC):
    """Holds the first samples central."""

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(warmup=1, discrepancy_steps=3, width=WIDTH, **options)
        self.count = count

    def posterior(self, run: Any, network: str, index: Tensor) -> Tensor:
        return (torch.arange(len(index)) < self.count).to(run.dtype)


@pytest.mark.parametrize("count", [0, 1, 2, N - 1, N])
@pytest.mark.parametrize("consistency", [0.0, 0.3])
def test_no_division_ends_a_run(data: tuple[Tensor, Tensor], count: int, consistency: float) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, K)).double()
    algorithm = Central(count, consistency=consistency)
    batches = [[list(range(k, N, 5)) for k in range(5)]] * 3
    history = harness.drive([algorithm], model, *data, seed=0, batches=batches)
    assert np.isfinite([loss for epoch in history for loss in epoch["losses"]]).all()


def test_without_a_bound_on_consistency_all_candidates_are_labelled(data: tuple[Tensor, Tensor]) -> None:
    algorithm = Central(20)
    harness.drive([algorithm], network(), *data, seed=0, batches=[[list(range(N))]] * 2)
    assert algorithm.parts["cc"][0].tolist() == list(range(20))
    assert algorithm.parts["cc"][1].tolist() == list(range(20, N))


def test_a_class_without_samples_ends_no_run(data: tuple[Tensor, Tensor]) -> None:
    algorithm = CC(warmup=1, consistency=0.3, discrepancy_steps=2, width=WIDTH)
    targets = data[1].clamp_max(1) * 2
    history = harness.drive([algorithm], network(), data[0], targets, seed=0, batches=[[list(range(N))]] * 2)
    assert np.isfinite(history[-1]["losses"]).all()


def test_only_rows_of_the_main_classifier_have_owners(data: tuple[Tensor, Tensor]) -> None:
    class Seen:
        declares = Declares(row_weights=True)

        def after_losses(self, run: Any, step: Any) -> None:
            seen.append((step.label, len(step.index)))

    seen: list[tuple[str, int]] = []
    harness.drive([Central(6), Seen()], network(), *data, seed=0, batches=[[list(range(N))]] * 2)
    assert seen[:4] == [("", N), ("", 0)] * 2
    assert seen[4:10] == [("discrepancy", 0)] * 3 + [("mix", 12), ("mix", 0), ("mix", 0)]


def test_the_heads_are_driven_apart_at_the_rate_of_the_epoch(data: tuple[Tensor, Tensor]) -> None:
    rates: list[tuple[float, float]] = []

    class Kept(Central):
        def drive_apart(self, run: Any, step: Any) -> None:
            super().drive_apart(run, step)
            pair = run.nets.trainee(self.pair_names[step.network]).optimizer.param_groups[0]["lr"]
            rates.append((pair, run.of(step.network).optimizer.param_groups[0]["lr"]))

    schedule = {"name": "step", "milestones": [1, 2], "gamma": 0.1}
    harness.drive([Kept(20)], network(), *data, seed=0, batches=[[list(range(N))]] * 3, schedule=schedule)
    assert all(mine == theirs for mine, theirs in rates) and len(set(rates)) == 2
