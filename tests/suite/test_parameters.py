"""A factory's signature is its schema: described as JSON, validated strictly, told in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Interval

from harness.errors import ComponentError
from harness.parameters import Count, NoiseRate, Positive, Rate, describe, from_tree, spell, to_tree, validate
from harness.plugins import load_host
from harness.registry import FactsCache
from harness.trial import canonical

pytestmark = pytest.mark.portable


def factory(
    rate: Rate,
    lr: Positive = 0.1,
    steps: Count = 3,
    mode: Literal["a", "b"] = "a",
    widths: list[int] = [1],  # noqa: B006
    pair: tuple[float, float] = (0.9, 0.99),
    flag: bool = False,
    tau: NoiseRate = "noise.rate",
    maybe: Positive | None = None,
) -> None: ...


PARAMETERS, PROBLEMS = describe(factory)


def test_a_signature_is_described_as_json() -> None:
    assert not PROBLEMS
    assert json.loads(json.dumps(PARAMETERS)) == PARAMETERS
    assert [p["name"] for p in PARAMETERS if p["required"]] == ["rate"]


def test_defaults_are_filled_in_and_integers_become_floats() -> None:
    filled = validate(PARAMETERS, {"rate": 1, "lr": 2}, "x")
    assert filled["rate"] == 1.0 and isinstance(filled["rate"], float) and isinstance(filled["lr"], float)
    assert filled["pair"] == [0.9, 0.99] and filled["tau"] == "noise.rate" and filled["maybe"] is None


def test_a_default_has_its_declared_type_whatever_was_described_before() -> None:
    def whole(a: float = 1, b: Positive | None = 2, c: list[float] = [3], d: Positive = 0.0) -> None: ...  # noqa: B006

    def real(a: float = 1.0, b: Positive | None = 2.0, c: list[float] = [3.0], d: Positive = 0.0) -> None: ...  # noqa: B006

    assert [p["default"] for p in describe(whole)[0]][3] == 0.0, "what no suite can state is left alone"
    for one in (whole, real):
        filled = validate(describe(one)[0], {}, "x")
        assert canonical(filled) == '{"a":1.0,"b":2.0,"c":[3.0],"d":0.0}'
    kept = [
        {"name": "a", "type": {"t": "any"}, "required": False, "default": value} for value in (1, 1.0, True, 0.0, -0.0)
    ]
    assert [repr(validate([one], {}, "x")["a"]) for one in kept] == ["1", "1.0", "True", "0.0", "-0.0"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "x.rate: is missing"),
        ({"rate": 1.5}, "less than or equal to 1"),
        ({"rate": "0.5"}, "valid number"),
        ({"rate": True}, "valid number"),
        ({"rate": 0.5, "steps": 0}, "greater than or equal to 1"),
        ({"rate": 0.5, "steps": 1.5}, "valid integer"),
        ({"rate": 0.5, "mode": "c"}, "'a' or 'b'"),
        ({"rate": 0.5, "widths": 3}, "valid list"),
        ({"rate": 0.5, "wdths": [3]}, "did you mean 'widths'"),
        ({"rate": float("nan")}, "finite"),
        ({"rate": 0.5, "tau": 2.0}, "less than or equal to 1"),
        ({"rate": 0.5, "maybe": -1.0}, "greater than 0"),
    ],
)
def test_bad_values_are_told_in_words(values: dict[str, object], words: str) -> None:
    with pytest.raises(ComponentError) as caught:
        validate(PARAMETERS, values, "x")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_types_survive_the_round_trip() -> None:
    for hint in (Rate, list[int], Literal["a", 1], Annotated[int, Interval(ge=1, le=3)], dict[str, float]):
        assert to_tree(from_tree(to_tree(hint))) == to_tree(hint)


def test_types_are_spelt_for_people() -> None:
    assert spell(to_tree(Rate)) == "float in [0, 1]"
    assert spell(to_tree(Annotated[int, Ge(2)])) == "int >= 2"
    assert spell(to_tree(NoiseRate)) == "float in [0, 1] | 'noise.rate'"


def test_parameters_without_type_or_of_a_type_that_toml_has_not_are_problems() -> None:
    def untyped(q=0.5): ...  # type: ignore[no-untyped-def]

    def strange(q: complex = 1j) -> None: ...

    assert "has no type" in describe(untyped)[1][0]
    assert "cannot be written in a suite" in describe(strange)[1][0]


def test_two_processes_add_to_one_cache_of_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    first, second = FactsCache(), FactsCache()
    facts = load_host().registry.facts(load_host().registry.find("loss", "gce")[0])
    assert first.get("loss", "a:A", "1") is None and second.get("loss", "b:B", "1") is None  # both have read the file
    first.put("loss", "a:A", "1", facts)
    second.put("loss", "b:B", "1", facts)
    first.save()
    second.save()
    third = FactsCache()
    assert third.get("loss", "a:A", "1") == third.get("loss", "b:B", "1") == facts
    assert third.get("loss", "a:A", "2") is None, "another source, other facts"
