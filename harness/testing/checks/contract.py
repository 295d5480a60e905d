"""What every component is held to before anything is trained: its registration, parameters, hooks and identity."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from harness.errors import HarnessError
from harness.execution.executor import Executor
from harness.registry import KINDS
from harness.testing.bench import Bench
from harness.testing.subject import Checked, Subject
from harness.testing.verdicts import Fault, Finding, check
from harness.trial import Trial

STACKED = ("loss", "transform", "algorithm")


@check(*KINDS, reason="a name must mean one thing, and a reader must know what", remedy="rename it, or mend its module")
def registered(subject: Subject, bench: Bench) -> str | None:
    """The name is its own, the factory can be imported, and its docstring says what it is."""
    clash = subject.host.registry.clashes.get((subject.kind, subject.component.name))
    if clash:
        owners = " and ".join(dict.fromkeys(component.owner for component in clash))
        raise Fault(
            f"the name {subject.component.name!r} is registered twice: by {owners}",
            "register it under a name of its own",
        )
    factory = subject.component.load()
    if not subject.facts.summary:
        raise Fault(
            "it has no docstring",
            f"say in one line what {getattr(factory, '__name__', 'it')} is, with paper and equation",
        )
    return f"version {subject.component.version}"


@check(
    *KINDS,
    reason="parameters are validated, hashed into the trial's id and written as JSON",
    remedy="give every parameter a type of numbers, strings, bools, lists or Literal, and a default of that type",
)
def parameters(subject: Subject, bench: Bench) -> str | None:
    """Every parameter has a type that a suite can write, and a default that this type accepts."""
    wrong = [problem for problem in subject.facts.problems if problem.startswith("parameter ")]
    if wrong:
        raise Fault("; ".join(wrong))
    registry = subject.host.registry
    name = subject.name or subject.component.name
    for parameter in subject.facts.parameters:
        if parameter["required"] or parameter["name"] in ("**", "variant"):
            continue
        default = parameter["default"]
        try:
            json.dumps(default, allow_nan=False)
        except (TypeError, ValueError):
            raise Fault(f"the default of {parameter['name']!r} is no JSON value: {default!r}") from None
        try:
            registry.validate(subject.kind, name, {**subject.filled, parameter["name"]: default})
        except HarnessError as error:
            raise Fault(f"the default of {parameter['name']!r} {error.what}", "mend the default or the type") from None
    registry.validate(subject.kind, name, subject.filled)
    return f"{len(subject.facts.parameters)} typed"


@check(
    "loss",
    "algorithm",
    reason="a method that is not quite a hook is never called, and nobody notices",
    remedy="see `harness.hookspecs` for the hooks' names and arguments",
)
def hooks(subject: Subject, bench: Bench) -> str | None:
    """The methods named like training hooks are hooks, and take arguments that the hooks have."""
    wrong = [problem for problem in subject.facts.problems if not problem.startswith("parameter ")]
    if wrong:
        raise Fault("; ".join(wrong))
    return ", ".join(subject.facts.hooks)


@check(
    *STACKED, "dataset", "noise", "model",
    reason="a trial is data: a worker rebuilds it from JSON, and its id decides what is run again",
    remedy="let parameters be plain values, and defaults constants",
)  # fmt: skip
def identity(subject: Subject, bench: Bench) -> str | None:
    """A trial survives JSON, and its id depends on neither the order of keys nor on writing defaults out."""
    trial, _ = bench.trial()
    again = Trial.from_json(json.loads(json.dumps(trial.to_json())))
    if again.id != trial.id:
        raise Fault("a trial that went through JSON has another id")
    registry = subject.host.registry
    written = registry.validate(subject.kind, subject.name or subject.component.name, subject.filled)
    spelt = {
        "name": subject.spec["name"],
        **{key: value for key, value in reversed(written.items()) if value is not None},
    }
    method, setting = bench.method(), bench.setting()
    if subject.kind == "loss":
        method["loss"] = spelt
    elif subject.kind in ("transform", "algorithm"):
        method[f"{subject.kind}s"] = [spelt]
    else:
        setting[subject.kind] = {key: [value] if isinstance(value, list) else value for key, value in spelt.items()}
        if any(isinstance(value, list) for value in spelt.values()):
            setting[subject.kind] = subject.spec  # a list may be an axis of the grid, so it is left as given
    other, _ = bench.trial(method, setting)
    if other.id != trial.id:
        raise Fault(
            "writing the defaults out changes the trial's id", "let the types say exactly which values are meant"
        )
    return trial.id


@check("executor", reason="the orchestrator calls these", remedy="see harness.execution.executor")
def executor(subject: Subject, bench: Bench) -> str | None:
    """It is an ``Executor`` that says what it is capable of; all that it must have, it has."""
    try:
        made: Any = subject.make()
    except HarnessError as error:
        raise Fault(str(error)) from None
    if not isinstance(made, Executor):
        raise Fault(
            f"it is a {type(made).__name__} and no Executor", "derive it from harness.execution.executor.Executor"
        )
    unknown = sorted(set(made.capabilities) - {"waits", "remote", "carries"})
    if unknown:
        raise Fault(f"nobody knows the capability {unknown[0]!r}", "choose among waits, remote and carries")
    return ", ".join(sorted(made.capabilities))


_LISTING = """
import importlib, json, sys
from harness.registry import inspect_factory
target, file, kinds = json.loads(sys.argv[1])
if file:
    from pathlib import Path
    from harness.plugins import load_file
    load_file(Path(file))
else:
    importlib.import_module(target)
heavy = [name for name in ("torch", "torchvision", "timm") if name in sys.modules]
from harness.plugins import Host
from pathlib import Path
host = Host([Path(file)] if file else [])
found = {}
for kind, name in kinds:
    component, _ = host.registry.find(kind, name)
    found[f"{kind} {name}"] = host.registry.facts(component).parameters
print(json.dumps([heavy, found]))
"""


LISTING_S = 120.0
"""Seconds after which a process that only names components is given up."""


def listing(checked: Checked) -> Finding:
    """Whether naming the plugin's components is cheap, and says the same in another process.

    A single file is read to be listed, so it may import torch; an installed module should register strings.
    """
    reason = "`harness plan` and `--help` list components; torch alone takes seconds to import"
    kinds = [
        (s.kind, s.component.name)
        for s in checked.subjects
        if (s.kind, s.component.name) not in s.host.registry.clashes
    ]
    module = checked.module.partition(":")[0]
    order = json.dumps([module, str(checked.file) if checked.file else "", kinds])
    command = [sys.executable, "-W", "ignore", "-c", _LISTING, order]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LISTING_S, check=False)
    except subprocess.TimeoutExpired:
        words = f"naming its components takes more than {LISTING_S:g} s"
        return Finding(checked.plugin.name, "listing", "fault", words, reason, "let its import wait for nothing")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Finding(checked.plugin.name, "listing", "fault", last, reason, "mend what its import does")
    heavy, found = json.loads(done.stdout.strip().splitlines()[-1])
    for subject in checked.subjects:
        theirs = found.get(f"{subject.kind} {subject.component.name}")
        if theirs is not None and theirs != json.loads(json.dumps(subject.facts.parameters)):
            words = f"{subject.label} has other parameters or defaults in another process"
            return Finding(checked.plugin.name, "listing", "fault", words, reason, "let defaults be constants")
    if heavy and checked.file is None:
        remedy = 'register strings, register("name", "package.module:Factory"), in a module that imports nothing heavy'
        return Finding(
            checked.plugin.name, "listing", "fault", f"importing {module} imports {heavy[0]}", reason, remedy
        )
    note = "imports no torch" if not heavy else "a single file may import torch"
    return Finding(checked.plugin.name, "listing", "ok", note)
