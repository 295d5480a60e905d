"""Finding plugins: entry points of installed distributions, single files; what is broken is reported, the rest works.

The entry-point group is ``harness``. First-party components come in through it like anyone's. A plugin that fails while
it is read or registered leaves nothing behind; one whose host hook raises is reported, and the other plugins go on.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pluggy

from harness import faults, hookspecs, running
from harness.errors import HarnessError, did_you_mean, is_ctrl_c, kind_of, said, unknown
from harness.needs import described
from harness.paths import existing_file
from harness.registry import PLURALS, Component, Measured, Registry, printing_aside
from harness.tasks import TASKS

GROUP = "harness"
DISTRIBUTION = "noisy-label-harness"
DIAGNOSTIC = "harness.results.quantities:diagnostic"
log = logging.getLogger("harness.plugins")


@dataclasses.dataclass(frozen=True)
class Plugin:
    """One plugin as ``harness plugins`` lists it. ``error`` is empty for one that works."""

    name: str
    owner: str
    place: str
    error: str = ""
    remedy: str = ""
    components: int = 0


class Host:
    """The plugin manager, the registry that plugins filled, and the report on every plugin."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self.registry = Registry()
        self.manager = pluggy.PluginManager("harness")
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self.files = tuple(files)
        for entry_point in _entry_points():
            self._admit_entry_point(entry_point)
        for path in files:
            self._admit_file(path)
        self.registry.unavailable = {plugin.name: plugin.error for plugin in self.plugins if plugin.error}

    def call(
        self,
        hook: str,
        *,
        on_error: Callable[[str], None] | None = None,
        accept: Callable[[Any], Any] = lambda result: result,
        after: Callable[[], object] = lambda: None,
        **arguments: Any,
    ) -> list[Any]:
        """Call a host hook of every plugin that has it, in pluggy's order; results that are ``None`` are left out.

        A plugin that raises is logged and noted for ``harness plugins``, and the next one is called.

        Args:
            hook: such as ``harness_trial_start``.
            on_error: told of every failure in one line, before the next plugin is called.
            accept: takes a result as it should be; what it raises is the plugin's failure too.
            after: called after every plugin, for what a hook changes in place; what it raises is the plugin's failure.
            arguments: the hook's arguments.
        """
        results: list[Any] = []
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            plugin = implementation.plugin
            others = [other for other in self.manager.get_plugins() if other is not plugin]
            file = inspect.unwrap(implementation.function).__code__.co_filename
            source = running.Source(str(self.manager.get_name(plugin)), file=file)
            try:
                with running.current().at(source, hook):
                    results += map(accept, self.manager.subset_hook_caller(hook, others)(**arguments))
                    after()
            except BaseException as error:
                if is_ctrl_c(error):
                    raise
                words = f"{source.component}: {hook} raised {_said(error)}"
                log.warning("%s; mend or remove the plugin", words)
                log.info("where it was raised:", exc_info=error)
                faults.note(Path(file), hook, _said(error))
                if on_error is not None:
                    on_error(words)
        return results

    def _admit_entry_point(self, entry_point: importlib.metadata.EntryPoint) -> None:
        distribution = entry_point.dist
        owner = f"{distribution.name} {distribution.version}" if distribution else "unknown distribution"
        if (reason := _too_new(distribution)) is not None:
            self._report(entry_point.name, owner, entry_point.value, reason, f"upgrade {DISTRIBUTION}")
            return
        try:
            with printing_aside():
                plugin = entry_point.load()
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._report(entry_point.name, owner, entry_point.value, _said(error), "mend or uninstall it")
            return
        self._admit(entry_point.name, owner, entry_point.value, plugin)

    def _admit_file(self, path: Path) -> None:
        needed = _stated_requirement(path)
        if needed and not _satisfies(needed):
            reason = f"it needs harness {needed}, this is {harness_version()}"
            self._report(path.stem, str(path), str(path), reason, f"upgrade {DISTRIBUTION}")
            return
        try:
            plugin = load_file(path)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self._report(path.stem, str(path), str(path), _said(error), "mend the file")
            return
        self._admit(path.stem, str(path), str(path), plugin)

    def _admit(self, name: str, owner: str, place: str, plugin: Any) -> None:
        """Register a plugin's hooks and components; on any error nothing of it stays."""
        needed = getattr(plugin, "HARNESS_REQUIRES", "")
        if needed and not _satisfies(str(needed)):
            reason = f"it needs harness {needed}, this is {harness_version()}"
            self._report(name, owner, place, reason, f"upgrade {DISTRIBUTION}")
            return
        if (problem := _hook_problem(plugin)) is not None:
            self._report(name, owner, place, problem, "see `harness.hookspecs` for hooks and their arguments")
            return
        try:
            self.manager.register(plugin, name=f"{name} ({owner})")
        except (pluggy.PluginValidationError, ValueError) as error:
            self._report(name, owner, place, " ".join(said(error).split()), "mend the hook's name and arguments")
            return
        added: list[Component] = []
        try:
            for kind, plural in PLURALS.items():
                self._call_registration(plugin, kind, plural, owner, added)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            self.manager.unregister(plugin)
            self._report(name, owner, place, _said(error), "mend its registration hook")
            return
        for component in added:
            self.registry.add(component)
        self.plugins.append(Plugin(name, owner, place, components=len(added)))

    def _call_registration(self, plugin: Any, kind: str, plural: str, owner: str, added: list[Component]) -> None:
        def register(
            name: str,
            target: str | Callable[..., Any],
            *,
            version: str = "1",
            family: str = "",
            year: int | None = None,
            paper: str = "",
            needs: Sequence[str] = (),
            rows: Sequence[float] = (0.0, 1.0),
            measured: Measured | None = None,
        ) -> None:
            if not isinstance(name, str) or not name or any(c.isspace() for c in name):
                raise ValueError(f"a component's name is a word, got {name!r}")
            if not isinstance(target, str) and not (callable(target) and hasattr(target, "__qualname__")):
                raise TypeError(f"{plural}.{name}: register a class, a function or 'module:name', got {target!r}")
            if isinstance(target, str) and ":" not in target:
                raise ValueError(f"{plural}.{name}: a lazy target reads 'module:name', got {target!r}")
            facts = described(f"{plural}.{name}", family, year, paper, needs, rows)
            added.append(Component(kind, name, target, str(version), owner, measured, facts))

        given: Any = functools.partial(_register_metric, register) if kind == "metric" else register
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        with printing_aside():
            self.manager.subset_hook_caller(f"harness_register_{plural}", others)(register=given)

    def _report(self, name: str, owner: str, place: str, error: str, remedy: str) -> None:
        self.plugins.append(Plugin(name, owner, place, error, remedy))


def _register_metric(
    register: Callable[..., None],
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
) -> None:
    """A metric with what it says of itself; :class:`harness.registry.RegisterMetric` says what that means."""
    if not isinstance(title, str) or not title:
        raise ValueError(f"metrics.{name}: a title says in words what it is, got {title!r}")
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"metrics.{name}: {unknown('task', task, TASKS)}")
    if on not in ("test", "train", "scores"):
        raise ValueError(f"metrics.{name}: on is 'test', 'train' or 'scores', got {on!r}")
    quantity = {
        "title": title,
        "unit": unit or ("%" if percent else ""),
        "percent": bool(percent),
        "higher_is_better": bool(higher_is_better),
        "group": group,
        "label": label,
    }
    measured = Measured(quantity, tuple(tasks), on, chance, function is None)
    register(name, DIAGNOSTIC if function is None else function, version=version, measured=measured)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    found = importlib.metadata.entry_points(group=GROUP)
    ours = [e for e in found if e.dist is not None and e.dist.name == DISTRIBUTION]
    return ours + sorted((e for e in found if e not in ours), key=lambda e: e.name)


def _hook_problem(plugin: Any) -> str | None:
    for name, value in inspect.getmembers(plugin, inspect.isroutine):
        if name.startswith("harness_") and name not in hookspecs.HOST_HOOKS:
            hint = did_you_mean(name, hookspecs.HOST_HOOKS)
            return f"unknown hook {name!r}" + (f" ({hint})" if hint else "")
        if name in hookspecs.HOST_HOOKS and not hasattr(value, "harness_impl"):
            return f"hook {name!r} is not marked with @harness.hookimpl"
    return None


def _too_new(distribution: importlib.metadata.Distribution | None) -> str | None:
    """Why an installed plugin's own requirement on the harness is not met, if so."""
    if distribution is None or distribution.name == DISTRIBUTION:
        return None
    requirements = [r for r in distribution.requires or [] if r.lower().replace("_", "-").startswith(DISTRIBUTION)]
    if not requirements:
        return None
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return f"its requirement {text!r} cannot be read"
        if canonicalize_name(requirement.name) != DISTRIBUTION:
            continue  # another distribution whose name starts like ours
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(harness_version(), prereleases=True):
            return f"it needs {requirement}, this is {harness_version()}"
    return None


def _stated_requirement(path: Path) -> str:
    """``HARNESS_REQUIRES`` of a file, read without running it: what is too new may not even import."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    for line in body:
        if not isinstance(line, (ast.Assign, ast.AnnAssign)):
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        named = any(isinstance(target, ast.Name) and target.id == "HARNESS_REQUIRES" for target in targets)
        if named and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
            return line.value.value
    return ""


def _said(error: BaseException) -> str:
    return " ".join(f"{kind_of(error)}: {said(error)}".split())


def _satisfies(specifier: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(specifier).contains(harness_version(), prereleases=True)
    except InvalidSpecifier:
        return False


@functools.cache
def harness_version() -> str:
    """Version of the installed distribution."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "0"


def load_file(path: Path) -> types.ModuleType:
    """Import a single plugin file under a name of its own; an edited file is read anew."""
    path = path.resolve()
    name = f"harness_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    stamp = (path.stat().st_mtime_ns, path.stat().st_size)
    module = sys.modules.get(name)
    if module is not None and getattr(module, "__harness_stamp__", None) == stamp:
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__harness_stamp__"] = stamp
    sys.modules[name] = module
    try:
        with printing_aside():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@functools.lru_cache(maxsize=8)
def _host(files: tuple[tuple[Path, int], ...]) -> Host:
    return Host([path for path, _ in files])


def load_host(files: Iterable[str | Path] = ()) -> Host:
    """The host with all installed plugins and the given single files; made once per set of files and their state."""
    paths = [existing_file(file, "plugin file", "check --plugin or the suite's `plugins`") for file in files]
    return _host(tuple((path, path.stat().st_mtime_ns) for path in dict.fromkeys(paths)))


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with one component or hook of a plugin that did load."""

    component: str
    owner: str
    problem: str
    remedy: str


def problems(host: Host) -> list[Problem]:
    """Everything that is wrong with the components of loaded plugins, as ``harness plugins`` lists it: clashing names,
    factories that cannot be imported, parameters without types, wrong hooks, and what was raised when they last ran."""
    found: list[Problem] = []
    for clash in host.registry.clashes.values():
        owners = " and ".join(dict.fromkeys(component.owner for component in clash))
        remedy = "rename one of them; until then suites cannot use the name"
        found += [Problem(c.label, c.owner, f"registered twice: by {owners}", remedy) for c in clash[1:]]
    files: dict[Path, tuple[str, str]] = {}
    for implementations in (getattr(host.manager.hook, name).get_hookimpls() for name in hookspecs.HOST_HOOKS):
        for one in implementations:
            path = Path(inspect.unwrap(one.function).__code__.co_filename)
            files[path] = tuple(str(host.manager.get_name(one.plugin)).rstrip(")").split(" (", 1))  # type: ignore[assignment]
    for component in host.registry.components():
        if (source := component.source()) is not None:
            files[source] = (component.label, component.owner)
        try:
            wrong = host.registry.facts(component).problems
        except BaseException as error:  # importing a stranger's module may raise anything
            if is_ctrl_c(error):
                raise
            wrong = [error.what if isinstance(error, HarnessError) else _said(error)]
        found += [Problem(component.label, component.owner, words, "mend its source") for words in wrong]
    for fault in faults.noted():
        if fault.file in files:
            name, owner = files[fault.file]
            found.append(Problem(name, owner, fault.words, f"mend {fault.file.name}; editing it clears this line"))
    return found


def merge_environment(host: Host) -> dict[str, Any]:
    """What plugins add to ``environment.json``; what JSON cannot hold is the plugin's failure."""

    def accept(facts: Any) -> dict[str, Any]:
        if not isinstance(facts, Mapping):
            raise TypeError(f"a dict is expected, not {type(facts).__name__}")
        held: dict[str, Any] = json.loads(json.dumps(dict(facts), allow_nan=False))
        return held

    merged: dict[str, Any] = {}
    for facts in reversed(host.call("harness_collect_environment", accept=accept)):
        merged.update(facts)
    return merged
