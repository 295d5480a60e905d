"""How a trial's configuration differs from the one that a packaged suite gives to the same method in a paper's setting."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from harness.errors import HarnessError
from harness.suite.load import Suite, load_suite, packaged_suites


@functools.lru_cache(maxsize=64)
def packaged(name: str) -> Suite | None:
    """A packaged suite; ``None`` for one that cannot be loaded here (its data or a plugin is missing)."""
    if name not in packaged_suites():
        return None
    try:
        return load_suite(f"suite:{name}")
    except HarnessError:
        return None


def configurations(identity: Mapping[str, Any], methods: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    """By suite: what a paper's suite asks of a method of the same name on the same data set, noise and rate."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, file in packaged_suites().items():
        words = file.read_text(encoding="utf-8")
        if identity["dataset"]["name"] not in words or not any(method in words for method in methods):
            continue  # loading a suite costs 30 ms or more
        suite = packaged(name)
        if suite is None:
            continue
        for method, setting in suite.pairs():
            if method.name in methods and setting.dataset.name == identity["dataset"]["name"]:
                for template in suite.templates(method, setting)[:1]:
                    if _place(template.identity) == _place(identity):
                        found.setdefault(f"{name}, {setting.name}", template.identity)
    return found


def departure(suite: str, method: str, identity: Mapping[str, Any]) -> str:
    """In which keys a trial departs from what the packaged suite asks of the method in its place, in words; empty where it
    does not, or where there is no such suite, method or place. How it is evaluated does not count."""
    found = packaged(suite)
    if found is None:
        return ""
    closest: list[tuple[str, object, object]] | None = None
    for candidate, setting in found.pairs():
        if candidate.name != method or setting.dataset.name != identity["dataset"]["name"]:
            continue
        for template in found.templates(candidate, setting):
            if _place(template.identity) != _place(identity):
                continue
            changed = [one for one in differences(identity, template.identity) if _counts(one)]
            if closest is None or len(changed) < len(closest):
                closest = changed
    if not closest:
        return ""
    words = [f"{key} {_word(here)}, the suite's {_word(there)}" for key, here, there in closest[:3]]
    more = f" and {len(closest) - 3} more" if len(closest) > 3 else ""
    return f"another configuration: {'; '.join(words)}{more}"


_LATER = ("training.last_batch", "training.accumulate", "training.length_window", "replay", "mean", "std")
"""Options that stand in a configuration only where they are not at their default."""
_ALWAYS = ("augment.crop", "augment.flip", "augment.cutout")
"""Keys of ``augment`` that every configuration has; the others are such options."""


def _counts(change: tuple[str, object, object]) -> bool:
    """Whether a difference is one of what was trained: a value that both have, a component that one lacks, or an option
    that one leaves at its default, where it is not in the id."""
    key, here, there = change
    if key.startswith("evaluation") or key.endswith("version"):
        return False
    return (here is not ... and there is not ...) or (
        key.startswith(_LATER)
        or (key.startswith("augment.") and key not in _ALWAYS)
        or (key.startswith(("algorithms", "transforms")) and key.endswith("name"))
    )


def _word(value: object) -> str:
    return "none" if value is ... else f"{value:g}" if isinstance(value, float) else str(value)


def _place(identity: Mapping[str, Any]) -> tuple[Any, ...]:
    noise = identity["noise"]
    return identity["dataset"]["name"], noise["name"], noise["params"].get("rate")


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, object, object]]:
    """Keys in which two configurations differ, seed apart; ``...`` stands for a key that one lacks."""
    ours, theirs = _by_path(here), _by_path(there)
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if key not in ("seed", "schema")]
    return [(k, ours.get(k, ...), theirs.get(k, ...)) for k in keys if ours.get(k, ...) != theirs.get(k, ...)]


def _by_path(value: object, prefix: str = "") -> dict[str, object]:
    """``{"a": {"b": 1}, "c": [2]}`` as ``{"a.b": 1, "c[0]": 2}``."""
    if isinstance(value, Mapping) and value:
        parts = [_by_path(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items()]
    elif isinstance(value, list) and value:
        parts = [_by_path(item, f"{prefix}[{position}]") for position, item in enumerate(value)]
    else:
        return {prefix: value}
    return {key: item for part in parts for key, item in part.items()}
