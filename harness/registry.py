"""Components by kind and name: lazy factories, validated parameters, version, owner.

A component registered by a string (``"my_package.losses:GCE"``) is not imported until a trial creates it. What listing
and planning need (parameters, hooks, declarations, first line of the docstring) are its *facts*: read once by
importing, then kept in a cache file under the digest of the component's source.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from harness import parameters as params
from harness import running
from harness.declarations import Declares
from harness.errors import ComponentError, HarnessError, is_ctrl_c, kind_of, said, unknown
from harness.hookspecs import TRAINING_HOOKS
from harness.needs import Described, needs_of
from harness.paths import CacheFile
from harness.source import (
    component_digest,
    content_digest,
    module_file,
    of_old_rule,
    read_source,
    renewed,
    save_sources,
)

PLURALS: dict[str, str] = {
    "dataset": "datasets",
    "noise": "noise",
    "model": "models",
    "transform": "transforms",
    "loss": "losses",
    "algorithm": "algorithms",
    "estimator": "estimators",
    "detector": "detectors",
    "executor": "executors",
    "metric": "metrics",
    "plot": "plots",
}
KINDS: tuple[str, ...] = tuple(PLURALS)
CALLED: dict[str, tuple[str, ...]] = {
    "metric": ("outputs", "scores", "targets", "clean"),
    "plot": ("connection", "request"),
}
"""Kinds whose target is no factory but a function that the harness calls, with the arguments that it may name."""
FACTS_SCHEMA = 3


def printing_aside() -> contextlib.AbstractContextManager[Any]:
    """What a component prints, while it is read or run, goes to standard error: standard output is for what was asked."""
    return contextlib.redirect_stdout(sys.stderr)


class Register(Protocol):
    """What a ``harness_register_...`` hook is given.

    Args:
        name: as suites write it; one that ends in ``:`` is a family.
        target: a class or function, or ``"module:name"``, which stays unimported until a trial needs it.
        version: part of a trial's id; another one where results change at the same parameters.
        family, year, paper, needs, rows: by which a user finds a method; see :class:`harness.needs.Described`.
    """

    def __call__(
        self,
        name: str,
        target: str | Callable[..., Any],
        *,
        version: str = "1",
        family: str = "",
        year: int | None = None,
        paper: str = "",
        needs: Sequence[str] = (),
        rows: Sequence[float] = (0.0, 1.0),
    ) -> None: ...


class RegisterMetric(Protocol):
    """What ``harness_register_metrics`` is given.

    Args:
        name: the word of ``--metric`` and of ``[evaluation] metrics``; without a function, a name in ``diagnostics``.
        function: of ``outputs``, ``targets`` and ``clean``, or of some of them, as (N, ...) tensors on the trial's device;
            ``outputs`` are log-probabilities (N, K) of the classes, or predictions in regression. On test data ``targets``
            and ``clean`` are the same clean targets; on training data ``targets`` are the noisy ones, and ``clean`` is -1 for a
            sample that belongs to none of the classes. It gives one number, or (K,) numbers, which are recorded as
            ``name@0`` to ``name@K-1``. NaN is recorded as no number.
        title: what it is, in words.
        higher_is_better: whether more of it is better.
        percent: whether it is a share in [0, 1], to be shown in percent.
        unit: as written behind a value.
        group, label: the chart that its curve is drawn in, such as ``Accuracy``, and its name there.
        tasks: tasks that it is defined for.
        on: ``test``; ``train`` for the training data, which are measured at the epochs of ``train_every``; or ``scores``: at
            those epochs a function of ``scores`` (N,), ``targets`` and ``clean`` of training samples gives one number for each
            score that an algorithm detects wrong labels by, recorded as ``name@score`` and the last also as ``name``.
        chance: of the number of classes: what a run that diverged counts as; without it such a run has no value.
        version: as of any component.
    """

    def __call__(
        self,
        name: str,
        function: str | Callable[..., Any] | None = None,
        *,
        title: str,
        higher_is_better: bool = True,
        percent: bool = False,
        unit: str = "",
        group: str = "",
        label: str = "",
        tasks: Sequence[str] = ("classification",),
        on: Literal["test", "train", "scores"] = "test",
        chance: Callable[[int], float] | None = None,
        version: str = "1",
    ) -> None: ...


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a metric says of itself when it is registered; see :class:`RegisterMetric`.

    Attributes:
        quantity: title, unit, direction and chart, as results record them.
        diagnostic: whether it is what algorithms record under its name, not a function.
    """

    quantity: Mapping[str, Any]
    tasks: tuple[str, ...]
    on: Literal["test", "train", "scores"] = "test"
    chance: Callable[[int], float] | None = None
    diagnostic: bool = False


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a component without creating it."""

    parameters: list[dict[str, Any]]
    summary: str
    doc: str
    hooks: list[str]
    declares: Declares
    problems: list[str]

    @functools.cached_property
    def validator(self) -> Any:
        """The parameters' types, made once."""
        return params.validator(self.parameters)

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "declares": self.declares.to_json()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Facts:
        return cls(**{**facts, "declares": Declares.from_json(facts["declares"])})


@dataclasses.dataclass(frozen=True)
class Component:
    """One registered component. A name that ends in ``:`` is a family; its factory takes the rest as ``variant``."""

    kind: str
    name: str
    target: str | Callable[..., Any] = dataclasses.field(repr=False)
    version: str
    owner: str
    measured: Measured | None = dataclasses.field(default=None, repr=False, compare=False)
    """Of a metric."""
    described: Described = dataclasses.field(default_factory=Described, repr=False, compare=False)

    @property
    def label(self) -> str:
        """How errors name it: ``losses.gce``."""
        return f"{PLURALS[self.kind]}.{self.name}"

    @property
    def is_family(self) -> bool:
        return self.name.endswith(":")

    @property
    def address(self) -> str:
        """``module:qualified name`` of the factory."""
        return self.target if isinstance(self.target, str) else f"{self.target.__module__}:{self.target.__qualname__}"

    @property
    def module_name(self) -> str:
        return self.address.partition(":")[0]

    def load(self) -> Callable[..., Any]:
        """Import the factory.

        Raises:
            ComponentError: when the module or the name is not there, or importing fails.
        """
        if not isinstance(self.target, str):
            return self.target
        module_name, _, attribute = self.target.partition(":")
        try:
            with printing_aside():
                found: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                found = getattr(found, part)
        except BaseException as error:  # importing a stranger's module may raise anything
            if is_ctrl_c(error):
                raise
            raise ComponentError(
                f"cannot be loaded from {self.target!r}: {kind_of(error)}: {said(error)}",
                self.label,
                f"mend or remove its plugin ({self.owner})",
            ) from error
        if not callable(found):
            raise ComponentError(f"{self.target!r} is not callable", self.label, "register a class or a function")
        return found  # type: ignore[no-any-return]

    def source(self) -> Path | None:
        """The file that defines it, found without importing it."""
        module = sys.modules.get(self.module_name)
        if module is not None:
            path = getattr(module, "__file__", None)
            return Path(path) if path else None
        return module_file(self.module_name)

    def digest(self) -> str:
        """The digest of the source that defines it; a change makes recorded trials stale.

        Comments and docstrings are left out. The files are its module and what that imports, directly or not, from the
        same top-level package.
        """
        return self._fingerprint(component_digest)

    def content_digest(self) -> str:
        """The same over the bytes of the files, comments and docstrings included."""
        return self._fingerprint(content_digest)

    def _fingerprint(self, rule: Callable[[str, Path], str]) -> str:
        path = self.source()
        return rule(self.module_name, path) if path is not None and path.is_file() else ""


class Registry:
    """All components, by kind and name."""

    def __init__(self) -> None:
        self._components: dict[tuple[str, str], Component] = {}
        self.clashes: dict[tuple[str, str], list[Component]] = {}
        self.unavailable: dict[str, str] = {}
        self._facts: dict[tuple[str, str], Facts] = {}
        self._cache = FactsCache()

    def add(self, component: Component) -> None:
        """Register; a name taken by another owner is remembered as a clash, an error once somebody asks for it."""
        key = (component.kind, component.name)
        existing = self._components.get(key)
        if existing is not None and existing.address != component.address:
            self.clashes.setdefault(key, [existing]).append(component)
            return
        self._components[key] = component

    def names(self, kind: str) -> list[str]:
        """Registered names of a kind, sorted; families end in ``:``."""
        self._check_kind(kind)
        return sorted(name for k, name in self._components if k == kind)

    def components(self, kind: str | None = None) -> list[Component]:
        """Components of one kind or of all, by kind and name."""
        kinds = KINDS if kind is None else (kind,)
        return [self._components[(k, name)] for k in kinds for name in self.names(k)]

    def find(self, kind: str, name: str) -> tuple[Component, str]:
        """The component and its variant (empty unless ``name`` belongs to a family such as ``timm:``)."""
        self._check_kind(kind)
        if not isinstance(name, str):
            raise ComponentError(f"a component's name is a string, got {name!r}", PLURALS[kind])
        prefix, colon, variant = name.partition(":")
        key = (kind, prefix + colon if variant else name)
        if key in self.clashes:
            owners = " and ".join(dict.fromkeys(component.owner for component in self.clashes[key]))
            raise ComponentError(
                f"{name!r} is registered by {owners}", PLURALS[kind], "uninstall one or rename its component"
            )
        component = self._components.get(key)
        if component is None or (component.is_family and not variant):
            hint = f"; plugins that failed to load: {', '.join(self.unavailable)}" if self.unavailable else ""
            raise ComponentError(unknown(kind, name, self.names(kind)) + hint, PLURALS[kind])
        return component, variant

    def facts(self, component: Component) -> Facts:
        """Facts of a component: from memory, from the cache file, or by importing it."""
        key = (component.kind, component.name)
        if key not in self._facts:
            if isinstance(component.target, str):
                digest = component.content_digest()
                facts = self._cache.get(component.kind, component.target, digest)
                if facts is None:
                    facts = inspect_factory(component.kind, component.load())
                    self._cache.put(component.kind, component.target, digest, facts)
            else:
                facts = inspect_factory(component.kind, component.target)
            self._facts[key] = facts
        return self._facts[key]

    def needs(self, component: Component) -> tuple[str, ...]:
        """What a component needs, of :data:`harness.needs.NEEDS`."""
        facts = self.facts(component)
        return needs_of(component.kind, component.described, facts.parameters, facts.declares)

    def validate(self, kind: str, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a component checked, with defaults filled in; one that another makes meaningless is 0, an alias
        is the word that it stands for, and one that came later (``Declares.later``) is left out at its default."""
        component, variant = self.find(kind, name)
        facts = self.facts(component)
        if facts.problems:
            raise ComponentError(facts.problems[0], component.label, f"mend its plugin ({component.owner})")
        if component.is_family:
            if "variant" in values:
                raise ComponentError("'variant' is given by the name", component.label)
            values = {**values, "variant": variant}
        filled = params.validate_with(facts.validator, values, component.label)
        if component.is_family:
            filled.pop("variant", None)
        for ignored, given in facts.declares.ignored_with.items():
            if filled.get(given) is not None and ignored not in values:
                filled[ignored] = 0.0
        for key, value in filled.items():
            if isinstance(value, str):
                filled[key] = facts.declares.aliases.get(f"{key}={value}", value)
        defaults = {parameter["name"]: parameter["default"] for parameter in facts.parameters}
        for late in facts.declares.later:
            if late in filled and filled[late] == defaults[late]:
                del filled[late]
        return filled

    def content(self, name: str, values: Mapping[str, Any], *, exact: bool = False) -> str:
        """The digest of a data set's labels and files; empty for one that says nothing of its content.

        Args:
            name, values: of the data set, its parameters checked.
            exact: read every file again.
        """
        component, _ = self.find("dataset", name)
        module, _, function = self.facts(component).declares.content.partition(":")
        if not module:
            return ""
        return str(getattr(importlib.import_module(module), function)(values, exact=exact))

    def corrected(
        self, name: str, values: Mapping[str, Any], labels: Mapping[str, tuple[str, str]], folder: Path
    ) -> str:
        """Write a data set with corrected labels, where it knows how to.

        Args:
            name, values: of the data set, its parameters.
            labels: given and right label by sample, its file or the number of its row.
            folder: where to.

        Returns:
            What was written.

        Raises:
            ComponentError: for a data set that cannot.
        """
        component, _ = self.find("dataset", name)
        module, _, function = self.facts(component).declares.corrected.partition(":")
        if not module:
            raise ComponentError("cannot be written with other labels", component.label, "correct its files yourself")
        return str(getattr(importlib.import_module(module), function)(values, labels, folder))

    def create(self, kind: str, name: str, values: Mapping[str, Any], **context: Any) -> Any:
        """Make a component.

        Args:
            kind: one of :data:`KINDS`.
            name: its registered name.
            values: its parameters, as a user writes them.
            context: what the harness itself passes (a model's ``input_shape`` and ``num_outputs``).

        Raises:
            ComponentError: for an unknown name, a bad parameter, or a reference that only a setting can resolve; also for
                a data set or noise while a method trains, which would hand it the clean labels.
        """
        return self.maker(kind, name, values, **context)()

    def maker(self, kind: str, name: str, values: Mapping[str, Any], **context: Any) -> Callable[[], Any]:
        """What makes a component, as often as it is called; it holds the factory and its parameters alone.

        Args and errors are those of :meth:`create`.
        """
        component, variant = self.find(kind, name)
        if kind in ("dataset", "noise") and running.method_at_work():
            raise ComponentError(
                f"a {kind} cannot be made while a method trains: it holds clean labels",
                component.label,
                "make it in a data set's factory; a method reads run.source and run.targets",
            )
        if kind != "estimator" and params.NOISE_ESTIMATED_RATE in [v for v in values.values() if isinstance(v, str)]:
            raise ComponentError("a rate is estimated within a trial only", component.label, "give a number here")
        filled = self.validate(kind, name, values)
        if component.is_family:
            filled["variant"] = variant
        for key, value in filled.items():
            if value == params.NOISE_RATE:
                raise ComponentError(
                    f"parameter {key!r} refers to the noise rate of a setting", component.label, "give a number here"
                )
        factory = component.load()
        if kind == "model":
            accepted = inspect.signature(factory).parameters
            missing = [key for key in ("input_shape", "num_outputs") if key in accepted and key not in context]
            if missing:
                raise ComponentError(
                    f"a model needs {' and '.join(missing)}",
                    component.label,
                    "pass input_shape=(1, 28, 28), num_outputs=10",
                )
            filled.update({key: value for key, value in context.items() if key in accepted})
        return functools.partial(_make, factory, filled, component.label)

    def renewed(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Recorded digests by ``kind:name``, those of the old rule by the present one where their source is as it was."""
        found = dict(digests)
        for key in (key for key, recorded in digests.items() if of_old_rule(recorded)):
            with contextlib.suppress(ComponentError):  # its plugin is gone
                component, _ = self.find(*key.split(":", 1))
                if (path := component.source()) is not None:
                    found[key] = renewed(found[key], component.module_name, path)
        return found

    def has_changed(self, digests: Mapping[str, str]) -> bool:
        """Whether a component has another source than the recorded digest is of; those that are not here tell nothing."""
        for key, recorded in self.renewed(digests).items():
            with contextlib.suppress(ComponentError):
                kind, _, name = key.partition(":")
                if self.find(kind, name)[0].digest() != recorded:
                    return True
        return False

    def save_cache(self) -> None:
        """Write the facts that this process had to import for, and what it read of sources."""
        self._cache.save()
        save_sources()

    @staticmethod
    def _check_kind(kind: str) -> None:
        if kind not in KINDS:
            raise ComponentError(unknown("kind", kind, KINDS))


def _make(factory: Callable[..., Any], values: Mapping[str, Any], label: str) -> Any:
    """Call a factory; what it says of its parameters is told with its name."""
    try:
        return factory(**params.arguments(copy.deepcopy(dict(values))))
    except HarnessError:
        raise
    except (TypeError, ValueError) as error:
        raise ComponentError(said(error), label) from error


def inspect_factory(kind: str, factory: Callable[..., Any]) -> Facts:
    """Read the facts of a factory that is already imported."""
    doc = inspect.getdoc(factory) or ""
    if kind in CALLED:
        taken = inspect.signature(factory).parameters
        wrong = [
            f"it takes {name!r}, which is none of {list(CALLED[kind])}" for name in taken if name not in CALLED[kind]
        ]
        return Facts([], doc.partition("\n")[0], doc, [], Declares(), wrong[:1])
    parameters, problems = params.describe(factory)
    hooks: list[str] = []
    declares = getattr(factory, "declares", None)
    if declares is not None and not isinstance(declares, Declares):
        problems.append("`declares` must be a harness.Declares")
        declares = None
    if inspect.isclass(factory) and kind in ("algorithm", "loss"):
        hooks, more = inspect_hooks(factory)
        problems += more
        if kind == "algorithm" and not hooks and not problems:
            problems.append("it implements no training hook")
    if kind == "noise" and hasattr(factory, "transition_matrix"):
        hooks = ["transition_matrix"]
    return Facts(parameters, doc.partition("\n")[0], doc, hooks, declares or Declares(), problems)


def inspect_hooks(owner: type) -> tuple[list[str], list[str]]:
    """The training hooks that a class implements, and what is wrong with its methods."""
    from harness import hookspecs

    hooks: list[str] = []
    problems: list[str] = []
    for name in dir(owner):
        method = getattr(owner, name)
        if name.startswith("_") or not inspect.isroutine(method):
            continue
        if name in TRAINING_HOOKS:
            allowed = list(inspect.signature(getattr(hookspecs, name)).parameters)
            taken = list(inspect.signature(method).parameters)[1:]
            wrong = [argument for argument in taken if argument not in allowed]
            if wrong:
                problems.append(f"hook {name!r} takes {wrong[0]!r}, which is none of its arguments {allowed}")
            hooks.append(name)
        else:
            close = difflib.get_close_matches(name, TRAINING_HOOKS, n=1, cutoff=0.8)
            if close and not hasattr(owner, close[0]):
                problems.append(f"method {name!r} looks like a hook but is none (did you mean {close[0]!r}?)")
    return hooks, problems


class FactsCache:
    """Facts of string-registered components in one JSON file, so that listing and planning import no torch.

    The file lies under ``$HARNESS_CACHE`` (default ``~/.cache/noisy-label-harness``); losing it costs one import.
    """

    def __init__(self) -> None:
        self._file = CacheFile(f"facts-{FACTS_SCHEMA}")

    def get(self, kind: str, target: str, digest: str) -> Facts | None:
        entry = self._file.get(f"{kind} {target}")
        return Facts.from_json(entry["facts"]) if entry and digest and entry["digest"] == digest + _core() else None

    def put(self, kind: str, target: str, digest: str, facts: Facts) -> None:
        if digest:
            self._file.put(f"{kind} {target}", {"digest": digest + _core(), "facts": facts.to_json()})

    def save(self) -> None:
        """Add what is new to the file."""
        self._file.save()


_core_digest = ""


def _core() -> str:
    """Digest of the modules that decide what facts say; facts of an older harness are read anew."""
    global _core_digest
    if not _core_digest:
        here = Path(__file__).parent
        files = [here / name for name in ("registry.py", "parameters.py", "declarations.py", "hookspecs.py")]
        _core_digest = hashlib.sha256("".join(read_source(file).content for file in files).encode()).hexdigest()[:8]
    return _core_digest


def function_summary(module_name: str, name: str) -> str:
    """First line of the docstring of a module's function, or else of the module, read without importing it."""
    try:
        spec = importlib.util.find_spec(module_name)
        source = Path(spec.origin).read_text() if spec is not None and spec.origin else ""
        module = ast.parse(source)
        named = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name]
        said = next(filter(None, map(ast.get_docstring, named)), None) or ast.get_docstring(module)
        return (said or "").partition("\n")[0]
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""


def as_component(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """``"gce"`` or ``{ name = "gce", q = 0.5 }`` as (name, parameters)."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return value["name"], {key: item for key, item in value.items() if key != "name"}
    raise ComponentError(f"a component is a name or a table with a name, got {value!r}", where)
