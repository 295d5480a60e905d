"""The methods of a suite: ``[[method]]`` tables checked, with what holds on a given setting."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from harness.errors import SuiteError, unknown
from harness.registry import as_component
from harness.suite.document import tables_in
from harness.suite.schema import MethodTable, WhenTable, parse
from harness.suite.select import Clause, matches, parse_selection
from harness.suite.settings import Setting, merge, split_tables

OVERRIDES = ("optimizer", "schedule", "epochs", "batch_size", "clip")
"""Keys of training that a method may have of its own."""


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
        merged = {key: getattr(self.table, key) for key in (*keys, "estimate")}
        for clauses, override in self.when:
            if matches(clauses, setting.flat, self.known, f"{self.where}.when"):
                for key in override.model_fields_set - {"select"}:
                    merged[key] = merge(merged[key], getattr(override, key))
        for key in ("transforms", "algorithms"):
            if not isinstance(merged[key], list):
                raise SuiteError(
                    f"should be a list, got {merged[key]!r}", f"{self.where}.{key}", f"write {key} = [...]"
                )
        return merged

    def tables_for(self, setting: Setting) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Every candidate with the method's keys on a setting."""
        table = self.table_for(setting)
        return [(candidate, _with_candidate(table, candidate, self.where)) for candidate in self.candidates]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The combinations that ``search`` tries; one empty combination without a search."""
        return [
            dict(zip(self.table.search, values, strict=True))
            for values in itertools.product(*self.table.search.values())
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


def read_methods(
    document: Mapping[str, Any], file: str, executors: set[str], tunes: bool, known: frozenset[str]
) -> Iterator[Method]:
    seen: dict[str, str] = {}
    for number, raw in enumerate(tables_in(document, "method", file)):
        label = f" ({raw['name']})" if isinstance(raw.get("name"), str) else ""
        where = f"{file}: method[{number}]{label}"
        own, tables = split_tables(raw, executors)
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


def searches_something(document: Mapping[str, Any]) -> bool:
    methods = document.get("method")
    found = methods if isinstance(methods, list) else []
    return any(isinstance(method, dict) and method.get("search") for method in found)
