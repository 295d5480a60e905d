"""Every pair that the table accepts trains; order makes a difference exactly where the table says so."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from pairs import EPOCHS, Field, pairs_of_algorithms, pairs_with_losses, setting_of, surrounded, table, transformed

from harness.plugins import load_host
from harness.training.loop import Loop
from harness.training.prepare import prepare

pytestmark = pytest.mark.slow

LAST_SCORER = "detection_auroc"
"""The one number of an epoch that goes by the stack's order: the detection of whichever part comes last."""


def learns(field: Field, loss: str, algorithms: tuple[str, ...], history: list[dict[str, Any]]) -> None:
    """Losses are numbers, and test data are predicted better than by chance, or than by their own mean."""
    assert len(history) == EPOCHS
    assert all(epoch["train_loss"] is not None for epoch in history)
    assert all(value is None or math.isfinite(value) for epoch in history for value in epoch["diagnostics"].values())
    if setting_of(loss, algorithms) == "classification":
        assert history[-1]["test_accuracy"] > 0.2
    elif setting_of(loss, algorithms) == "multilabel":
        assert history[-1]["test_average_precision"] > 0.3
    else:
        assert history[-1]["rmse"] < 0.95 * field.spread(loss, algorithms)


@pytest.mark.parametrize(("algorithm", "loss"), pairs_with_losses())
def test_an_algorithm_on_a_loss(field: Field, algorithm: str, loss: str) -> None:
    learns(field, loss, (algorithm,), field.history(loss, (algorithm,)))


@pytest.mark.parametrize(("first", "second", "loss"), pairs_of_algorithms())
def test_two_algorithms_in_both_orders(field: Field, first: str, second: str, loss: str) -> None:
    one, other = (field.history(loss, order) for order in ((first, second), (second, first)))
    learns(field, loss, (first, second), one)
    learns(field, loss, (second, first), other)
    same = all(
        a.keys() == b.keys() and all(a[key] == b[key] for key in a if key != LAST_SCORER)
        for a, b in zip(one, other, strict=True)
    )
    assert same != bool(table().with_algorithm[first, second].hooks)


@pytest.mark.parametrize(("loss", "algorithms", "transforms"), transformed())
def test_a_transformed_model(field: Field, loss: str, algorithms: tuple[str, ...], transforms: tuple[str, ...]) -> None:
    learns(field, loss, algorithms, field.history(loss, algorithms, transforms))


@pytest.mark.parametrize(("loss", "algorithms", "transforms"), surrounded())
def test_a_method_with_a_step_of_its_own_amid_all_that_may_stand_around_it(
    field: Field, loss: str, algorithms: tuple[str, ...], transforms: tuple[str, ...]
) -> None:
    assert {"rrm", "cdr", "rdi"} < set(algorithms)
    history = field.history(loss, algorithms, transforms)
    learns(field, loss, algorithms, history)
    assert any(name.startswith("rrm.labelled_weight") for name in history[-1]["diagnostics"])


@pytest.mark.parametrize("order", list(itertools.permutations(("forward", "rrm"))))
def test_a_matrix_is_estimated_before_samples_are_ranked_whatever_the_order(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    monkeypatch.setattr("pairs.PARAMETERS", {"forward": 'matrix = "estimated", warmup = 1', "rrm": "every = 1"})
    histories = []
    for number, algorithms in enumerate((("forward", "rrm"), order)):
        (tmp_path / str(number)).mkdir()
        field = Field(tmp_path / str(number))
        field.load([("ce", algorithms, ())])
        histories.append(field.history("ce", algorithms))
    for one, other in zip(*histories, strict=True):
        assert {**one, LAST_SCORER: None} == {**other, LAST_SCORER: None}


@pytest.mark.parametrize("algorithms", [("forward",), ("aux",), ("fgsm",)])
def test_truncation_prunes_by_the_outputs_that_its_loss_is_made_of(tmp_path: Any, algorithms: tuple[str, ...]) -> None:
    field = Field(tmp_path)
    field.load([("truncated_gce", algorithms, ())])
    (trial,) = field.trials.values()
    ready = prepare(trial, load_host(), torch.device("cpu"))
    run = ready.run
    Loop(run, ready.evaluator, field, checkpoint_s=math.inf).fit()  # type: ignore[arg-type]
    run.stack.epoch_start(run=run)  # type: ignore[misc]
    run.model.eval()
    index = torch.arange(run.num_samples)
    inputs, targets = run.source.gather(index), run.targets
    if algorithms == ("fgsm",):
        inputs = inputs.clone().requires_grad_()
        p_y = run.model(inputs).softmax(1).gather(1, targets[:, None])
        (gradient,) = torch.autograd.grad(((1 - p_y**0.7) / 0.7).sum(), inputs)
        inputs = inputs.detach() + 0.1 * gradient.sign()
    with torch.no_grad():
        logits = run.model(inputs).double().numpy()
    if algorithms == ("aux",):
        logits = logits + run.sample_states["aux.b"].data.double().numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    if algorithms == ("forward",):
        p = p @ np.where(np.eye(10, dtype=bool), 0.7, 0.3 / 9)
    p_y = p[np.arange(len(p)), targets.numpy()]
    clear = np.abs(p_y - 0.2) > 1e-5
    kept = run.stack.loss.weights.data.numpy() == 1  # type: ignore[attr-defined]
    assert (kept == (p_y > 0.2))[clear].all()
    assert 0 < kept.sum() < len(kept)
