"""A suite file read, checked and expanded: TOML -> tables -> settings x methods x seeds -> trials."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, StackError, SuiteError, unknown
from harness.parameters import NOISE_MATRIX, NOISE_RATE, check_json
from harness.paths import expanded
from harness.plugins import DISTRIBUTION, Host, load_host
from harness.registry import Registry, as_component
from harness.results.quantities import QUANTITIES
from harness.suite.compose import Part, check_stack
from harness.suite.document import FORCED, apply, assignments, check_shape, read_document, tables_in
from harness.suite.grid import Choice, component_axis, product
from harness.suite.optim import OPTIMIZERS, SCHEDULES
from harness.suite.optim import validate as validate_optim
from harness.suite.replay import ReplayFiles, replay_files
from harness.suite.schema import (
    TABLES,
    AugmentTable,
    EvaluationTable,
    ExecutionTable,
    MethodTable,
    ReplayTable,
    SettingTable,
    SuiteTable,
    TrainingTable,
    WhenTable,
    parse,
)
from harness.suite.select import Clause, matches, parse_selection
from harness.tasks import TASKS
from harness.trial import SCHEMA, Trial, digest, flatten, seeded

OVERRIDES = ("optimizer", "schedule", "epochs", "batch_size", "clip")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What every method faces; one point of the grid of ``[[setting]]`` tables."""

    name: str
    dataset: Choice
    noise: Choice
    model: Choice
    augment: AugmentTable
    normalize: str
    constants: Mapping[str, list[float]]
    """Standardisation by given ``mean`` and ``std``; empty where they are computed."""
    subset: int | None
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    where: str
    tables: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What enters a trial's identity, without training and evaluation."""
        return {
            "dataset": self.dataset.to_json(),
            "noise": self.noise.to_json(),
            "model": self.model.to_json(),
            "augment": self.augment.identity(),
            "normalize": self.normalize,
            **self.constants,
            "subset": self.subset,
        }

    @functools.cached_property
    def view(self) -> dict[str, Any]:
        """The flat view that selections look at."""
        return {"setting": self.name, **flatten(self.to_json()), **flatten({"training": dict(self.training)})}


@dataclasses.dataclass(frozen=True)
class Method:
    """What is compared; ``table`` is as written, overrides for selected settings are applied by :meth:`table_for`."""

    name: str
    table: MethodTable
    when: tuple[tuple[tuple[Clause, ...], WhenTable], ...]
    where: str
    tables: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known: frozenset[str] = frozenset()
    """Keys that any setting of the suite has; a selection by one that this setting lacks just does not hold."""

    def table_for(self, setting: Setting) -> dict[str, Any]:
        """The method's keys on a setting: as written, then every ``when`` that holds, in order."""
        keys = ("loss", "transforms", "algorithms", *OVERRIDES)
        merged = {key: getattr(self.table, key) for key in keys}
        for clauses, override in self.when:
            if matches(clauses, setting.view, self.known, f"{self.where}.when"):
                for key in override.model_fields_set - {"select"}:
                    merged[key] = _merge(merged[key], getattr(override, key))
        for key in ("transforms", "algorithms"):
            if not isinstance(merged[key], list):
                raise SuiteError(
                    f"should be a list, got {merged[key]!r}", f"{self.where}.{key}", f"write {key} = [...]"
                )
        return merged

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The combinations that ``search`` tries; one empty combination without a search."""
        return [
            dict(zip(self.table.search, values, strict=True))
            for values in itertools.product(*self.table.search.values())
        ]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One trial in its suite: which method, setting and seed it is, and in which role."""

    trial: Trial
    method: str
    setting: str
    seed: int
    oracle: bool
    candidate: Mapping[str, Any] | None = None
    """The searched values; ``None`` for a method that searches nothing."""
    tuning: bool = False

    @functools.cached_property
    def view(self) -> dict[str, Any]:
        flat = flatten({key: value for key, value in self.trial.identity.items() if key != "schema"})
        return {**flat, "method": self.method, "setting": self.setting, "id": self.trial.id, "oracle": self.oracle}


@dataclasses.dataclass(frozen=True)
class Template:
    """All seeds of one method on one setting (and one candidate): validated once, then only the seed varies."""

    method: Method
    setting: Setting
    identity: Mapping[str, Any]
    options: Mapping[str, Any]
    oracle: bool
    candidate: Mapping[str, Any] | None

    @functools.cached_property
    def _trials(self) -> Callable[[int], Trial]:
        return seeded(self.identity, self.options)

    def entry(self, seed: int, *, tuning: bool = False) -> Entry:
        trial = self._trials(seed)
        return Entry(trial, self.method.name, self.setting.name, seed, self.oracle, self.candidate, tuning)


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
            self._templates[key] = _templates(self, method, setting)
        return self._templates[key]

    def pairs(self) -> Iterator[tuple[Method, Setting]]:
        """Methods x settings, less what ``[suite] exclude`` takes out."""
        known = _keys(self.settings)
        for setting, method in itertools.product(self.settings, self.methods):
            view = {**setting.view, "method": method.name}
            if not any(matches(clauses, view, known, f"{self.path.name}: suite.exclude") for clauses in self.exclude):
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
    if not table.seeds and not _searches(document):
        raise SuiteError("the list is empty", f"{file}: suite.seeds", "name at least one")
    for duplicate in {seed for seed in table.seeds if table.seeds.count(seed) > 1}:
        raise SuiteError(f"seed {duplicate} is listed twice", f"{file}: suite.seeds")
    if both := set(table.seeds) & set(table.tuning_seeds):
        raise SuiteError(
            f"seed {min(both)} is also a comparison seed", f"{file}: suite.tuning_seeds", "tune on other seeds"
        )
    training = _training(document.get("training", {}), f"{file}: training")
    evaluation = parse(EvaluationTable, document.get("evaluation", {}), f"{file}: evaluation")
    execution = parse(ExecutionTable, document.get("execution", {}), f"{file}: execution")
    replay = replay_files(
        parse(ReplayTable, document.get("replay", {}), f"{file}: replay").model_dump(), path.parent, f"{file}: replay"
    )
    settings = tuple(_settings(document, file, host, training, evaluation, forced, executors))
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
        methods=tuple(_methods(document, file, executors, bool(table.tuning_seeds), _keys(settings))),
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
        tasks = [TASKS[task] for dataset in faced for task in _tasks(suite, dataset)]
        shared = len({task.headline for task in tasks}) == 1 and all(task.unit for task in tasks)
        if len(names) > 1 and not shared:
            raise SuiteError(
                f"the mean over {' and '.join(names)} has no unit: regression losses of several data sets, or losses and "
                "accuracies",
                f"{suite.path.name}: suite.search_over",
                'set search_over = "setting", or give each data set a suite of its own',
            )


def _tasks(suite: Suite, dataset: Choice) -> tuple[str, ...]:
    return _tasks_of(suite.host.registry, dataset)


def _tasks_of(registry: Registry, dataset: Choice) -> tuple[str, ...]:
    return registry.facts(registry.find("dataset", dataset.name)[0]).declares.tasks


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
    import importlib.metadata
    import importlib.util

    found: dict[str, Path] = {}
    for entry_point in importlib.metadata.entry_points(group="harness.suites"):
        spec = importlib.util.find_spec(entry_point.value)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(folder).rglob("*.toml")):
                found[str(file.relative_to(folder).with_suffix("")).replace("\\", "/")] = file
    return found


def _training(value: Any, where: str) -> TrainingTable:
    table: TrainingTable = parse(TrainingTable, value, where)
    for key, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        _optim(known, getattr(table, key), key, where)
    return table


def _optim(known: Mapping[str, Any], value: Any, key: str, where: str) -> dict[str, Any]:
    try:
        table = validate_optim(known, value, key)
        check_json(table, key)
    except HarnessError as error:
        raise SuiteError(error.what, f"{where}.{error.where}", error.remedy) from None
    if table.get("nesterov") and (not table.get("momentum", 1.0) or table.get("dampening")):
        raise SuiteError(
            "nesterov needs a momentum above 0 and no dampening",
            f"{where}.{key}.nesterov",
            "set momentum, such as 0.9, or drop nesterov",
        )
    return table


def _merge(base: Any, override: Any) -> Any:
    """A table without a name is merged over the one below it; anything else replaces it."""
    if isinstance(override, Mapping) and "name" not in override and isinstance(base, (Mapping, str)):
        return {**({"name": base} if isinstance(base, str) else base), **override}
    return override


def _searches(document: Mapping[str, Any]) -> bool:
    methods = document.get("method")
    found = methods if isinstance(methods, list) else []
    return any(isinstance(method, dict) and method.get("search") for method in found)


def _split_tables(value: dict[str, Any], executors: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A setting's or method's own keys, and its tables for executors."""
    tables = {key: value[key] for key in value if key in executors}
    return {key: item for key, item in value.items() if key not in executors}, tables


def _settings(
    document: Mapping[str, Any],
    file: str,
    host: Host,
    training: TrainingTable,
    evaluation: EvaluationTable,
    forced: Mapping[str, Any],
    executors: set[str],
) -> Iterator[Setting]:
    registry = host.registry
    seen: dict[str, str] = {}
    identities: dict[str, str] = {}
    for number, raw in enumerate(tables_in(document, "setting", file)):
        where = f"{file}: setting[{number}]"
        own, tables = _split_tables(raw, executors)
        table: SettingTable = parse(SettingTable, own, where)
        exclude = [parse_selection(item, f"{where}.exclude") for item in table.exclude]
        axes = {
            "dataset": component_axis(registry, "dataset", table.dataset, f"{where}.dataset"),
            "model": component_axis(registry, "model", table.model, f"{where}.model"),
            "noise": component_axis(registry, "noise", table.noise, f"{where}.noise"),
            "augment": table.augment if isinstance(table.augment, list) else [table.augment],
            "normalize": table.normalize if isinstance(table.normalize, list) else [table.normalize],
            "subset": table.subset if isinstance(table.subset, list) else [table.subset],
            "training": list(product(table.training)),
        }
        listed = {f"training.{key}": value for key, value in table.training.items()}
        for key, value in {
            **listed,
            "augment": table.augment,
            "normalize": table.normalize,
            "subset": table.subset,
        }.items():
            if value == []:
                raise SuiteError("the list is empty", f"{where}.{key}", "name at least one value, or drop the key")
        points: list[Setting] = []
        for point in itertools.product(*axes.values()):
            dataset, model, noise, augment, normalize, subset, own_training = point
            _check_point(registry, dataset, noise, augment, normalize, subset, where)
            merged = training.model_dump()
            for key, value in own_training.items():
                merged[key] = _merge(merged.get(key), value)
            for key, value in forced.get("training", {}).items():
                merged[key] = _merge(merged.get(key), value)
            _training(merged, f"{where}.training")
            checked = parse(
                EvaluationTable,
                {**evaluation.model_dump(), **table.evaluation, **forced.get("evaluation", {})},
                f"{where}.evaluation",
            )
            _check_metrics(registry, checked.metrics, dataset, f"{where}.evaluation.metrics")
            if checked.fgsm and "classification" not in (tasks := _tasks_of(registry, dataset)):
                what = f"FGSM is measured in classification, data set {dataset.name!r} is for {' and '.join(tasks)}"
                raise SuiteError(what, f"{where}.evaluation.fgsm", "leave it out")
            parts = [dataset.label, model.label, noise.label]
            varying = [f"{k}={v}" for k, v in own_training.items() if isinstance(table.training.get(k), list)]
            varying += [
                f"{k}={v}"
                for k, v in (("normalize", normalize), ("subset", subset))
                if isinstance(getattr(table, k), list)
            ]
            varying += [f"augment={_brief(augment)}"] if isinstance(table.augment, list) else []
            base = table.name or " / ".join(parts)
            name = " ".join([base, *varying]) if not table.name else base
            if table.name and len(list(itertools.islice(itertools.product(*axes.values()), 2))) > 1:
                name = f"{base} / {' / '.join([*parts, *varying])}"
            points.append(
                Setting(
                    name=name,
                    dataset=dataset,
                    noise=noise,
                    model=model,
                    augment=parse(AugmentTable, augment, f"{where}.augment"),
                    normalize=normalize,
                    constants=_constants(table, where),
                    subset=subset,
                    training=merged,
                    evaluation=checked.model_dump(),
                    where=where,
                    tables=tables,
                )
            )
        known, kept = _keys(points), 0
        for setting in points:
            if any(matches(clauses, setting.view, known, f"{where}.exclude") for clauses in exclude):
                continue
            kept += 1
            name = setting.name
            key = digest([setting.to_json(), setting.training, setting.evaluation])
            if key in identities:
                if forced:  # settings that differ in what --scale quick or --set replaces become one
                    continue
                raise SuiteError(f"is the same setting as {identities[key]}", where, "remove one of them")
            if name in seen:
                raise SuiteError(
                    f"the name {name!r} is also that of {seen[name]}", f"{where}.name", "give it a name of its own"
                )
            seen[name], identities[key] = where, where
            yield setting
        if not kept:
            raise SuiteError("every combination is excluded, so the grid is empty", f"{where}.exclude")


def _constants(table: SettingTable, where: str) -> dict[str, list[float]]:
    """A setting's standardisation constants, one for each channel or one for all; none where they are not given."""
    given = {key: value for key in ("mean", "std") if (value := getattr(table, key)) is not None}
    if not given:
        return {}
    if len(given) == 1:
        raise SuiteError("mean and std stand together", f"{where}.{next(iter(given))}", "give both, or neither")
    if "normalize" in table.model_fields_set:
        raise SuiteError(
            "says how statistics are computed, and mean and std give them", f"{where}.normalize", "drop it"
        )
    listed = {key: list(map(float, value if isinstance(value, list) else [value])) for key, value in given.items()}
    if len(listed["mean"]) != len(listed["std"]) or not listed["mean"]:
        raise SuiteError(
            f"{len(listed['mean'])} means and {len(listed['std'])} deviations",
            f"{where}.std",
            "give one for each channel",
        )
    return listed


def _brief(augment: Any) -> str:
    return "+".join(map(str, augment)) if isinstance(augment, Mapping) and augment else "none"


def _check_point(
    registry: Any, dataset: Choice, noise: Choice, augment: Any, normalize: Any, subset: Any, where: str
) -> None:
    """What can be known of data and noise together before any data are read."""
    parse(AugmentTable, augment, f"{where}.augment")
    if normalize not in ("channel", "scalar", "none"):
        raise SuiteError(f"should be 'channel', 'scalar' or 'none', got {normalize!r}", f"{where}.normalize")
    if subset is not None and (not isinstance(subset, int) or isinstance(subset, bool) or subset < 1):
        raise SuiteError(f"should be a positive number of samples, got {subset!r}", f"{where}.subset")
    data = registry.facts(registry.find("dataset", dataset.name)[0]).declares
    corrupts = registry.facts(registry.find("noise", noise.name)[0]).declares
    if not set(data.tasks) & set(corrupts.tasks):
        raise SuiteError(
            f"noise {noise.name!r} is for {' and '.join(corrupts.tasks)}, data set {dataset.name!r} is for {' and '.join(data.tasks)}",
            f"{where}.noise",
            f"choose a noise for {data.tasks[0]}",
        )
    for key, value in noise.params.items():
        needed = corrupts.classes_for.get(f"{key}={value}")
        if needed is not None and data.classes is not None and needed != data.classes:
            raise SuiteError(
                f"{noise.name} {key}={value!r} is for {needed} classes, data set {dataset.name!r} has {data.classes}",
                f"{where}.noise",
                "choose another map or data set",
            )


def _check_metrics(registry: Registry, names: Sequence[str], dataset: Choice, where: str) -> None:
    """The further metrics that a suite asks for are functions for the task of its data."""
    tasks = _tasks_of(registry, dataset)
    for name in names:
        try:
            component, _ = registry.find("metric", name)
            problems = registry.facts(component).problems
        except HarnessError as error:
            raise SuiteError(error.what, where, "`harness components metric` lists them") from None
        measured = component.measured
        assert measured is not None
        if names.count(name) > 1:
            raise SuiteError(f"{name!r} is listed twice", where, "name it once")
        if name in QUANTITIES:
            raise SuiteError(
                f"{name!r} is a name of the harness's own, which {component.owner} registers",
                where,
                "rename the metric",
            )
        if problems:
            raise SuiteError(f"metrics.{name}: {problems[0]}", where, f"mend its plugin ({component.owner})")
        if measured.diagnostic:
            raise SuiteError(
                f"{name!r} is what an algorithm records, with every trial that has it", where, "leave it out"
            )
        if not set(measured.tasks) & set(tasks):
            raise SuiteError(
                f"{name!r} is for {' and '.join(measured.tasks)}, data set {dataset.name!r} is for {' and '.join(tasks)}",
                where,
                "leave it out, or name it in the [[setting]] that it is for",
            )


def _keys(settings: Iterable[Setting]) -> frozenset[str]:
    """All keys that selections may name."""
    return frozenset().union(*(setting.view for setting in settings))


def _methods(
    document: Mapping[str, Any], file: str, executors: set[str], tunes: bool, known: frozenset[str]
) -> Iterator[Method]:
    seen: dict[str, str] = {}
    for number, raw in enumerate(tables_in(document, "method", file)):
        label = f" ({raw['name']})" if isinstance(raw.get("name"), str) else ""
        where = f"{file}: method[{number}]{label}"
        own, tables = _split_tables(raw, executors)
        table: MethodTable = parse(MethodTable, own, where)
        if table.name in seen:
            raise SuiteError(f"the name {table.name!r} is also that of {seen[table.name]}", where, "rename one of them")
        seen[table.name] = f"method[{number}]"
        if table.search and not tunes:
            raise SuiteError("a search needs seeds to tune on", f"{where}.search", "add tuning_seeds to [suite]")
        if table.search and table.tries is not None:
            raise SuiteError("a method that searches counts its own tries", f"{where}.tries", "drop tries or search")
        for key, values in table.search.items():
            if not values:
                raise SuiteError("the list of candidates is empty", f"{where}.search.{key}")
        when = []
        for position, override in enumerate(table.when):
            place = f"{where}.when[{position}]"
            parsed: WhenTable = parse(WhenTable, override, place)
            when.append((parse_selection(parsed.select, f"{place}.select"), parsed))
        yield Method(table.name, table, tuple(when), where, tables, known)


def _executor_table(host: Host, name: str, value: Any, file: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SuiteError(f"should be a table, got {value!r}", f"{file}: {name}")
    try:
        host.registry.validate("executor", name, value)
    except HarnessError as error:
        key = error.where.removeprefix(f"executors.{name}").lstrip(".")
        raise SuiteError(error.what, f"{file}: {name}.{key}" if key else f"{file}: {name}", error.remedy) from None
    return value


def _templates(suite: Suite, method: Method, setting: Setting) -> list[Template]:
    table = method.table_for(setting)
    searching = bool(method.table.search)
    if searching and not setting.training["validation"]:
        raise SuiteError(
            f"a search chooses by the noisy validation, and {setting.name!r} holds none out",
            f"{method.where}.search",
            "set validation above 0 in [training] or the [[setting]], or drop the search",
        )
    return [
        _template(
            suite, method, setting, _with_candidate(table, candidate, method.where), candidate if searching else None
        )
        for candidate in method.candidates
    ]


def _with_candidate(table: Mapping[str, Any], candidate: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A method's table with searched values put in: ``optimizer.lr``, ``algorithms.sop.lr_u``, ``loss.q``, ``epochs``."""
    changed = copy.deepcopy(dict(table))
    for key, value in candidate.items():
        head, *rest = key.split(".")
        place = f"{where}.search.{key}"
        if head in ("epochs", "batch_size", "clip") and not rest:
            changed[head] = value
        elif head in ("optimizer", "schedule") and len(rest) == 1:
            base = changed[head]
            changed[head] = {**({"name": base} if isinstance(base, str) else base or {}), rest[0]: value}
        elif head == "loss" and len(rest) == 1:
            name, params = as_component(changed["loss"], place)
            changed["loss"] = {"name": name, **params, rest[0]: value}
        elif head in ("transforms", "algorithms") and len(rest) == 2:
            parts = [as_component(part, place) for part in changed[head]]
            if rest[0] not in [name for name, _ in parts]:
                raise SuiteError(unknown(head[:-1], rest[0], [name for name, _ in parts]), place)
            changed[head] = [{"name": n, **p, **({rest[1]: value} if n == rest[0] else {})} for n, p in parts]
        else:
            known = "optimizer.KEY, schedule.KEY, loss.KEY, transforms.NAME.KEY, algorithms.NAME.KEY, epochs, batch_size, clip"
            raise SuiteError(f"cannot search {key!r}", place, f"search one of {known}")
    return changed


def _template(
    suite: Suite, method: Method, setting: Setting, table: Mapping[str, Any], candidate: Mapping[str, Any] | None
) -> Template:
    registry = suite.host.registry
    where = method.where
    oracle = False
    digests: dict[str, str] = {}
    owners: dict[str, str] = {}
    parts: dict[str, list[Part]] = {"loss": [], "transforms": [], "algorithms": []}
    chosen: dict[str, list[dict[str, Any]]] = {"loss": [], "transforms": [], "algorithms": []}
    for key, kind in (("loss", "loss"), ("transforms", "transform"), ("algorithms", "algorithm")):
        values = [table[key]] if key == "loss" else table[key]
        for position, value in enumerate(values):
            place = f"{where}.{key}" if key == "loss" else f"{where}.{key}[{position}]"
            try:
                name, written = as_component(value, "")
                component, _ = registry.find(kind, name)
                facts = registry.facts(component)
                resolved, used = _resolve(written, setting, registry)
                validated = registry.validate(kind, name, resolved)
                filled, used_default = _resolve(validated, setting, registry)
                check_json(filled, component.label)
            except HarnessError as error:
                raise SuiteError(
                    f"{error.where}: {error.what}" if error.where else error.what, place, error.remedy
                ) from None
            oracle = oracle or used or used_default
            chosen[key].append({"name": name, "version": component.version, "params": filled})
            parts[key].append(Part(name, tuple(facts.hooks), facts.declares))
            digests[f"{kind}:{name}"] = component.digest()
            if not component.owner.startswith(f"{DISTRIBUTION} "):
                owners[f"{kind}:{name}"] = component.owner
    tasks = _tasks(suite, setting.dataset)
    try:
        task = tasks[0] if len(tasks) == 1 else None
        check_stack(parts["loss"][0], parts["algorithms"], task, parts["transforms"])
    except StackError as error:
        raise SuiteError(error.what, where, error.remedy) from None
    for kind, choice in (("dataset", setting.dataset), ("noise", setting.noise), ("model", setting.model)):
        digests[f"{kind}:{choice.name}"] = registry.find(kind, choice.name)[0].digest()
    training = dict(setting.training)
    for key in OVERRIDES:
        if table[key] is not None:
            training[key] = _merge(training[key], table[key])
    for key, value in suite.forced.get("training", {}).items():
        training[key] = _merge(training[key], value)
    training["optimizer"] = _optim(OPTIMIZERS, training["optimizer"], "optimizer", where)
    training["schedule"] = _optim(SCHEDULES, training["schedule"], "schedule", where)
    evaluation = setting.evaluation
    identity = {
        "schema": SCHEMA,
        **setting.to_json(),
        "loss": chosen["loss"][0],
        "transforms": chosen["transforms"],
        "algorithms": chosen["algorithms"],
        "training": parse(TrainingTable, training, where).identity(),
        "evaluation": parse(EvaluationTable, evaluation, where).identity(),
        **({"replay": dict(suite.replay.digests)} if suite.replay.digests else {}),
    }
    options = {
        "fgsm": evaluation["fgsm"],
        **({"metrics": list(evaluation["metrics"])} if evaluation["metrics"] else {}),
        "execution": suite.execution.model_dump(),
        "plugins": list(suite.plugin_files),
        **({"replay": dict(suite.replay.paths)} if suite.replay.paths else {}),
        "digests": dict(sorted(digests.items())),
        **({"owners": dict(sorted(owners.items()))} if owners else {}),
    }
    return Template(method, setting, identity, options, oracle, candidate)


def _resolve(values: Mapping[str, Any], setting: Setting, registry: Any) -> tuple[dict[str, Any], bool]:
    """References to the setting put in: ``"noise.rate"`` becomes a number, ``"noise.matrix"`` is left to the trial."""
    resolved: dict[str, Any] = {}
    used = False
    noise = setting.noise
    for key, value in values.items():
        if value == NOISE_RATE:
            used = True
            rate = noise.params.get("rate")
            if rate is None:
                rate = registry.facts(registry.find("noise", noise.name)[0]).declares.fixed_rate
            if rate is None:
                raise SuiteError(f"noise {noise.name!r} has no rate to refer to", key, f"give {key} a number")
            resolved[key] = rate
            continue
        if value == NOISE_MATRIX:
            used = True
            if "transition_matrix" not in registry.facts(registry.find("noise", noise.name)[0]).hooks:
                raise SuiteError(
                    f"noise {noise.name!r} has no transition matrix", key, "choose 'estimated' or give a matrix"
                )
        resolved[key] = value
    return resolved, used
