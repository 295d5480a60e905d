"""RRM around a method with a step of its own: which rows it weights, by whose u, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.rrm import RRM, contamination_threshold, reweight
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness import Declares, Pass, Run, Step
from harness.errors import TrialInterrupted
from harness.testing.bench import difference
from harness.training.loop import Loop

N, K = 24, 3


class Unmeasured:
    def epoch(self, run: Run, *, last: bool) -> dict[str, float | None]:
        return {}


class Journal:
    def __init__(self, stop_after: int | None = None) -> None:
        self.left, self.state = stop_after, {}

    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.state = state

    def should_stop(self) -> bool:
        self.left = None if self.left is None else self.left - 1
        return self.left == 0


class Divides:
    """Two networks, each in a pass over its own two thirds beside the rest, after an epoch over all samples.

    Two rows for each sample, owned by it; the rest enters a penalty. Keeps what every step looked like.
    """

    declares = Declares(own_step=True, descends=True)

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def setup(self, run: Run) -> None:
        run.new_network("peer")

    def part(self, epoch: int, network: str) -> Tensor:
        first = 2 * epoch + (4 if network else 0)
        return torch.arange(first, first + 16) % N

    def next_pass(self, run: Run, number: int) -> Pass | None:
        if number == 2:
            return None
        network = ("", "peer")[number]
        if run.epoch == 1:
            return Pass(network=network)
        index = self.part(run.epoch, network)
        rest = torch.tensor(sorted(set(range(N)) - set(index.tolist())))
        return Pass(index, network, beside=rest, label="divided")

    def train_step(self, run: Run, step: Step) -> bool | None:
        if step.label != "divided":
            return None
        assert step.beside is not None
        model = run.of(step.network).model
        step.index = torch.cat([step.index, step.index])
        step.divisor = len(step.index)
        outputs = run.forward(torch.cat([step.inputs, 0.9 * step.inputs]), model)
        step.losses = functional.cross_entropy(outputs, run.targets[step.index], reduction="none")
        step.penalty = run.forward(step.beside.inputs, model).softmax(1).square().mean()
        before = step.penalty.detach().clone()
        run.descend(step)
        assert step.loss is not None
        self.steps.append(
            {
                "epoch": run.epoch,
                "network": step.network,
                "index": step.index,
                "losses": step.losses.detach(),
                "weights": step.weights.detach().clone(),
                "penalty": before,
                "loss": step.loss.detach().clone(),
            }
        )
        return True


@pytest.fixture
def around(make_run: Any) -> Any:
    """A run of RRM around a method that divides, and its loop."""

    def make(rrm: RRM, stop_after: int | None = None, epochs: int = 6) -> tuple[Divides, Loop]:
        def network(seed: int) -> nn.Module:
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, K))

        generator = torch.Generator().manual_seed(3)
        targets = torch.randint(K, (N,), generator=generator)
        inputs = torch.randn(N, 4, generator=generator) + targets[:, None]
        method = Divides()
        options: dict[str, Any] = {"batch_size": 8, "epochs": epochs, "second_model": lambda: network(1)}
        run = make_run(network(0), inputs, targets, [method, rrm], **options)
        run.epoch = 0
        return method, Loop(run, Unmeasured(), Journal(stop_after))  # type: ignore[arg-type]

    return make


def test_rows_weigh_one_plus_n_u_of_their_owner_by_their_networks_own_losses(around: Any) -> None:
    rrm = RRM(contamination=0.25, every=2)
    method, loop = around(rrm)
    found: dict[int, dict[str, Tensor]] = {}
    solve = loop.run.stack.epoch_end

    def watched(run: Run) -> Any:
        scores = {name: run.score_losses(network=name) for name in ("", "peer")}
        given = solve(run=run)
        found[run.epoch] = {name: rrm.us[name].clone() for name in scores} if run.epoch > 1 else {}
        if run.epoch in (2, 4):
            for name, losses in scores.items():
                expected = reweight(losses, contamination_threshold(losses, 0.25))
                assert torch.equal(found[run.epoch][name], expected)
        return given

    loop.run.stack.epoch_end = watched
    loop.fit()
    assert set(rrm.us) == {"", "peer"} and not torch.equal(rrm.us[""], rrm.us["peer"])
    assert len(method.steps) == 5 * 2 * 2
    for step in method.steps:
        u = found[step["epoch"] - 1].get(step["network"], torch.zeros(N))
        expected = 1 + N * u[step["index"]]
        assert torch.equal(step["weights"], expected)
        weighted = float((expected * step["losses"]).sum() / len(expected) + step["penalty"])
        assert float(step["loss"]) == pytest.approx(weighted, rel=1e-6)  # the penalty is left alone
    assert any((step["weights"] != 1).any() for step in method.steps)


def test_u_changes_at_the_ends_of_epochs_sigma_and_never_after_the_last(around: Any) -> None:
    rrm = RRM(contamination=0.25, every=3)
    _, loop = around(rrm)
    seen: list[Tensor] = []
    end = loop.run.stack.epoch_end
    loop.run.stack.epoch_end = lambda run: (end(run=run), seen.append(rrm.u.clone()))
    loop.fit()
    changed = [bool((after != before).any()) for before, after in zip([torch.zeros(N), *seen], seen, strict=False)]
    assert changed == [False, False, True, False, False, False]


def test_within_the_labelled_part_threshold_minimum_and_mass_are_its_own(around: Any) -> None:
    rrm = RRM(contamination=0.5, every=3, scope="labelled")
    method, loop = around(rrm, epochs=4)
    scores: dict[str, Tensor] = {}
    end = loop.run.stack.epoch_end

    def watched(run: Run) -> Any:
        if run.epoch == 3:
            scores.update({name: run.score_losses(network=name) for name in ("", "peer")})
        return end(run=run)

    loop.run.stack.epoch_end = watched
    loop.fit()
    for name, losses in scores.items():
        part = method.part(3, name)
        u = np.zeros(N)
        order = part[losses[part].argsort()]
        u[order[-8:]], u[order[:8]] = -1 / N, 1 / N  # half of sixteen removed, their mass to as many
        np.testing.assert_allclose(rrm.us[name], u, atol=1e-7)
        weight = loop.history[2]["diagnostics"]["rrm.labelled_weight" + (".peer" if name else "")]
        assert weight == 1.0  # the part of the epoch that ends, before it is re-weighted


@pytest.mark.parametrize("scope", ["all", "labelled"])
def test_the_mean_weight_over_the_labelled_part_is_told_and_can_be_made_one(around: Any, scope: Any) -> None:
    for renormalise in (False, True):
        rrm = RRM(contamination=0.5, every=2, scope=scope, renormalise=renormalise)
        method, loop = around(rrm)
        loop.fit()
        for epoch in range(3, 7):
            for name in ("", "peer"):
                steps = [s for s in method.steps if (s["epoch"], s["network"]) == (epoch, name)]
                weights = torch.cat([s["weights"] for s in steps])  # every sample of the part has two rows
                told = loop.history[epoch - 1]["diagnostics"]["rrm.labelled_weight" + (".peer" if name else "")]
                if renormalise:
                    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-6)
                else:
                    assert float(weights.mean()) == pytest.approx(told, rel=1e-6)
        assert any(d["diagnostics"]["rrm.labelled_weight"] != pytest.approx(1.0) for d in loop.history)


def test_pruning_alone_lets_no_weight_grow() -> None:
    losses = torch.tensor([0.1, 3.0, 0.2, 2.0, 0.3], dtype=torch.float64)
    u = RRM(contamination=0.4, spread="none").solve(losses)
    assert torch.equal(u, torch.tensor([0, -0.2, 0, -0.2, 0], dtype=torch.float64))
    assert torch.equal(RRM(gamma=0.5, penalty="half", spread="none").solve(losses), u)
    assert torch.equal(RRM(contamination=0.4, spread="none").solve(torch.ones(5)), torch.zeros(5))


def test_a_labelled_part_of_nobody_is_left_with_its_weights() -> None:
    rrm = RRM(contamination=0.4, scope="labelled")
    assert torch.equal(rrm.solve(torch.rand(6), torch.zeros(6, dtype=torch.bool)), torch.zeros(6))


def test_a_part_that_is_pruned_whole_is_divided_by_nothing(around: Any) -> None:
    rrm = RRM(contamination=0.25, every=99, renormalise=True)
    method, loop = around(rrm, epochs=2)
    start = loop.run.stack.next_pass

    def prune(run: Run, number: int) -> Pass | None:
        if run.epoch == 2 and number == 0:
            rrm.u = torch.full((N,), -1 / N)
        return start(run=run, number=number)

    loop.run.stack.next_pass = prune
    loop.fit()
    assert all(step["weights"].isfinite().all() for step in method.steps)
    assert all((step["weights"] == 0).all() for step in method.steps if not step["network"])


def test_a_trial_with_rrm_around_a_method_resumes_to_the_same_bits(around: Any) -> None:
    def whole(loop: Loop) -> dict[str, Any]:
        return {key: value for key, value in loop.state_dict().items() if key != "epoch_seconds"}

    def made(stop: int | None = None) -> Loop:
        rrm = RRM(contamination=0.4, every=1, mu=0.5, scope="labelled", renormalise=True)
        loop: Loop = around(rrm, stop, 3)[1]
        return loop

    undisturbed = made()
    expected = undisturbed.fit()
    for stop in range(1, 6 + 1 + 4 + 1 + 4):  # batches, and the ends of epochs
        first = made(stop)
        with pytest.raises(TrialInterrupted):
            first.fit()
        again = made()
        again.load_state_dict(first.journal.state, list(first.history))  # type: ignore[attr-defined]
        assert again.fit() == expected, stop
        assert difference(whole(undisturbed), whole(again)) is None, stop


def test_a_state_of_before_there_was_a_u_for_each_network_is_read(make_run: Any) -> None:
    torch.manual_seed(0)
    rrm = RRM(contamination=0.25)
    make_run(nn.Linear(4, K), torch.randn(12, 4), torch.arange(12) % K, [rrm])
    u = torch.linspace(-1, 1, 12)
    rrm.load_state_dict({"u": u})
    assert torch.equal(rrm.u, u) and list(rrm.us) == [""]


def test_the_options_that_came_later_leave_ids_alone_at_their_defaults(tmp_path: Path) -> None:
    ids = []
    for number, more in enumerate(("", ', scope = "all", renormalise = false', ', scope = "labelled"')):
        path = tmp_path / f"{number}.toml"
        path.write_text(
            '[suite]\nname = "ids"\nseeds = [0]\n[[setting]]\ndataset = "digits"\nmodel = "mlp"\n'
            'noise = { name = "symmetric", rate = 0.4 }\n'
            f'[[method]]\nname = "RRM"\nalgorithms = [{{ name = "rrm"{more} }}]\n'
        )
        ids += [entry.trial.id for entry in harness.load_suite(path).entries()]
    assert ids[0] == ids[1] != ids[2]
