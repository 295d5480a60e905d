"""Strong augmentation: what a step trains on, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness_plugins.algorithms.mixup import Mixup, draw_beta
from harness_plugins.algorithms.strong_augmentation import StrongAugmentation
from torch import nn

from harness import HarnessError
from harness.training.policies import POLICIES
from harness.training.views import strong_view


def images(make_run: Any, algorithms: list[Any]) -> tuple[Any, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return make_run(model, torch.rand(6, 1, 8, 8), torch.arange(6) % 3, algorithms, lr=0.0), model


def strong(run: Any, policy: str = "strong") -> torch.Tensor:
    mirror = torch.Generator()
    mirror.set_state(run.generator("view").get_state())
    draw = {"strong": strong_view, **POLICIES}[policy]
    return draw(run.source.inputs, mirror, run.source.standardiser)


@pytest.mark.parametrize("policy", ["strong", "promix", "autoaugment"])
def test_a_step_trains_on_strong_views_of_its_samples(make_run: Any, train: Any, policy: Any) -> None:
    run, model = images(make_run, [StrongAugmentation(policy)])
    expected = strong(run, policy)
    step = train(run)
    assert torch.equal(step.inputs, expected)
    assert float(step.loss) == pytest.approx(nn.functional.cross_entropy(model(expected), run.targets).item())


def test_passes_that_score_samples_see_them_unaugmented(make_run: Any) -> None:
    run, model = images(make_run, [StrongAugmentation()])
    plain = nn.functional.cross_entropy(model(run.source.inputs), run.targets, reduction="none")
    assert torch.allclose(run.score_losses(), plain)


@pytest.mark.parametrize("first", [StrongAugmentation, Mixup])
def test_views_are_drawn_before_samples_are_mixed_whatever_the_order(make_run: Any, train: Any, first: type) -> None:
    second = Mixup if first is StrongAugmentation else StrongAugmentation
    run, _ = images(make_run, [first(), second()])
    mirror = torch.Generator()
    mirror.set_state(run.generator("algorithm").get_state())
    lam, partners = draw_beta(1.0, mirror), torch.randperm(6, generator=mirror)
    views = strong(run)
    assert torch.allclose(train(run).inputs, lam * views + (1 - lam) * views[partners])


def test_what_is_no_image_is_refused_in_one_line(make_run: Any, train: Any) -> None:
    run = make_run(nn.Linear(4, 3), torch.rand(6, 4), torch.arange(6) % 3, [StrongAugmentation()])
    with pytest.raises(HarnessError, match="only images have augmented views"):
        train(run)
