"""Selections and assignments: the one override grammar."""

from __future__ import annotations

import pytest

from harness.errors import SuiteError
from harness.suite.select import assign, matches, parse_assignment, parse_selection
from harness.trial import flatten

pytestmark = pytest.mark.portable

VIEW = {
    "method": "CDR+AUX",
    "noise": "symmetric",
    "noise.rate": 0.4,
    "seed": 2,
    "algorithms": ["cdr", "aux"],
    "clip": None,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("method=CDR*", True), ("method=CDR", False), ("noise.rate=0.40", True), ("noise.rate=0.2|0.4", True),
        ("noise.rate>0.3,seed<=2", True), ("noise.rate!=0.4", False), ("algorithms=aux", True), ("seed=2,method=X", False),
        ("method=a,b", False), ("clip=none", True), ("noise.rate<0.4", False), ("noise.rate>=0.4", True),
    ],
)  # fmt: skip
def test_selections(text: str, holds: bool) -> None:
    assert matches(parse_selection(text), VIEW, VIEW) is holds


def test_a_misspelt_key_is_an_error_and_not_an_empty_result() -> None:
    with pytest.raises(SuiteError, match="did you mean 'method'"):
        matches(parse_selection("metod=CE"), VIEW, VIEW)


def test_a_key_that_only_other_trials_have_selects_nothing_here() -> None:
    assert not matches(parse_selection("loss.q=0.7"), VIEW, [*VIEW, "loss.q"])


def test_assignments_are_toml_values_or_strings() -> None:
    assert parse_assignment("training.epochs=1") == (["training", "epochs"], 1)
    assert parse_assignment("a=[1, 2]") == (["a"], [1, 2])
    assert parse_assignment("execution.device=cpu") == (["execution", "device"], "cpu")
    table: dict[str, object] = {}
    assign(table, ["a", "b"], 1)
    assert table == {"a": {"b": 1}}


def test_components_answer_under_their_own_key() -> None:
    flat = flatten({"noise": {"name": "symmetric", "version": "1", "params": {"rate": 0.4}}})
    assert flat["noise"] == flat["noise.name"] == "symmetric" and flat["noise.rate"] == 0.4


def test_a_name_with_brackets_or_bars_is_matched_as_it_stands() -> None:
    view = {"method": "[b]GCE[/b] a|b"}
    assert matches(parse_selection({"method": "[b]GCE[/b] a|b"}), view, view)
    assert not matches(parse_selection({"method": "[b]CE[/b]"}), view, view)
    assert not matches(parse_selection("method!=[b]GCE[/b] a|b"), view, view)
