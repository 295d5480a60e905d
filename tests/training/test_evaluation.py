"""The evaluator measures what the names say, and no path leads from a run to clean labels."""

from __future__ import annotations

import gc
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from harness.errors import DataError
from harness.plugins import load_host
from harness.suite.load import load_suite
from harness.training.evaluation import auroc, histogram
from harness.training.prepare import corrupt, load_data, prepare

pytestmark = pytest.mark.portable

Write = Callable[..., Path]


def trial_of(path: Path) -> Any:
    return next(iter(load_suite(path).entries())).trial


@pytest.mark.parametrize("levels", [3, 1000])
def test_auroc_is_that_of_scikit_learn_ties_included(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(levels, (500,), generator=generator).float()
    positive = torch.rand(500, generator=generator) < 0.3
    assert float(auroc(scores, positive)) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert torch.isnan(auroc(scores, torch.zeros(500, dtype=torch.bool)))


def test_histograms_count_every_sample_once() -> None:
    scores = torch.cat([torch.linspace(0, 1, 90), torch.tensor([1.0] * 10)])
    corrupted = torch.arange(100) % 3 == 0
    found = histogram(scores, corrupted)
    assert sum(found["clean"]) == 66 and sum(found["corrupted"]) == 34
    few = histogram(torch.tensor([-1.0, 0.0, 0.0, 2.0]), torch.tensor([True, False, True, False]))
    assert few == {"values": [-1.0, 0.0, 2.0], "clean": [0, 1, 1], "corrupted": [1, 1, 0]}


def test_a_single_far_score_does_not_hide_the_others() -> None:
    scores = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([1e6])])
    corrupted = torch.arange(1000) % 4 == 0
    found = histogram(scores, corrupted)
    assert found["range"] == [-1.0, 1e6] and -1 < found["edges"][0] < found["edges"][-1] < 1
    assert sum(found["clean"]) == 750 and sum(found["corrupted"]) == 250
    assert max(found["clean"]) < 60
    assert sum(histogram(torch.tensor([*range(99), math.nan]), corrupted[:100])["clean"]) == 74


def test_train_metrics_by_hand(write_suite: Write) -> None:
    trial = trial_of(write_suite())
    prepared = prepare(trial, load_host(), torch.device("cpu"))
    run, evaluator = prepared.run, prepared.evaluator
    run.epoch = 1
    found = evaluator.epoch(run, last=True)
    with torch.no_grad(), run.evaluating():
        predicted = run.model(run.source.gather(torch.arange(run.num_samples))).argmax(1)
    clean, noisy = evaluator.train_clean, run.targets
    bad = clean != noisy
    assert found["clean_accuracy"] == pytest.approx(float((predicted == clean)[~bad].double().mean()))
    assert found["memorisation"] == pytest.approx(float((predicted == noisy)[bad].double().mean()))
    assert found["recovery"] == pytest.approx(float((predicted == clean)[bad].double().mean()))
    assert 0.3 < float(bad.float().mean()) < 0.5


def test_validation_targets_are_noisy_and_test_targets_clean(write_suite: Write) -> None:
    trial = trial_of(write_suite())
    host = load_host()
    splits = load_data(trial, host)
    labels = corrupt(trial, host, splits)
    prepared = prepare(trial, host, torch.device("cpu"))
    assert torch.equal(prepared.evaluator.test_targets, splits.test.targets)
    assert prepared.evaluator.validation_targets is not None
    assert torch.equal(prepared.evaluator.validation_targets, labels.validation_noisy)
    assert not torch.equal(labels.validation_noisy, labels.validation.targets)


INTO_WHAT_IS_GIVEN = """
import harness, torch
from harness.parameters import Rate
class Mine:
    'Symmetric noise, written into the targets that it was given.'
    def __init__(self, rate: Rate, kind: str = "long"):
        self.rate, self.kind = rate, kind
    def __call__(self, data, *, rng):
        moved = torch.from_numpy(rng.random(len(data)) < self.rate)
        shift = torch.from_numpy(rng.integers(1, 10, len(data)))
        data.targets[moved] = (data.targets[moved] + shift[moved]) % 10
        return getattr(data.targets, self.kind)()
@harness.hookimpl
def harness_register_noise(register):
    register("mine", Mine)
"""


def test_a_noise_that_writes_into_its_targets_corrupts_the_given_labels_and_no_clean_ones(
    write_suite: Write, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(INTO_WHAT_IS_GIVEN)
    suite = load_suite(write_suite(noise='{ name = "mine", rate = 0.4 }'), plugins=[plugin])
    evaluator = prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu")).evaluator
    assert 0.3 < float(evaluator.corrupted.float().mean()) < 0.5
    suite = load_suite(write_suite(noise='{ name = "mine", rate = 0.4, kind = "double" }'), plugins=[plugin])
    with pytest.raises(DataError, match=r"gave classes as float64 .*noise\.mine|noise\.mine.*gave classes as float64"):
        prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))


def test_a_method_that_writes_into_its_targets_changes_no_metric(write_suite: Write) -> None:
    prepared = prepare(trial_of(write_suite()), load_host(), torch.device("cpu"))
    before = prepared.evaluator.train_noisy.clone()
    prepared.run.targets.zero_()
    assert torch.equal(prepared.evaluator.train_noisy, before)


REMEMBERING = """
import harness, torch
from torch import nn
class Plain:
    'Squared error, scaled.'
    declares = harness.Declares(tasks=("regression",))
    def __call__(self, outputs, targets, index):
        return 3 * (outputs - targets.reshape(outputs.shape)).square().sum(1)
class Module(nn.Module, Plain):
    'The same as a module without state.'
    declares = Plain.declares
    def __init__(self):
        super().__init__()
    __call__ = Plain.__call__
class Memory(Plain):
    'The same with a running mean of the loss of each sample.'
    def setup(self, run):
        self.mean = torch.zeros(run.num_samples)
    def __call__(self, outputs, targets, index):
        losses = super().__call__(outputs, targets, index)
        self.mean[index] = 0.9 * self.mean[index] + 0.1 * losses.detach()
        return losses
    def state_dict(self):
        return {"mean": self.mean}
    def load_state_dict(self, state):
        self.mean = state["mean"]
@harness.hookimpl
def harness_register_losses(register):
    for factory in (Plain, Module, Memory):
        register(factory.__name__.lower(), factory)
"""


def test_noisy_validation_in_regression_shows_no_other_samples_to_a_loss_that_remembers(
    write_suite: Write, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(REMEMBERING)
    found = {}
    for loss in ("plain", "module", "memory"):
        path = write_suite(
            noise='"none"', methods=f'[[method]]\nname = "m"\nloss = "{loss}"', training="validation = 0.7"
        )
        words = path.read_text().replace('"digits"', '"linear_regression"')
        path.write_text(words.replace('{ name = "mlp", hidden = [32] }', '"linear"'))
        suite = load_suite(path, plugins=[plugin])
        prepared = prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))
        run, evaluator = prepared.run, prepared.evaluator
        assert evaluator.validation_targets is not None and len(evaluator.validation_targets) > run.num_samples
        found[loss] = evaluator.epoch(run, last=True)
        if loss == "memory":
            assert not run.stack.loss.mean.any()
        else:
            outputs = run.predict(evaluator.validation.gather(torch.arange(len(evaluator.validation_targets))))
            expected = 3 * (outputs - evaluator.validation_targets.reshape(outputs.shape)).square().sum(1).mean()
            assert found[loss]["validation_loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    assert found["plain"] == found["module"]
    assert found["memory"]["validation_loss"] == found["memory"]["validation_mae"] == found["plain"]["validation_mae"]


def test_fgsm_evaluation_perturbs_each_epsilon_from_the_clean_input(write_suite: Write) -> None:
    prepared = prepare(trial_of(write_suite()), load_host(), torch.device("cpu"))
    run, evaluator = prepared.run, prepared.evaluator
    inputs = evaluator.test.gather(torch.arange(evaluator.test.num_samples)).requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(run.model(inputs), evaluator.test_targets, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs)
    for epsilon in (0.0, 0.1, 0.5):
        moved = inputs.detach() + epsilon * gradient.sign()
        expected = (run.model(moved).argmax(1) == evaluator.test_targets).float().mean()
        assert evaluator.fgsm(run, epsilon) == pytest.approx(float(expected), abs=1e-6)


def reachable(start: object) -> list[object]:
    """Everything that attribute paths reach, by the garbage collector's word; modules and code are no part of a run."""
    seen: dict[int, object] = {}
    queue = [start]
    while queue:
        found = queue.pop()
        if id(found) in seen or isinstance(found, (types.ModuleType, type)):
            continue
        seen[id(found)] = found
        if isinstance(found, types.FunctionType):  # what it closes over and defaults to, not the globals of its module
            queue += [cell.cell_contents for cell in found.__closure__ or ()]
            queue += [found.__defaults__, found.__kwdefaults__]
        else:
            queue += gc.get_referents(found)
    return list(seen.values())


@pytest.mark.parametrize(
    "method",
    ['loss = "ce"', 'algorithms = ["sop"]', 'algorithms = ["rrm", "fgsm"]', 'algorithms = ["cdr", "aux", "elr"]'],
)
def test_a_run_holds_no_clean_target_by_any_path(write_suite: Write, method: str) -> None:
    prepared = prepare(
        trial_of(write_suite(methods=f'[[method]]\nname = "m"\n{method}')), load_host(), torch.device("cpu"), {}
    )
    clean = prepared.evaluator.train_clean
    held = [found for found in reachable(prepared.run) if isinstance(found, torch.Tensor)]
    assert any(tensor.shape == clean.shape and torch.equal(tensor.long(), prepared.run.targets) for tensor in held)
    for tensor in held:
        if tensor.numel() == clean.numel() and not tensor.is_floating_point():
            assert not torch.equal(tensor.flatten().long(), clean), "clean targets are reachable"
    assert not any(found is prepared.evaluator for found in reachable(prepared.run))
