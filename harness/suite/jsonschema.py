"""The JSON schema of suites: the tables of :mod:`harness.suite.schema` with every registered component filled in."""

from __future__ import annotations

from typing import Any

from harness import parameters as params
from harness.parameters import NOISE_ESTIMATED_RATE, NOISE_RATE, list_depth
from harness.registry import CALLED, KINDS, Component, Registry
from harness.suite.optim import OPTIMIZERS, SCHEDULES
from harness.suite.references import takes_matrix
from harness.suite.schema import TABLES, WhenTable


def suite_json_schema(registry: Registry) -> dict[str, Any]:
    """A JSON schema (2020-12) that editors can check and complete suite files with."""
    definitions: dict[str, Any] = {}
    for kind in (kind for kind in KINDS if kind not in CALLED):
        options = [_component(registry, component) for component in registry.components(kind)]
        definitions[kind] = {"anyOf": [{"type": "string", "examples": registry.names(kind)}, *options]}
        definitions[f"{kind}_axis"] = {
            "anyOf": [{"$ref": f"#/$defs/{kind}"}, {"type": "array", "items": {"$ref": f"#/$defs/{kind}"}}]
        }
    for name, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        definitions[name] = {
            "anyOf": [{"type": "string"}, {"type": "object"}, *(_named(key, factory) for key, factory in table.items())]
        }
    properties: dict[str, Any] = {}
    for name, model in TABLES.items():
        body = model.model_json_schema()
        definitions.update(body.pop("$defs", {}))
        _refer(name, body)
        properties[name] = {"type": "array", "items": body, "minItems": 1} if name in ("setting", "method") else body
    named = {"type": "string", "examples": registry.names("metric")}
    properties["evaluation"]["properties"]["metrics"]["items"] = named
    when = WhenTable.model_json_schema()
    _refer("method", when)
    properties["method"]["items"]["properties"]["when"] = {"type": "array", "items": when}
    for name in registry.names("executor"):
        component, _ = registry.find("executor", name)
        table = params.json_schema(registry.facts(component).parameters)
        properties[name] = table
        for owner in ("setting", "method"):
            properties[owner]["items"]["properties"][name] = {"type": "object"}
    properties["quick"] = {"type": "object", "description": "assignments that hold at --scale quick"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "noisy-label-harness suite",
        "type": "object",
        "properties": properties,
        "required": ["suite", "setting", "method"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _refer(table: str, body: dict[str, Any]) -> None:
    """Point the keys that hold components, optimizers and schedules to their definitions."""
    found = body["properties"]
    if table == "setting":
        for kind in ("dataset", "model", "noise"):
            found[kind] = {**_described(found[kind]), "$ref": f"#/$defs/{kind}_axis"}
    if table == "method":
        found["loss"] = {**_described(found["loss"]), "$ref": "#/$defs/loss"}
        for key, kind in (("transforms", "transform"), ("algorithms", "algorithm")):
            found[key] = {**_described(found[key]), "type": "array", "items": {"$ref": f"#/$defs/{kind}"}}
    for key in ("optimizer", "schedule"):
        if key in found:
            found[key] = {**_described(found[key]), "$ref": f"#/$defs/{key}"}


def _described(value: dict[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("description",) if key in value}


def _component(registry: Registry, component: Component) -> dict[str, Any]:
    kind, name = component.kind, component.name
    facts = registry.facts(component)
    body = params.json_schema([p for p in facts.parameters if p["name"] != "variant"])
    trees = {p["name"]: p["type"] for p in facts.parameters}
    for key, value in body.get("properties", {}).items():
        value.pop("title", None)
        choices = [dict(value)]
        if kind in ("loss", "transform", "algorithm"):
            choices.append({"enum": [NOISE_RATE, NOISE_ESTIMATED_RATE]})
            if takes_matrix(trees[key]):
                choices.append({"enum": registry.names("estimator")})
        elif kind in ("dataset", "noise", "model") and not list_depth(trees[key]):
            choices.append({"type": "array", "items": dict(value)})
        body["properties"][key] = {"anyOf": choices}
    named = {"type": "string", "pattern": f"^{name}"} if component.is_family else {"const": name}
    body["properties"] = {"name": named, **body.get("properties", {})}
    body["required"] = ["name", *body.get("required", [])]
    return {**body, "description": facts.summary}


def _named(name: str, factory: Any) -> dict[str, Any]:
    described, _ = params.describe(factory)
    body = params.json_schema([p for p in described if p["name"] != "variant"])
    body["properties"] = {"name": {"type": "string", "pattern": f"^{name}"}, **body.get("properties", {})}
    body["required"] = ["name", *body.get("required", [])]
    return body
