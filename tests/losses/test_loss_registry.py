"""What suites may write: the names of losses, their parameters with defaults and ranges, and what they declare."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import harness
from harness.plugins import load_host
from harness.suite.compose import Part, check_stack

DEFAULTS: dict[str, dict[str, Any]] = {
    "ce": {},
    "mae": {"scale": 2.0},
    "mse": {"reduction": "mean"},
    "rce": {},
    "sce": {"alpha": 1.0, "beta": 1.0},
    "gce": {"q": 0.7},
    "truncated_gce": {"q": 0.7, "k": 0.5, "start_epoch": 40, "every": 10, "mode": "prune"},
    "dmi": {"eps": 0.0, "divide": True, "warmup": 0},
    "nce": {},
    "nce_rce": {"alpha": 1.0, "beta": 1.0},
    "nce_mae": {"alpha": 1.0, "beta": 1.0},
    "nce_agce": {"alpha": 1.0, "beta": 4.0, "a": 6.0, "q": 1.5},
    "focal": {"gamma": 0.5},
    "nfl": {"gamma": 0.5, "scale": 1.0},
    "nfl_rce": {"alpha": 1.0, "beta": 1.0, "gamma": 0.5},
    "agce": {"a": 0.6, "q": 0.6},
    "aue": {"a": 5.5, "q": 3.0},
    "ael": {"a": 2.5},
    "ldr_kl": {"margin": 0.1, "lam": 10.0, "normalize": True},
    "aldr_kl": {"alpha": 2.0, "margin": 0.1, "lam0": 10.0, "softplus": False},
    "eps_softmax": {"m": 1e4},
    "eps_softmax_mae": {"alpha": 0.01, "beta": 5.0, "m": 1e5},
    "peer": {"alpha": "cifar10", "peer": "drawn", "reset_optimizer": True},
    "f_divergence": {
        "divergence": "total_variation",
        "warmup": 0,
        "eps": 0.0,
        "exact": False,
        "reset_optimizer": True,
    },
    "gls": {"rate": 0.1, "wa": 0.0, "wb": 1.0, "warmup": 0, "lr": 0.0},
    "anl": {"active": "nce", "negative": "nnce", "a": 5.0, "b": 5.0, "d": 5e-5, "gamma": 0.5, "lam": 0.0},
    "gjs": {"weight": 0.3, "views": 2, "view": "strong", "scaled": True},
    "l1": {},
    "l2": {},
    "huber": {"delta": 1.0},
    "tukey": {"delta": 4.685, "mad_scale": False},
}
REGRESSION = {"l1", "l2", "huber", "tukey"}


@pytest.mark.parametrize("name", DEFAULTS)
def test_parameters_have_these_names_and_defaults(name: str) -> None:
    assert load_host().registry.validate("loss", name, {}) == DEFAULTS[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_declarations_fit_the_formula(name: str) -> None:
    registry = load_host().registry
    facts = registry.facts(registry.find("loss", name)[0])
    assert not facts.problems and facts.summary.endswith(".")
    assert facts.declares.tasks == (("regression",) if name in REGRESSION else ("classification",))
    assert facts.declares.per_batch == (name == "dmi")
    assert facts.declares.sample_state == (name in {"truncated_gce", "aldr_kl"})


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - {"dmi"}))
def test_losses_are_per_sample_in_the_type_of_the_outputs(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        loss = harness.create("loss", name)
        outputs = torch.linspace(-2, 2, 12, dtype=dtype).reshape(4, 3)
        targets = torch.zeros(4, 3, dtype=dtype) if name in REGRESSION else torch.tensor([0, 1, 2, 0])
        losses = loss(outputs, targets)
        assert losses.shape == (4,) and losses.dtype == dtype
        assert torch.equal(losses, loss(outputs, targets, torch.arange(4)))
        alone = torch.cat([loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(losses, alone)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mae", {"scale": 0.0}),
        ("mse", {"reduction": "none"}),
        ("gce", {"q": 0.0}),
        ("gce", {"q": 1.5}),
        ("gce", {"qq": 0.5}),
        ("truncated_gce", {"k": -0.1}),
        ("truncated_gce", {"every": 0}),
        ("truncated_gce", {"mode": "soft"}),
        ("dmi", {"eps": -1.0}),
        ("dmi", {"warmup": -1}),
        ("dmi", {"warmup": 1.5}),
        ("focal", {"gamma": -0.5}),
        ("agce", {"a": 0.0}),
        ("aue", {"a": 1.0}),
        ("ldr_kl", {"lam": 0.0}),
        ("aldr_kl", {"alpha": 0.5}),
        ("eps_softmax", {"m": -1.0}),
        ("tukey", {"delta": 0.0}),
    ],
)
def test_bad_parameters_are_refused_in_one_line(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(harness.HarnessError, match=rf"^losses\.{name}") as caught:
        harness.create("loss", name, **parameters)
    assert "\n" not in str(caught.value)


def part(kind: str, name: str) -> Part:
    registry = load_host().registry
    facts = registry.facts(registry.find(kind, name)[0])
    return Part(name, tuple(facts.hooks), facts.declares)


@pytest.mark.parametrize("name", sorted(DEFAULTS.keys() - {"dmi"}))
def test_rrm_wraps_every_loss_of_samples(name: str) -> None:
    check_stack(
        part("loss", name), [part("algorithm", "rrm")], "regression" if name in REGRESSION else "classification"
    )


def test_rrm_over_dmi_is_refused() -> None:
    with pytest.raises(harness.HarnessError, match="exists per batch only"):
        check_stack(part("loss", "dmi"), [part("algorithm", "rrm")], "classification")


def test_a_classification_loss_is_refused_for_regression_and_the_reverse() -> None:
    for name, task in (("gce", "regression"), ("huber", "classification")):
        with pytest.raises(harness.HarnessError, match=f"the data set is for {task}"):
            check_stack(part("loss", name), [], task)
