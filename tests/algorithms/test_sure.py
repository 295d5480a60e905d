"""SURE as a stack: SAM, SWA, RegMixup, CRL and the cosine classifier compose, step for step as one loop by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.crl import CRL
from harness_plugins.algorithms.mixup import draw_beta
from harness_plugins.algorithms.reg_mixup import RegMixup
from harness_plugins.algorithms.sam import SAM
from harness_plugins.algorithms.swa import SWA
from harness_plugins.transforms.cosine_classifier import CosineClassifier
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, update_bn

from harness.suite.load import load_suite

SIZE, CLASSES = 12, 3


class Net(nn.Module):
    """Two layers with batch normalisation; the last layer is the cosine classifier, or by hand what it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, CLASSES, bias=False)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.hidden(x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))

    def cosines(self, x: Tensor) -> Tensor:
        features = self.features(x)
        lengths = features.square().sum(1).sqrt()[:, None] * self.last.weight.square().sum(1).sqrt()
        return 8 * (features @ self.last.weight.t()) / lengths


def ranking(outputs: Tensor, counts: np.ndarray, index: Tensor, rounds: int) -> Tensor:
    normalised = torch.from_numpy((counts - counts.min()) / (rounds - counts.min()))[index]
    sign, margin = (normalised - normalised.roll(-1)).sign(), (normalised - normalised.roll(-1)).abs()
    confidence = outputs.softmax(1).max(1).values
    return functional.margin_ranking_loss(confidence, confidence.roll(-1) + margin / (sign + 1e-7), sign)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_epochs_are_those_of_one_loop_by_hand(make_run: Any, train: Any, order: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(SIZE, 4, dtype=torch.float64), torch.arange(SIZE) % CLASSES
    net = Net().double()
    hand = copy.deepcopy(net)
    optimizer = torch.optim.SGD(hand.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    parts = [SAM(rho=0.05), SWA(start=2, swa_lr=0.1), RegMixup(alpha=10.0, weight=1.0), CRL(weight=0.2)]
    run = make_run(
        CosineClassifier(scale=8.0)(net),
        x,
        y,
        [parts[i] for i in order],
        batch_size=6,
        epochs=4,
        momentum=0.9,
        weight_decay=5e-4,
        lr=0.1,
    )
    run.dtype, parts[3].counts = torch.float64, parts[3].counts.double()
    draws = torch.Generator()
    draws.set_state(run.generator("algorithm").get_state())
    counts, rounds, average = np.zeros(SIZE), 1, None

    def loss(index: Tensor) -> tuple[Tensor, Tensor]:
        outputs = hand.cosines(x[index])
        lam, partners = draw_beta(10.0, draws), torch.randperm(len(index), generator=draws)
        mixed = hand.cosines(lam * x[index] + (1 - lam) * x[index][partners])
        labels = y[index]
        regmixup = lam * functional.cross_entropy(mixed, labels)
        regmixup = regmixup + (1 - lam) * functional.cross_entropy(mixed, labels[partners])
        return functional.cross_entropy(outputs, labels) + regmixup + 0.2 * ranking(
            outputs, counts, index, rounds
        ), outputs

    for run.epoch in range(1, 5):
        if run.epoch > 1:
            run.stack.epoch_start(run=run)
        for index in torch.arange(SIZE).split(6):
            start = [p.detach().clone() for p in hand.parameters()]
            first, outputs = loss(index)
            gradients = torch.autograd.grad(first, list(hand.parameters()))
            norm = torch.cat([g.flatten() for g in gradients]).norm() + 1e-12
            with torch.no_grad():
                for weight, gradient in zip(hand.parameters(), gradients, strict=True):
                    weight.add_(0.05 * gradient / norm)
            optimizer.zero_grad()
            loss(index)[0].backward()
            with torch.no_grad():
                for weight, before in zip(hand.parameters(), start, strict=True):
                    weight.copy_(before)
            optimizer.step()
            counts[index.numpy()] += (outputs.argmax(1) == y[index]).numpy()
            assert float(train(run, index).loss) == pytest.approx(first.item(), abs=1e-10)
        for name, value in hand.state_dict().items():
            assert torch.allclose(net.state_dict()[name], value, atol=1e-10), (run.epoch, name)
        if run.epoch > 1:
            rounds += 1
        run.stack.epoch_end(run=run)
        if run.epoch > 2:
            hand.forward = hand.cosines  # type: ignore[method-assign]
            average = AveragedModel(hand) if average is None else average
            average.update_parameters(hand)
            update_bn(x[torch.randperm(SIZE, generator=draws)].split(6), average)
            with run.evaluating(), torch.no_grad():
                assert torch.allclose(run.predict(x), average.eval()(x).log_softmax(1), atol=1e-10)
            average.train()


def test_a_suite_writes_it_as_one_method(write_suite: Callable[..., Path]) -> None:
    method = (
        '[[method]]\nname = "SURE"\nalgorithms = ["sam", "swa", "reg_mixup", "crl"]\ntransforms = ["cosine_classifier"]'
    )
    (entry,) = load_suite(write_suite(methods=method)).entries()
    assert [part["name"] for part in entry.trial.identity["algorithms"]] == ["sam", "swa", "reg_mixup", "crl"]
