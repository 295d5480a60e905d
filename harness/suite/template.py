"""One method on one setting: the stack checked, references put in, and everything that its trials share."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, StackError, SuiteError
from harness.parameters import check_json
from harness.paths import data_folder
from harness.plugins import DISTRIBUTION
from harness.registry import Registry, as_component
from harness.suite.compose import Part, asking, check_accumulation, check_stack
from harness.suite.methods import OVERRIDES, Method
from harness.suite.references import estimate_of, fill, setting_estimate
from harness.suite.settings import Setting, merge_training, tasks_of
from harness.tasks import TASKS
from harness.trial import SCHEMA, Trial, flatten, seeded

if TYPE_CHECKING:
    from harness.suite.load import Suite


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
    estimated: bool = False
    """Whether the method uses what is estimated of the noise from its noisy labels."""

    @functools.cached_property
    def flat(self) -> dict[str, Any]:
        """What selections look at: every key with its value."""
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
    estimated: bool = False

    @functools.cached_property
    def _trials(self) -> Callable[[int], Trial]:
        return seeded(self.identity, self.options)

    def entry(self, seed: int, *, tuning: bool = False) -> Entry:
        trial = self._trials(seed)
        names = self.method.name, self.setting.name
        return Entry(trial, *names, seed, self.oracle, self.candidate, tuning, self.estimated)


def make_templates(suite: Suite, method: Method, setting: Setting) -> list[Template]:
    searching = bool(method.table.search)
    if searching and not setting.training.validation:
        raise SuiteError(
            f"a search chooses by the noisy validation, and {setting.name!r} holds none out",
            f"{method.where}.search",
            "set validation above 0 in [training] or the [[setting]], or drop the search",
        )
    return [
        _template(suite, method, setting, table, candidate if searching else None)
        for candidate, table in method.tables_for(setting)
    ]


def _template(
    suite: Suite, method: Method, setting: Setting, table: Mapping[str, Any], candidate: Mapping[str, Any] | None
) -> Template:
    registry = suite.host.registry
    where = method.where
    oracle = False
    estimators: set[str] = set()
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
                filled = fill(registry, component, name, written, setting)
                check_json(filled.params, component.label)
            except HarnessError as error:
                raise SuiteError(
                    f"{error.where}: {error.what}" if error.where else error.what, place, error.remedy
                ) from None
            oracle = oracle or filled.oracle
            estimators |= filled.estimators
            chosen[key].append({"name": name, "version": component.version, "params": dict(filled.params)})
            parts[key].append(Part(name, tuple(facts.hooks), asking(facts.declares, filled.params)))
            digests[f"{kind}:{name}"] = suite.digest(component)
            if not component.owner.startswith(f"{DISTRIBUTION} "):
                owners[f"{kind}:{name}"] = component.owner
    tasks = tasks_of(suite.host.registry, setting.dataset)
    try:
        task = tasks[0] if len(tasks) == 1 else None
        views = stored_views(registry, setting.dataset.name)
        tokens = registry.facts(registry.find("dataset", setting.dataset.name)[0]).declares.tokens
        check_stack(parts["loss"][0], parts["algorithms"], task, parts["transforms"], views, tokens)
        own = {key: table[key] for key in OVERRIDES if table[key] is not None}
        training = merge_training(setting.training, own, suite.forced, where)
        if training.accumulate > 1:
            check_accumulation(parts["loss"][0], parts["algorithms"], training.accumulate, training.batch_size)
    except StackError as error:
        raise SuiteError(error.what, where, error.remedy) from None
    for kind, choice in (("dataset", setting.dataset), ("noise", setting.noise), ("model", setting.model)):
        digests[f"{kind}:{choice.name}"] = suite.digest(registry.find(kind, choice.name)[0])
    estimate = _estimate(registry, table["estimate"], frozenset(estimators), setting, where)
    if estimate is not None:
        if "classification" not in tasks:
            raise SuiteError("the noise of classes alone can be estimated", where, "give a number")
        for kind, name in (("estimator", estimate["name"]), ("loss", TASKS["classification"].loss)):
            digests[f"{kind}:{name}"] = suite.digest(registry.find(kind, name)[0])
    identity = {
        "schema": SCHEMA,
        **setting.to_json(),
        "loss": chosen["loss"][0],
        "transforms": chosen["transforms"],
        "algorithms": chosen["algorithms"],
        "training": training.identity(),
        "evaluation": setting.evaluation.identity(),
        **({"replay": dict(suite.replay.digests)} if suite.replay.digests else {}),
        **({"estimate": estimate} if estimate is not None else {}),
    }
    options = {
        "fgsm": setting.evaluation.fgsm,
        **({"metrics": setting.evaluation.metrics} if setting.evaluation.metrics else {}),
        "execution": suite.execution.options(),
        "plugins": list(suite.plugin_files),
        **({"replay": dict(suite.replay.paths)} if suite.replay.paths else {}),
        **({"places": dict(setting.dataset.places)} if setting.dataset.places else {}),
        "digests": dict(sorted(digests.items())),
        **({"owners": dict(sorted(owners.items()))} if owners else {}),
    }
    return Template(method, setting, identity, options, oracle, candidate, bool(estimators))


def _estimate(
    registry: Registry, written: Any, names: frozenset[str], setting: Setting, where: str
) -> dict[str, Any] | None:
    """What a method estimates by its own estimator, or else by that of its setting's noise."""
    given = setting_estimate(registry, setting)
    if given is not None and written is None and names <= {"", given["name"]}:
        return given
    return estimate_of(registry, written, names, where)


def stored_views(registry: Registry, dataset: str) -> frozenset[str] | None:
    """The augmented views that a data set stores; ``None``: they are made of its samples, or its files are not there,
    which loading it will say."""
    component, variant = registry.find("dataset", dataset)
    pattern = registry.facts(component).declares.stored_views
    if not pattern:
        return None
    try:
        manifest = json.loads((data_folder() / pattern.format(variant=variant)).read_text())
        return frozenset(manifest["views"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
