"""Every classification loss, in value and gradient, against its formula written out per sample in 50-digit arithmetic.

The references know no torch: they take a list of logits and a class, and say where a weight is a constant for the
gradient by taking it from ``fixed``, a copy of the logits that is not differentiated. Their derivative is a central
difference with step 1e-20, exact here to some 30 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import pytest
import torch
from mpmath import mp, mpf
from torch import Tensor

import harness

pytestmark = pytest.mark.portable

mp.dps = 50
STEP = mpf("1e-20")
Logits = Sequence[Any]
Reference = Callable[[Logits, int, Logits], Any]


def softmax(z: Logits) -> list[Any]:
    top = max(z)
    exponentials = [mpmath.exp(x - top) for x in z]
    total = mpmath.fsum(exponentials)
    return [x / total for x in exponentials]


def clamp(x: Any, low: str) -> Any:
    return max(x, mpf(low))


def ce(z: Logits, y: int, fixed: Logits) -> Any:
    return -mpmath.log(softmax(z)[y])


def mae(scale: int) -> Reference:
    return lambda z, y, fixed: scale * (1 - softmax(z)[y])


def mse(z: Logits, y: int, fixed: Logits) -> Any:
    return mpmath.fsum((p - (k == y)) ** 2 for k, p in enumerate(softmax(z)))


def rce(z: Logits, y: int, fixed: Logits) -> Any:
    labels = [clamp(mpf(k == y), "1e-4") for k in range(len(z))]
    return -mpmath.fsum(clamp(p, "1e-7") * mpmath.log(q) for p, q in zip(softmax(z), labels, strict=True))


def gce(q: str) -> Reference:
    return lambda z, y, fixed: (1 - clamp(softmax(z)[y], "1e-7") ** mpf(q)) / mpf(q)


def truncated_gce_unpruned(z: Logits, y: int, fixed: Logits) -> Any:
    q, k = mpf("0.7"), mpf("0.5")
    return (1 - softmax(z)[y] ** q) / q - (1 - k**q) / q


def truncated_gce_clamp(z: Logits, y: int, fixed: Logits) -> Any:
    q, k = mpf("0.7"), mpf("0.5")
    return min((1 - softmax(z)[y] ** q) / q, (1 - k**q) / q)


def nce(z: Logits, y: int, fixed: Logits) -> Any:
    logs = [mpmath.log(p) for p in softmax(z)]
    return logs[y] / mpmath.fsum(logs)


def focal_terms(z: Logits, fixed: Logits, gamma: str) -> list[Any]:
    weights = [(1 - p) ** mpf(gamma) for p in softmax(fixed)]
    return [-w * mpmath.log(p) for w, p in zip(weights, softmax(z), strict=True)]


def focal(z: Logits, y: int, fixed: Logits) -> Any:
    return focal_terms(z, fixed, "0.5")[y]


def nfl(z: Logits, y: int, fixed: Logits) -> Any:
    terms = focal_terms(z, fixed, "0.5")
    return terms[y] / mpmath.fsum(terms)


def agce(a: str, q: str) -> Reference:
    return lambda z, y, fixed: ((mpf(a) + 1) ** mpf(q) - (mpf(a) + softmax(z)[y]) ** mpf(q)) / mpf(q)


def aue(z: Logits, y: int, fixed: Logits) -> Any:
    return ((mpf("5.5") - softmax(z)[y]) ** 3 - mpf("4.5") ** 3) / 3


def ael(z: Logits, y: int, fixed: Logits) -> Any:
    return mpmath.exp(-softmax(z)[y] / mpf("2.5"))


def worst_labels(f: Logits, y: int, margin: Any, lam: Any) -> Any:
    terms = [mpmath.exp((margin * (k != y) + f[k] - f[y]) / lam) for k in range(len(f))]
    return lam * mpmath.log(mpmath.fsum(terms) / len(f))


def ldr_kl(z: Logits, y: int, fixed: Logits) -> Any:
    positive = [mpmath.log1p(mpmath.exp(x)) for x in z]
    mean = mpmath.fsum(positive) / len(z)
    return worst_labels([s / mean for s in positive], y, mpf("0.1"), mpf(10))


def ldr_kl_plain(z: Logits, y: int, fixed: Logits) -> Any:
    return worst_labels(z, y, mpf(2), mpf(3))


def aldr_kl(z: Logits, y: int, fixed: Logits) -> Any:
    """The first call on a sample, whose lambda was lam0."""
    size, alpha, lam0 = len(z), mpf(2), mpf(10)
    smoothed = [p + mpf("1e-5") for p in softmax([x / lam0 for x in over_mean_absolute(fixed)])]
    pr = [p / mpmath.fsum(smoothed) for p in smoothed]
    kl = mpmath.fsum(p * mpmath.log(size * p) for p in pr)
    lam = lam0 - lam0 * kl / (alpha * mpmath.log(size))
    regulariser = alpha * mpmath.log(size) / (2 * lam0) * (lam - lam0) ** 2
    return worst_labels(over_mean_absolute(z), y, mpf("0.1"), lam) - regulariser


def over_mean_absolute(z: Logits) -> list[Any]:
    norm = mpmath.fsum(abs(x) for x in z) / len(z)
    return [x / norm for x in z]


def eps_softmax(m: str) -> Reference:
    def loss(z: Logits, y: int, fixed: Logits) -> Any:
        top = max(range(len(fixed)), key=lambda k: fixed[k])
        return -mpmath.log(clamp((softmax(z)[y] + mpf(m) * (y == top)) / (mpf(m) + 1), "1e-8"))

    return loss


def plus(*parts: tuple[str, Reference]) -> Reference:
    return lambda z, y, fixed: mpmath.fsum(mpf(weight) * part(z, y, fixed) for weight, part in parts)


def over_classes(part: Reference) -> Reference:
    return lambda z, y, fixed: part(z, y, fixed) / len(z)


CASES: list[tuple[str, dict[str, Any], Reference]] = [
    ("ce", {}, ce),
    ("mae", {}, mae(2)),
    ("mae", {"scale": 1.0}, mae(1)),
    ("mse", {}, over_classes(mse)),
    ("mse", {"reduction": "sum"}, mse),
    ("rce", {}, rce),
    ("sce", {}, plus(("1", ce), ("1", rce))),
    ("sce", {"alpha": 6.0, "beta": 0.1}, plus(("6", ce), ("0.1", rce))),
    ("gce", {}, gce("0.7")),
    ("gce", {"q": 0.05}, gce("0.05")),
    ("truncated_gce", {}, truncated_gce_unpruned),
    ("truncated_gce", {"mode": "clamp"}, truncated_gce_clamp),
    ("nce", {}, nce),
    ("nce_rce", {"alpha": 1.0, "beta": 2.0}, plus(("1", nce), ("2", rce))),
    ("nce_mae", {"alpha": 10.0, "beta": 0.1}, plus(("10", nce), ("0.1", mae(1)))),
    ("focal", {}, focal),
    ("nfl", {}, nfl),
    ("nfl", {"scale": 10.0}, plus(("10", nfl))),
    ("nfl_rce", {"alpha": 10.0, "beta": 0.1}, plus(("10", nfl), ("0.1", rce))),
    ("agce", {}, agce("0.6", "0.6")),
    ("agce", {"a": 4.0, "q": 0.2}, agce("4", "0.2")),
    ("aue", {}, aue),
    ("ael", {}, ael),
    ("nce_agce", {}, plus(("1", nce), ("4", agce("6", "1.5")))),
    ("ldr_kl", {}, ldr_kl),
    ("ldr_kl", {"margin": 2.0, "lam": 3.0, "normalize": False}, ldr_kl_plain),
    ("aldr_kl", {}, aldr_kl),
    ("eps_softmax", {}, eps_softmax("1e4")),
    ("eps_softmax", {"m": 0.0}, eps_softmax("0")),
    ("eps_softmax_mae", {}, plus(("0.01", eps_softmax("1e5")), ("5", mae(2)))),
]


def spell(value: Any) -> str:
    return (
        ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else getattr(value, "__name__", value)
    )


@pytest.mark.parametrize("shape", ["random", "confident", "extreme", "hundred"])
@pytest.mark.parametrize(("name", "parameters", "reference"), CASES, ids=spell)
def test_value_and_gradient_are_those_of_the_formula(
    name: str, parameters: dict[str, Any], reference: Reference, shape: str
) -> None:
    logits, targets = batch(shape)
    outputs = logits.requires_grad_(True)
    losses = harness.create("loss", name, **parameters)(outputs, targets)
    assert losses.shape == targets.shape and losses.dtype == torch.float64
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    for i, y in enumerate(targets.tolist()):
        z = [mpf(x) for x in logits[i].tolist()]
        assert losses[i].item() == pytest.approx(float(reference(z, y, z)), rel=1e-10, abs=1e-10)
        for k in coordinates(logits[i], y):
            up, down = list(z), list(z)
            up[k] += STEP
            down[k] -= STEP
            slope = (reference(up, y, z) - reference(down, y, z)) / (2 * STEP)
            assert gradient[i, k].item() == pytest.approx(float(slope), rel=1e-9, abs=1e-10)


def batch(shape: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    if shape == "random":
        return 3 * normal(4, 10), torch.tensor([0, 3, 9, 5])
    if shape == "confident":
        logits = normal(2, 4)
        logits[:, 1] += 14
        return logits, torch.tensor([1, 2])
    if shape == "extreme":
        signs = torch.tensor([[1, -1, -1, -1, -1], [-1, 1, 1, -1, -1], [-1, -1, -1, 1, -1]], dtype=torch.float64)
        return 40 * signs + 0.01 * normal(3, 5), torch.tensor([0, 0, 3])
    return 4 * normal(2, 100), torch.tensor([17, 99])


def coordinates(logits: Tensor, y: int) -> list[int]:
    """The label, the prediction and the neighbours of both: all of few classes, enough of a hundred."""
    size = len(logits)
    if size <= 10:
        return list(range(size))
    top = int(logits.argmax())
    return sorted({y, top, (y + 1) % size, (top + 1) % size})


SMOOTH = [case for case in CASES if case[0] not in ("focal", "nfl", "nfl_rce", "aldr_kl")]
"""Without those whose weights are constants for the gradient, which a finite difference cannot know."""


@pytest.mark.parametrize(("name", "parameters"), [case[:2] for case in SMOOTH], ids=spell)
def test_gradients_agree_with_finite_differences(name: str, parameters: dict[str, Any]) -> None:
    logits, targets = batch("random")
    loss = harness.create("loss", name, **parameters)
    assert torch.autograd.gradcheck(lambda outputs: loss(outputs, targets), (logits.requires_grad_(True),))


@pytest.mark.parametrize(("name", "parameters"), [case[:2] for case in CASES], ids=spell)
def test_float32_follows_float64_and_stays_finite(name: str, parameters: dict[str, Any]) -> None:
    for shape in ("random", "confident", "extreme", "hundred"):
        logits, targets = batch(shape)
        exact = harness.create("loss", name, **parameters)(logits, targets)
        outputs = logits.float().requires_grad_(True)
        losses = harness.create("loss", name, **parameters)(outputs, targets)
        (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        assert losses.dtype == torch.float32 and torch.isfinite(gradient).all()
        torch.testing.assert_close(losses.double(), exact, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("name", "parameters"), [case[:2] for case in CASES], ids=spell)
def test_logits_that_underflow_every_probability_but_one_leave_a_finite_gradient(
    name: str, parameters: dict[str, Any]
) -> None:
    outputs = torch.tensor([[300.0, 0.0, -300.0], [300.0, 0.0, -300.0], [0.0, 0.0, 0.0]], requires_grad=True)
    losses = harness.create("loss", name, **parameters)(outputs, torch.tensor([0, 2, 1]))
    (gradient,) = torch.autograd.grad(losses.sum(), outputs)
    assert torch.isfinite(losses).all() and torch.isfinite(gradient).all()
