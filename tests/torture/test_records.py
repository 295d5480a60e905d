"""Whatever is done to a results folder, its disk and its clocks: no wrong number, no traceback, no hang, nothing lost.

A small part runs in CI; the whole by hand: ``python tests/torture/damages.py``, ``disk_full.py``, ``clocks.py``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import clocks
import damages
import disk_full
import pytest

WHOLE = "HARNESS_TORTURE" in os.environ


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> damages.Healthy:
    return damages.make_healthy(tmp_path_factory.mktemp("healthy"))


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_no_damage_gives_a_wrong_number_a_traceback_or_a_hang(healthy: damages.Healthy) -> None:
    everything = 2 * (len(damages.KNOWN) + len(damages.HARMLESS) + len(damages.OPEN))
    chosen = range(everything) if WHOLE else range(0, everything, 13)
    table, bad = damages.torture(chosen, healthy, seed=0)
    print(damages.table_text(table))
    assert not bad, "\n".join(bad)[:20_000]


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_a_full_disk_loses_no_result(healthy: damages.Healthy, tmp_path: Path) -> None:
    full = tmp_path / "full"
    shutil.copytree(healthy.results, full)
    shutil.rmtree(full / "trials" / healthy.open)
    table = disk_full.torture(60 if WHOLE else 6, full)
    print(table)
    assert not set(table) & set(disk_full.BAD), table
    assert set(table) == set(disk_full.GOOD), "the amounts should reach from too little to enough"


@pytest.mark.torture
@pytest.mark.parametrize("case", clocks.CASES, ids=lambda case: case.name)
def test_a_wrong_clock_neither_kills_nor_revives(case: clocks.Case, tmp_path: Path) -> None:
    assert clocks.found(case, tmp_path) == case.alive
