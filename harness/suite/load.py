"""A suite file read, checked and expanded: TOML -> tables -> settings x methods x seeds -> trials."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SuiteError, unknown
from harness.paths import expanded
from harness.plugins import Host, load_host
from harness.registry import Component
from harness.suite.document import FORCED, apply, assignments, check_shape, read_document
from harness.suite.methods import Method, read_methods, searches_something
from harness.suite.replay import ReplayFiles, replay_files
from harness.suite.schema import (
    TABLES,
    EvaluationTable,
    ExecutionTable,
    ReplayTable,
    SuiteTable,
    TrainingTable,
    parse,
)
from harness.suite.select import Clause, matches, parse_selection
from harness.suite.settings import Setting, keys_of, read_settings, tasks_of
from harness.suite.template import Entry, Template, make_templates
from harness.tasks import TASKS

__all__ = ["Entry", "Method", "Setting", "Suite", "Template", "find_suite", "load_suite", "packaged_suites"]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A validated suite."""

    path: Path
    table: SuiteTable
    training: TrainingTable
    evaluation: EvaluationTable
    execution: ExecutionTable
    replay: ReplayFiles
    settings: tuple[Setting, ...]
    methods: tuple[Method, ...]
    host: Host
    executors: Mapping[str, Mapping[str, Any]]
    exclude: tuple[tuple[Clause, ...], ...]
    plugin_files: tuple[str, ...]
    forced: Mapping[str, Any]
    comparable: bool = True
    """False when ``--scale quick`` shrank it: its results are not comparable with published ones."""
    arguments: tuple[str, ...] = ()
    """What follows ``harness run`` to load it again, beside the suite's file."""
    _templates: dict[tuple[str, str], list[Template]] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    _digests: dict[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def slug(self) -> str:
        """The name as a folder's name."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.name)

    def templates(self, method: Method, setting: Setting) -> list[Template]:
        """Every candidate of a method on a setting; one for a method without ``search``.

        Raises:
            SuiteError: for a component, parameter or stack that cannot be.
        """
        key = (method.name, setting.name)
        if key not in self._templates:
            self._templates[key] = make_templates(self, method, setting)
        return self._templates[key]

    def digest(self, component: Component) -> str:
        """The digest of a component's source, as it was when the suite first needed it."""
        if component.label not in self._digests:
            self._digests[component.label] = component.digest()
        return self._digests[component.label]

    def pairs(self) -> Iterator[tuple[Method, Setting]]:
        """Methods x settings, less what ``[suite] exclude`` takes out."""
        known = keys_of(self.settings)
        for setting, method in itertools.product(self.settings, self.methods):
            flat = {**setting.flat, "method": method.name}
            if not any(matches(clauses, flat, known, f"{self.path.name}: suite.exclude") for clauses in self.exclude):
                yield method, setting

    def entries(self) -> Iterator[Entry]:
        """All compared trials of methods that search nothing, seeds outermost so that a partial board is useful."""
        templates = [self.templates(m, s)[0] for m, s in self.pairs() if not m.table.search]
        for seed in self.table.seeds:
            for template in templates:
                yield template.entry(seed)


def load_suite(
    path: str | Path,
    overrides: Sequence[str] = (),
    plugins: Iterable[str | Path] = (),
    scale: str = "full",
) -> Suite:
    """Read and check a suite.

    Args:
        path: a TOML file, or ``suite:<name>`` for one that an installed plugin ships.
        overrides: assignments such as ``training.epochs=1``; they hold against settings and methods too.
        plugins: further single-file plugins.
        scale: ``full`` or ``quick`` (fewer epochs, a subset, one seed).

    Raises:
        SuiteError: with file, key and remedy.
    """
    plugins = list(plugins)
    named = str(path) if str(path).startswith("suite:") else Path(path).name
    arguments = [named, *(["--scale", scale] if scale != "full" else [])]
    for flag, values in (("--set", overrides), ("--plugin", [str(plugin) for plugin in plugins])):
        arguments += [word for value in values for word in (flag, value)]
    path = find_suite(path)
    document = read_document(path)
    file = path.name
    check_shape(document, file)
    forced: dict[str, Any] = {}
    for keys, value, where in assignments(document, scale, overrides, file):
        apply(document, keys, value, where)
        if keys[0] in FORCED:
            apply(forced, keys, value, where)
    check_shape(document, file)
    table = parse(SuiteTable, document["suite"], f"{file}: suite")
    if table.unavailable:
        raise SuiteError(f"this suite cannot run yet: {table.unavailable}", file)
    files = [*(path.parent / name for name in table.plugins), *map(Path, plugins)]
    host = load_host(files)
    executors = set(host.registry.names("executor"))
    for key in document:
        if key not in TABLES and key not in executors and key != "quick":
            raise SuiteError(unknown("table", key, [*TABLES, *executors]), file)
    if not table.seeds and not searches_something(document):
        raise SuiteError("the list is empty", f"{file}: suite.seeds", "name at least one")
    for duplicate in {seed for seed in table.seeds if table.seeds.count(seed) > 1}:
        raise SuiteError(f"seed {duplicate} is listed twice", f"{file}: suite.seeds")
    if both := set(table.seeds) & set(table.tuning_seeds):
        raise SuiteError(
            f"seed {min(both)} is also a comparison seed", f"{file}: suite.tuning_seeds", "tune on other seeds"
        )
    training = parse(TrainingTable, document.get("training", {}), f"{file}: training")
    evaluation = parse(EvaluationTable, document.get("evaluation", {}), f"{file}: evaluation")
    execution = parse(ExecutionTable, document.get("execution", {}), f"{file}: execution")
    replay = replay_files(
        parse(ReplayTable, document.get("replay", {}), f"{file}: replay").model_dump(), path.parent, f"{file}: replay"
    )
    settings = tuple(read_settings(document, file, host, training, evaluation, forced, executors))
    for setting in settings:
        if setting.subset is not None and "split" in replay.digests:
            raise SuiteError(
                "a replayed split says which samples are used", f"{setting.where}.subset", "drop one of them"
            )
    suite = Suite(
        path=path,
        table=table,
        training=training,
        evaluation=evaluation,
        execution=execution,
        replay=replay,
        settings=settings,
        methods=tuple(read_methods(document, file, executors, bool(table.tuning_seeds), keys_of(settings))),
        host=host,
        executors={name: _executor_table(host, name, document[name], file) for name in executors if name in document},
        exclude=tuple(parse_selection(item, f"{file}: suite.exclude") for item in table.exclude),
        plugin_files=tuple(str(file.resolve()) for file in files),
        forced=forced,
        comparable=scale == "full",
        arguments=tuple(arguments),
    )
    for method, setting in suite.pairs():
        suite.templates(method, setting)
    if not any(True for _ in suite.pairs()):
        raise SuiteError("every combination is excluded, so there is nothing to run", f"{file}: suite.exclude")
    _check_common_scale(suite)
    host.registry.save_cache()
    return suite


def _check_common_scale(suite: Suite) -> None:
    """One choice for all settings takes the mean of their scores, and regression losses of two data sets have no common
    unit, neither with each other nor with an accuracy."""
    if suite.table.search_over == "setting":
        return
    for method in (method for method in suite.methods if method.table.search):
        faced = [setting.dataset for one, setting in suite.pairs() if one is method]
        names = list(dict.fromkeys(dataset.label for dataset in faced))
        tasks = [TASKS[task] for dataset in faced for task in tasks_of(suite.host.registry, dataset)]
        shared = len({task.headline for task in tasks}) == 1 and all(task.unit for task in tasks)
        if len(names) > 1 and not shared:
            raise SuiteError(
                f"the mean over {' and '.join(names)} has no unit: regression losses of several data sets, or losses and "
                "accuracies",
                f"{suite.path.name}: suite.search_over",
                'set search_over = "setting", or give each data set a suite of its own',
            )


def find_suite(path: str | Path) -> Path:
    """The file of a suite: a path, or ``suite:<name>`` looked up in the folders of the entry-point group
    ``harness.suites``."""
    text = str(path)
    if not text.startswith("suite:"):
        found = expanded(path)
        if not found.exists() and text in packaged_suites():
            raise SuiteError("no such suite file", text, f"the packaged suite of that name is suite:{text}")
        return found
    known = packaged_suites()
    name = text.removeprefix("suite:")
    if name not in known:
        raise SuiteError(unknown("suite", name, known), text, "`harness suites` lists them")
    return known[name]


def packaged_suites() -> dict[str, Path]:
    """Suites that installed distributions ship, by name."""
    found: dict[str, Path] = {}
    for folder in _suite_folders():
        for file in sorted(folder.rglob("*.toml")):
            found[str(file.relative_to(folder).with_suffix("")).replace("\\", "/")] = file
    return found


@functools.cache
def _suite_folders() -> tuple[Path, ...]:
    """Where installed distributions keep suites; what is installed is looked at once, since that takes 20 ms."""
    import importlib.metadata
    import importlib.util

    specs = [importlib.util.find_spec(e.value) for e in importlib.metadata.entry_points(group="harness.suites")]
    return tuple(Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ())


def _executor_table(host: Host, name: str, value: Any, file: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SuiteError(f"should be a table, got {value!r}", f"{file}: {name}")
    try:
        host.registry.validate("executor", name, value)
    except HarnessError as error:
        key = error.where.removeprefix(f"executors.{name}").lstrip(".")
        raise SuiteError(error.what, f"{file}: {name}.{key}" if key else f"{file}: {name}", error.remedy) from None
    return value
