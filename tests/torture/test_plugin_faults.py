"""A sample of misbehaving components: each is named, no other is, and the next trial on the worker is as ever.

The whole: ``python tests/torture/plugin_faults.py FOLDER --shard 1/4``.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plugin_faults import Combination, Torture, combinations, group_of, table

SAMPLE = {"raises": 40, "wrong": 25, "leaves": 8, "says": 4, "dies": 1, "hangs": 1}
"""How many of each kind; after those that die or hang a worker has to start anew, which takes seconds."""


def test_there_are_a_thousand_combinations() -> None:
    found = combinations()
    assert len(found) == len({combination.name for combination in found}) >= 1039


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_a_sample_of_faults_names_its_authors_and_reaches_no_other_trial(tmp_path: Path) -> None:
    chosen = [one for group, count in SAMPLE.items() for one in _of(group)[:count]]
    lines = Torture(tmp_path).run(chosen)
    print("\n".join(table(lines)))
    named = collections.Counter(line["named"] for line in lines)
    assert len(lines) == len(chosen)
    assert [line["name"] for line in lines if line["next"] != "same"] == []
    assert [line["name"] for line in lines if line["named"] == "innocent"] == []
    assert named["nobody"] + named["component"] <= 0.05 * (len(lines) - named["done"])


def _of(group: str) -> list[Combination]:
    return [combination for combination in combinations() if group_of(combination.what) == group]
