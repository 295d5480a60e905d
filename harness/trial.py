"""A trial: one method on one setting with one seed, as plain data whose hash is its identity."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

SCHEMA = 1
"""Version of a trial's meaning; a change of what the harness computes from the same words raises it."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; a component table also answers under its own key with its name."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            if "name" in item:
                flat[f"{prefix}{key}"] = item["name"]
                flat[f"{prefix}{key}.name"] = item["name"]
                flat.update(flatten(item.get("params", {}), f"{prefix}{key}."))
                rest = {k: v for k, v in item.items() if k not in ("name", "params")}
                flat.update(flatten(rest, f"{prefix}{key}."))
            else:
                flat.update(flatten(item, f"{prefix}{key}."))
        elif isinstance(item, list) and item and all(isinstance(part, Mapping) and "name" in part for part in item):
            flat[f"{prefix}{key}"] = [part["name"] for part in item]
            for part in item:
                flat.update(flatten(part.get("params", {}), f"{prefix}{key}.{part['name']}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def seeded(identity: Mapping[str, Any], options: Mapping[str, Any]) -> Callable[[int], Trial]:
    """Trials that differ in their seed only. The canonical text around the seed is written once, so that the ids of a
    hundred thousand trials take a second and not ten."""
    text = canonical({**identity, "seed": None})
    place = next(number for number in itertools.count(10**12) if str(number) not in text)
    before, after = canonical({**identity, "seed": place}).split(str(place))
    start = hashlib.sha256(before.encode())
    end = after.encode()

    def make(seed: int) -> Trial:
        trial = Trial({**identity, "seed": seed}, options)
        content = start.copy()
        content.update(str(seed).encode() + end)
        trial.__dict__["id"] = content.hexdigest()[:16]
        return trial

    return make


def digest(value: Any) -> str:
    """First 16 hex digits of the sha256 of :func:`canonical`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One method on one setting with one seed.

    Attributes:
        identity: everything that determines the result, JSON: schema, dataset, noise, model, transforms, loss,
            algorithms (each ``{"name", "version", "params"}`` with defaults filled in), augment, normalize, subset,
            training, evaluation, seed.
        options: everything that does not: FGSM epsilons, execution keys, plugin files, source digests by component.
    """

    identity: Mapping[str, Any]
    options: Mapping[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """First 16 hex digits of sha256 over the canonical identity."""
        return digest(self.identity)

    @property
    def seed(self) -> int:
        return int(self.identity["seed"])

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "identity": dict(self.identity), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Trial:
        """Rebuild a trial.

        Raises:
            ValueError: when the recorded id is not the hash of the recorded identity.
        """
        trial = cls(value["identity"], value["options"])
        if value.get("id", trial.id) != trial.id:
            raise ValueError(f"trial {value['id']} does not match its content (its hash is {trial.id})")
        return trial
