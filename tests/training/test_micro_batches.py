"""A mini-batch that is worked through in micro-batches is stepped on as the whole: gradients are summed, nothing else changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import harness
from harness import Declares, HarnessError, Pass, Run, Step
from harness.errors import SuiteError
from harness.plugins import load_host
from harness.results.records import claim, read_json, read_lines, submit_trials
from harness.suite.load import load_suite
from harness.training.trial import run_trial

Write = Callable[..., Path]
BATCHES = [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 13, 14, 15]], [[15, 3, 1, 7, 8, 2], [4, 0, 9, 5, 6], [10]]]
"""Two epochs of sixteen samples, with short last batches."""
ADAM = {"name": "adam", "lr": 0.01}


def data(task: str = "classification") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    targets = {
        "classification": torch.arange(16) % 3,
        "multilabel": (noise > 0).long(),
        "regression": inputs[:, :3] + 0.1 * noise,
    }
    return inputs, targets[task]


def trained(
    stack: Any, accumulate: int, task: str = "classification", **options: Any
) -> tuple[list[Any], list[Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    history = harness.drive(
        stack, model, *data(task), seed=0, batches=BATCHES * 2, **{"optimizer": ADAM, **options}, accumulate=accumulate
    )
    return history, [p.detach() for p in model.parameters()]


def assert_same(stack: Any, accumulate: int, task: str = "classification", **options: Any) -> None:
    (whole, weights), (parts, others) = (trained(stack, n, task, **options) for n in (1, accumulate))
    for one, other in zip(whole, parts, strict=True):
        assert other["losses"] == pytest.approx(one["losses"], abs=1e-10)
        assert other["train_loss"] == pytest.approx(one["train_loss"], abs=1e-10)
        assert other["diagnostics"] == pytest.approx(one["diagnostics"], abs=1e-10)
        assert other["lr"] == one["lr"]
    for mine, theirs in zip(weights, others, strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("accumulate", [2, 4, 6])
@pytest.mark.parametrize("last_batch", ["scaled", "mean"])
def test_the_step_is_that_of_the_whole_batch(accumulate: int, last_batch: str) -> None:
    """Under momentum, clipping and a schedule, in full batches and in short ones, down to one sample a forward pass."""
    stack = {"loss": "gce", "algorithms": ["elr"], "clip": 0.2}
    sgd = {"name": "sgd", "lr": 0.3, "momentum": 0.9, "weight_decay": 0.01}
    assert_same(stack, accumulate, optimizer=sgd, schedule={"name": "step", "milestones": [2]}, last_batch=last_batch)


PARAMS: dict[str, dict[str, Any]] = {
    "asymmetric": {"rate": 0.2},
    "backward": {"matrix": [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]},
    "cdr": {"tau": 0.2},
    "forward": {"matrix": [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]},
    "rrm": {"every": 1, "contamination": 0.2},
    "score_census": {"score": "rrm.u", "epochs": [99], "edges": [0.0]},
}


def parts_that_divide() -> list[Any]:
    """Losses and algorithms that take micro-batches, but for those that draw views: in another order they draw others."""
    registry, found = load_host().registry, []
    for kind in ("loss", "algorithm"):
        for name in registry.names(kind):
            component, _ = registry.find(kind, name)
            if not component.owner.startswith("noisy-label-harness "):
                continue
            declares = registry.facts(component).declares
            whole = declares.own_step or declares.mixes_samples or declares.steps_again or declares.per_batch
            if not whole and not declares.views and declares.whole_batch != "always":
                found.append(pytest.param(kind, name, declares, id=name))
    return found


@pytest.mark.parametrize(("kind", "name", "declares"), parts_that_divide())
def test_every_part_that_does_not_decline_does_the_same_in_micro_batches(
    kind: str, name: str, declares: Declares
) -> None:
    part = {"name": name, **PARAMS.get(name, {})}
    stack = {"loss": part} if kind == "loss" else {"algorithms": [part]}
    assert_same(stack, 3, declares.tasks[0])


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ("dmi", "exists for a whole mini-batch only"),
        ("co_teaching", "replaces the training step"),
        ("mixup", "mixes the samples of a whole mini-batch"),
        ("sam", "once more, of the whole mini-batch"),
        ("sop_plus", "depends on the others of its mini-batch"),
        ({"loss": "peer"}, "depends on the others of its mini-batch"),
    ],
)
def test_what_needs_the_whole_mini_batch_is_refused_in_the_plan(write_suite: Write, stack: Any, words: str) -> None:
    entry = f'loss = "{stack["loss"]}"' if isinstance(stack, dict) else f'algorithms = ["{stack}"]'
    entry = 'loss = "dmi"' if stack == "dmi" else entry
    path = write_suite(training="accumulate = 4", methods=f'[[method]]\nname = "m"\n{entry}')
    with pytest.raises(SuiteError, match=words) as caught:
        list(load_suite(path).entries())
    assert "remove accumulate from [training]" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(HarnessError, match=words):
        trained({"name": stack, "forget_rate": 0.2} if stack == "co_teaching" else stack, 2)


def test_a_part_that_needs_the_whole_under_a_parameter_is_refused_under_it_alone() -> None:
    assert_same({"loss": {"name": "tukey"}}, 2, "regression")
    for loss in ({"name": "tukey", "mad_scale": True}, harness.create("loss", "tukey", mad_scale=True)):
        with pytest.raises(HarnessError, match="'tukey' computes of a sample what depends on the others"):
            trained({"loss": loss}, 2, "regression")


def test_more_micro_batches_than_samples_are_refused(write_suite: Write) -> None:
    with pytest.raises(SuiteError, match=r"a mini-batch of 64 has no 65 micro-batches; set accumulate to 64 or less"):
        list(load_suite(write_suite(training="accumulate = 65")).entries())


def test_samples_beside_others_are_refused() -> None:
    class Beside:
        def next_pass(self, run: Run, number: int) -> Pass | None:
            return None if number else Pass(torch.arange(8), beside=torch.arange(8, 16))

    with pytest.raises(HarnessError, match="samples beside others are not worked through in micro-batches"):
        trained([Beside()], 2)


def test_a_forward_pass_sees_a_micro_batch_and_hooks_after_the_gradients_the_whole() -> None:
    seen: list[tuple[str, int]] = []

    class Watching:
        def before_forward(self, step: Step) -> None:
            seen.append(("forward", len(step.index)))

        def after_losses(self, step: Step) -> None:
            step.weights = 2 * step.weights
            step.penalty = float(len(step.index))

        def after_backward(self, step: Step) -> None:
            assert step.outputs is not None and step.losses is not None and not step.losses.requires_grad
            assert step.weights.tolist() == [2.0] * len(step.index)
            seen.append(("gradients", len(step.outputs)))

        def after_step(self, step: Step) -> None:
            assert step.penalty == pytest.approx(sum(n * n for _, n in seen[:3]) / len(step.index))
            assert step.loss == pytest.approx(float(2 * step.losses.sum() / 6 + step.penalty))  # type: ignore[union-attr]
            seen.append(("step", len(step.losses)))  # type: ignore[arg-type]

    torch.manual_seed(0)
    harness.drive(
        [Watching()], nn.Linear(5, 3).double(), *data(), seed=0, batches=[[0, 1, 2, 3, 4, 5]], accumulate=3
    )  # fmt: skip
    assert seen == [("forward", 2)] * 3 + [("gradients", 6), ("step", 6)]


def test_the_option_is_in_the_id_only_where_it_is_used(write_suite: Write) -> None:
    words = ("", "accumulate = 1", "accumulate = 4")
    plain, one, four = (next(iter(load_suite(write_suite(training=word)).entries())).trial for word in words)
    assert plain.id == one.id != four.id and "accumulate" not in one.identity["training"]
    assert four.identity["training"]["accumulate"] == 4


@pytest.mark.parametrize("method", ["", 'algorithms = ["sop"]', 'algorithms = [{ name = "rrm", every = 1 }]'])
def test_a_trial_in_micro_batches_that_was_stopped_ends_as_an_undisturbed_one(
    write_suite: Write, tmp_path: Path, method: str
) -> None:
    path = write_suite(
        training="accumulate = 3\nclip = 5.0", setting="subset = 300\naugment = { crop = 1 }",
        methods=f'[[method]]\nname = "m"\n{method}',
    )  # fmt: skip
    trial, host = next(iter(load_suite(path).entries())).trial, load_host()
    outcomes: list[Any] = []
    for folder, stop in ((tmp_path / "whole", 10**6), (tmp_path / "broken", 7)):
        submit_trials(folder, [trial])
        for after in dict.fromkeys((stop, 10**6)):
            count = itertools.count(1)
            attempt = claim(folder, trial.id)
            assert attempt is not None
            result = run_trial(trial, attempt, host, should_stop=lambda c=count, a=after: next(c) >= a)
        assert result is not None and result["status"] == "done", result
        outcomes.append((read_lines(attempt.path / "epochs.jsonl"), read_json(attempt.path / "result.json")))
    assert outcomes[0] == outcomes[1]
