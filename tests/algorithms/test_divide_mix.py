"""DivideMix: what is divided, guessed and mixed; a whole epoch against a loop written out; parts that are empty."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.divide_mix import (
    DivideMix,
    class_balanced,
    labelled_losses,
    refined_labels,
    unlabelled_loss,
)
from harness_plugins.algorithms.mixup import draw_beta
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

import harness
from harness.errors import HarnessError
from harness.training import seeds

K = 3


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    """40 samples of three classes in float64, a third of them with a wrong label."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.arange(40) % K
    inputs = torch.randn(40, 4, generator=generator, dtype=torch.float64) + 2 * nn.functional.one_hot(clean, 4)
    flipped = torch.rand(40, generator=generator) < 0.33
    return inputs, torch.where(flipped, (clean + 1) % K, clean)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, K)).double()


def test_the_loss_terms_are_those_of_the_paper_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(7, K)), rng.dirichlet(np.ones(K), size=7)
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    found = labelled_losses(torch.tensor(outputs), torch.tensor(targets), 4)
    np.testing.assert_allclose(found, -(targets * np.log(p)).sum(1)[:4], rtol=1e-14)
    loss = unlabelled_loss(torch.tensor(outputs), torch.tensor(targets), 4)
    np.testing.assert_allclose(loss, ((p - targets)[4:] ** 2).sum() / (3 * K), rtol=1e-14)
    assert float(unlabelled_loss(torch.tensor(outputs), torch.tensor(targets), 7)) == 0.0
    labels, clean = np.eye(K)[[0, 2, 1, 1, 0, 2, 2]], rng.uniform(size=7)
    refined = refined_labels(torch.tensor(labels), torch.tensor(p), torch.tensor(clean))
    np.testing.assert_allclose(refined, clean[:, None] * labels + (1 - clean[:, None]) * p, rtol=1e-14)


def test_a_class_balanced_draw_has_as_many_of_each_class_and_all_of_a_rare_one() -> None:
    targets = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)[torch.randperm(103)]
    drawn = class_balanced(targets, 30, K, torch.Generator().manual_seed(0))
    assert torch.bincount(targets[drawn], minlength=K).tolist() == [10, 3, 10]
    assert len(drawn.unique()) == len(drawn)
    other = class_balanced(targets, 30, K, torch.Generator().manual_seed(1))
    assert set(drawn.tolist()) != set(other.tolist())


def minmax(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def co_divide_epoch(nets: list[nn.Module], inputs: Tensor, targets: Tensor, epoch: int, **p: Any) -> list[float]:
    """One epoch after warm-up, written out: two networks, SGD at 0.05 with momentum 0.9, batches of 8 and 8."""
    names, size = ("", "divide_mix"), 8
    posteriors = []
    for net, name in zip(nets, names, strict=True):
        with torch.no_grad():
            losses = -net(inputs).log_softmax(1)[torch.arange(len(targets)), targets]
        column = minmax(losses.numpy())[:, None]
        mixture = GaussianMixture(
            2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seeds.derive(0, "mixture", epoch, name) % 2**32
        ).fit(column)
        posteriors.append(torch.from_numpy(mixture.predict_proba(column)[:, mixture.means_[:, 0].argmin()]))
    stepped = []
    for k in (0, 1):
        net, other, w = nets[k], nets[1 - k], posteriors[1 - k]
        x_all, u_all = (w > 0.5).nonzero()[:, 0], (w <= 0.5).nonzero()[:, 0]

        def lap(part: Tensor, *keys: Any, number: int = k) -> list[Tensor]:
            stream = seeds.torch_stream(0, "order", epoch, number, *keys)
            return list(part[torch.randperm(len(part), generator=stream)].split(size))

        labelled = lap(x_all, 0)
        if len(labelled[-1]) == 1:
            labelled = labelled[:-1]
        beside = [batch for j in range(9) for batch in lap(u_all, "beside", j)]
        for b, (x, u) in enumerate(zip(labelled, beside, strict=False)):
            with torch.no_grad():
                pu = (net(inputs[u]).softmax(1) + other(inputs[u]).softmax(1)) / 2
                px = w[x][:, None] * torch.eye(K, dtype=torch.float64)[targets[x]]
                px = px + (1 - w[x][:, None]) * net(inputs[x]).softmax(1)
                tu, tx = (q**2 / (q**2).sum(1, keepdim=True) for q in (pu, px))  # T = .5
            rows = torch.cat([inputs[x], inputs[x], inputs[u], inputs[u]])
            t = torch.cat([tx, tx, tu, tu])
            lam = draw_beta(4.0, p["generator"])
            lam = max(lam, 1 - lam)
            partner = torch.randperm(len(rows), generator=p["generator"])
            z = net(lam * rows + (1 - lam) * rows[partner])
            t = lam * t + (1 - lam) * t[partner]
            q, n = z.softmax(1), 2 * len(x)
            lx = -(t[:n] * z[:n].log_softmax(1)).sum(1).mean()
            lu = ((q[n:] - t[n:]) ** 2).mean()
            mean = q.mean(0)
            penalty = (torch.log((1 / K) / mean) / K).sum()
            ramp = min(max((epoch - 1 + b / (len(x_all) // size + 1) - p["warmup"]) / 16, 0), 1)
            p["optimizers"][k].zero_grad()
            loss = lx + p["lambda_u"] * ramp * lu + penalty
            loss.backward()
            p["optimizers"][k].step()
            stepped.append(loss.item())
    return stepped


def test_whole_epochs_are_those_of_a_loop_written_out(data: tuple[Tensor, Tensor]) -> None:
    inputs, targets = data
    first = network()
    pair = [copy.deepcopy(first), copy.deepcopy(first)]
    with torch.random.fork_rng():
        torch.manual_seed(seeds.derive(0, "init", "divide_mix"))
        for part in pair[1].modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9) for net in pair]
    orders = [torch.randperm(40, generator=torch.Generator().manual_seed(e)).split(8) for e in range(3)]
    expected: list[float] = []
    for net, sgd in zip(pair, optimizers, strict=True):
        for batch in orders[0]:
            sgd.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs[batch]), targets[batch])
            loss.backward()
            sgd.step()
            expected.append(loss.item())
    generator = seeds.torch_stream(0, "algorithm")
    for epoch in (2, 3):
        expected += co_divide_epoch(
            pair, inputs, targets, epoch, generator=generator, optimizers=optimizers, warmup=1, lambda_u=5.0
        )
    algorithm = DivideMix(warmup=1, lambda_u=5.0)
    history = harness.drive([algorithm], first, inputs, targets, seed=0, batches=[list(map(list, o)) for o in orders])
    found = [loss for epoch in history for loss in epoch["losses"]]
    assert len(found) == len(expected) and len(history[1]["losses"]) + len(history[2]["losses"]) > 10
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    for ours, theirs in zip(first.parameters(), pair[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


# --- parts that are empty, and what else may end a run ----------------------------------------------------------------


def driven(algorithm: DivideMix, data: tuple[Tensor, Tensor], model: nn.Module | None = None, epochs: int = 3) -> Any:
    inputs, targets = data
    batches = [[list(range(k, 40, 5)) for k in range(5)]] * epochs
    return harness.drive([algorithm], model or network(), inputs, targets, seed=0, batches=batches)


class Divided(DivideMix):
    """Says what is clean by itself."""

    def __init__(self, clean: int, **params: Any) -> None:
        super().__init__(warmup=1, **params)
        self.count = clean

    def posterior(self, run: Any, network: str, index: Tensor) -> Tensor:
        return (torch.arange(len(index)) < self.count).to(run.dtype)


def batch_normed() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, K)).double()


@pytest.mark.parametrize("clean", [0, 1, 2, 39, 40])
@pytest.mark.parametrize("rows", ["all", "labelled"])
@pytest.mark.parametrize("make", [network, batch_normed])
def test_no_division_ends_a_run(data: tuple[Tensor, Tensor], clean: int, rows: Any, make: Any) -> None:
    algorithm = Divided(clean, rows=rows)
    history = driven(algorithm, data, make())
    assert len(history) == 3 and all(epoch["train_loss"] > 0 for epoch in history)
    assert history[-1]["diagnostics"]["divide_mix.labelled_1"] == clean / 40


def test_without_unlabelled_samples_a_step_is_cross_entropy(data: tuple[Tensor, Tensor]) -> None:
    inputs, targets = data
    model = network()
    twin = copy.deepcopy(model)
    algorithm = Divided(40)
    algorithm.warmup = 0
    history = harness.drive([algorithm], model, inputs, targets, seed=0, batches=[[list(range(40))]])
    expected = nn.functional.cross_entropy(twin(inputs), targets)
    assert history[0]["losses"][0] == pytest.approx(expected.item(), rel=1e-12)


def test_equal_losses_divide_nothing(data: tuple[Tensor, Tensor]) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.last = nn.Linear(4, K).double()

        def forward(self, x: Tensor) -> Tensor:
            return 0 * self.last(x) + self.bias

    algorithm = DivideMix(warmup=0)
    driven(algorithm, data, Constant(), epochs=1)
    assert all(bool((clean == 1).all()) for clean in algorithm.clean.values())


def test_the_losses_of_the_last_epochs_are_averaged_before_the_fit(data: tuple[Tensor, Tensor]) -> None:
    algorithm = DivideMix(warmup=1, history=2)
    driven(algorithm, data, epochs=4)
    assert [len(losses) for losses in algorithm.losses.values()] == [2, 2]
    assert all(float(one.min()) == 0 and float(one.max()) == 1 for one in algorithm.losses[""])
    with pytest.raises(HarnessError, match="history: averages losses of epochs that score other samples"):
        DivideMix(history=5, subset=10)


def test_a_subset_is_scored_and_divided(data: tuple[Tensor, Tensor]) -> None:
    algorithm = DivideMix(warmup=1, subset=18, confidence_penalty=True, rows="labelled")
    driven(algorithm, data)
    for labelled, rest in algorithm.parts.values():
        together = torch.cat([labelled, rest])
        assert torch.bincount(data[1][together], minlength=K).tolist() == [6, 6, 6]
    assert not torch.equal(*(torch.cat(parts).sort().values for parts in algorithm.parts.values()))


@pytest.mark.parametrize(("mode", "moves"), [("train", 5), ("eval", 1)])
def test_statistics_move_with_the_guesses_only_in_train_mode(
    data: tuple[Tensor, Tensor], mode: Any, moves: int
) -> None:
    model = batch_normed()
    driven(Divided(20, guess_mode=mode), data, model, epochs=2)
    steps = 5 + moves * 3  # 5 of warm-up, 3 of 20 labelled samples in batches of 8
    assert int(model[1].num_batches_tracked) == steps  # type: ignore[arg-type]


def test_both_networks_predict(data: tuple[Tensor, Tensor]) -> None:
    from harness.training.run import Run

    runs: list[Run] = []

    class Kept(DivideMix):
        def setup(self, run: Run) -> None:
            super().setup(run)
            runs.append(run)

    model = network()
    driven(Kept(warmup=1), data, model, epochs=1)
    inputs = data[0][:4]
    logits = (model(inputs) + runs[0].networks["divide_mix"].model(inputs)) / 2
    torch.testing.assert_close(runs[0].predict(inputs), logits.log_softmax(1))


def test_it_trains_in_bfloat16(write_suite: Any) -> None:
    from harness.plugins import load_host
    from harness.suite.load import load_suite
    from harness.testing.bench import Silent
    from harness.training.loop import Loop
    from harness.training.prepare import prepare

    path = write_suite(
        epochs=2,
        training="validation = 0.0\nprecision = 'bfloat16'",
        setting="subset = 200",
        methods='[[method]]\nname = "m"\nalgorithms = [{ name = "divide_mix", warmup = 1 }]',
    )
    prepared = prepare(next(iter(load_suite(path).entries())).trial, load_host(), torch.device("cpu"))

    class Quiet:
        def epoch(self, record: Any, timing: Any) -> None: ...

        def should_stop(self) -> bool:
            return False

    history = Loop(prepared.run, Silent(), Quiet()).fit()  # type: ignore[arg-type]
    assert len(history) == 2 and all(0 < epoch["train_loss"] < 5 for epoch in history)
    assert all(part.dtype == torch.float32 for part in prepared.run.stack.parts["divide_mix"].clean.values())
