"""What noise and data sets are held to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import DataSplits, LabelledData
from harness.paths import data_folder
from harness.testing.bench import CPU, Bench
from harness.testing.subject import Subject
from harness.testing.verdicts import Fault, Skip, check
from harness.training.data import Standardiser
from harness.training.prepare import prepare
from harness.training.reach import find_labels
from harness.trial import canonical

DRAWN = 20_000
LEAST_P = 1e-6


def _data(subject: Subject, bench: Bench, size: int) -> LabelledData:
    from harness.testing import components

    given = subject.setting.get("dataset")
    if given is not None:
        spec = given if isinstance(given, dict) else {"name": given}
        params = {key: value for key, value in spec.items() if key != "name"}
        return subject.host.registry.create("dataset", spec["name"], params).train  # type: ignore[no-any-return]
    makers = {"classification": components.classes, "multilabel": components.labels, "regression": components.values}
    return makers[subject.task](size=size).train


@check(
    "noise",
    reason="every method must face the very same noisy labels, drawn from the clean ones",
    remedy="return a new tensor made with the given rng alone: rng.random(len(data))",
)
def draws(subject: Subject, bench: Bench) -> str | None:
    """Targets of the right shape, type and range; the clean ones untouched; the given generator decides everything."""
    data = _data(subject, bench, 500)
    noise = subject.make()
    before = data.targets.clone()
    first = torch.as_tensor(noise(data, rng=np.random.default_rng(1)))
    if not torch.equal(data.targets, before):
        raise Fault("it changes the clean targets in place", "work on data.targets.clone()")
    if first.shape != before.shape:
        raise Fault(f"it returns shape {tuple(first.shape)} for {tuple(before.shape)} targets")
    if data.num_classes is not None:
        if first.is_floating_point():
            raise Fault(f"it returns {first.dtype}, not integer classes")
        if int(first.min()) < 0 or int(first.max()) >= data.num_classes:
            raise Fault(f"it returns classes outside [0, {data.num_classes})")
        if data.task == "multilabel" and int(first.max()) > 1:
            raise Fault("it returns labels other than 0 and 1")
    np.random.seed(5)  # noqa: NPY002 -- whether the global state matters is the question
    torch.manual_seed(5)
    again = torch.as_tensor(subject.make()(data, rng=np.random.default_rng(1)))
    if not torch.equal(first, again):
        raise Fault(
            "the same generator gives other noise", "draw from the given rng only, nothing global, nothing kept"
        )
    other = torch.as_tensor(noise(data, rng=np.random.default_rng(2)))
    changed = float((first != before).double().mean())
    return f"{changed:.0%} changed" + (", the same for every seed" if changed and torch.equal(first, other) else "")


@check(
    "noise",
    reason="forward correction and the tables of papers rely on the claimed matrix",
    remedy="let transition_matrix say what __call__ draws: rows are the clean class",
)
def matrix(subject: Subject, bench: Bench) -> str | None:
    """The drawn labels follow the claimed transition matrix (chi-square, every row)."""
    noise = subject.make()
    if not hasattr(noise, "transition_matrix"):
        raise Skip("it claims no transition matrix")
    data = _data(subject, bench, DRAWN)
    if data.num_classes is None:
        raise Skip("regression has no transition matrix")
    claimed = torch.as_tensor(noise.transition_matrix(data)).double()
    count = data.num_classes
    if claimed.shape != (count, count):
        raise Fault(f"the matrix has shape {tuple(claimed.shape)}, not {(count, count)}")
    if bool((claimed < -1e-9).any()) or not torch.allclose(claimed.sum(1), torch.ones(count).double(), atol=1e-6):
        raise Fault("the matrix's rows are no probabilities")
    drawn = torch.as_tensor(noise(data, rng=np.random.default_rng(3))).long()
    p, row = worst_row(data.targets, drawn, claimed)
    if p < LEAST_P:
        shown = torch.bincount(drawn[data.targets == row], minlength=count).double()
        shown = shown / shown.sum()
        far = int((shown - claimed[row]).abs().argmax())
        raise Fault(
            f"class {row} becomes {far} in {float(shown[far]):.3f} of {int((data.targets == row).sum())} draws, "
            f"the matrix says {float(claimed[row, far]):.3f}"
        )
    return f"least p over classes {p:.2g}"


def worst_row(clean: Tensor, drawn: Tensor, claimed: Tensor) -> tuple[float, int]:
    """The least p-value of a chi-square test of each class's draws against its row, and that class."""
    from scipy.stats import chi2

    worst = (1.0, 0)
    for row in range(len(claimed)):
        observed = torch.bincount(drawn[clean == row], minlength=len(claimed)).double().numpy()
        expected = (claimed[row] * observed.sum()).numpy()
        possible = expected > 1e-9
        if observed[~possible].sum() > 0:
            return 0.0, row
        if possible.sum() > 1:
            statistic = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
            worst = min(worst, (float(chi2.sf(statistic, possible.sum() - 1)), row))
    return worst


@check(
    "dataset",
    reason="results on a data set are comparable only if everybody reads the same samples",
    remedy="return DataSplits(train, test) of LabelledData, built without chance or with a fixed seed",
)
def splits(subject: Subject, bench: Bench) -> str | None:
    """Clean training and test data that fit each other, the same at every call, with no sample in both."""
    for file in subject.facts.declares.files:
        if not (data_folder() / file).exists():
            raise Skip(f"{file} is not under HARNESS_DATA; `harness data fetch {subject.component.name}`")
    made = subject.make()
    if not isinstance(made, DataSplits):
        raise Fault(f"it makes {type(made).__name__}, not harness.DataSplits")
    train, test = made.train, made.test
    if not len(train) or not len(test):
        raise Fault("a split is empty")
    if train.num_classes != test.num_classes:
        raise Fault(f"{train.num_classes} classes in training, {test.num_classes} in test")
    if train.task not in subject.tasks:
        raise Fault(
            f"it is for {train.task} and declares {' and '.join(subject.tasks)}",
            f'declares = Declares(tasks=("{train.task}",))',
        )
    declared = subject.facts.declares.classes
    if declared is not None and declared != train.num_classes:
        raise Fault(f"it declares {declared} classes and has {train.num_classes}")
    if train.num_classes is not None:
        present = test.targets.sum(0).nonzero() if test.task == "multilabel" else test.targets.unique()
        missing = sorted(set(range(train.num_classes)) - set(present.flatten().tolist()))
        if missing:
            raise Fault(f"class {missing[0]} has no test sample")
        if train.targets.dtype != torch.int64:
            raise Fault(f"classes are {train.targets.dtype}, not int64", "targets.long()")
    again = subject.make()
    if not torch.equal(again.train.targets, train.targets) or not torch.equal(again.test.targets, test.targets):
        raise Fault("two calls give other targets")
    if isinstance(train.inputs, Tensor) and isinstance(test.inputs, Tensor):
        _check_resident(made, again)
    return f"{len(train):,} training and {len(test):,} test samples"


@check(
    "dataset",
    reason="a method holds the inputs; clean labels that lie beside them can be read by it",
    remedy="give targets to LabelledData only; a torch Dataset of inputs keeps paths and transforms",
)
def inputs_only(subject: Subject, bench: Bench) -> str | None:
    """No path leads from a run on the data set to its clean training or test labels."""
    for file in subject.facts.declares.files:
        if not (data_folder() / file).exists():
            raise Skip(f"{file} is not under HARNESS_DATA; `harness data fetch {subject.component.name}`")
    made = subject.make()
    trial, suite = bench.trial(epochs=1)
    prepared = prepare(trial, suite.host, CPU, {canonical(trial.identity["dataset"]): made})
    wanted = [("test", made.test.targets)]
    if bool(prepared.evaluator.corrupted.any()):
        wanted += [("training", prepared.evaluator.train_clean), ("training", made.train.targets)]
    for name, labels in wanted:
        if paths := find_labels(prepared.run, labels):
            raise Fault(f"the clean {name} labels can be reached: {paths[0]}")
    return None


def _check_resident(made: DataSplits, again: DataSplits) -> None:
    train, test = made.train.inputs, made.test.inputs
    assert isinstance(train, Tensor) and isinstance(test, Tensor)
    if not torch.equal(again.train.inputs, train):  # type: ignore[arg-type]
        raise Fault("two calls give other inputs")
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise Fault(
            f"training inputs are {train.dtype} {tuple(train.shape[1:])}, "
            f"test inputs {test.dtype} {tuple(test.shape[1:])}"
        )
    if train.dtype not in (torch.uint8, torch.float32, torch.int64):
        raise Fault(f"inputs are {train.dtype}", "images as uint8, features as float32, tokens as int64")
    if train.ndim == 4 and train.dtype != torch.uint8:
        raise Fault(f"images are {train.dtype}", "keep images as uint8 in [0, 255]; the harness standardises")
    if train.is_floating_point() and not bool(train.isfinite().all()):
        raise Fault("an input is not finite")
    fit = Standardiser.fit(train, "channel")
    if fit is not None and not bool(fit.mean.isfinite().all() & fit.std.isfinite().all()):
        raise Fault("the inputs have no finite mean and deviation")
    seen = {row.tobytes() for row in train.reshape(len(train), -1).numpy()}
    both = sum(row.tobytes() in seen for row in test.reshape(len(test), -1).numpy())
    if both > 0.05 * len(test):
        raise Fault(f"{both} of {len(test)} test inputs are also training inputs")
