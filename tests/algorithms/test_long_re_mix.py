"""LongReMix: what is held throughout, what stage 1 hands over, and how long a pass of stage 2 is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.divide_mix import DivideMix
from harness_plugins.algorithms.long_re_mix import LongReMix, held_throughout
from sklearn.mixture import GaussianMixture
from torch import nn

import harness
from harness.training import seeds
from harness.training.run import Step

N, K = 12, 3


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, K)).double()


def inputs_and_targets(size: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 4, generator=generator, dtype=torch.float64), torch.arange(size) % K


def test_what_is_held_throughout_is_in_every_mask() -> None:
    masks = [torch.tensor([True, True, False]), torch.tensor([True, False, True])]
    assert held_throughout(masks).tolist() == [True, False, False]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, str], list[int]]:
    """Which samples the fit of an epoch and network holds clean; two posteriors, .9 and .2."""
    script: dict[tuple[int, str], list[int]] = {}

    def posterior(self: Any, run: Any, name: str, index: torch.Tensor) -> torch.Tensor:
        found = torch.full((run.num_samples,), 0.2, dtype=run.dtype)
        found[torch.tensor(script[run.epoch, name], dtype=torch.int64)] = 0.9
        return found

    monkeypatch.setattr(DivideMix, "posterior", posterior)
    return script


def made(make_run: Any, epochs: int = 8, **parameters: Any) -> tuple[Any, LongReMix]:
    algorithm = LongReMix(warmup=1, **parameters)
    run = make_run(network(), *inputs_and_targets(), [algorithm], batch_size=3, epochs=epochs, second_model=network)
    return run, algorithm


def test_stage_1_divides_by_the_last_epochs_and_hands_over_its_largest_late_set(make_run: Any, scripted: Any) -> None:
    run, algorithm = made(make_run, stage1=5, agreeing=2, recent=3)
    fits = {1: [0, 1, 2, 3, 4, 5], 2: [0, 1, 2, 3, 4, 5], 3: [0, 1, 6, 7], 4: [0, 1, 6], 5: [0, 1, 7, 8]}
    for epoch, clean in fits.items():
        scripted[epoch, ""], scripted[epoch, "long_re_mix"] = clean, list(range(epoch, 12))
    held = {2: [0, 1, 2, 3, 4, 5], 3: [0, 1], 4: [0, 1, 6], 5: [0, 1]}
    for run.epoch in range(1, 6):
        run.stack.epoch_start(run=run)
        one = algorithm.next_pass(run, 1 if run.epoch == 1 else 0)
        other = None if run.epoch == 1 else algorithm.next_pass(run, 1)
        if run.epoch > 1:
            assert one is not None and other is not None and other.index is not None and one.index is not None
            assert other.index.tolist() == held[run.epoch], "network 2 is divided by network 1"
            assert other.beside is not None and sorted([*other.index.tolist(), *other.beside.tolist()]) == list(
                range(12)
            )
            assert one.index.tolist() == list(range(run.epoch, 12)) and one.steps is None
        run.stack.epoch_end(run=run)
    assert algorithm.sure.nonzero()[:, 0].tolist() == [0, 1, 6], "of epochs 3, 4 and 5 the largest"


def test_the_latest_of_equal_sets_is_kept(make_run: Any, scripted: Any) -> None:
    run, algorithm = made(make_run, stage1=3, agreeing=1)
    for epoch, clean in {1: [0], 2: [0, 1], 3: [2, 3]}.items():
        scripted[epoch, ""] = scripted[epoch, "long_re_mix"] = clean
    for run.epoch in (1, 2, 3):
        run.stack.epoch_start(run=run)
        algorithm.next_pass(run, 0)
        run.stack.epoch_end(run=run)
    assert algorithm.sure.nonzero()[:, 0].tolist() == [2, 3]


def test_stage_2_trusts_what_was_sure_and_walks_as_far_as_over_all_samples(make_run: Any, scripted: Any) -> None:
    run, algorithm = made(make_run, stage1=2, lambda_u=8.0)
    algorithm.sure[torch.tensor([4, 5])] = True
    names = ("long_re_mix_1", "long_re_mix_2")
    for name in names:
        scripted[4, name] = [0, 1, 2, 3, 4]
    run.epoch = 3
    run.stack.epoch_start(run=run)
    assert algorithm.names == names and algorithm.next_pass(run, 0).label == "", "a warm-up of its own"  # type: ignore[union-attr]
    run.epoch = 4
    walk = algorithm.next_pass(run, 0)
    assert walk is not None and walk.index is not None
    assert walk.index.tolist() == [0, 1, 2, 3, 4, 5] and walk.steps == N // 3 + 1 and walk.network == names[0]
    assert algorithm.clean[names[1]].tolist() == pytest.approx([0.9] * 4 + [1.0] * 2 + [0.2] * 6)
    for number, done in enumerate(
        [0, 1 / 3, 0, 1 / 3, 0]
    ):  # laps of two steps, counted in parts of three as the code does
        step = Step(walk.index[:3], run.source.inputs[:3], run.targets[:3], "train", number, names[0], "mix")
        assert algorithm.unlabelled_weight(run, step) == pytest.approx(8 * (1 + done - 1) / 16)


def test_the_learning_rate_of_stage_1_is_never_lowered(make_run: Any) -> None:
    run, _ = made(make_run, stage1=2)
    for run.epoch, expected in ((1, 0.1), (2, 0.1), (3, 0.001)):
        for name in ("", "long_re_mix"):
            run.of(name).optimizer.param_groups[0].update(lr=0.001, initial_lr=0.1)  # as a schedule leaves it
        run.stack.epoch_start(run=run)
        assert {run.of(name).optimizer.param_groups[0]["lr"] for name in ("", "long_re_mix")} == {expected}


def test_fits_of_the_warm_up_are_made_after_training_by_each_network_itself() -> None:
    size = 40
    inputs, targets = inputs_and_targets(size)
    masks: dict[str, np.ndarray] = {}

    class Looking(LongReMix):
        def epoch_end(self, run: Any) -> None:
            super().epoch_end(run)
            for name in self.names:
                with torch.no_grad():
                    z = run.of(name).model(inputs)
                c = nn.functional.cross_entropy(z, targets, reduction="none").numpy()
                column = ((c - c.min()) / (c.max() - c.min()))[:, None]
                seed = seeds.derive(run.seed, "mixture", run.epoch, name) % 2**32
                fit = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed).fit(column)
                masks[name] = fit.predict_proba(column)[:, fit.means_.argmin()] > 0.5

    algorithm = Looking(warmup=1, stage1=2)
    batches = [list(range(k, size, 5)) for k in range(5)]
    harness.drive([algorithm], network(), inputs, targets, seed=0, batches=[batches])
    for name in ("", "long_re_mix"):
        assert algorithm.held[name][-1].tolist() == masks[name].tolist()
        assert 0 < masks[name].sum() < size


def test_both_stages_train_and_their_networks_predict() -> None:
    size = 40
    inputs, targets = inputs_and_targets(size)
    seen: list[Any] = []

    class Looking(LongReMix):
        def epoch_end(self, run: Any) -> None:
            super().epoch_end(run)
            models = [run.of(name).model for name in self.names]
            with torch.no_grad():
                both = sum(model(inputs) for model in models) / 2
                assert torch.allclose(run.predict(inputs), both.log_softmax(1))
            seen.append(set(run.trained))

    batches = [[list(range(k, size, 5)) for k in range(5)]] * 4
    history = harness.drive([Looking(warmup=1)], network(), inputs, targets, seed=0, batches=batches)
    first, second = {"", "long_re_mix"}, {"long_re_mix_1", "long_re_mix_2"}
    assert seen == [first, first, second, second]
    assert len(history[3]["losses"]) == 2 * (size // 8 + 1)
    assert 0 < history[3]["diagnostics"]["long_re_mix.sure"] < 1
