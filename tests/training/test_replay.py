"""A run of another code is replayed by a suite file: its order, split, labels and initial weights in place of drawn ones.

The other code is written here in plain PyTorch from the papers' formulas: float64, the mean over a short last batch, its
own random numbers, the untrained network measured first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.results.records import (
    claim,
    final_attempt,
    open_results,
    read_json,
    read_lines,
    submit_trials,
    trial_folder,
)
from harness.suite.load import load_suite
from harness.suite.plan import make_plan
from harness.training.prepare import prepare
from harness.training.trial import run_trial

MEAN, STD, BATCH, EPOCHS, LR, TAU = 0.3, 0.25, 32, 3, 0.05, 0.4
SUITE = """
[suite]
name = "replayed"
seeds = [0]

[training]
epochs = 3
batch_size = 32
last_batch = "mean"
precision = "float64"
optimizer = { name = "sgd", lr = 0.05, momentum = 0.9, weight_decay = 1e-3 }
schedule = { name = "step", milestones = [2], gamma = 0.1 }

[evaluation]
initial = true

[replay]
order = "order.npy"
split = "split.npz"
labels = "labels.npy"
init = "INIT"

[[setting]]
dataset = "digits"
model = { name = "mlp", hidden = [16] }
noise = { name = "symmetric", rate = 0.4 }
mean = 0.3
std = 0.25

[[method]]
name = "METHOD"
"""
METHODS = {
    "ce": "",
    "cdr": 'algorithms = [{ name = "cdr", tau = 0.4 }]',
    "sop": 'algorithms = [{ name = "sop", lr_u = 3.0, lr_v = 7.0 }]',
}


@dataclasses.dataclass
class Official:
    """What another code has drawn."""

    labels: Tensor
    train: Tensor
    validation: Tensor
    order: Tensor
    init: dict[str, Tensor]
    u: Tensor
    v: Tensor


def drawn() -> Official:
    rng = np.random.default_rng(12345)
    clean = harness.create("dataset", "digits").train.targets.numpy()
    labels = np.where(rng.random(len(clean)) < 0.3, rng.integers(10, size=len(clean)), clean)
    chosen = rng.permutation(len(clean))[:200]
    train, validation = chosen[:150], chosen[150:]
    order = np.stack([rng.permutation(150) for _ in range(EPOCHS)])
    torch.manual_seed(99)
    model = network()
    arrays = [torch.from_numpy(a) for a in (labels, train, validation, order)]
    u, v = (0.3 * torch.randn(150, width, dtype=torch.float64) for width in (1, 10))
    return Official(*arrays, init={key: value.clone() for key, value in model.state_dict().items()}, u=u, v=v)


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).double()


def mask_gradients(model: nn.Module, tau: float) -> None:
    """CDR's code: of all weights of two or more dimensions those with the largest |w g|, times 1 - tau."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    scores = torch.cat([(p.detach() * p.grad).abs().flatten() for p in weights])
    threshold = scores.sort(descending=True).values[int((1 - tau) * len(scores)) - 1]
    for p in weights:
        assert p.grad is not None
        p.grad = p.grad * ((p.detach() * p.grad).abs() >= threshold) * (1 - tau)


def sop_loss(z: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """SOP's code: the mean over the batch."""
    onehot, e = functional.one_hot(y, 10).double(), 1e-4
    big_u, big_v = (u**2 * onehot).clamp(0, 1), (v**2 * (1 - onehot)).clamp(0, 1)
    a = (z.softmax(1) + big_u - big_v.detach()).clamp(min=e)
    r = (a / a.sum(1, keepdim=True).clamp(min=e)).clamp(e, 1)
    h = functional.one_hot(z.argmax(1), 10).double()
    return -(onehot * r.log()).sum(1).mean() + (h + big_u - big_v - onehot).square().sum() / len(y)


def official_run(method: str, official: Official) -> tuple[list[dict[str, Any]], nn.Module]:
    """The other code: epochs 0 to 3 with correct test and validation images, mean losses of training and test."""
    splits = harness.create("dataset", "digits")
    images, test = ((part.inputs.double() / 255 - MEAN) / STD for part in (splits.train, splits.test))
    x, y = images[official.train], official.labels[official.train]
    held = images[official.validation], official.labels[official.validation]
    model = network()
    model.load_state_dict(official.init)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], 0.1)
    u, v = (tensor.clone().requires_grad_(True) for tensor in (official.u, official.v))
    of_u, of_v = torch.optim.SGD([u], lr=3.0), torch.optim.SGD([v], lr=7.0)
    trace: list[dict[str, Any]] = []

    def measure(train_loss: float | None) -> None:
        with torch.no_grad():
            z = model(test)
            loss = float(functional.cross_entropy(z, splits.test.targets))
            right = int((z.argmax(1) == splits.test.targets).sum())
            kept = int((model(held[0]).argmax(1) == held[1]).sum())
        trace.append({"right": right, "kept": kept, "test_loss": loss, "train_loss": train_loss})

    measure(None)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in official.order[epoch].split(BATCH):
            z = model(x[batch])
            loss = functional.cross_entropy(z, y[batch])
            if method == "sop":
                loss = sop_loss(z, y[batch], u[batch], v[batch])
            for one in (optimizer, of_u, of_v):
                one.zero_grad()
            loss.backward()
            if method == "cdr":
                mask_gradients(model, TAU)
            for one in (optimizer, of_u, of_v):
                one.step()
            total += loss.item() * len(batch)
        schedule.step()
        measure(total / 150)
    return trace, model


@pytest.fixture
def replayed(tmp_path: Path) -> Callable[..., Path]:
    """The suite beside the files that the other code has left."""

    def write(method: str, official: Official, init: str = "init.safetensors") -> Path:
        np.save(tmp_path / "order.npy", official.order.numpy())
        np.savez(tmp_path / "split.npz", train=official.train.numpy(), validation=official.validation.numpy())
        np.save(tmp_path / "labels.npy", official.labels.numpy())
        states = {"samples/sop.u": official.u, "samples/sop.v": official.v} if method == "sop" else {}
        weights = {**official.init, **states}
        if init.endswith(".safetensors"):
            save_file(weights, tmp_path / init)
        elif init.endswith(".npz"):
            np.savez(tmp_path / init, **{key: value.numpy() for key, value in weights.items()})
        else:
            torch.save(weights, tmp_path / init)
        path = tmp_path / "suite.toml"
        path.write_text(SUITE.replace("INIT", init).replace("METHOD", method) + METHODS[method])
        return path

    return write


def run_suite(path: Path, results: Path, *stops: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result and the lines of ``epochs.jsonl``, after stops at given questions whether to stop."""
    suite, results = load_suite(path), open_results(results)
    (planned,) = make_plan(suite, results).trials
    submit_trials(results, [planned.trial])
    result = None
    for stop in (*stops, None):
        attempt = claim(results, planned.id)
        assert attempt is not None
        asked = iter(range(1, 10**6))
        result = run_trial(
            planned.trial, attempt, suite.host, should_stop=lambda n=stop, a=asked: n is not None and next(a) >= n
        )
    assert result is not None and result["status"] == "done", result and result["error"]
    final = final_attempt(trial_folder(results, planned.id))
    assert final is not None and read_json(final / "result.json") == result
    return result, read_lines(final / "epochs.jsonl")


@pytest.mark.parametrize(
    ("method", "init"), [("ce", "init.pt"), ("cdr", "init.npz"), ("sop", "init.safetensors")]
)  # fmt: skip
def test_an_official_run_is_replayed_to_the_last_image(
    replayed: Callable[..., Path], tmp_path: Path, method: str, init: str
) -> None:
    official = drawn()
    trace, _ = official_run(method, official)
    result, lines = run_suite(replayed(method, official, init), tmp_path / "results")
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    for ours, theirs in zip(lines, trace, strict=True):
        assert round(ours["test_accuracy"] * 359) == theirs["right"]
        assert round(ours["validation_accuracy"] * 50) == theirs["kept"]
        assert ours["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-12)
        if theirs["train_loss"] is None:
            assert ours["train_loss"] is None
        else:
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-12)
    right = [epoch["right"] for epoch in trace]
    assert result["epochs"] == 3
    assert result["metrics"]["accuracy"]["best"] == pytest.approx(max(right) / 359)
    assert result["metrics"]["accuracy"]["last10"] == pytest.approx(sum(right[1:]) / 3 / 359)
    kept = [epoch["kept"] for epoch in trace]
    assert result["selected_epoch"] == kept.index(max(kept))

    again, repeated = run_suite(replayed(method, official, init), tmp_path / "stopped", 3, 5)
    assert (again, repeated) == (result, lines)


def test_the_id_holds_the_content_of_the_files_and_not_their_place(
    replayed: Callable[..., Path], tmp_path: Path
) -> None:
    official = drawn()
    path = replayed("ce", official)

    def trial_of(file: Path) -> str:
        return next(iter(load_suite(file).entries())).trial.id

    first = trial_of(path)
    (tmp_path / "elsewhere.npy").write_bytes((tmp_path / "order.npy").read_bytes())
    moved = tmp_path / "moved.toml"
    moved.write_text(path.read_text().replace("order.npy", "elsewhere.npy"))
    assert trial_of(moved) == first
    np.save(tmp_path / "order.npy", official.order.flip(1).numpy())
    assert trial_of(path) != first


BAD = {
    "order: too few epochs": ("order.npy", lambda o: o.order[:2], "not integer (3 or more, 150)"),
    "order: no permutation": ("order.npy", lambda o: torch.zeros_like(o.order), "row 0 is no permutation"),
    "split: twice": ("split.npz", lambda o: {"train": o.train[[0, 0, 1]]}, "names a sample twice"),
    "split: outside": ("split.npz", lambda o: {"train": o.train + 2000}, "outside [0, 1438)"),
    "split: no train": ("split.npz", lambda o: {"validation": o.train}, "holds no array 'train'"),
    "labels: shape": ("labels.npy", lambda o: o.labels[:5], "has shape (5,), the targets have (1438,)"),
    "labels: classes": ("labels.npy", lambda o: o.labels + 5, "outside [0, 10)"),
    "init: a key too few": ("init.npz", lambda o: {"1.weight": o.init["1.weight"]}, "lacks "),
    "init: a key too many": ("init.npz", lambda o: {**o.init, "7.bias": o.u}, "holds '7.bias', unknown to the model"),
    "init: shape": ("init.npz", lambda o: {**o.init, "1.bias": o.u}, "'1.bias' has shape (150, 1)"),
    "init: no such part": ("init.npz", lambda o: {**o.init, "samples/elr.t": o.u}, "no part of the method has"),
    "init: broken": ("init.npz", None, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_fails_the_trial_in_one_line(replayed: Callable[..., Path], tmp_path: Path, name: str) -> None:
    official = drawn()
    path = replayed("ce", official, "init.npz")
    file, change, words = BAD[name]
    if change is None:
        (tmp_path / file).write_bytes(b"PK no archive")
    else:
        content = change(official)
        if isinstance(content, Tensor):
            np.save(tmp_path / file, content.numpy())
        else:
            np.savez(tmp_path / file, **{key: value.numpy() for key, value in content.items()})
    suite = load_suite(path)
    with pytest.raises(harness.HarnessError) as caught:
        prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))
    assert words in str(caught.value) and file in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"order.npy"', '"absent.npy"'), "replay.order: .*absent.npy cannot be read"),
        (('"order.npy"', '"suite.toml"'), "replay.order: unknown format"),
        (("order =", "ordr ="), "did you mean 'order'"),
        (("mean = 0.3", "subset = 100\nmean = 0.3"), "a replayed split says which samples"),
        (("std = 0.25", ""), "mean and std stand together"),
        (("std = 0.25", "std = [0.2, 0.2]"), "1 means and 2 deviations"),
        (("std = 0.25", 'std = 0.25\nnormalize = "none"'), "drop it"),
        (("std = 0.25", "std = 0.0"), "std"),
    ],
)
def test_a_bad_table_is_refused_when_the_suite_is_read(
    replayed: Callable[..., Path], change: tuple[str, str], words: str
) -> None:
    path = replayed("ce", drawn())
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(harness.HarnessError, match=words) as caught:
        load_suite(path)
    assert "\n" not in str(caught.value)


def test_a_pickle_of_anything_else_is_never_read(replayed: Callable[..., Path], tmp_path: Path) -> None:
    path = replayed("ce", drawn(), "init.pt")
    torch.save({"1.weight": Path("/")}, tmp_path / "init.pt")
    suite = load_suite(path)
    with pytest.raises(harness.HarnessError, match=r"init.pt cannot be read"):
        prepare(next(iter(suite.entries())).trial, suite.host, torch.device("cpu"))
