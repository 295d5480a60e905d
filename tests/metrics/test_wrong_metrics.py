"""A metric that is wrong is caught by the check `measures`, which says in what."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.testing import check_plugin

PLUGIN = """
from harness import hookimpl

def mine(outputs, targets):
    'A metric.'
    {body}

@hookimpl
def harness_register_metrics(register):
    register({name!r}, mine, title="mine", tasks={tasks!r})
"""
WRONG = {
    "a table": ("return outputs", "gave shape (60, 10)"),
    "written into": ("outputs.zero_(); return 0.5", "changes its arguments"),
    "never a number": ("return float('nan')", "no number for plain outputs"),
    "an exception": ("return {}['x']", "in classification it raises KeyError"),
    "a class without samples": (
        "assert len(targets.unique()) == outputs.shape[1]; return 0.5",
        "where the last class has no sample it raises AssertionError",
    ),
}


def found_in(
    folder: Path, body: str, name: str = "mine", tasks: tuple[str, ...] = ("classification",)
) -> tuple[str, str]:
    file = folder / "mine.py"
    file.write_text(PLUGIN.format(body=body, name=name, tasks=tasks))
    (finding,) = [f for f in check_plugin(file, only=["measures"]) if f.check == "measures"]
    return finding.status, finding.message


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_metric_is_a_fault_with_its_reason(fault: str, tmp_path: Path) -> None:
    body, why = WRONG[fault]
    status, message = found_in(tmp_path, body)
    assert status == "fault" and why in message


def test_a_name_of_the_harness_is_a_fault(tmp_path: Path) -> None:
    status, message = found_in(tmp_path, "return 0.5", name="accuracy")
    assert status == "fault" and "a name of the harness's own" in message


@pytest.mark.parametrize("tasks", [("classification",), ("classification", "multilabel", "regression")])
def test_a_sound_metric_passes_for_all_of_its_tasks(tasks: tuple[str, ...], tmp_path: Path) -> None:
    assert found_in(tmp_path, "return outputs.mean()", tasks=tasks) == ("ok", "one number")
    assert found_in(tmp_path, "return outputs.mean(0)", tasks=tasks)[0] == "ok"
