"""ProMix: what is picked, debiased and mixed; whole epochs against a loop written out; parts that are empty."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.pro_mix import (
    HEADS,
    ProMix,
    debiased_margin,
    debiased_prediction,
    guessed_by_agreement,
)
from harness_plugins.algorithms.semi_supervised import fmix_mask, small_losses_by_class
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import harness
from harness import Declares
from harness.training import seeds
from harness.training.policies import promix_view

K, N, SIDE = 3, 30, 6


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


def test_margins_and_predictions_are_debiased_by_the_logarithm_of_the_prior() -> None:
    rng = np.random.default_rng(0)
    outputs, prior = rng.normal(size=(4, K)), rng.dirichlet(np.ones(K))
    margin = debiased_margin(torch.tensor(outputs), torch.tensor(prior), 0.8)
    np.testing.assert_allclose(margin, outputs + 0.8 * np.log(prior), rtol=1e-14)
    e = np.exp(outputs - 0.8 * np.log(prior))
    prediction = debiased_prediction(torch.tensor(outputs), torch.tensor(prior), 0.8)
    np.testing.assert_allclose(prediction, e / e.sum(1, keepdims=True), rtol=1e-13)
    assert debiased_margin(torch.zeros(1, 2), torch.tensor([0.0, 1.0]), 0.8).isfinite().all()


@given(samples=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30), quota=st.integers(0, 5))
def test_of_each_class_the_first_of_its_smallest_losses_are_marked(samples: list[tuple[int, int]], quota: int) -> None:
    losses = torch.tensor([float(loss) for loss, _ in samples])
    classes = torch.tensor([label for _, label in samples], dtype=torch.int64)
    marked = small_losses_by_class(losses, classes, torch.full((K,), quota))
    expected = set()
    for j in range(K):
        own = sorted((i for i in range(len(samples)) if samples[i][1] == j), key=lambda i: samples[i][0])
        expected |= set(own[: max(min(quota, len(own)), 1)])
    assert set(marked.nonzero()[:, 0].tolist()) == expected


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_guessed_where_both_networks_agree_with_confidence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (rng.dirichlet(np.full(K, 0.2), size=20) for _ in range(2))
    chosen = rng.random(20) < 0.5
    found = guessed_by_agreement(torch.tensor(chosen), torch.tensor(one), torch.tensor(two), 0.6)
    sure = (one.max(1) > 0.6) & (two.max(1) > 0.6) & (one.argmax(1) == two.argmax(1)) & ~chosen
    candidates = sorted(np.flatnonzero(sure), key=lambda i: -(one[i].max() + two[i].max()))
    expected = set(np.flatnonzero(chosen)) | set(candidates[: max(0, 18 - chosen.sum())])
    assert set(found.nonzero()[:, 0].tolist()) == expected


def test_a_batch_with_nine_tenths_chosen_gets_no_guesses() -> None:
    sure = torch.eye(K, dtype=torch.float64)[torch.zeros(10, dtype=torch.int64)]
    chosen = torch.arange(10) < 9
    assert torch.equal(guessed_by_agreement(chosen, sure, sure, 0.5), chosen)
    assert int(guessed_by_agreement(torch.arange(10) < 4, sure, sure, 0.5).sum()) == 9


def ce(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(targets * outputs.log_softmax(1)).sum(1)


class Reference:
    """Both networks and heads under one SGD at 0.05 with momentum 0.9, and the epochs of ProMix written out."""

    def __init__(self, first: nn.Module, data: tuple[Tensor, Tensor], **p: Any) -> None:
        self.inputs, self.targets = data
        self.p = p
        other = copy.deepcopy(first)
        with torch.random.fork_rng():
            torch.manual_seed(seeds.derive(0, "init", "pro_mix"))
            for part in other.modules():
                if isinstance(part, nn.Linear):
                    part.reset_parameters()
            self.heads = []
            for k in (1, 2):
                torch.manual_seed(seeds.derive(0, "init", f"pro_mix.pseudo_{k}"))
                self.heads.append(nn.Linear(8, K).double())
        self.nets = [first, other]
        modules = [*self.nets, *self.heads]
        self.sgd = torch.optim.SGD([q for m in modules for q in m.parameters()], lr=0.05, momentum=0.9)
        self.draws, self.views = seeds.torch_stream(0, "algorithm"), seeds.torch_stream(0, "view")
        self.pi = [torch.full((K,), 1 / K, dtype=torch.float64) for _ in range(4)]

    def out(self, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.nets[k][:-1](x)  # type: ignore[index]
        return self.nets[k](x), self.heads[k](features)

    def marks(self, k: int) -> Tensor:
        with torch.no_grad():
            losses = ce(self.nets[k](self.inputs), torch.eye(K, dtype=torch.float64)[self.targets])
        marked = torch.zeros(N)
        for j in range(K):
            own = (self.targets == j).nonzero()[:, 0]
            quota = max(min(math.ceil(self.p["rho"] * N / K), len(own)), 1)
            marked[own[losses[own].argsort(stable=True)[:quota]]] = 1
        return marked

    def epoch(self, e: int, batches: list[Tensor]) -> list[float]:
        marks = [self.marks(k) for k in (0, 1)] if e >= self.p["warmup"] else []
        return [self.step(e, ix, marks) if marks else self.warm(ix) for ix in batches if len(ix) == 8 or not marks]

    def descend(self, loss: Tensor) -> float:
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        return loss.item()

    def warm(self, ix: Tensor) -> float:
        labels = torch.eye(K, dtype=torch.float64)[self.targets[ix]]
        return self.descend(
            ce(self.nets[0](self.inputs[ix]), labels).mean() + ce(self.nets[1](self.inputs[ix]), labels).mean()
        )

    def step(self, e: int, ix: Tensor, marks: list[Tensor]) -> float:
        p, a = self.p, self.p["strength"]
        x, y = self.inputs[ix], torch.eye(K, dtype=torch.float64)[self.targets[ix]]
        s = promix_view(x, self.views)
        w, beta = min(e / p["ramp"], 1), (0.1 * e / (2 * p["ramp"]) if e < 2 * p["ramp"] else p["beta_after"])
        out = [(self.out(k, x), self.out(k, s)) for k in (0, 1)]
        prob = [out[k][0][0].detach().softmax(1) for k in (0, 1)]
        total = torch.zeros((), dtype=torch.float64)
        moves = []
        for k in (0, 1):
            pi, pi_rest = self.pi[k], self.pi[2 + k]
            m = marks[k][ix].clone()
            m[(y * prob[k]).sum(1) > p["threshold"]] = 1
            guess = torch.eye(K, dtype=torch.float64)[(out[k][0][0].detach() - a * pi.log()).softmax(1).argmax(1)]
            t = m[:, None] * y + (1 - m[:, None]) * guess
            if e > p["epochs"] - p["guess_epochs"] and m.sum() / len(ix) < 0.9:
                sure = (prob[0].max(1)[0] > p["threshold"]) & (prob[1].max(1)[0] > p["threshold"])
                sure &= (prob[0].argmax(1) == prob[1].argmax(1)) & (m == 0)
                mean = (prob[0].max(1)[0] + prob[1].max(1)[0]) / 2
                best = sorted(sure.nonzero()[:, 0].tolist(), key=lambda i: -float(mean[i]))
                m[best[: int(0.9 * len(ix)) - int(m.sum())]] = 1
                self.guessed = getattr(self, "guessed", 0) + len(best)
            c, r = (m == 1).nonzero()[:, 0], (m != 1).nonzero()[:, 0]
            for h in (0, 1) if len(c) else ():
                loss = ce(out[k][0][h][c] + a * pi.log(), t[c]).mean()
                lam = draw_beta(4.0, self.draws)
                lam, perm = max(lam, 1 - lam), torch.randperm(len(c), generator=self.draws)
                z = self.out(k, lam * x[c] + (1 - lam) * x[c][perm])[h] + a * pi.log()
                mix = ce(z, lam * t[c] + (1 - lam) * t[c][perm]).mean()
                lam, perm = draw_beta(1.0, self.draws), torch.randperm(len(c), generator=self.draws)
                mask = fmix_mask(SIDE, SIDE, lam, self.draws, dtype=torch.float64)
                z = self.out(k, mask * x[c] + (1 - mask) * x[c][perm])[h] + a * pi.log()
                fm = lam * ce(z, t[c]).mean() + (1 - lam) * ce(z, t[c][perm]).mean()
                total = total + loss + w * (ce(out[k][1][h][c] + a * pi.log(), t[c]).mean() + mix + fm)
            if len(r):
                tu = (out[k][0][0].detach()[r] - a * pi_rest.log()).softmax(1) ** 2
                tu = tu / tu.sum(1, keepdim=True)
                weak, strong = (ce(out[k][v][1][r] + a * pi_rest.log(), tu).mean() for v in (0, 1))
                total = total + beta * (weak + w * strong)
            moves += [(k, prob[k][c]), (2 + k, prob[k][r])]
        found = self.descend(total)
        for which, rows in moves:
            if len(rows):
                self.pi[which] = p["momentum"] * self.pi[which] + (1 - p["momentum"]) * rows.mean(0)
        return found


@pytest.mark.parametrize("beta_after", [0.0, 0.2])
def test_whole_epochs_are_those_of_a_loop_written_out(data: tuple[Tensor, Tensor], beta_after: float) -> None:
    options: dict[str, Any] = {"warmup": 1, "rho": 0.4, "threshold": 0.45, "strength": 0.8, "ramp": 2}
    options |= {"guess_epochs": 2, "beta_after": beta_after, "momentum": 0.9}
    first = network()
    reference = Reference(copy.deepcopy(first), data, epochs=6, **options)
    orders = [list(torch.randperm(N, generator=torch.Generator().manual_seed(e)).split(8)) for e in range(6)]
    expected = [loss for e, batches in enumerate(orders) for loss in reference.epoch(e, batches)]
    kept = [[b.tolist() for b in order if len(b) == 8 or e == 0] for e, order in enumerate(orders)]
    algorithm = ProMix(**options)
    history = harness.drive([algorithm], first, *data, seed=0, batches=kept)
    assert reference.guessed > 0
    np.testing.assert_allclose([x for epoch in history for x in epoch["losses"]], expected, rtol=1e-10)
    torch.testing.assert_close(algorithm.prior, torch.stack(reference.pi[:2]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(algorithm.prior_rest, torch.stack(reference.pi[2:]), rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(first.parameters(), reference.nets[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


class Marked(ProMix):
    """Marks the first samples, however their losses are."""

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(warmup=0, threshold=1.0, guess_epochs=0, **options)
        self.count = count

    def mark(self, run: Any) -> None:
        self.small[:] = torch.arange(run.num_samples) < self.count


@pytest.mark.parametrize("count", [0, 1, N - 1, N])
@pytest.mark.parametrize("beta_after", [0.0, 0.1])
def test_an_empty_part_ends_no_run_and_leaves_its_prior(
    data: tuple[Tensor, Tensor], count: int, beta_after: float
) -> None:
    algorithm = Marked(count, ramp=1, beta_after=beta_after)
    history = harness.drive([algorithm], network(norm=True), *data, seed=0, batches=[[list(range(N))]] * 3)
    assert np.isfinite([epoch["train_loss"] for epoch in history]).all()
    uniform = torch.full((2, K), 1 / K, dtype=torch.float64)
    assert torch.equal(algorithm.prior, uniform) == (count == 0)
    assert torch.equal(algorithm.prior_rest, uniform) == (count == N)
    assert history[-1]["diagnostics"]["pro_mix.chosen_1"] == pytest.approx(count / N)


def test_rows_belong_to_the_chosen_samples_of_each_network(data: tuple[Tensor, Tensor]) -> None:
    class Seen:
        declares = Declares(row_weights=True)

        def after_losses(self, run: Any, step: Any) -> None:
            seen.append((step.network, step.index.tolist(), step.losses.shape))

    seen: list[Any] = []
    order = list(range(N - 1, -1, -1))
    harness.drive([Marked(5), Seen()], network(), *data, seed=0, batches=[[order]])
    assert seen == [(name, [4, 3, 2, 1, 0], (5,)) for name in ("", "pro_mix")]


@pytest.mark.parametrize("weight", [1.0, 1.7])
def test_a_row_is_eight_cross_entropies_once_all_terms_count_and_weights_multiply_it(
    data: tuple[Tensor, Tensor], weight: float
) -> None:
    class Weighs:
        declares = Declares(row_weights=True)

        def after_losses(self, run: Any, step: Any) -> None:
            step.weights = step.weights * weight

        def after_step(self, run: Any, step: Any) -> None:
            if not step.network:
                penalty = 0.0 if step.penalty is None else step.penalty.detach()
                rows.append((step.losses.detach(), float(step.loss.detach() - penalty)))

    class Even(Marked):
        def setup(self, run: Any) -> None:
            super().setup(run)
            for parameter in (*run.model.parameters(), *run.heads[HEADS[0]].parameters()):
                nn.init.zeros_(parameter)  # each cross entropy of network 1 is log K

    rows: list[tuple[Tensor, float]] = []
    stack, batches = [Even(5, ramp=1), Weighs()], [[list(range(N))]] * 2
    harness.drive(stack, network(), *data, seed=0, batches=batches, optimizer={"name": "sgd", "lr": 1e-12})
    for (losses, loss), terms in zip(rows, (2, 8), strict=True):  # both heads' weak view; then all that is further
        np.testing.assert_allclose(losses, np.full(5, terms * np.log(K)), rtol=1e-8)
        assert loss == pytest.approx(weight * terms * np.log(K), rel=1e-8)


def test_quotas_are_even_or_of_a_class_and_classes_are_given_or_predicted(data: tuple[Tensor, Tensor]) -> None:
    classes = torch.tensor([0] * 6 + [1] * 2)
    assert ProMix(rho=0.5).quotas(classes, K).tolist() == [2, 2, 2]  # ceil(8 / 3 / 2)
    assert ProMix(rho=0.5, quota="class").quotas(classes, K).tolist() == [3, 1, 0]
    given, predicted = ProMix(warmup=1, rho=0.3), ProMix(warmup=1, rho=0.3, predicted_after=0)
    for algorithm in (given, predicted):
        harness.drive([algorithm], network(), *data, seed=0, batches=[[list(range(N))]] * 2)
    assert torch.bincount(data[1][given.small[0]], minlength=K).tolist() == [3, 3, 3]
    assert not torch.equal(given.small, predicted.small)


def test_equal_losses_and_a_class_without_samples_end_no_run(data: tuple[Tensor, Tensor]) -> None:
    images, targets = data
    model = network()
    with torch.no_grad():
        model[-1].weight.zero_()  # type: ignore[union-attr,operator,index]
        model[-1].bias.zero_()  # type: ignore[union-attr,operator,index]
    history = harness.drive([ProMix(warmup=0)], model, images, targets.clamp_max(1) * 2, seed=0, batches=[[[0, 1, 2]]])
    assert np.isfinite(history[0]["losses"]).all()
