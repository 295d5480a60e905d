"""CC in its form for Clothing1M: Otsu's threshold by class, what makes an epoch, whole epochs against a loop written out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.cc import CC, above_threshold_of_class, deep, evened, otsu_threshold
from harness_plugins.algorithms.mixup import draw_beta
from torch import Tensor, nn

import harness
from harness import HarnessError
from harness.training import seeds

K, N, WIDTH, SIZE = 3, 60, 5, 6
SUBSET, SCORED = 24, 48


def brute_force(values: np.ndarray) -> float:
    """The centre of the bin after which two groups differ most, by trying each."""
    edges = np.linspace(values.min(), values.max(), 257)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, 255)
    centres = (edges[:-1] + edges[1:]) / 2
    best, threshold = -1.0, 0.0
    for last in range(255):
        low, high = centres[bins[bins <= last]], centres[bins[bins > last]]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, threshold = between, centres[last]
    return threshold


@pytest.mark.parametrize("seed", range(3))
def test_otsus_threshold_parts_two_groups_with_the_largest_variance_between_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0.2, 0.1, 120), rng.normal(0.8, 0.1, 60)])
    assert otsu_threshold(torch.tensor(values)) == pytest.approx(brute_force(values), abs=1e-12)


def test_a_class_is_judged_by_its_own_scores_and_equal_ones_are_all_kept() -> None:
    scores = torch.tensor([0.1, 0.2, 0.9, 0.95, -0.5, -0.1, 0.3, 0.3, 0.7])
    given = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 5])
    assert above_threshold_of_class(scores, given).tolist() == [0, 0, 1, 1, 0, 1, 1, 1, 1]


def test_an_epoch_has_each_part_s_share_and_as_many_of_each_class() -> None:
    given = torch.arange(90) % 3
    held = torch.arange(90) < 60
    labelled, rest = evened(held, given, 3, 45, torch.Generator().manual_seed(0))
    assert torch.bincount(given[labelled]).tolist() == [10, 10, 10] and torch.bincount(given[rest]).tolist() == [
        5,
        5,
        5,
    ]
    assert held[labelled].all() and not held[rest].any()
    assert len({*labelled.tolist(), *rest.tolist()}) == 45
    rare = torch.where(torch.arange(90) < 2, 0, 1 + torch.arange(90) % 2)
    labelled, rest = evened(held, rare, 3, 45, torch.Generator().manual_seed(0))
    assert torch.bincount(rare[labelled]).tolist() == [2, 10, 10]
    assert [len(part) for part in evened(held & False, given, 3, 45, torch.Generator())] == [0, 45]


def test_the_heads_have_two_layers_more() -> None:
    shapes = [
        (layer.in_features, layer.out_features) for layer in deep(128, 14).modules() if isinstance(layer, nn.Linear)
    ]
    assert shapes == [(128, 64), (64, 64), (64, 14)]
    assert [layer.p for layer in deep(128, 14).modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("key", ["subset", "scored"])
def test_what_belongs_to_this_form_is_refused_in_the_other(key: str) -> None:
    with pytest.raises(HarnessError, match="form = 'clothing1m'") as caught:
        CC(**{key: 10})  # type: ignore[arg-type]
    assert f"algorithms.cc.{key}" in str(caught.value)


# --- whole epochs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """Samples of three classes in float64, a third of them with a wrong label."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.arange(N) % K
    inputs = torch.randn(N, 4, generator=generator, dtype=torch.float64) + 2 * nn.functional.one_hot(clean, 4)
    return inputs, torch.where(torch.rand(N, generator=generator) < 0.33, (clean + 1) % K, clean)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, K)).double()


def ce(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.log_softmax(1)).sum(1)


def balance(outputs: Tensor) -> Tensor:
    return (torch.log((1 / K) / outputs.softmax(1).mean(0)) / K).sum()


def negent(outputs: Tensor) -> Tensor:
    return (outputs.softmax(1) * outputs.softmax(1).log()).sum(1).mean()


def drawn_evenly(positions: list[int], each: int, targets: Tensor, generator: torch.Generator) -> list[int]:
    """Of a shuffled list the first of each class, class by class."""
    shuffled = [positions[i] for i in torch.randperm(len(positions), generator=generator).tolist()]
    return [i for label in range(K) for i in [j for j in shuffled if int(targets[j]) == label][:each]]


class Reference:
    """Two networks with heads, six optimizers, and the epochs of the script for Clothing1M written out."""

    names = ("", "cc")

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
                self.h.append(nn.ModuleList(deep(WIDTH, K).double() for _ in range(2)))
        self.nets = [first, other]

        def sgd(*modules: nn.Module) -> torch.optim.SGD:
            return torch.optim.SGD([q for m in modules for q in m.parameters()], lr=0.05, momentum=0.9)

        self.a = [sgd(net) for net in self.nets]
        self.b = [sgd(r, h) for r, h in zip(self.r, self.h, strict=True)]
        self.d = [sgd(h) for h in self.h]
        self.draws = seeds.torch_stream(0, "algorithm")
        self.losses: list[float] = []
        self.sizes: list[tuple[int, int, int]] = []

    def both(self, k: int, features: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self.r[k](features)
        return self.h[k][0](reduced), self.h[k][1](reduced)

    def step(self, optimizer: torch.optim.SGD, loss: Tensor) -> float:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def lap(self, part: list[int], size: int, epoch: int, *keys: Any) -> list[list[int]]:
        order = torch.randperm(len(part), generator=seeds.torch_stream(0, "order", epoch, *keys)).tolist()
        batches = [[part[i] for i in order[at : at + size]] for at in range(0, len(part), size)]
        return batches[:-1] if len(batches[-1]) == 1 and "beside" not in keys else batches

    def draw(self, k: int, epoch: int, size: int) -> list[int]:
        stream = seeds.torch_stream(0, "subset", epoch, self.names[k])
        return drawn_evenly(list(range(N)), size // K, self.targets, stream)

    def warm(self, epoch: int) -> None:
        for k in (0, 1):
            for batch in self.lap(self.draw(k, epoch, 2 * SUBSET), 2 * SIZE, epoch, k, 0):
                x, y = self.inputs[batch], self.labels[batch]
                z = self.nets[k](x)
                self.losses.append(self.step(self.a[k], ce(z, y).mean() + negent(z)))
                first, second = self.both(k, self.nets[k][:-1](x).detach())  # type: ignore[index]
                apart = (ce(first, y).mean() + ce(second, y).mean()) / 2 + (negent(first) + negent(second)) / 2
                self.step(self.b[k], apart)

    def candidates(self, k: int, epoch: int) -> list[int]:
        scored = self.draw(k, epoch, SCORED)
        with torch.no_grad():
            self.h[k].eval()
            features = self.nets[k][:-1](self.inputs[scored])  # type: ignore[index]
            v = nn.functional.normalize(self.r[k](features), dim=1)
            first, second = self.both(k, features)
            self.h[k].train()
        predicted, given = (first + second).argmax(1), self.targets[scored]
        found = []
        for j in range(K):
            members = predicted == j if (predicted == j).any() else given == j
            scores = v[given == j] @ nn.functional.normalize(v[members].mean(0), dim=0)
            above = (scores.numpy() > brute_force(scores.numpy())).nonzero()[0]
            found += [[i for i in scored if int(self.targets[i]) == j][at] for at in above]
        return [i for i in scored if i in found]

    def consistency(self, k: int, s: list[int], epoch: int, number: int) -> Tensor:
        from harness_plugins.algorithms.semi_supervised import mixture_posterior

        shares = torch.bincount(self.targets[s], minlength=K) / len(s)
        laps = [batch for lap in range(20) for batch in self.lap(s, SIZE, epoch, number, lap)]
        for batch in laps[: self.p["steps"]]:
            q = shares[self.targets[batch]].double()
            first, second = self.both(k, self.nets[k][:-1](self.inputs[batch]).detach())  # type: ignore[index]
            apart = (first.softmax(1) - second.softmax(1)).abs().sum(1) * (q / q.sum())
            self.losses.append(self.step(self.d[k], -self.p["driving"] * apart.mean()))
        with torch.no_grad():
            self.h[k].eval()
            first, second = self.both(k, self.nets[k][:-1](self.inputs[s]))  # type: ignore[index]
            self.h[k].train()
        d, g = (first.softmax(1) - second.softmax(1)).abs().sum(1), torch.ones(len(s), dtype=torch.float64)
        for label in range(K):
            own = self.targets[s] == label
            seed = seeds.derive(0, "mixture", epoch, self.names[k], "consistency", label) % 2**32
            g[own] = mixture_posterior((d[own] - d[own].min()) / (d[own].max() - d[own].min()), seed)
        return g

    def epoch(self, epoch: int) -> None:
        s = [self.candidates(k, epoch) for k in (0, 1)]
        g, parts = [], []
        for k in (0, 1):
            g.append(dict(zip(s[k], self.consistency(k, s[k], epoch, k).tolist(), strict=True)))
            stream = seeds.torch_stream(0, "subset", epoch, self.names[k], "kept")
            halves = [i for i in s[k] if g[k][i] > 0.5], [i for i in s[k] if g[k][i] <= 0.5]
            quotas = [int(SUBSET / len(s[k]) * len(half) / K) for half in halves]
            parts.append([drawn_evenly(h, q, self.targets, stream) for h, q in zip(halves, quotas, strict=True)])
            self.sizes.append((len(s[k]), len(parts[k][0]), len(parts[k][1])))
        for k in (0, 1):
            x_all, u_all = parts[1 - k]
            beside = [b for lap in range(20) for b in self.lap(u_all, SIZE, epoch, 2 + k, "beside", lap)]
            for x, u in zip(self.lap(x_all, SIZE, epoch, 2 + k, 0), beside, strict=False):
                self.mixed(k, x, u, torch.tensor([g[1 - k][i] for i in x]).double())

    def mixed(self, k: int, x: list[int], u: list[int], w: Tensor) -> None:
        net, other, inputs = self.nets[k], self.nets[1 - k], self.inputs
        with torch.no_grad():
            pu = (net(inputs[u]).softmax(1) + other(inputs[u]).softmax(1)) / 2
            px = w[:, None] * self.labels[x] + (1 - w[:, None]) * net(inputs[x]).softmax(1)
            tu, tx = (q**2 / (q**2).sum(1, keepdim=True) for q in (pu, px))
        rows, t = torch.cat([inputs[x], inputs[x], inputs[u], inputs[u]]), torch.cat([tx, tx, tu, tu])
        lam = draw_beta(0.5, self.draws)
        lam, pi = max(lam, 1 - lam), torch.randperm(len(rows), generator=self.draws)
        n = 2 * len(x)
        rows, t = (lam * rows + (1 - lam) * rows[pi])[:n], (lam * t + (1 - lam) * t[pi])[:n]
        features = net[:-1](rows)  # type: ignore[index]
        z = net[-1](features)  # type: ignore[index]
        first, second = self.both(k, features.detach())
        heads = (ce(first, t).mean() + ce(second, t).mean()) / 2 + (balance(first) + balance(second)) / 2
        self.losses.append(self.step(self.a[k], ce(z, t).mean() + balance(z)))
        self.step(self.b[k], heads)
        first, second = self.both(k, net[:-1](rows))  # type: ignore[index]
        self.step(self.a[k], self.p["m"] * (first.softmax(1) - second.softmax(1)).abs().sum(1).mean())


def shop(**options: Any) -> CC:
    chosen = {"warmup": 6, "threshold": 0.5, "alpha": 0.5, "discrepancy_steps": 5, "driving": 2.3, "discrepancy": 0.2}
    chosen |= {"width": WIDTH, "subset": SUBSET, "scored": SCORED, "confidence_penalty": True} | options
    return CC(form="clothing1m", **chosen)  # type: ignore[arg-type]


def test_whole_epochs_are_those_of_a_loop_written_out(data: tuple[Tensor, Tensor]) -> None:
    first = network()
    reference = Reference(copy.deepcopy(first), data, steps=5, driving=2.3, m=0.2)
    epochs = [torch.arange(N).split(SIZE) for _ in range(8)]
    before = torch.get_rng_state()
    torch.manual_seed(seeds.derive(0, "global"))
    for epoch in range(1, 7):
        reference.warm(epoch)
    for epoch in (7, 8):
        reference.epoch(epoch)
    torch.set_rng_state(before)
    history = harness.drive([shop()], first, *data, seed=0, batches=epochs)
    found = [loss for epoch in history for loss in epoch["losses"]]
    assert all(labelled > 1 and rest for _, labelled, rest in reference.sizes), reference.sizes
    assert min(size for size, *_ in reference.sizes) < SCORED, "what is no candidate is dropped"
    np.testing.assert_allclose(found, reference.losses, rtol=1e-9)
    for ours, theirs in zip(first.parameters(), reference.nets[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("labels", ["given", "one class", "two classes"])
@pytest.mark.parametrize("sizes", [{}, {"subset": None, "scored": None}, {"subset": 3}])
def test_no_division_ends_a_run(data: tuple[Tensor, Tensor], labels: str, sizes: dict[str, Any]) -> None:
    targets = {"given": data[1], "one class": data[1] * 0, "two classes": data[1].clamp_max(1)}[labels]
    epochs = [torch.arange(N).split(SIZE) for _ in range(2)]
    history = harness.drive([shop(warmup=1, **sizes)], network(), data[0], targets, seed=0, batches=epochs)
    assert np.isfinite([loss for epoch in history for loss in epoch["losses"]]).all()
