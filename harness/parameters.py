"""Parameters of components: read from a factory's signature, kept as JSON, validated by pydantic.

A factory's typed keyword arguments are its parameters. They are described once as plain JSON (so that listing and
planning need not import the factory's module again) and turned back into types when values are validated.
"""

from __future__ import annotations

import inspect
import keyword
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen

from harness.errors import ComponentError, unknown

Rate = Annotated[float, Ge(0), Le(1)]
"""A probability or share, in [0, 1]."""
PositiveRate = Annotated[float, Gt(0), Le(1)]
"""A share in (0, 1]."""
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
NoiseRate = Rate | Literal["noise.rate"]
"""A share in [0, 1], or a reference to the rate of the setting's noise, resolved when a plan is made."""

NOISE_RATE = "noise.rate"
NOISE_ESTIMATED_RATE = "noise.estimated_rate"
NOISE_MATRIX = "noise.matrix"
CONTEXT = frozenset({"input_shape", "num_outputs", "vocabulary"})
"""Arguments that the harness itself passes to a factory; they are no parameters."""

_BOUNDS: tuple[tuple[str, type], ...] = (("ge", Ge), ("gt", Gt), ("le", Le), ("lt", Lt))
_PLAIN: dict[str, Any] = {"float": float, "int": int, "str": str, "bool": bool, "any": Any, "none": None}


def describe(factory: Callable[..., Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The parameters of ``factory`` as JSON, and what is wrong with them.

    Returns:
        A list of ``{"name", "type", "required", "default"}`` in order of the signature, and a list of problems
        (a parameter without a type, one of a type that has no JSON form, a positional-only or ``*args`` parameter).
    """
    parameters: list[dict[str, Any]] = []
    problems: list[str] = []
    target = factory.__init__ if inspect.isclass(factory) else factory  # type: ignore[misc]
    if inspect.isclass(factory) and target is object.__init__:
        return parameters, problems
    hints = {name: hint for name, hint in inspect.get_annotations(target).items() if name != "return"}
    names = getattr(inspect.unwrap(target), "__globals__", {})
    for name, parameter in inspect.signature(factory).parameters.items():
        if name in CONTEXT:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            problems.append(f"parameter {name!r} cannot be given by name")
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            parameters.append({"name": "**", "type": {"t": "any"}, "required": False, "default": None})
            continue
        if name not in hints:
            problems.append(f"parameter {name!r} has no type")
            tree: dict[str, Any] = {"t": "any"}
        else:
            try:
                hint = hints[name]
                tree = to_tree(eval(hint, names) if isinstance(hint, str) else hint)
            except Exception as error:  # an annotation may raise anything when it is evaluated
                problems.append(f"parameter {name!r}: {error}")
                tree = {"t": "any"}
        name = written(name)
        required = parameter.default is parameter.empty
        default = None if required else _typed(tree, _plain(parameter.default))
        parameters.append({"name": name, "type": tree, "required": required, "default": default})
    return parameters, problems


def written(name: str) -> str:
    """A parameter's name in a suite: ``except`` for ``except_``, as a word of Python's cannot name an argument."""
    return name[:-1] if name.endswith("_") and keyword.iskeyword(name[:-1]) else name


def arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by the names of a factory's arguments: the inverse of :func:`written`."""
    return {f"{name}_" if keyword.iskeyword(name) else name: value for name, value in values.items()}


def _typed(tree: Mapping[str, Any], default: Any) -> Any:
    """A default as it would be read from a suite: 1.0 for a float whose default is 1, so that writing a default or
    leaving it out is one trial. One that a suite could not state (``None`` for a float) stays."""
    parameter = {"name": "default", "type": tree, "required": True, "default": None}
    try:
        return validate([parameter], {"default": default}, "")["default"]
    except Exception:  # a stranger's default may be anything; whoever validates with it is told
        return default


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def to_tree(hint: Any) -> dict[str, Any]:
    """A type as a JSON tree; raises ``TypeError`` for a type that a TOML value cannot have."""
    for name, plain in _PLAIN.items():
        if hint is plain or (name == "none" and hint is type(None)):
            return {"t": name}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        tree = to_tree(arguments[0])
        for mark in arguments[1:]:
            for part in mark if isinstance(mark, Interval) else (mark,):
                for key, bound in _BOUNDS:
                    if isinstance(part, bound):
                        tree[key] = getattr(part, key)
                if isinstance(part, MinLen):
                    tree["min_len"] = part.min_length
        return tree
    if origin is Literal:
        return {"t": "literal", "values": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"t": "union", "of": [to_tree(argument) for argument in arguments]}
    if origin in (list, Sequence) or (origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis):
        return {"t": "list", "item": to_tree(arguments[0])}
    if origin is tuple:
        return {"t": "tuple", "items": [to_tree(argument) for argument in arguments]}
    if origin in (dict, Mapping):
        return {"t": "dict", "item": to_tree(arguments[1])}
    if hint in (list, dict):
        return {"t": "list", "item": {"t": "any"}} if hint is list else {"t": "dict", "item": {"t": "any"}}
    raise TypeError(f"type {hint!r} cannot be written in a suite (use numbers, strings, lists or Literal)")


def from_tree(tree: Mapping[str, Any]) -> Any:
    """The inverse of :func:`to_tree`, as a type that pydantic validates strictly (JSON lists pass for tuples)."""
    from pydantic import Strict

    kind = tree["t"]
    marks: list[Any] = [bound(tree[key]) for key, bound in _BOUNDS if key in tree]
    if "min_len" in tree:
        marks.append(MinLen(tree["min_len"]))
    hint: Any
    if kind in _PLAIN:
        hint = _PLAIN[kind]
    elif kind == "literal":
        hint = Literal[tuple(tree["values"])]
    elif kind == "union":
        hint = typing.Union[tuple(from_tree(part) for part in tree["of"])]  # noqa: UP007 -- built at run time
    elif kind == "list":
        hint = list[from_tree(tree["item"])]  # type: ignore[misc]
    elif kind == "tuple":
        hint = Annotated[tuple[tuple(from_tree(part) for part in tree["items"])], Strict(False)]  # type: ignore[misc]
    else:
        hint = dict[str, from_tree(tree["item"])]  # type: ignore[misc]
    for mark in marks:
        hint = Annotated[hint, mark]
    return hint


def spell(tree: Mapping[str, Any]) -> str:
    """A type for people: ``float in [0, 1]``, ``'mean' | 'sum'``, ``list of int``."""
    kind = tree["t"]
    if kind == "union":
        return " | ".join(spell(part) for part in tree["of"])
    if kind == "literal":
        return " | ".join(repr(value) for value in tree["values"])
    if kind == "list":
        return f"list of {spell(tree['item'])}"
    if kind == "tuple":
        return f"[{', '.join(spell(part) for part in tree['items'])}]"
    if kind == "dict":
        return f"table of {spell(tree['item'])}"
    low, high = tree.get("ge", tree.get("gt")), tree.get("le", tree.get("lt"))
    if low is not None and high is not None:
        return f"{kind} in {'[' if 'ge' in tree else '('}{low:g}, {high:g}{']' if 'le' in tree else ')'}"
    if low is not None:
        return f"{kind} {'>=' if 'ge' in tree else '>'} {low:g}"
    if high is not None:
        return f"{kind} {'<=' if 'le' in tree else '<'} {high:g}"
    return str(kind)


def list_depth(tree: Mapping[str, Any]) -> int:
    """How deep lists may nest in a value of this type: 0 for a number, 1 for a list of numbers, 2 for a matrix. A list in
    a suite that nests deeper than its parameter is a grid axis."""
    if tree["t"] == "union":
        return max(list_depth(part) for part in tree["of"])
    if tree["t"] in ("list", "tuple"):
        items = [tree["item"]] if tree["t"] == "list" else tree["items"]
        return 1 + max((list_depth(item) for item in items), default=0)
    return 0


def validate(parameters: Iterable[Mapping[str, Any]], values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Values checked against described parameters, with defaults filled in and numbers in their declared type.

    Args:
        parameters: as :func:`describe` gives them.
        values: what the user wrote.
        owner: how errors name the component, such as ``losses.gce``.

    Raises:
        ComponentError: for an unknown, missing, mistyped or out-of-range parameter.
    """
    return validate_with(validator(parameters), values, owner)


def validator(parameters: Iterable[Mapping[str, Any]]) -> Any:
    """What :func:`validate_with` needs of described parameters; kept by whoever validates often."""
    return _model(_freeze(tuple(parameters)))


def validate_with(model: Any, values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """:func:`validate`, with the parameters' :func:`validator`."""
    if model.model_config["extra"] == "forbid":
        for name in values:
            if name not in model.model_fields:
                raise ComponentError(unknown("parameter", name, model.model_fields), owner)
    import pydantic

    try:
        filled = dict(model.model_validate(dict(values)))
    except pydantic.ValidationError as error:
        problem = explain(error)
        raise ComponentError(problem[1], f"{owner}.{problem[0]}" if problem[0] else owner) from None
    return {key: _plain(value) for key, value in filled.items()}


def check_json(values: Mapping[str, Any], owner: str) -> None:
    """Refuse what a trial's JSON cannot hold; only parameters of any type, and defaults, may have it.

    Raises:
        ComponentError: naming the key.
    """
    for key, value in values.items():
        where = f"{owner}.{key}"
        if isinstance(value, Mapping):
            check_json(value, where)
        elif isinstance(value, (list, tuple)):
            check_json({str(number): item for number, item in enumerate(value)}, where)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ComponentError(f"should be a finite number, got {value!r}", where)
        elif not isinstance(value, (str, int, float, bool, type(None))):
            words = f"should be a number, string, boolean, list or table, got {_short(str(value))}"
            raise ComponentError(words, where, "write it as a string")


def explain(error: Any) -> tuple[str, str]:
    """The first problem of a pydantic ``ValidationError`` as (dotted key, plain words)."""
    problems = error.errors(include_url=False)
    first = problems[0]
    siblings = [p for p in problems if p["loc"][:1] == first["loc"][:1]]
    key = str(first["loc"][0]) if first["loc"] else ""
    value = first.get("input")
    if first["type"] == "missing":
        return key, "is missing"
    if first["type"] == "too_short" and not value:
        return ".".join(str(part) for part in first["loc"]), "the list is empty; name at least one"
    if len(siblings) > 1 and len({p["loc"][0] for p in siblings}) == 1:
        ranged = [p for p in siblings if p["type"] in _RANGES] or siblings
        words = " or ".join(dict.fromkeys(_words(p) for p in (ranged if ranged is not siblings else siblings)))
        return key, f"{words}, got {_short(value)}"
    return ".".join(str(part) for part in first["loc"]), f"{_words(first)}, got {_short(value)}"


_RANGES = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")


def _words(problem: Mapping[str, Any]) -> str:
    message = str(problem["msg"])
    for start in ("Input should be ", "Value error, "):
        if message.startswith(start):
            return "should be " + message[len(start) :] if start == "Input should be " else message[len(start) :]
    return message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ("map", tuple((key, _freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("seq", tuple(_freeze(item) for item in value))
    return ("is", repr(value), value)  # 1, 1.0 and True are equal, and are three defaults


def _thaw(value: Any) -> Any:
    if value[0] == "map":
        return {key: _thaw(item) for key, item in value[1]}
    if value[0] == "seq":
        return [_thaw(item) for item in value[1]]
    return value[2]


@lru_cache(maxsize=1024)
def _model(frozen: Any) -> Any:
    import pydantic

    parameters = _thaw(frozen)
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter["name"] == "**":
            continue
        default = ... if parameter["required"] else parameter["default"]
        fields[parameter["name"]] = (from_tree(parameter["type"]), default)
    extra: Literal["allow", "forbid"] = "allow" if any(p["name"] == "**" for p in parameters) else "forbid"
    config = pydantic.ConfigDict(extra=extra, strict=True, allow_inf_nan=False, protected_namespaces=())
    return pydantic.create_model("Parameters", __config__=config, **fields)


def json_schema(parameters: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of a component's parameters."""
    schema: dict[str, Any] = validator(parameters).model_json_schema()
    schema.pop("title", None)
    return schema
