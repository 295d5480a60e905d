"""No suite and no command line ends in a traceback, a hang, or more than one line."""

from __future__ import annotations

import os

import pytest
from fuzz import BAD, GOOD, fuzz, table_text

COUNT = int(os.environ.get("HARNESS_TORTURE", "5000"))
"""Inputs; ``HARNESS_TORTURE=100000`` runs the whole by hand."""


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_every_mutated_input_ends_in_a_result_or_one_line() -> None:
    table, bad = fuzz(COUNT, seed=0)
    print(table_text(table))
    worst = [f"{made.line!r:.300} {made.content!r:.900}\n{ended.words[-1500:]}" for made, ended in bad[:3]]
    assert not bad, f"{len(bad)} of {COUNT}\n{table_text(table)}\n" + "\n".join(worst)
    for counts in table.values():  # mutations that all fail at the same door would test nothing behind it
        assert counts["done"] > 0.01 * COUNT / len(table)
        assert sum(counts[kind] for kind in GOOD) + sum(counts[kind] for kind in BAD) == COUNT / len(table)
