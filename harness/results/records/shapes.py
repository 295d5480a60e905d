"""What each record may hold: types, ranges and names, checked wherever one is read.

A record is checked by pydantic's core while it is parsed, so that a folder of ten thousand is read no slower than without.
Keys that are not named here may hold any JSON; those of a line of ``epochs.jsonl`` are numbers.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from pydantic_core import SchemaValidator, ValidationError
from pydantic_core import core_schema as s

from harness.files import MANY_DIGITS, Damage, check_finite
from harness.results.quantities import QUANTITIES

ATTEMPT = re.compile(r"attempt-[0-9]{1,9}")
TRIAL = re.compile(r"[0-9a-f]{16}")
"""The only names that are followed."""
MOST_SAID = 160
LOOSE = frozenset({"environment.json", "trial.json", "evaluations.json"})
"""Records of which parts that may hold any JSON are used."""


def _text(longest: int | None = None) -> Any:
    return s.str_schema(max_length=longest)


def _maybe(schema: Any) -> Any:
    return s.nullable_schema(schema)


def _object(required: dict[str, Any], optional: dict[str, Any], extra: Any = None) -> Any:
    fields = {name: s.typed_dict_field(schema, required=True) for name, schema in required.items()}
    fields |= {name: s.typed_dict_field(schema, required=False) for name, schema in optional.items()}
    return s.typed_dict_schema(fields, extra_behavior="allow", extras_schema=extra)


def _map(values: Any) -> Any:
    return s.dict_schema(s.str_schema(), values)


_COUNT = s.int_schema(ge=0, le=2**62)
_NUMBER = s.float_schema(allow_inf_nan=False)
_VALUE = _maybe(_NUMBER)
_LEAST_0 = s.float_schema(ge=0.0, allow_inf_nan=False)
_SHARE = _maybe(s.float_schema(ge=0.0, le=1.0, allow_inf_nan=False))
_NAME = s.str_schema(pattern="^attempt-[0-9]{1,9}$", max_length=17)
_DIGEST = s.str_schema(pattern="^[0-9a-f]{64}$", max_length=64)
_DIGESTS = _map(s.str_schema())
_METRICS = _map(_map(_VALUE))
_PART = _object({"name": _text()}, {"params": _map(s.any_schema())})
_OF_EPOCH = {
    one.column: _SHARE
    if one.percent
    else _maybe(_LEAST_0)
    if one.column.endswith("mae") or one.name == "rmse"
    else _VALUE
    for one in QUANTITIES.values()
    if one.column
}
"""What an epoch may hold of the harness's own quantities."""

_SHAPES: dict[str, Any] = {
    "claim.json": _object(
        {},
        {
            **dict.fromkeys(("host", "boot", "job"), _maybe(_text())),
            "pid": s.int_schema(gt=0, lt=2**31),
            "started": _maybe(_LEAST_0),
            "claimed": _LEAST_0,
            "after": _maybe(_NAME),
        },
    ),
    "done.json": _object(
        {"attempt": _NAME},
        {
            "digests": _DIGESTS,
            "status": s.literal_schema(["done", "diverged"]),
            "schema": _COUNT,
            "trial": _text(),
            "files": _map(_DIGEST),
        },
    ),
    "retry.json": _object({"upto": _COUNT}, {}),
    "cancel.json": _object({"at": _LEAST_0}, {}),
    "evaluations.json": s.dict_schema(s.str_schema(), s.any_schema()),
    "metrics of evaluations.json": _METRICS,
    "quantities of evaluations.json": _map(_map(s.any_schema())),
    "environment.json": _object(
        {},
        {
            **dict.fromkeys(
                ("host", "job", "node", "commit", "device", "device_name", "executor", "platform", "python", "cpu"),
                _maybe(_text()),
            ),
            "versions": _map(_maybe(_text())),
            **dict.fromkeys(("started", "finished", "seconds"), _maybe(_NUMBER)),
            **dict.fromkeys(("threads", "cores"), _maybe(_COUNT)),
            **dict.fromkeys(("resumes", "attempt"), _COUNT),
            "interrupted": s.bool_schema(),
        },
    ),
    "trial.json": _object(
        {
            "identity": _object(
                {
                    **dict.fromkeys(("dataset", "noise", "model", "loss"), _PART),
                    **dict.fromkeys(("transforms", "algorithms"), s.list_schema(_PART)),
                    "seed": s.int_schema(ge=-(2**63), lt=2**63),
                    "training": _object({"epochs": s.int_schema(gt=0, lt=2**31)}, {"batch_size": _maybe(_COUNT)}),
                },
                {},
            )
        },
        {"id": _text(), "options": _object({}, {"digests": _DIGESTS})},
    ),
    "result.json": _object(
        {"status": s.literal_schema(["done", "diverged", "failed"]), "metrics": _METRICS},
        {
            "schema": _COUNT,
            "trial": _text(),
            "error": _maybe(_object({}, dict.fromkeys(("type", "message", "traceback"), _text()))),
            "chance": _map(_VALUE),
            **dict.fromkeys(("num_classes", "test_samples", "selected_epoch", "epochs", "parameters"), _maybe(_COUNT)),
            "label_digest": _maybe(_text()),
            "corrupted": _SHARE,
            "diagnostics": _map(_VALUE),
            "histograms": _map(_map(s.list_schema(_VALUE))),
            "quantities": _map(_map(s.any_schema())),
            "estimated": _map(s.any_schema()),
            "truth": _object(dict.fromkeys(("known", "samples"), _COUNT), {"test": s.bool_schema()}),
            "transitions": _maybe(s.list_schema(s.list_schema(_COUNT))),
        },
    ),
    "epochs.jsonl": s.list_schema(
        _object(
            {"epoch": s.int_schema(ge=0, lt=2**31)},
            {
                **_OF_EPOCH,
                "diagnostics": _map(_VALUE),
            },
            _VALUE,
        )
    ),
    "manifest": _object(
        {
            "suite": _text(),
            **dict.fromkeys(("methods", "settings"), s.list_schema(_text())),
            "tries": _map(s.int_schema(ge=0, lt=2**31)),
            "comparable": s.bool_schema(),
            "trials": s.list_schema(
                _object(
                    {
                        "id": s.str_schema(pattern="^[0-9a-f]{16}$", max_length=16),
                        **dict.fromkeys(("method", "setting"), _text()),
                        "seed": s.int_schema(ge=-(2**63), lt=2**63),
                        **dict.fromkeys(("oracle", "tuning"), s.bool_schema()),
                        "candidate": _maybe(_map(s.any_schema())),
                    },
                    {"estimated": s.bool_schema()},
                )
            ),
        },
        {"search_over": _text()},
    ),
    "timing.jsonl": s.list_schema(
        _object(
            {
                "epoch": s.int_schema(ge=0, lt=2**31),
                **dict.fromkeys(("train_seconds", "evaluation_seconds", "peak_memory"), _LEAST_0),
            },
            {},
        )
    ),
}


@functools.cache
def _validator(record: str) -> SchemaValidator:
    return SchemaValidator(_SHAPES[record], s.CoreConfig(strict=True))


def checked(record: str, raw: bytes, where: str = "") -> Any:
    """The content of a record.

    Args:
        record: which one, by its file's name.
        raw: the file; lines of a ``.jsonl`` file.
        where: how the reason calls it.

    Raises:
        Damage: when it is no JSON, or not of the record's shape.
    """
    where = where or record
    try:
        found = _validator(record).validate_json(raw)
        if record in LOOSE and MANY_DIGITS.search(raw) is not None:
            check_finite(found)
        return found
    except ValidationError as error:
        raise Damage(_reason(error), where) from None
    except ValueError as error:
        raise Damage(str(error), where) from None


def of_shape(record: str, value: Any, where: str) -> Any:
    """A part of a record that has been parsed.

    Raises:
        Damage: when it is not of its shape.
    """
    try:
        return _validator(record).validate_python(value)
    except ValidationError as error:
        raise Damage(_reason(error), where) from None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    words = first["msg"][:1].lower() + first["msg"][1:]
    return f"{place}: {words}"[:MOST_SAID] if place else words[:MOST_SAID]
