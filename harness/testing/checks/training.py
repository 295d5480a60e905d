"""What is held to in training: determinism, resuming, clean labels out of reach, executors, composition, cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import HarnessError
from harness.needs import NEEDS, Described
from harness.registry import Component
from harness.results.records import final_attempt, read_json, read_lines, trial_folder
from harness.suite.plan import Plan
from harness.testing.bench import CPU, Bench, Outcome, Silent, difference, finite, refused
from harness.testing.checks.models import example
from harness.testing.rows import Rows, counting
from harness.testing.subject import Subject
from harness.testing.verdicts import TRAINED, Fault, Skip, check
from harness.training.loop import Loop
from harness.training.prepare import prepare
from harness.training.reach import find_labels
from harness.training.run import Step
from harness.training.views import as_on_accelerator
from harness.trial import Trial
from harness.words import counted

FEW = 24
"""Samples for a model, which may be large."""
TIMED_BATCH = 128
TIMED_SAMPLES = 512
MOST_COST = 6.0


def _setting(subject: Subject, bench: Bench, **changes: Any) -> dict[str, Any]:
    """The bench's setting; a model gets inputs that it takes."""
    if subject.kind == "model" and "dataset" not in changes:
        changes["dataset"] = bench.dataset(**example(subject), size=FEW)
    return bench.setting(**changes)


@check(
    *TRAINED,
    reason="differences between methods are paired by seed; a result that cannot be repeated is none",
    remedy='draw from run.generator("algorithm"), or from torch\'s global generator, which each trial seeds',
)
def deterministic(subject: Subject, bench: Bench) -> str | None:
    """The same trial trained twice gives the same epochs and the same state, bit by bit."""
    trial, suite = bench.trial(setting=_setting(subject, bench), epochs=2)
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 -- whether the global state matters is the question
        outcomes.append(bench.train(trial, suite))
    first, second = outcomes
    if not finite(first):
        raise Fault("the training loss is not a number", "look at its gradients and at its default parameters")
    place = difference(_states(first), _states(second))
    if place is not None:
        raise Fault(f"two trainings of one trial differ, first at {place}")
    return None


@check(
    *TRAINED,
    reason="a trial that is killed goes on from its checkpoint and must give the same numbers",
    remedy="keep what training changes in run.sample_state, or in state_dict() and load_state_dict()",
)
def resumes(subject: Subject, bench: Bench) -> str | None:
    """A training that is stopped between batches and resumed from its checkpoint ends in the same state."""
    trial, suite = bench.trial(setting=_setting(subject, bench))
    whole = bench.train(trial, suite)
    for stop_after in (7, 5):
        part = bench.train(trial, suite, stop_after=stop_after)
        if part.checkpoint is None:
            continue
        again = bench.train(trial, suite, resume=part)
        place = difference(_states(whole), _states(again))
        if place is not None:
            when = "in mid-epoch" if stop_after == 7 else "after an epoch"
            raise Fault(f"a training stopped {when} and resumed ends otherwise, first at {place}")
    return None


def _states(outcome: Outcome) -> dict[str, Any]:
    return {"epochs": outcome.history, "run": outcome.run.state_dict()}


@check(
    "algorithm",
    reason="RRM, CDR, RDI and clipping act on a step of a method's own only where it descends through the stack",
    remedy="end train_step in run.descend(step), and declare Declares(own_step=True, descends=True)",
)
def descends(subject: Subject, bench: Bench) -> str | None:
    """A step of its own descends through the stack's hooks if it declares so, and only then."""
    declares = subject.facts.declares
    if "train_step" not in subject.facts.hooks:
        if declares.descends or declares.own_step:
            raise Fault("it declares a step of its own and has no train_step")
        raise Skip("it has no train_step")
    trial, suite = bench.trial(epochs=3)
    run = prepare(trial, suite.host, CPU).run
    counts = {"train_step": 0, "descend": 0}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            counts[name] += name == "descend" or result is True
            return result

        return call

    run.stack.train_step = counting("train_step", run.stack.train_step or (lambda **_: None))
    run.descend = counting("descend", run.descend)  # type: ignore[method-assign]
    silent: Any = Silent()
    Loop(run, silent, _Quiet(), checkpoint_s=1e9).fit()
    if counts["train_step"] and not declares.own_step:
        raise Fault("its train_step replaces the training step, and it does not declare own_step")
    if counts["descend"] and not declares.descends:
        raise Fault("its train_step descends through the stack, and it does not declare descends")
    if counts["train_step"] and declares.descends and not counts["descend"]:
        raise Fault("it declares descends, and none of its steps called run.descend")
    return f"{counts['descend']} descents in {counted(counts['train_step'], 'step')} of its own"


@check(
    "loss", "algorithm",
    reason="a user finds a method by what it needs and what it costs",
    remedy='say it where it is registered: register(..., needs=["two_networks", "features"], rows=(0, 2))',
)  # fmt: skip
def needs(subject: Subject, bench: Bench) -> str | None:
    """What a small training shows to need (two networks, features, strong views), and the rows that it sends through
    networks, are no more than its registration and its ``declares`` say."""
    seen, rows = observed(bench)
    said = subject.host.registry.needs(subject.component)
    for need in seen:
        if need not in said:
            remedy = "declare its views: Declares(views=(...))" if need == "strong_view" else f'needs=["{need}"]'
            raise Fault(f"it uses {NEEDS[need]} and does not say that it needs {need}", remedy)
    cost, most = subject.component.described.cost, Described(rows=rows).cost
    if most > 1.25 * cost + 0.1:
        told = f"{rows[0]:.2f} rows forward only and {rows[1]:.2f} forward and back"
        raise Fault(f"an epoch has {told} for each sample, {most:.1f} times cross entropy's; it says {cost:.1f}")
    return ", ".join(said)


def observed(bench: Bench, *args: Any, epochs: int = 3, **options: Any) -> tuple[set[str], tuple[float, float]]:
    """What a small training of the subject uses, of :data:`harness.needs.NEEDS`, and its rows for each sample, forward
    only and forward and back, in the epoch that has most of them."""
    trial, suite = bench.trial(*args, epochs=epochs, **options)
    run = prepare(trial, suite.host, CPU).run
    rows = Rows()
    seen: set[str] = set()
    counts = [(0.0, 0.0)]

    class Noted(Silent):
        def epoch(self, run: Any, *, last: bool) -> dict[str, float | None]:
            seen.update({"two_networks"} if len(rows.networks) > 1 else ())
            counts.append((rows.forward / run.num_samples, rows.trained / run.num_samples))
            rows.forward = rows.trained = 0
            rows.networks.clear()
            return {}

    noted: Any = Noted()
    with counting(run, rows):
        Loop(run, noted, _Quiet(), checkpoint_s=1e9).fit()
    seen |= {"features"} if rows.features else set()
    seen |= {"strong_view"} if set(rows.views) - {"weak"} else set()
    return seen, max(counts, key=lambda pair: Described(rows=pair).cost)


@check(
    *TRAINED,
    reason="clean labels belong to the evaluator; a method that holds them is no method",
    remedy="use run.targets, the noisy labels; hand scores to run.score_samples to have detection measured",
)
def unreachable(subject: Subject, bench: Bench) -> str | None:
    """No path leads from the run to the clean training or test labels, before, in, or after training."""
    trial, suite = bench.trial(setting=_setting(subject, bench), epochs=1)
    outcome = bench.train(trial, suite)
    evaluator = outcome.evaluator
    if bool((evaluator.train_clean == evaluator.train_noisy).all()):
        raise Skip("the setting has no noise, so clean and noisy labels are the same")
    for name, labels in (("training", evaluator.train_clean), ("test", evaluator.test_targets)):
        paths = find_labels(outcome.run, labels)
        if paths:
            raise Fault(f"the clean {name} labels can be reached: {paths[0]}")
    return None


@check(
    *TRAINED,
    reason="clean labels, once used, must show: nothing that a method may see differs between the two canaries",
    remedy="use run.targets, the noisy labels, and nothing of the harness that is not handed to the hooks",
)
def canary(subject: Subject, bench: Bench) -> str | None:
    """Two data sets that differ in nothing but their clean labels are trained to the very same state."""
    small = {**example(subject), "size": FEW} if subject.kind == "model" else {}
    states = []
    for number in (1, 2):
        setting = bench.setting(dataset=bench.dataset(canary=number, **small), noise="testing.fixed")
        outcome = bench.train(*bench.trial(setting=setting, epochs=2))
        rows = ("lr", "train_loss", "train_accuracy", "train_mae", "diagnostics")
        epochs = [{key: record[key] for key in rows if key in record} for record in outcome.history]
        states.append({"epochs": epochs, "run": outcome.run.state_dict()})
    place = difference(states[0], states[1])
    if place is not None:
        raise Fault(f"training changes with the clean labels, first at {place}")
    return None


@check(
    "loss", "algorithm",
    reason="on a GPU every .item() waits for the device, and the loop has none",
    remedy="keep numbers as tensors within a batch; read them in epoch_end or diagnostics",
)  # fmt: skip
def no_sync(subject: Subject, bench: Bench) -> str | None:
    """The hooks of a mini-batch read no single number of a tensor."""
    reads = sum(_counted(bench, 32, Reads, epochs=2))
    if reads:
        raise Fault(f"mini-batches read {reads} numbers of tensors (item, float, bool, if)")
    return None


@check(
    "loss", "algorithm",
    reason="a loop over samples in Python is slower than the network, on a GPU a hundred times",
    remedy="use operations on the whole batch: gather, scatter, index_select, where",
)  # fmt: skip
def vectorised(subject: Subject, bench: Bench) -> str | None:
    """A mini-batch of twice the size takes as many operations."""
    small, large = (_counted(bench, size, Operations)[0] for size in (16, 32))
    if large > 1.2 * small + 10:
        raise Fault(
            f"the operations of a mini-batch grow from {small} to {large} when it doubles, as in a loop over samples"
        )
    return f"{large} operations a batch"


def _counted(bench: Bench, batch_size: int, counter: type[Reads] | type[Operations], epochs: int = 1) -> list[int]:
    """What a counter counts in every mini-batch of some epochs, whose views are drawn as on an accelerator."""
    trial, suite = bench.trial(epochs=epochs, batch_size=batch_size)
    prepared = prepare(trial, suite.host, CPU)
    run = prepared.run
    counts: list[int] = []

    class Counted(Loop):
        def train(self, step: Step) -> None:
            run.stack.watch.rest()  # what it looks at is no part of a mini-batch
            with as_on_accelerator(), counter() as counting:  # type: ignore[no-untyped-call]
                super().train(step)
            counts.append(counting.count)

    silent: Any = Silent()
    run.epochs = epochs
    Counted(run, silent, _Quiet(), checkpoint_s=1e9).fit()
    return counts


class Operations(TorchDispatchMode):
    """Counts the operations that reach a device, backward passes included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


READERS = frozenset({"item", "__float__", "__int__", "__bool__", "__index__", "tolist", "numpy", "cpu"})


class Reads(TorchFunctionMode):
    """Counts calls that hand numbers of a tensor to Python, as far as the tensor may lie on the trial's device.

    What is made on the CPU by name of no device (a draw from the trial's CPU generator) and what is computed from
    nothing else stays on the CPU under every device, so that reading it waits for nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [part for part in (*args, *kwargs.values()) if isinstance(part, torch.Tensor)]
        on_host = all(hasattr(part, "_on_host") for part in tensors) and "device" not in kwargs
        if getattr(func, "__name__", "") in READERS and tensors and not on_host:
            self.count += 1
        made = func(*args, **kwargs)
        if on_host and isinstance(made, torch.Tensor) and getattr(func, "__name__", "") not in ("to", "cuda"):
            made._on_host = True  # type: ignore[attr-defined]
        return made


class _Quiet:
    def epoch(self, record: Mapping[str, Any], timing: Mapping[str, Any]) -> None: ...

    def checkpoint(self, state: dict[str, Any]) -> None: ...

    def should_stop(self) -> bool:
        return False


@check(
    *TRAINED, "noise", "dataset",
    reason="trials run in this process, in workers and on clusters, and must give the same numbers",
    remedy="run the same suite with --executor inline, where a debugger reaches it",
)  # fmt: skip
def executors(subject: Subject, bench: Bench) -> str | None:
    """An epoch on the CPU under every executor that waits, with the same metrics under each."""
    suite = bench.suite(setting=_setting(subject, bench), epochs=1, validation=0.2, timeout_s=100)
    registry = subject.host.registry
    found: dict[str, Any] = {}
    for name in registry.names("executor"):
        if not _waits(registry.find("executor", name)[0]):
            continue
        found[name] = outcome_under(suite, bench, name)
    first = next(iter(found))
    for name, told in found.items():
        place = difference(found[first], told)
        if place is not None:
            raise Fault(
                f"{first} and {name} give other numbers, first at {place}",
                "let nothing depend on process, time or path",
            )
    return ", ".join(found)


def outcome_under(suite: Any, bench: Bench, executor: str) -> dict[str, Any]:
    """The epochs and metrics of all trials of a suite, run by an executor into a folder of its own."""
    from harness.execution.orchestrate import Orchestrator
    from harness.results.records import open_results

    plan: Plan = Orchestrator(suite, open_results(bench.folder / executor), executor).run()
    told: dict[str, Any] = {}
    for planned in plan.trials:
        attempt = final_attempt(trial_folder(plan.results, planned.id))
        result = (read_json(attempt / "result.json") if attempt is not None else None) or {}
        if result.get("status") != "done":
            error = result.get("error") or {"type": "no record", "message": planned.status}
            raise Fault(f"{executor}: {planned.entry.method} failed: {error['type']}: {error['message']}")
        assert attempt is not None
        told[planned.id] = {"epochs": read_lines(attempt / "epochs.jsonl"), "metrics": result["metrics"]}
    return told


def _waits(component: Component) -> bool:
    try:
        return "waits" in getattr(component.load(), "capabilities", ())
    except HarnessError:
        return False


@check(
    *TRAINED,
    reason="methods are stacks; what cannot stand together must be refused when the plan is made, with the reason",
    remedy="declare it: Declares(needs_per_sample=..., refuses={'other': 'why'})",
)
def composes(subject: Subject, bench: Bench) -> str | None:
    """Every stack with a built-in component that the plan accepts trains; what it refuses, it refuses with a reason."""
    accepted, refusals = 0, 0
    base = _setting(subject, bench)
    for partner in _partners(subject):
        method = _with_partner(subject, bench, partner)
        if method is None or not _works_alone(subject, bench, partner):
            continue
        try:
            trial, suite = bench.trial(method, base, epochs=1)
        except HarnessError as error:
            if not refused(error):
                raise
            refusals += 1
            continue
        try:
            outcome = bench.train(trial, suite, evaluate=False)
        except Exception as error:
            if isinstance(error, HarnessError) and subject.kind == partner.kind == "transform":
                refusals += 1  # whether two of them fit the same weights shows only on the model
                continue
            raise Fault(f"with {partner.label} it fails in training: {type(error).__name__}: {error}") from error
        if not finite(outcome):
            raise Fault(f"with {partner.label} the training loss is not a number")
        accepted += 1
    return f"{counted(accepted, 'stack trains', 'stacks train')}, {counted(refusals, 'is', 'are')} refused"


def _partners(subject: Subject) -> list[Subject]:
    """Components of the kinds that may stand beside it, evenly thinned to ``subject.partners``."""
    registry = subject.host.registry
    kinds = {
        "loss": ("algorithm",),
        "algorithm": ("loss", "algorithm", "transform"),
        "transform": ("algorithm", "transform"),
    }
    found = [
        Subject(component, subject.host)
        for kind in kinds.get(subject.kind, ("transform",))
        for component in registry.components(kind)
        if not component.is_family and component is not subject.component and not component.name.startswith("testing.")
    ]
    if subject.partners is not None and len(found) > subject.partners:
        found = [found[round(i * (len(found) - 1) / max(1, subject.partners - 1))] for i in range(subject.partners)]
    return found


def _with_partner(subject: Subject, bench: Bench, partner: Subject) -> dict[str, Any] | None:
    try:
        if subject.task not in partner.tasks and partner.kind != "transform":
            return None
        method = bench.method()
        if partner.kind == "loss":
            method["loss"] = partner.spec
        else:
            if partner.facts.declares.replaces and subject.kind in ("algorithm", "transform", "model"):
                method["loss"] = subject.facts.declares.replaces or partner.facts.declares.replaces
            key = f"{partner.kind}s"
            method[key] = [*method.get(key, []), partner.spec]
        return method
    except HarnessError:
        return None


_alone: dict[tuple[str, str], bool] = {}


def _works_alone(subject: Subject, bench: Bench, partner: Subject) -> bool:
    """Whether a partner trains without the subject on the same data; if not, it cannot testify."""
    key = (partner.label, subject.task)
    if key not in _alone:
        method: dict[str, Any] = {"name": "alone", "loss": partner.facts.declares.replaces or bench.base_loss}
        if partner.kind == "loss":
            method["loss"] = partner.spec
        else:
            method[f"{partner.kind}s"] = [partner.spec]
        setting = {"dataset": bench.dataset(), "noise": "testing.flip", "model": "testing.net"}
        try:
            _alone[key] = finite(bench.train(*bench.trial(method, setting, epochs=1), evaluate=False))
        except Exception:
            _alone[key] = False
    return _alone[key]


@check(
    "loss", "algorithm", "transform",
    reason="the board shows what a method costs; a loop over samples in Python costs more than the network",
    remedy="vectorise over the batch; read and write per-sample state by index",
)  # fmt: skip
def cost(subject: Subject, bench: Bench) -> str | None:
    """Processor time of an epoch relative to cross entropy's, for a small network at batch 128."""
    shape = [64] if subject.task == "regression" else [1, 28, 28]
    dataset = bench.dataset(shape=shape, size=TIMED_SAMPLES)
    model = subject.setting.get("model", {"name": "testing.net", "width": 16})
    setting = bench.setting(dataset=dataset, model=model)
    plain: dict[str, Any] = {"name": "plain", "loss": bench.base_loss}
    trials = [bench.trial(method, setting, epochs=2, batch_size=TIMED_BATCH) for method in (plain, bench.method())]
    seconds = [float("inf"), float("inf")]
    cache: dict[str, Any] = {}
    for _ in range(2):
        for number, (trial, suite) in enumerate(trials):
            seconds[number] = min(seconds[number], _cpu_seconds(trial, suite, bench, cache))
    ratio = seconds[1] / seconds[0]
    if ratio > MOST_COST:
        raise Fault(f"an epoch takes {ratio:.1f} times that of cross entropy")
    return f"{ratio:.2f} times cross entropy"


def _cpu_seconds(trial: Trial, suite: Any, bench: Bench, cache: dict[str, Any]) -> float:
    prepared = prepare(trial, suite.host, CPU, cache)
    silent: Any = Silent()
    loop = Loop(prepared.run, silent, _Quiet(), checkpoint_s=1e9)
    before = time.process_time()
    loop.fit()
    return time.process_time() - before
