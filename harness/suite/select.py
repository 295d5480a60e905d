"""The one override grammar: ``--set training.epochs=1`` and ``--select "method=CDR*,noise.rate=0.4"``."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.errors import SuiteError, unknown

DEEPEST = 20
"""Tables and lists in one another that a document may hold; the deepest value of a suite has about eight."""
_CLAUSE = re.compile(r"^\s*([A-Za-z_][\w.:-]*)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*$")


@dataclasses.dataclass(frozen=True)
class Clause:
    """``key operator value``; a value may hold alternatives (``0.2|0.4``) and, for ``=`` and ``!=``, wildcards."""

    key: str
    operator: str
    value: str

    def holds(self, found: Any) -> bool:
        alternatives = [self.value, *self.value.split("|")]
        if self.operator in ("=", "!="):
            equal = any(_equal(found, alternative) for alternative in alternatives)
            return equal if self.operator == "=" else not equal
        try:
            left, right = float(found), float(self.value)
        except (TypeError, ValueError):
            return False
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[self.operator]


def _equal(found: Any, wanted: str) -> bool:
    if isinstance(found, bool) or found is None:
        return str(found).lower() == wanted.lower()
    if isinstance(found, (int, float)):
        try:
            return float(found) == float(wanted)
        except ValueError:
            return False
    if isinstance(found, (list, tuple)):
        return any(_equal(item, wanted) for item in found)
    return str(found) == wanted or fnmatch.fnmatchcase(str(found), wanted)  # a name may hold brackets


def parse_selection(text: str | Mapping[str, Any], where: str = "--select") -> tuple[Clause, ...]:
    """Clauses of a selection, all of which must hold.

    Raises:
        SuiteError: for a clause that does not read ``key=value``.
    """
    if isinstance(text, Mapping):
        return tuple(
            Clause(str(key), "=", "|".join(map(str, value)) if isinstance(value, list) else str(value))
            for key, value in text.items()
        )
    clauses = []
    for part in filter(None, re.split(r",(?=\s*[A-Za-z_][\w.:-]*\s*(?:!=|<=|>=|=|<|>))", text)):
        match = _CLAUSE.match(part)
        if match is None:
            raise SuiteError(
                f"cannot read {part.strip()!r}", where, "write key=value, such as method=CDR*,noise.rate=0.4"
            )
        clauses.append(Clause(*match.groups()))
    if not clauses:
        raise SuiteError("the selection is empty", where, "write key=value, such as method=CDR*,noise.rate=0.4")
    return tuple(clauses)


def matches(clauses: Iterable[Clause], flat: Mapping[str, Any], known: Iterable[str], where: str = "--select") -> bool:
    """Whether every clause holds for a trial, all its keys with their values.

    ``known`` holds all keys that any trial of the suite has, so that a misspelt key is an error and not an empty result.
    """
    for clause in clauses:
        if clause.key not in flat:
            names = set(known) | set(flat)
            if clause.key not in names:
                raise SuiteError(unknown("key", clause.key, names), where)
            return clause.operator == "!="
        if not clause.holds(flat[clause.key]):
            return False
    return True


def parse_assignment(text: str, where: str = "--set") -> tuple[list[str], Any]:
    """``training.epochs=1`` as (path, value); the value is read as TOML, else as a string."""
    key, equals, value = text.partition("=")
    path = [part for part in key.strip().split(".") if part]
    if not equals or not path:
        raise SuiteError(f"cannot read {text!r}", where, "write key=value, such as training.epochs=1")
    if len(path) > DEEPEST:
        raise SuiteError(f"{len(path)} keys are nested, and at most {DEEPEST} may be", where)
    try:
        return path, parse_toml(f"value = {value}", where)["value"]
    except tomllib.TOMLDecodeError:
        return path, value.strip()


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """A TOML document that the rest of the harness can handle: of limited depth, with TOML's integers of 64 bits.

    Raises:
        TOMLDecodeError: when it is no TOML.
        SuiteError: when it is beyond those limits.
    """
    deep = SuiteError(f"is nested too deep; at most {DEEPEST} tables and lists may be in one another", where)
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise deep from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # an integer of thousands of digits, a date that no calendar has
        raise SuiteError(f"holds a value that cannot be read ({error})", where) from None
    level: list[tuple[str, Any]] = [("", document)]
    for _ in range(DEEPEST + 1):
        inner: list[tuple[str, Any]] = []
        for key, value in level:
            if isinstance(value, dict):
                inner += ((f"{key}.{name}".lstrip("."), item) for name, item in value.items())
            elif isinstance(value, list):
                inner += ((f"{key}.{number}", item) for number, item in enumerate(value))
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                got = f", got {value}" if value.bit_length() < 256 else ""  # Python refuses to write the longest
                raise SuiteError(f"is an integer beyond 64 bits{got}", f"{where}: {key}", "write a smaller one")
        level = inner
    if level:
        raise deep
    return document


def assign(document: dict[str, Any], path: Sequence[str], value: Any, where: str = "") -> None:
    """Set a dotted path in nested tables, making tables on the way."""
    table = document
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise SuiteError(f"{part!r} is no table", where or f"--set {'.'.join(path)}")
    table[path[-1]] = value
