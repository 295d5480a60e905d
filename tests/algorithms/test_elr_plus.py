"""ELR+: what the averages teach, what a step weighs, whole epochs against a loop written out, and what ends no run."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.elr_plus import ELRPlus, average_decay, gated
from harness_plugins.algorithms.mixup import draw_beta
from torch import Tensor, nn

import harness
from harness import Declares
from harness.errors import HarnessError
from harness.training import seeds

K, N = 3, 22


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(K, (N,), generator=generator)
    return torch.randn(N, 4, generator=generator, dtype=torch.float64) + targets[:, None], targets


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, K)).double()


def anew(model: nn.Module, name: str) -> nn.Module:
    """The model initialised by the stream of a further network."""
    other = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seeds.derive(0, "init", name))
        for part in other.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
    return other


@pytest.mark.parametrize("step", [1, 7, 30, 31])
def test_the_decay_of_an_average_is_that_of_the_official_code(step: int) -> None:
    phase = 1 - min(step + 1, 30) / 30
    assert average_decay(step, 0.9, 30) == pytest.approx(0.9 * math.exp(-5 * phase * phase))
    assert average_decay(step, 0.9, 0) == pytest.approx(min(1 - 1 / (step + 1), 0.9))


def test_gated_labels_are_products_that_sum_to_one_and_survive_underflow() -> None:
    labels, averages = torch.eye(3, dtype=torch.float64)[[0, 2]] * 0.7 + 0.1, torch.rand(2, 3, dtype=torch.float64)
    products = labels.numpy() * averages.numpy()
    np.testing.assert_allclose(gated(labels, averages), products / products.sum(1, keepdims=True), rtol=1e-14)
    assert gated(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [[0.0, 0.0]]


def written_out(
    first: nn.Module, data: tuple[Tensor, Tensor], orders: list[list[Tensor]], **p: Any
) -> tuple[list[float], list[nn.Module], Tensor]:
    """Losses, networks and targets of whole epochs: SGD at 0.05 with momentum 0.9."""
    inputs, targets = data
    nets = [first, anew(first, "elr_plus")]
    means = [anew(first, f"elr_plus.average_{k}") for k in (1, 2)]
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9) for net in nets]
    generator, steps, losses = seeds.torch_stream(0, "algorithm"), 0, []
    t = torch.zeros(2, N, K, dtype=torch.float64)
    for batches in orders:
        for k in (0, 1):
            for b, ix in enumerate(batches):
                it = steps + b + 1
                lam = draw_beta(p["alpha"], generator)
                lam = max(lam, 1 - lam)
                pi = torch.randperm(len(ix), generator=generator)
                labels = torch.eye(K, dtype=torch.float64)[targets[ix]]
                z = nets[k](lam * inputs[ix] + (1 - lam) * inputs[ix][pi])
                mixed = lam * labels + (1 - lam) * labels[pi]
                with torch.no_grad():
                    t[k, ix] = p["beta"] * t[k, ix] + (1 - p["beta"]) * means[1 - k](inputs[ix]).softmax(1)
                q = lam * t[k, ix] + (1 - lam) * t[k, ix][pi]
                if p["gate"]:
                    mixed = mixed * q / (mixed * q).sum(1, keepdim=True)
                probabilities = z.softmax(1).clamp(1e-4, 1 - 1e-4)
                pull = (1 - (q * probabilities).sum(1)).log()
                rise = math.exp(-5 * (1 - min(it, p["ramp"]) / p["ramp"]) ** 2)
                loss = (-(mixed * z.log_softmax(1)).sum(1) + rise * p["lam"] * pull).mean()
                optimizers[k].zero_grad()
                loss.backward()
                optimizers[k].step()
                losses.append(loss.item())
                decay = average_decay(it, p["decay"], p["decay_steps"])
                with torch.no_grad():
                    for mean, value in zip(means[k].parameters(), nets[k].parameters(), strict=True):
                        mean.copy_(decay * mean + (1 - decay) * value)
        steps += len(batches)
    return losses, nets, t


@pytest.mark.parametrize(("gate", "decay_steps"), [(False, 20), (True, 0)])
def test_whole_epochs_are_those_of_a_loop_written_out(
    data: tuple[Tensor, Tensor], gate: bool, decay_steps: int
) -> None:
    first = network()
    orders = [list(torch.randperm(N, generator=torch.Generator().manual_seed(e)).split(8)) for e in range(3)]
    options = {"lam": 2.0, "beta": 0.6, "alpha": 1.5, "decay": 0.9}
    expected, nets, t = written_out(
        copy.deepcopy(first), data, orders, ramp=5, decay_steps=decay_steps, gate=gate, **options
    )
    algorithm = ELRPlus(**options, penalty_steps=5, decay_steps=decay_steps, gate="on" if gate else "auto")
    batches = [[batch.tolist() for batch in order] for order in orders]
    history = harness.drive([algorithm], first, *data, seed=0, batches=batches)
    found = [loss for epoch in history for loss in epoch["losses"]]
    assert len(found) == 18
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    torch.testing.assert_close(algorithm.t, t, rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(first.parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-13)


def test_only_the_rows_of_labels_are_weighted(data: tuple[Tensor, Tensor]) -> None:
    class Nothing:
        """Weighs all samples by 0."""

        declares = Declares(row_weights=True)

        def after_losses(self, run: Any, step: Any) -> None:
            seen.append((step.index.tolist(), float(step.penalty.detach())))
            step.weights = step.weights * 0

    seen: list[tuple[list[int], float]] = []
    history = harness.drive([ELRPlus(), Nothing()], network(), *data, seed=0, batches=[[list(range(N))]])
    assert [index for index, _ in seen] == [list(range(N))] * 2
    np.testing.assert_allclose(history[0]["losses"], [penalty for _, penalty in seen], rtol=1e-12)


def test_both_trained_networks_predict_and_the_averages_do_not(data: tuple[Tensor, Tensor]) -> None:
    runs: list[Any] = []

    class Kept(ELRPlus):
        def setup(self, run: Any) -> None:
            super().setup(run)
            runs.append(run)

    model = network()
    harness.drive([Kept()], model, *data, seed=0, batches=[[list(range(N))]])
    logits = (model(data[0]) + runs[0].of("elr_plus").model(data[0])) / 2
    torch.testing.assert_close(runs[0].predict(data[0]), logits.log_softmax(1))


def test_a_batch_of_one_and_a_class_without_samples_end_no_run(data: tuple[Tensor, Tensor]) -> None:
    inputs, targets = data
    batches = [[[0], list(range(1, N))]] * 2
    history = harness.drive([ELRPlus()], network(), inputs, targets.clamp_max(1), seed=0, batches=batches)
    assert np.isfinite([loss for epoch in history for loss in epoch["losses"]]).all()


def test_tokens_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, K))
    with pytest.raises(HarnessError, match=r"elr_plus: mixes real-valued inputs"):
        harness.drive([ELRPlus()], model, torch.zeros(4, 2).long(), torch.arange(4) % K, seed=0, batches=[[[0, 1]]])
