"""The settings of a suite: ``[[setting]]`` tables checked and expanded into the points of their grids."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, SuiteError
from harness.plugins import Host
from harness.registry import Registry
from harness.results.quantities import QUANTITIES
from harness.suite.document import tables_in
from harness.suite.grid import Choice, component_axis, product
from harness.suite.schema import (
    AugmentTable,
    EvaluationTable,
    SettingTable,
    TrainingTable,
    parse,
)
from harness.suite.select import matches, parse_selection
from harness.trial import digest, flatten


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
    training: TrainingTable
    evaluation: EvaluationTable
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
    def flat(self) -> dict[str, Any]:
        """What selections look at: every key with its value."""
        return {"setting": self.name, **flatten(self.to_json()), **flatten({"training": self.training.model_dump()})}


def read_settings(
    document: Mapping[str, Any],
    file: str,
    host: Host,
    training: TrainingTable,
    evaluation: EvaluationTable,
    forced: Mapping[str, Any],
    executors: set[str],
) -> Iterator[Setting]:
    """The settings that methods face, in the order in which they are written.

    Raises:
        SuiteError: with file and key, for what cannot be, and for two settings that are the same or have one name.
    """
    registry = host.registry
    seen: dict[str, str] = {}
    identities: dict[str, str] = {}
    for number, raw in enumerate(tables_in(document, "setting", file)):
        where = f"{file}: setting[{number}]"
        own, tables = split_tables(raw, executors)
        table: SettingTable = parse(SettingTable, own, where)
        exclude = [parse_selection(item, f"{where}.exclude") for item in table.exclude]
        axes = _axes(registry, table, where)
        points = [
            Setting(
                name=_name(table, point, several=math.prod(map(len, axes.values())) > 1),
                augment=parse(AugmentTable, point["augment"], f"{where}.augment"),
                constants=_constants(table, where),
                training=merge_training(training, point["training"], forced, f"{where}.training"),
                evaluation=_evaluation(registry, evaluation, table, point["dataset"], forced, f"{where}.evaluation"),
                where=where,
                tables=tables,
                **{key: point[key] for key in ("dataset", "model", "noise", "normalize", "subset")},
            )
            for point in _points(registry, axes, where)
        ]
        known, kept = keys_of(points), 0
        for setting in points:
            if any(matches(clauses, setting.flat, known, f"{where}.exclude") for clauses in exclude):
                continue
            kept += 1
            name = setting.name
            key = digest([setting.to_json(), setting.training.model_dump(), setting.evaluation.model_dump()])
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


def _axes(registry: Registry, table: SettingTable, where: str) -> dict[str, list[Any]]:
    """What a setting's grid is the product of."""
    for key, value in {
        **{f"training.{key}": value for key, value in table.training.items()},
        "augment": table.augment,
        "normalize": table.normalize,
        "subset": table.subset,
    }.items():
        if value == []:
            raise SuiteError("the list is empty", f"{where}.{key}", "name at least one value, or drop the key")
    components = {
        kind: component_axis(registry, kind, getattr(table, kind), f"{where}.{kind}")
        for kind in ("dataset", "model", "noise")
    }
    plain = {key: getattr(table, key) for key in ("augment", "normalize", "subset")}
    listed = {key: value if isinstance(value, list) else [value] for key, value in plain.items()}
    return {**components, **listed, "training": list(product(table.training))}


def _points(registry: Registry, axes: Mapping[str, list[Any]], where: str) -> Iterator[dict[str, Any]]:
    """The points of a grid, by axis, checked as far as they can be before data are read."""
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        _check_point(registry, point, where)
        yield point


def _name(table: SettingTable, point: Mapping[str, Any], *, several: bool) -> str:
    """What a point of a setting's grid is called: its parts and what varies, behind the setting's own name."""
    parts = [point[kind].label for kind in ("dataset", "model", "noise")]
    varying = [f"{k}={v}" for k, v in point["training"].items() if isinstance(table.training.get(k), list)]
    varying += [f"{key}={point[key]}" for key in ("normalize", "subset") if isinstance(getattr(table, key), list)]
    varying += [f"augment={_brief(point['augment'])}"] if isinstance(table.augment, list) else []
    if not table.name:
        return " ".join([" / ".join(parts), *varying])
    return f"{table.name} / {' / '.join([*parts, *varying])}" if several else table.name


def merge_training(base: TrainingTable, own: Mapping[str, Any], forced: Mapping[str, Any], where: str) -> TrainingTable:
    """A training with further keys over it, and over them what was forced; checked anew where there are any."""
    further = [*own.items(), *forced.get("training", {}).items()]
    if not further:
        return base
    merged = base.model_dump()
    for key, value in further:
        merged[key] = merge(merged.get(key), value)
    checked: TrainingTable = parse(TrainingTable, merged, where)
    return checked


def _evaluation(
    registry: Registry,
    base: EvaluationTable,
    table: SettingTable,
    dataset: Choice,
    forced: Mapping[str, Any],
    where: str,
) -> EvaluationTable:
    """The evaluation of a setting, which must be possible on its data."""
    merged = {**base.model_dump(), **table.evaluation, **forced.get("evaluation", {})}
    checked: EvaluationTable = parse(EvaluationTable, merged, where)
    _check_metrics(registry, checked.metrics, dataset, f"{where}.metrics")
    if checked.fgsm and "classification" not in (tasks := tasks_of(registry, dataset)):
        what = f"FGSM is measured in classification, data set {dataset.name!r} is for {' and '.join(tasks)}"
        raise SuiteError(what, f"{where}.fgsm", "leave it out")
    return checked


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


def _check_point(registry: Registry, point: Mapping[str, Any], where: str) -> None:
    """What can be known of data and noise together before any data are read."""
    dataset, noise, normalize, subset = (point[key] for key in ("dataset", "noise", "normalize", "subset"))
    if normalize not in ("channel", "scalar", "none", "model"):
        raise SuiteError(f"should be 'channel', 'scalar', 'none' or 'model', got {normalize!r}", f"{where}.normalize")
    if subset is not None and (not isinstance(subset, int) or isinstance(subset, bool) or subset < 1):
        raise SuiteError(f"should be a positive number of samples, got {subset!r}", f"{where}.subset")
    data = registry.facts(registry.find("dataset", dataset.name)[0]).declares
    corrupts = registry.facts(registry.find("noise", noise.name)[0]).declares
    changes_nothing = corrupts.fixed_rate == 0  # labels as they come suit every task
    if not changes_nothing and not set(data.tasks) & set(corrupts.tasks):
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
    tasks = tasks_of(registry, dataset)
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


def merge(base: Any, override: Any) -> Any:
    """A table without a name is merged over the one below it; anything else replaces it."""
    if isinstance(override, Mapping) and "name" not in override and isinstance(base, (Mapping, str)):
        return {**({"name": base} if isinstance(base, str) else base), **override}
    return override


def split_tables(value: dict[str, Any], executors: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A setting's or method's own keys, and its tables for executors."""
    tables = {key: value[key] for key in value if key in executors}
    return {key: item for key, item in value.items() if key not in executors}, tables


def tasks_of(registry: Registry, dataset: Choice) -> tuple[str, ...]:
    return registry.facts(registry.find("dataset", dataset.name)[0]).declares.tasks


def keys_of(settings: Iterable[Setting]) -> frozenset[str]:
    """All keys that selections may name."""
    return frozenset().union(*(setting.flat for setting in settings))
