"""What docs/papers.md says of the CDR+AUX report is what its reference result gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.api import open_store
from harness.papers.claims import JudgedClaim, read_published
from harness.papers.reproduction import Reproduced
from harness.results.archive import unpack
from harness.results.records import open_results
from harness.results.store import collect

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, tuple[list[Reproduced], list[JudgedClaim]]]:
    results = open_results(tmp_path_factory.mktemp("cdr") / "results")
    unpack(ROOT / "reference" / "cdr-aux-table1.parquet", results)
    collect(results)
    with open_store(results) as connection:
        return {at: read_published(connection, "cdr-aux/table1", at) for at in ("last", "best")}


def test_the_table_of_epochs_is_that_of_the_reference(read):
    for noise in ("symmetric", "asymmetric", "pairflip", "instance"):
        line = re.search(rf"^\| {noise} \|(.*)\|$", DOCS, flags=re.MULTILINE)
        assert line is not None
        for rate, told in zip((0.2, 0.4, 0.7), line[1].split("|"), strict=True):
            gaps = {
                at: np.mean(
                    [
                        abs(item.check.difference or 0.0)
                        for item in found
                        if (item.printed["noise"], item.printed["rate"]) == (noise, rate)
                    ]
                )
                for at, (found, _) in read.items()
            }
            last, best = told.split(",")
            assert float(last.strip(" *")) == pytest.approx(gaps["last"], abs=0.006)
            assert float(best.strip(" *")) == pytest.approx(gaps["best"], abs=0.006)
            assert ("**" in last, "**" in best) == (gaps["last"] < gaps["best"], gaps["best"] < gaps["last"])


def test_the_verdicts_told_are_those_of_the_reference(read):
    found, claims = read["last"]
    judged = [item for item in found if item.check.by_numbers is not None]
    hard = {
        i.printed["method"]: i.check.by_numbers
        for i in judged
        if (i.printed["noise"], i.printed["rate"]) == ("asymmetric", 0.7)
    }
    assert len(judged) == 24 and set(hard.values()) == {"below"} and len(hard) == 4
    others = [i.check.by_numbers for i in judged if (i.printed["noise"], i.printed["rate"]) != ("asymmetric", 0.7)]
    counts = {word: others.count(word) for word in ("consistent", "inconclusive", "below", "above")}
    assert counts == {"consistent": 14, "inconclusive": 4, "below": 1, "above": 1}
    (scattered,) = (
        i
        for i in read["best"][0]
        if (i.printed["noise"], i.printed["rate"], i.printed["method"]) == ("asymmetric", 0.7, "CDR+AUX")
    )
    assert scattered.printed["mean"] == 71.64 and scattered.check.by_numbers == "inconclusive"
    by_id = {one.claim.id: one for one in claims}
    lead = by_id["lead-asymmetric-70"]
    assert lead.by_numbers == "does not hold" and lead.here == pytest.approx(-0.3, abs=0.05)
    assert lead.interval == pytest.approx((-1.5, 0.8), abs=0.06)
    assert [by_id[f"gain-over-{o}"].here for o in ("sgd", "cdr", "aux")] == pytest.approx([1.03, 0.60, 0.17], abs=0.006)
    assert [by_id[f"ahead-of-{o}"].here for o in ("sgd", "cdr", "aux")] == [8, 7, 6]
