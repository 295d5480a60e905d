"""References in a method's parameters: to the noise of the setting, or to what is estimated of it within a trial.

``"noise.rate"`` becomes a number when a plan is made, ``"noise.matrix"`` when a trial begins; a method that uses one is an
oracle. ``"noise.estimated_rate"``, and the name of an estimator where ``"noise.matrix"`` may stand, become numbers when a
trial begins, from its noisy labels alone: the words are the trial's, not the numbers, and the method is no oracle.

Where nobody knows which labels are wrong (a noise that declares ``unknown``), ``"noise.rate"`` is what the noise's parameter
``rate`` states or else what is estimated as its parameter ``estimate`` says, ``"noise.matrix"`` what is estimated, and no
method is an oracle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, SuiteError
from harness.parameters import NOISE_ESTIMATED_RATE, NOISE_MATRIX, NOISE_RATE, validate
from harness.registry import Component, Registry, as_component

if TYPE_CHECKING:
    from harness.suite.settings import Setting

ESTIMATOR = "hoc"
"""What estimates where a method names nothing else."""
WARMUP = 10
"""Epochs of plain training before features are taken, where the data are no features themselves."""
_WARMUP = [{"name": "warmup", "type": {"t": "int", "ge": 1}, "required": False, "default": WARMUP}]


@dataclasses.dataclass(frozen=True)
class Filled:
    """Parameters of a component with its defaults, and which references they hold.

    Attributes:
        params: as the trial's identity has them.
        oracle: whether the noise of the setting is told.
        estimators: names of estimators; the empty name is that of the method.
    """

    params: Mapping[str, Any]
    oracle: bool
    estimators: frozenset[str]


def fill(registry: Registry, component: Component, name: str, written: Mapping[str, Any], setting: Setting) -> Filled:
    """The parameters of a component, checked, with references to the setting put in and those to an estimate left.

    Raises:
        HarnessError: for a bad parameter, or a reference to what the noise does not have.
    """
    types = {p["name"]: p["type"] for p in registry.facts(component).parameters}
    written = told(registry, component, written, setting)
    estimators = registry.names("estimator")
    left = {
        key: value
        for key, value in written.items()
        if value == NOISE_ESTIMATED_RATE or (value in estimators and takes_matrix(types.get(key)))
    } if any(isinstance(value, str) for value in written.values()) else {}  # fmt: skip
    # what a reference will be is not known yet: a share, or the setting's matrix, shows that it may stand here
    shown = {**written, **{key: 0.5 if value == NOISE_ESTIMATED_RATE else NOISE_MATRIX for key, value in left.items()}}
    resolved, used = _resolve({key: value for key, value in shown.items() if key not in left}, setting, registry)
    validated = registry.validate(component.kind, name, {**resolved, **{key: shown[key] for key in left}})
    kept = {key: value for key, value in validated.items() if key not in left}
    filled, used_default = _resolve(kept, setting, registry)
    order = {key: filled.get(key, left.get(key)) for key in validated} | left
    names = frozenset("" if value == NOISE_ESTIMATED_RATE else str(value) for value in left.values())
    return Filled(order, used or used_default, names)


def told(registry: Registry, component: Component, written: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
    """A component's parameters in which references to a noise that knows no truth are what it states or estimates.

    Raises:
        SuiteError: for a reference to what is neither stated nor estimated.
    """
    noise = setting.noise
    if not registry.facts(registry.find("noise", noise.name)[0]).declares.unknown:
        return written
    facts = registry.facts(component)
    silent = {key for key, other in facts.declares.ignored_with.items() if written.get(other) is not None}
    defaults = {p["name"]: p["default"] for p in facts.parameters if p["name"] not in silent}
    estimator = estimator_of(registry, setting)
    found = dict(written)
    for key, value in {**defaults, **written}.items():
        if value == NOISE_RATE and noise.params["rate"] is not None:
            found[key] = noise.params["rate"]
        elif value == NOISE_RATE and estimator:
            found[key] = NOISE_ESTIMATED_RATE
        elif value == NOISE_RATE:
            raise SuiteError(
                f"nobody knows the rate of the noise {noise.name!r}",
                key,
                f'write {key} = "{NOISE_ESTIMATED_RATE}", or set rate or estimate = true in the noise',
            )
        elif value == NOISE_MATRIX and estimator:
            found[key] = estimator
        elif value == NOISE_MATRIX:
            names = ", ".join(registry.names("estimator"))
            raise SuiteError(
                f"nobody knows the matrix of the noise {noise.name!r}",
                key,
                f"write an estimator's name ({names}), or set estimate = true in the noise",
            )
    return found


def estimator_of(registry: Registry, setting: Setting) -> str:
    """The name of what a noise that knows no truth is estimated by; empty where it is not, or is another noise."""
    noise = setting.noise
    declares = registry.facts(registry.find("noise", noise.name)[0]).declares
    asked = noise.params.get("estimate") if declares.unknown else False
    return declares.estimator if asked is True else str(asked or "")


def setting_estimate(registry: Registry, setting: Setting) -> dict[str, Any] | None:
    """What a trial's identity says of the estimate that its setting's noise asks for; ``None`` where it asks for none.

    Raises:
        SuiteError: for an estimator that is not there.
    """
    name = estimator_of(registry, setting)
    if not name:
        return None
    asked = {"name": name, "warmup": setting.noise.params["warmup"]}
    place = f"{setting.where}.noise.{setting.noise.name}"
    found = estimate_of(registry, asked, frozenset([name]), place)
    return None if found is None else {**found, "redraws": setting.noise.params["redraws"]}


def takes_matrix(tree: Mapping[str, Any] | None) -> bool:
    """Whether a described type has ``"noise.matrix"`` among its words."""
    if tree is None:
        return False
    if tree["t"] == "union":
        return any(takes_matrix(part) for part in tree["of"])
    return tree["t"] == "literal" and NOISE_MATRIX in tree["values"]


def estimate_of(registry: Registry, written: Any, names: frozenset[str], where: str) -> dict[str, Any] | None:
    """What a trial's identity says of its estimate: ``{"name", "version", "params", "warmup"}``; ``None`` for a method that
    refers to none.

    Args:
        registry: of components.
        written: the method's ``estimate``: a name, or a table with name, ``warmup`` and the estimator's parameters.
        names: from :class:`Filled`, of all parts.
        where: the method.

    Raises:
        HarnessError: for two estimators, a bad parameter, or an ``estimate`` that nothing refers to.
    """
    place = f"{where}.estimate"
    if not names:
        if written is not None:
            remedy = f'write "{NOISE_ESTIMATED_RATE}" for a rate or an estimator\'s name for a matrix, or drop estimate'
            raise SuiteError("no parameter refers to an estimate", place, remedy)
        return None
    asked = sorted(names - {""})
    name, params = as_component(written, place) if written is not None else ((asked or [ESTIMATOR])[0], {})
    if asked not in ([], [name]):
        raise SuiteError(f"two estimators, {' and '.join(sorted({*asked, name}))}", place, "let a method have one")
    warmup = validate(_WARMUP, {key: params[key] for key in params if key == "warmup"}, place)["warmup"]
    try:
        component, _ = registry.find("estimator", name)
        filled = registry.validate("estimator", name, {key: params[key] for key in params if key != "warmup"})
    except HarnessError as error:
        raise SuiteError(f"{error.where}: {error.what}", place, error.remedy) from None
    return {"name": name, "version": component.version, "params": filled, "warmup": warmup}


def _resolve(values: Mapping[str, Any], setting: Setting, registry: Registry) -> tuple[dict[str, Any], bool]:
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
                remedy = f'give {key} a number, or "{NOISE_ESTIMATED_RATE}"'
                raise SuiteError(f"noise {noise.name!r} has no rate to refer to", key, remedy)
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
