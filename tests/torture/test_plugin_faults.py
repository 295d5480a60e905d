"""A sample of misbehaving components: each is named, no other is, and the next trial on the worker is as ever.

The whole: ``python tests/torture/plugin_faults.py FOLDER --shard 1/4``.
"""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from plugin_faults import Torture, combinations, table

SECONDS = 45.0


def test_there_are_a_thousand_combinations() -> None:
    found = combinations()
    assert len(found) == len({combination.name for combination in found}) >= 1000


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_a_sample_of_faults_names_its_authors_and_reaches_no_other_trial(tmp_path: Path) -> None:
    lines = Torture(tmp_path, workers=1).run(combinations(), SECONDS)
    print("\n".join(table(lines)))
    named = collections.Counter(line["named"] for line in lines)
    assert len(lines) >= 5
    assert [line["name"] for line in lines if line["next"] != "same"] == []
    assert [line["name"] for line in lines if line["named"] == "innocent"] == []
    assert named["nobody"] + named["component"] <= 0.05 * (len(lines) - named["done"]) + 1
