"""What docs/papers.md says of the CDR+AUX report, of RRM's table 8 and of KPD's table 1 is what the reference results give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.api import open_store
from harness.papers.claims import JudgedClaim, read_published
from harness.papers.reproduction import Reproduced
from harness.results.records import open_results
from harness.results.records.archive import unpack
from harness.results.report import read_board
from harness.results.store import collect

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")


Read = dict[str, tuple[list[Reproduced], list[JudgedClaim]]]


def readings(folder: Path, suite: str, *epochs: str) -> Read:
    results = open_results(folder / "results")
    unpack(ROOT / "reference" / f"{suite.replace('/', '-')}.parquet", results)
    collect(results)
    with open_store(results) as connection:
        return {at: read_published(connection, suite, at) for at in epochs}


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> Read:
    return readings(tmp_path_factory.mktemp("cdr"), "cdr-aux/table1", "last", "best")


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


def told(part: str) -> str:
    """The paragraph of docs/papers.md that begins so, on one line."""
    start = DOCS.index(f"- *{part}.*")
    end = DOCS.find("\n- *", start + 1)
    return " ".join(DOCS[start : end if end > 0 else None].split())


def test_what_is_told_of_rrm_is_what_five_seeds_give(tmp_path):
    found, claims = readings(tmp_path, "rrm/table8", "last")["last"]
    cells = {(item.printed["method"], item.printed["rate"]): item for item in found}
    text, elr = told("RRM, table 8"), told("RRM, table 8, ELR")
    for method, name in (("CE", "CE"), ("MSE", "MSE"), ("MAE", "MAE")):
        item = cells[method, 0.65]
        values = list(item.values.values())
        assert len(values) == 5 and item.check.verdict == "inconclusive"
        assert f"{name} {np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} ({item.printed['mean']:.0f}" in text
    for method, said, fallen in (
        ("CE + RRM", "31.1, 79.1, 65.9, 89.2 and 75.9", "1 of 5 collapsed"),
        ("MAE + RRM", "31.1, 32.8, 61.6, 46.3 and 64.9", "2 of 5 collapsed"),
    ):
        item = cells[method, 0.65]
        assert said in text and [f"{v:.1f}" for v in item.values.values()] == said.replace(" and", ",").split(", ")
        assert (item.check.fallen, item.check.verdict, item.check.interval) == (fallen, "inconclusive", None)
    below = cells["MSE + RRM", 0.65]
    assert below.check.verdict == "below" and "58.5 ± 5.3" in text and below.text == "58.49 ± 5.30 (5)"
    assert below.check.interval == pytest.approx((-45.1, -11.9), abs=0.06) and "by 12 to 45 points" in text
    for rate, said in ((0.6, "79.1, 94.3 and 98.9"), (0.65, "31.1, 59.4 and 61.8")):
        assert [f"{v:.1f}" for v in cells["ELR", rate].values.values()] == said.replace(" and", ",").split(", ")
        assert said in elr
    assert {claim.verdict for claim in claims} == {"inconclusive"}


def test_what_is_told_of_kpd_is_what_its_seeds_give(tmp_path):
    results = open_results(tmp_path / "results")
    unpack(ROOT / "reference" / "kpd-table1.parquet", results)
    collect(results)
    with open_store(results) as connection:
        board = read_board(connection, "kpd/table1", "mae@selected")
        judged = read_published(connection, "kpd/table1", "selected")[1]
    rows = {row.method: row.cells for row in board.rows}

    def cell(method: str, epochs: int) -> tuple[str, str]:
        found = rows[method][f"raw features, {epochs} epochs"]
        return f"{found.mean:.{1 if epochs == 5 else 2}f}", f"{found.std:.{1 if epochs == 5 else 2}f}"

    def ahead(method: str, loss: str, epochs: int) -> int:
        ours, theirs = (rows[name][f"raw features, {epochs} epochs"].values for name in (method, loss))
        return sum(ours[seed] < theirs[seed] for seed in ours)

    text, start = told("KPD, table 1"), "L1 + KPD, dense start"
    assert (cell(start, 5), cell("L1", 5)) == (("1.4", "0.6"), ("8.2", "9.6")) and "1.4 ± 0.6, and at 8.2 ± 9.6" in text
    assert (cell(start, 20), cell("L1", 20)) == (("0.80", "0.14"), ("1.04", "0.46"))
    assert "0.80 ± 0.14 against 1.04 ± 0.46" in text
    assert cell("L1 + KPD", 5) == ("3.7", "2.6") and "3.7 ± 2.6" in text
    assert [ahead(start, "L1", 5), ahead(start, "L1", 20), ahead("L1 + KPD", "L1", 5)] == [5, 3, 2]
    counts = {one.setting: (one.here, one.verdict) for one in judged}
    assert counts["raw features, 5 epochs"] == (2, "does not hold")
    assert counts["raw features, 20 epochs"] == (1, "does not hold")
