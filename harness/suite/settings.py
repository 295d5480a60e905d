"""The settings of a suite: ``[[setting]]`` tables checked and expanded into the points of their grids."""

from __future__ import annotations

import dataclasses
import functools
import itertools
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


def read_settings(
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
        own, tables = split_tables(raw, executors)
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
                merged[key] = merge(merged.get(key), value)
            for key, value in forced.get("training", {}).items():
                merged[key] = merge(merged.get(key), value)
            checked = parse(
                EvaluationTable,
                {**evaluation.model_dump(), **table.evaluation, **forced.get("evaluation", {})},
                f"{where}.evaluation",
            )
            _check_metrics(registry, checked.metrics, dataset, f"{where}.evaluation.metrics")
            if checked.fgsm and "classification" not in (tasks := tasks_of(registry, dataset)):
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
                    training=parse(TrainingTable, merged, f"{where}.training").model_dump(),
                    evaluation=checked.model_dump(),
                    where=where,
                    tables=tables,
                )
            )
        known, kept = keys_of(points), 0
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
    return frozenset().union(*(setting.view for setting in settings))
