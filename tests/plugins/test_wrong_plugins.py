"""Deliberately wrong plugins: each is caught by the check that names its fault, and the sound parts pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.plugin import app
from harness.testing import check_plugin, loading, read_plugin

LOSS = """
class Mine:
    '''A loss.'''

    def __init__(self, q: Rate = 0.5):
        self.q = q

    def __call__(self, outputs, targets, index):
        log_p = outputs.log_softmax(1).gather(1, targets[:, None]).squeeze(1)
        {body}
"""
ALGORITHM = """
class Mine:
    '''An algorithm.'''

    def __init__(self, beta: NonNegative = 0.1):
        self.beta = beta
        self.seen = 0

{body}
"""
NOISE = """
import numpy as np

class Mine:
    '''Noise.'''

    def __init__(self, rate: Rate = 0.4):
        self.rate = rate

    def __call__(self, data, *, rng):
        {body}

    def transition_matrix(self, data):
        count = data.num_classes
        return (1 - self.rate) * torch.eye(count) + self.rate / count
"""


def method(body: str, indent: int = 4) -> str:
    return "\n".join(" " * indent + line for line in body.strip("\n").splitlines())


WRONG: dict[str, tuple[str, str, str, str]] = {
    # name: (source, kind's plural, check that names it, words of the finding)
    "parameter without a type": (
        LOSS.format(body="return -log_p").replace("q: Rate = 0.5", "q=0.5"), "losses", "parameters", "'q' has no type",
    ),
    "default outside its type": (
        LOSS.format(body="return -log_p").replace("= 0.5", "= 1.5"), "losses", "parameters", "default of 'q'",
    ),
    "no docstring": (
        LOSS.format(body="return -log_p").replace("'''A loss.'''", "pass"), "losses", "registered", "docstring",
    ),
    "mean over the batch": (LOSS.format(body="return (-log_p).mean()"), "losses", "per_sample", "shape ()"),
    "normalised over the batch": (
        LOSS.format(body="return -log_p / log_p.detach().abs().mean()"), "losses", "per_sample", "rest of its batch",
    ),
    "infinite gradient": (
        LOSS.format(body="return -log_p.exp().log()"), "losses", "gradients", "not finite",
    ),
    "gradient of something else": (
        LOSS.format(body="return -log_p * (1 - log_p.exp().detach())"), "losses", "gradcheck", "finite differences",
    ),
    "float64 inside": (LOSS.format(body="return -log_p.double()"), "losses", "shapes", "torch.float64"),
    "a loop over samples": (
        LOSS.format(body="return torch.stack([row[t] for row, t in zip(-outputs.log_softmax(1), targets)])"),
        "losses", "vectorised", "grow",
    ),
    "a formula that costs more than the network": (
        LOSS.format(body="return -log_p + 0 * torch.linalg.eigvalsh(torch.diag(torch.arange(800.0)) + 1).sum()"),
        "losses", "cost", "times that of cross entropy",
    ),
    "a number read in each batch": (
        LOSS.format(body="return -log_p * (2 if log_p.mean().item() > 0 else 1)"), "losses", "no_sync", "numbers of",
    ),
    "chance of the operating system": (
        ALGORITHM.format(body=method("""
def after_losses(self, step):
    import numpy
    step.losses = step.losses * float(numpy.random.default_rng().random())
""")), "algorithms", "deterministic", "differ",
    ),
    "misspelt hook": (
        ALGORITHM.format(body=method("""
def setup(self, run):
    pass
def after_loss(self, step):
    step.losses = 2 * step.losses
""")), "algorithms", "hooks", "did you mean 'after_losses'",
    ),
    "an argument that the hook has not": (
        ALGORITHM.format(body=method("""
def after_losses(self, run, batch):
    pass
""")), "algorithms", "hooks", "'batch'",
    ),
    "a descent that is not declared": (
        ALGORITHM.format(body=method("""
def train_step(self, run, step):
    step.losses = run.stack.loss(run.forward(step.inputs), step.targets, step.index)
    run.descend(step)
    return True
""")), "algorithms", "descends", "does not declare own_step",
    ),
    "a pass that is none": (
        ALGORITHM.format(body=method("""
def next_pass(self, run, number):
    return run.targets.argsort() if number == 0 else None
""")), "algorithms", "deterministic", "next_pass returned",
    ),
    "a division that no checkpoint keeps": (
        ALGORITHM.format(body=method("""
def next_pass(self, run, number):
    from harness import Pass
    if number > self.seen:
        self.seen = 0
        return None
    self.seen += number == 0
    return Pass(run.targets.argsort()[self.seen:], batch_size=16)
""")), "algorithms", "resumes", "ends otherwise",
    ),
    "state that no checkpoint keeps": (
        ALGORITHM.format(body=method("""
def after_losses(self, step):
    self.seen += 1
    step.losses = step.losses / self.seen
""")), "algorithms", "resumes", "ends otherwise",
    ),
    "state that cannot be loaded": (
        ALGORITHM.format(body=method("""
def after_losses(self, step):
    self.seen += 1
def state_dict(self):
    return {"seen": object()}
def load_state_dict(self, state):
    pass
""")), "algorithms", "resumes", "checkpoint",
    ),
    "reads the clean labels from the stack": (
        ALGORITHM.format(body=method("""
def after_losses(self, run, step):
    import sys
    frame = sys._getframe()
    while frame is not None and "loop" not in str(type(frame.f_locals.get("self"))):
        frame = frame.f_back
    if frame is not None:
        clean = frame.f_locals["self"].evaluator.train_clean[step.index]
        step.losses = step.losses * (clean == step.targets)
""")), "algorithms", "canary", "clean labels",
    ),
    "keeps the clean labels": (
        ALGORITHM.format(body=method("""
def epoch_end(self, run):
    import gc
    for found in gc.get_objects():
        if type(found).__name__ == "Evaluator" and torch.equal(found.train_noisy, run.targets):
            self.kept = lambda evaluator=found: evaluator.train_clean.numpy()
""")), "algorithms", "unreachable", "can be reached",
    ),
    "a stack that fails in training": (
        ALGORITHM.format(body=method("""
def after_losses(self, step):
    if step.targets.ndim == 2:
        raise TypeError("no soft targets")
""")), "algorithms", "composes", "mixup",
    ),
    "noise in place": (
        NOISE.format(body="data.targets[:50] = 0; return data.targets"), "noise", "draws", "in place",
    ),
    "noise from a generator of its own": (
        NOISE.format(body="return torch.from_numpy(np.random.default_rng().integers(0, 10, len(data)))"),
        "noise", "draws", "other noise",
    ),
    "noise by another matrix than it claims": (
        NOISE.format(body="""moved = torch.from_numpy(rng.random(len(data)) < self.rate)
        return torch.where(moved, (data.targets + 1) % data.num_classes, data.targets)"""),
        "noise", "matrix", "the matrix says",
    ),
    "data that differ at every call": (
        """
from harness import DataSplits, LabelledData

def Mine():
    '''Data.'''
    data = LabelledData(torch.rand(30, 4), torch.randint(3, (30,)), 3)
    return DataSplits(data, data)
""", "datasets", "splits", "two calls",
    ),
    "a data set whose inputs keep their labels": (
        """
from harness import DataSplits, LabelledData

class Folder(torch.utils.data.Dataset):
    def __init__(self, images, targets):
        self.images, self.samples = images, [(str(i), int(target)) for i, target in enumerate(targets)]
    def __len__(self):
        return len(self.images)
    def __getitem__(self, position):
        return self.images[position]

def Mine():
    '''Data.'''
    images, targets = torch.zeros(60, 1, 4, 4, dtype=torch.uint8), torch.arange(60) % 3
    data = LabelledData(Folder(images, targets), targets, 3)
    return DataSplits(data, LabelledData(images, targets, 3))
""", "datasets", "inputs_only", "keeps the clean labels (Folder.samples)",
    ),
    "a model that ignores a parameter": (
        """
class Mine(torch.nn.Module):
    '''A model.'''
    def __init__(self, input_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        size = torch.Size(input_shape).numel()
        self.used = torch.nn.Linear(size, num_outputs)
        self.unused = torch.nn.Linear(size, num_outputs)
    def forward(self, x):
        return self.used(x.flatten(1))
""", "models", "outputs", "'unused.weight'",
    ),
    "a transform that returns nothing": (
        """
class Mine:
    '''A transform.'''
    def __call__(self, model):
        model.eval()
""", "transforms", "transforms", "NoneType",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_each_fault_is_caught_by_the_check_that_names_it(
    fault: str, write_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.testing.checks.training.MOST_COST", 1.5)  # so that a dear formula may be a quick test
    source, plural, check, words = WRONG[fault]
    file = write_plugin(source, plural)
    (found,) = [f for f in check_plugin(file, only=[check]) if f.check == check]
    assert found.status == "fault"
    assert words in found.message
    assert found.reason and found.remedy


BROKEN: dict[str, tuple[str, str]] = {
    "import error": ("import no_such_module\n", "No module named 'no_such_module'"),
    "an exit on import": ("raise SystemExit(3)\n", "SystemExit"),
    "broken Python": ("def (:\n", "SyntaxError"),
    "unknown hook": (
        "@hookimpl\ndef harness_register_loss(register):\n    pass\n", "did you mean 'harness_register_losses'",
    ),
    "hook that is not marked": ("def harness_register_losses(register):\n    pass\n", "@harness.hookimpl"),
    "wrong signature": ("@hookimpl\ndef harness_trial_start(trail):\n    pass\n", "trail"),
    "registers what cannot be called": (
        "@hookimpl\ndef harness_register_losses(register):\n    register('x', 3)\n", "a class, a function",
    ),
    "registers a partial": (
        "from functools import partial\n@hookimpl\ndef harness_register_losses(register):\n"
        "    register('x', partial(print))\n",
        "a class, a function",
    ),
    "needs a newer harness": ("HARNESS_REQUIRES = '>=99'\n", "it needs harness >=99"),
    "needs a newer harness and imports from it": (
        "from harness import of_the_future\nHARNESS_REQUIRES = '>=99'\n", "it needs harness >=99",
    ),
    "registers nothing": ("VALUE = 1\n", "registers no component"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_plugin_that_is_refused_fails_the_check_loads(fault: str, write_plugin: Callable[..., Path]) -> None:
    source, words = BROKEN[fault]
    finding = loading(read_plugin(write_plugin(source)))
    assert (finding.check, finding.status) == ("loads", "fault")
    assert words in finding.message
    assert finding.remedy


def test_a_name_that_is_taken_is_reported_with_both_owners(write_plugin: Callable[..., Path]) -> None:
    file = write_plugin(LOSS.format(body="return -log_p"), "losses", name="ce")
    (finding,) = [f for f in check_plugin(file, only=["registered"]) if f.check == "registered"]
    assert finding.status == "fault"
    assert "noisy-label-harness" in finding.message and str(file) in finding.message


def test_a_hang_is_a_fault_too(write_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.testing.catalogue.LIMIT_S", 0.5)
    file = write_plugin(LOSS.format(body="import time; time.sleep(60)"), "losses")
    (finding,) = [f for f in check_plugin(file, only=["shapes"]) if f.check == "shapes"]
    assert finding.status == "fault" and "still running after 0.5 s" in finding.message


def test_a_plugin_that_takes_too_long_to_list_is_told_in_one_line_with_a_remedy(
    write_plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.testing.checks.contract.LISTING_S", 0.05)  # less than any Python takes to start
    file = write_plugin(LOSS.format(body="return -log_p"), "losses")
    said = CliRunner().invoke(app, ["check", str(file), "--only", "listing"])
    assert said.exit_code == 1 and isinstance(said.exception, SystemExit)
    (line,) = [line for line in said.output.splitlines() if "FAULT" in line]
    assert "naming its components takes more than 0.05 s" in line
    assert "remedy: let its import wait for nothing" in said.output and "Traceback" not in said.output


def test_a_package_that_imports_torch_to_be_listed_fails_the_check_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_plugin: Callable[..., Path]
) -> None:
    from harness.testing.checks.contract import listing

    file = write_plugin(LOSS.format(body="return -log_p"), "losses", file="heavy_package.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    checked = read_plugin(file)
    object.__setattr__(checked, "module", "heavy_package")
    assert listing(checked).status == "ok"  # as a single file it may
    object.__setattr__(checked, "file", None)
    object.__setattr__(checked, "subjects", ())
    finding = listing(checked)
    assert finding.status == "fault" and "imports torch" in finding.message


def test_a_sound_loss_passes_every_check_but_may_decline_one_with_a_reason(write_plugin: Callable[..., Path]) -> None:
    body = "return (1 - log_p.exp()) * 2\n\n    declines = {'gradcheck': 'only to show how'}"
    file = write_plugin(LOSS.format(body=body), "losses")
    found = check_plugin(file, without=["executors", "cost", "composes", "listing"])
    assert {f.check: f.message for f in found if f.status == "fault"} == {}
    assert [f.message for f in found if f.status == "skip"] == ["declined: only to show how"]


def test_modules_of_wrong_plugins_leave_nothing_behind() -> None:
    assert "no_such_module" not in sys.modules
