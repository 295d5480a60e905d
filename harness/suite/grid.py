"""Products: lists in a setting become axes of the grid, unless the parameter itself takes a list."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.content import ABSENT
from harness.errors import DataError, HarnessError, SuiteError
from harness.parameters import check_json, list_depth
from harness.registry import Registry, as_component


@dataclasses.dataclass(frozen=True)
class Choice:
    """One component with the parameters that the user wrote and the ones that hold with defaults filled in."""

    name: str
    version: str
    written: Mapping[str, Any]
    params: Mapping[str, Any]
    content: str = ""
    """Of a data set: the digest of its labels and files."""
    places: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of a data set with a ``content``: the parameters that say where its files lie, which are none of ``params``."""

    def to_json(self) -> dict[str, Any]:
        facts = {"name": self.name, "version": self.version, "params": dict(self.params)}
        return {**facts, **({"content": self.content} if self.content else {})}

    @property
    def label(self) -> str:
        """``symmetric 0.4``: the name and what the user wrote besides it."""
        said = (Path(str(v)).stem if k in self.places else _label(k, v) for k, v in self.written.items())
        return " ".join([self.name, *said])


def _label(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return key if value else f"not {key}"
    if isinstance(value, list):
        text = "given" if _depth(value) > 1 else "-".join(map(str, value))
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if key in ("rate", "map", "labels", "hidden") else f"{key}={text}"


def component_axis(registry: Registry, kind: str, value: Any, where: str) -> list[Choice]:
    """All components that a setting's value stands for: a name, a table whose lists are axes, or a list of those.

    Raises:
        SuiteError: naming the key, for an unknown component or a bad parameter.
    """
    choices: list[Choice] = []
    for position, item in enumerate(value if isinstance(value, list) else [value]):
        place = f"{where}[{position}]" if isinstance(value, list) else where
        try:
            name, written = as_component(item, "")
            component, _ = registry.find(kind, name)
            depths = {p["name"]: list_depth(p["type"]) for p in registry.facts(component).parameters}
            for combination in product(written, depths):
                filled = registry.validate(kind, name, combination)
                check_json(filled, component.label)
                content = _content(registry, name, filled) if kind == "dataset" else ""
                away = registry.facts(component).declares.places if content else ()
                places = {key: filled.pop(key) for key in away if key in filled}
                choices.append(Choice(name, component.version, combination, filled, content, places))
        except HarnessError as error:
            raise SuiteError(
                f"{error.where}: {error.what}" if error.where else error.what, place, error.remedy
            ) from None
    if not choices:
        raise SuiteError("the list is empty", where, f"name at least one {kind}")
    return choices


def _content(registry: Registry, name: str, filled: Mapping[str, Any]) -> str:
    """The digest of a data set's content. Data that cannot be read are told of when something is to be run on them, so that a
    suite can be read where they are not."""
    try:
        return registry.content(name, filled)
    except DataError:
        return ABSENT


def product(table: Mapping[str, Any], depths: Mapping[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """Every combination of a table whose list values are axes.

    A list is an axis where it nests deeper than ``depths`` says its key's values do (0 for keys that are not there). An
    empty list is no axis and gives nothing.
    """
    axes = []
    for key, value in table.items():
        is_axis = isinstance(value, list) and (not value or _depth(value) > (depths or {}).get(key, 0))
        axes.append([(key, item) for item in value] if is_axis else [(key, value)])
    for combination in itertools.product(*axes):
        yield dict(combination)


def _depth(value: Any) -> int:
    return 1 + (_depth(value[0]) if value else 0) if isinstance(value, list) else 0
