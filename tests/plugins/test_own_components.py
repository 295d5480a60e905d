"""Our own components pass the checks that anyone's are held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_plugins.datasets.tokens import WORD_PIECES

from harness.paths import data_folder
from harness.plugins import Host
from harness.tasks import TASKS
from harness.testing import Subject, cases, subjects_of
from harness.testing.bench import Bench, difference
from harness.testing.checks.training import outcome_under

TINY = {"weights": "", "layers": 1, "width": 8, "heads": 2, "inner": 8, "positions": 16}
PARAMS: dict[str, dict[str, Any]] = {
    "noise.asymmetric": {"map": "mnist_cdr"},
    "algorithms.cc": {"warmup": 0, "discrepancy_steps": 2, "consistency": 0.1},
    "algorithms.pro_mix": {"warmup": 0, "ramp": 1},
    "algorithms.rrm": {"every": 1},
    "algorithms.score_census": {"score": "rrm.u", "epochs": [99], "edges": [0.0]},
    "algorithms.sop_linear": {"alpha": [0.1], "lam": [0.1], "steps": 20},
    "algorithms.sparse_recovery": {"instances": 2, "rate": 0.1},
    "algorithms.unicon": {"warmup": 0},
    "datasets.long_tailed": {"data": "digits", "ratio": 10.0},
    "datasets.open_set": {"data": "digits", "left_out": [8, 9]},
    "models.bert": TINY,
    "models.distilbert": TINY,
    "models.text_cnn": {"vectors": ""},
    "transforms.freeze": {"except": ["5|4"]},  # the last layer for images, or features
    "transforms.lora": {"targets": ["5|4"]},
}
"""What the small data of the checks needs, by component."""

FORMS: list[tuple[str, dict[str, Any]]] = [
    (
        "algorithms.cc",
        {"form": "clothing1m", "warmup": 0, "discrepancy_steps": 2, "threshold": 0.5, "subset": 40, "scored": 50},
    ),
    (
        "algorithms.cores2_star",
        {"warmup": 0, "ramp": 1, "sieve_after": 0, "phase1": 1, "optimizer": "setting", "order": "balanced"},
    ),
]
"""Forms of algorithms that a parameter chooses, and that train by other steps than the default."""

LINEAR = {"model": {"name": "linear", "bias": False}, "normalize": "none", "training": {"batch_size": 1000}}
SETTINGS: dict[str, dict[str, Any]] = {"algorithms.sop_linear": LINEAR, "algorithms.sparse_recovery": LINEAR}
"""Settings for methods that exist for one model only."""

CONSTANT = "the focal weight is a constant for the gradient, as in the code of APL, ALFs and eps-softmax"
FOCAL = ("losses.focal", "losses.nfl", "losses.nfl_rce")
DECLINED: dict[str, dict[str, str]] = {name: {"gradcheck": CONSTANT} for name in FOCAL}
WHOLE = "its step is the whole experiment, on the CPU"
DECLINED["algorithms.sparse_recovery"] = {"no_sync": WHOLE, "cost": WHOLE}
DECLINED["algorithms.sop_linear"] = {"cost": WHOLE}
ROWS = (
    "after its warm-up it passes each sample through its networks many times; benchmarks/methods.py prices these rows"
)
DECLINED |= {f"algorithms.{name}": {"cost": ROWS} for name in ("cc", "pro_mix", "unicon")}
if not (data_folder() / WORD_PIECES).is_dir():
    ABSENT = f"the tokenizer {WORD_PIECES} is not under HARNESS_DATA"
    TEXTS = ("hate_speech", "imdb", "toxic_comments")
    DECLINED |= {f"datasets.{name}": {"splits": ABSENT, "inputs_only": ABSENT} for name in TEXTS}
OWN = ("hugging_face", "image_folder", "image_shards", "table", "text_csv", "text_folder")
FILES = tuple(f"datasets.{name}" for name in OWN)
"""Read files of the user's; tests/datasets has some for them."""
SLOW_MODELS = ("cifar_resnet", "preact_resnet", "small_resnet")
TRAINING = ("deterministic", "resumes", "unreachable", "canary", "composes")
EXPENSIVE = ("cost", "executors")
"""Left to the slow tests: the first measures, the second starts processes and is done for all at once below."""


def subjects(*kinds: str) -> list[Subject]:
    found = []
    for subject in subjects_of(Host(), kinds, PARAMS):
        ours = subject.component.owner.startswith("noisy-label-harness ")
        if ours and subject.label not in FILES:
            declined, setting = DECLINED.get(subject.label, {}), SETTINGS.get(subject.label, {})
            found.append(dataclasses.replace(subject, declined=declined, setting=setting, partners=3))
    return found


def quick(case: Any) -> Any:
    large = case.subject.kind == "model" and case.subject.component.name.startswith(SLOW_MODELS)
    slow = (large and case.check.name in TRAINING) or case.check.name in EXPENSIVE
    return pytest.param(case, id=str(case), marks=[pytest.mark.slow] if slow else [])


STACKED = [quick(case) for case in cases(subjects("loss", "transform", "algorithm", "model"), without=["executors"])]
FORMED = [
    case
    for label, params in FORMS
    for case in cases([s for s in subjects_of(Host(), ("algorithm",), {label: params}) if s.label == label])
    if case.check.name in ("resumes", "no_sync")
]
CALLED = [quick(case) for case in cases(subjects("metric", "plot"))]
REPORTING = [quick(case) for case in cases(subjects("estimator", "detector"))]
DATA = [quick(case) for case in cases(subjects("dataset", "noise"), without=["executors", "identity"])]


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", STACKED)
def test_losses_transforms_algorithms_and_models(case: Any) -> None:
    case()


@pytest.mark.parametrize("case", FORMED, ids=str)
def test_other_forms_of_an_algorithm(case: Any) -> None:
    case()


@pytest.mark.parametrize("case", CALLED)
def test_metrics_and_pictures(case: Any) -> None:
    case()


@pytest.mark.parametrize("case", REPORTING)
def test_estimators_and_detectors(case: Any) -> None:
    case()


@pytest.mark.parametrize("case", DATA)
def test_data_sets_and_noise(case: Any) -> None:
    case()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_loss_transform_and_algorithm_gives_the_same_under_every_executor(task: str, tmp_path: Path) -> None:
    every = [s for s in subjects("loss", "transform", "algorithm") if not s.setting]
    found = [s for s in every if s.task == task or s.kind == "transform"]
    bench = Bench(next(s for s in found if s.task == task), tmp_path)
    methods = []
    for subject in found:
        own = Bench(subject, tmp_path)
        method = own.method()
        if subject.kind == "transform":
            method["loss"] = bench.base_loss
        methods.append({**method, "name": subject.label})
    suite = bench.suite(methods, epochs=1, validation=0.2)
    inline, local = (outcome_under(suite, bench, name) for name in ("inline", "local"))
    assert difference(inline, local) is None
