"""Claims of a table as a whole: what they are about, and what may be said of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from harness.errors import ResultsError
from harness.papers.claims import claim_lines, claims_sentence, judge_claims, printed_value
from harness.papers.export import FORMATS, export_published
from harness.papers.reproduction import Reproduced
from harness.papers.verdict import compare_with_published
from harness.printed import PublishedClaim, load_claims, load_published

PAPER = """
[paper]
key = "p"
title = "T"
authors = "A"
pages = "counted"

[[table]]
id = "table1"
page = 3
title = "t"
metric = "accuracy"
unit = "percent"
dataset = "mnist"
noise = "symmetric"
columns = [{ name = "a", rate = 0.1 }, { name = "b", rate = 0.2 }, { name = "c", rate = 0.3 }, { name = "d", rate = 0.4 }]
rows = [
  { method = "CE", cells = [90.0, 80.0, 70.0, 60.0] },
  { method = "New", cells = [92.0, 83.0, 69.0, 64.0] },
]

[[claim]]
id = "gain"
page = 4
where = "section 1"
says = "New gains on CE"
table = "table1"
kind = "gain"
method = "New"
over = "CE"

[[claim]]
id = "ahead"
page = 4
where = "section 1"
says = "New is ahead of CE in 3 of 4"
table = "table1"
kind = "count"
method = "New"
over = "CE"
"""


def paper(folder: Path, text: str = PAPER) -> Path:
    (folder / "p.toml").write_text(text)
    return folder


def answered(folder: Path, ours: Mapping[tuple[str, float], Iterable[float]], departure: str = "") -> list[Reproduced]:
    """Our seeds by method and rate."""
    found = []
    for cell in load_published(folder):
        values = dict(enumerate(ours.get((cell.method or "", cell.rate or 0.0), ())))
        check = compare_with_published(list(values.values()), cell.mean, departure=departure)
        found.append(Reproduced(dataclasses.asdict(cell), "s", values, check, departure=departure))
    return found


def scattered(
    gains: Iterable[float], spread: float, seed: int = 0, runs: int = 3
) -> dict[tuple[str, float], np.ndarray]:
    rng = np.random.default_rng(seed)
    ours = {}
    for rate, gain in zip((0.1, 0.2, 0.3, 0.4), gains, strict=True):
        ours["CE", rate] = rng.normal(50, spread, runs)
        ours["New", rate] = rng.normal(50 + gain, spread, runs)
    return ours


def judged(folder: Path, ours: Mapping[tuple[str, float], Iterable[float]], departure: str = ""):
    return {j.claim.id: j for j in judge_claims(load_claims(folder), answered(folder, ours, departure))}


def test_a_value_that_is_not_printed_follows_from_the_cells(tmp_path):
    gain, ahead = load_claims(paper(tmp_path))
    assert printed_value(gain) == pytest.approx((2 + 3 - 1 + 4) / 4) and printed_value(ahead) == 3
    assert len(gain.comparisons) == 4 and gain.suite == "p/table1"


def test_a_gain_that_is_there_holds_and_one_that_is_not_does_not(tmp_path):
    paper(tmp_path)
    there = judged(tmp_path, scattered((2, 3, 1, 4), 0.05))
    assert {key: one.verdict for key, one in there.items()} == {"gain": "holds", "ahead": "holds"}
    assert there["gain"].here == pytest.approx(2.5, abs=0.2) and there["ahead"].here == 4
    gone = judged(tmp_path, scattered((-2, -3, -1, -4), 0.05))
    assert {key: one.verdict for key, one in gone.items()} == {"gain": "does not hold", "ahead": "does not hold"}
    assert gone["gain"].interval.high < 2 and gone["ahead"].interval.high < 3


def test_scattered_seeds_decide_nothing(tmp_path):
    found = judged(paper(tmp_path), scattered((2, 3, 1, 4), 20.0))
    assert {one.verdict for one in found.values()} == {"inconclusive"}
    assert found["gain"].detectable > 2
    assert "could have been seen" in "".join(claim_lines(list(found.values())))


def test_the_interval_of_a_gain_is_that_of_paired_seeds_and_of_a_repetition(tmp_path):
    paper(tmp_path)
    ours = scattered((2, 3, 1, 4), 1.0)
    one = judged(tmp_path, ours)["gain"]
    parts = []
    for rate in (0.1, 0.2, 0.3, 0.4):
        new, ce = ours["New", rate], ours["CE", rate]
        parts.append((np.var(new - ce, ddof=1) / 3 + np.var(new, ddof=1) + np.var(ce, ddof=1)) / 16)
    df = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    half = scipy.stats.t.ppf(0.975, df) * np.sqrt(sum(parts)) + 0.1  # two means with one decimal
    assert one.interval == pytest.approx((one.here - half, one.here + half))


def test_what_is_missing_alone_or_trained_otherwise_is_said(tmp_path):
    paper(tmp_path)
    ours = scattered((2, 3, 1, 4), 0.05)
    part = {key: values for key, values in ours.items() if key[1] < 0.4}
    missing = judged(tmp_path, part)["gain"]
    assert missing.verdict == "not comparable" and missing.reason == "3 of 4 comparisons reproduced"
    assert judged(tmp_path, {})["gain"].reason == "not reproduced"
    single = judged(tmp_path, {key: values[:1] for key, values in ours.items()})["gain"]
    assert single.verdict == "inconclusive" and single.reason == "4 of 4 comparisons have one seed"
    other = judged(tmp_path, ours, "another configuration: epochs")["gain"]
    assert (other.verdict, other.by_numbers) == ("not comparable", "holds")
    assert other.reason == "another configuration: epochs"
    assert "by their numbers 1 hold" in claims_sentence([other])


@pytest.mark.parametrize("spread", [1.0, 5**0.5])
def test_a_claim_that_holds_is_seldom_refused(tmp_path, spread):
    """The paper's single runs and our three seeds are draws from the same eight populations."""
    paper(tmp_path)
    claims, cells = load_claims(tmp_path), answered(tmp_path, {})
    rng, refused, sets = np.random.default_rng(2), {"gain": 0, "ahead": 0}, 600
    means = {(method, rate): 50 + 2 * (method == "New") for method in ("CE", "New") for rate in (0.1, 0.2, 0.3, 0.4)}
    for _ in range(sets):
        theirs = {key: rng.normal(mean, spread) for key, mean in means.items()}
        found = []
        for item in cells:
            key = item.printed["method"], item.printed["rate"]
            values = dict(enumerate(rng.normal(means[key], spread, 3)))
            found.append(dataclasses.replace(item, values=values))
        drawn = [_printed_as(claim, theirs) for claim in claims]
        for one in judge_claims(drawn, found):
            refused[one.claim.id] += one.verdict == "does not hold"
    assert refused["gain"] / sets <= 0.05 and refused["ahead"] / sets <= 0.05


def _printed_as(claim: PublishedClaim, theirs: Mapping[tuple[str, float], float]) -> PublishedClaim:
    """The claim with the value that another paper's runs give."""
    gaps = [theirs["New", rate] - theirs["CE", rate] for rate in (0.1, 0.2, 0.3, 0.4)]
    value = float(sum(gap > 0 for gap in gaps)) if claim.kind == "count" else float(np.mean(gaps))
    return dataclasses.replace(claim, value=value, decimals=2)


def test_lower_is_better_for_errors():
    (kpd,) = (claim for claim in load_claims() if claim.suite == "kpd/table1")
    assert printed_value(kpd) == 3 and len(kpd.comparisons) == 3


def test_several_settings_that_answer_one_place_are_judged_one_by_one(tmp_path):
    paper(tmp_path)
    good, bad = scattered((2, 3, 1, 4), 0.05), scattered((-2, -3, -1, -4), 0.05)
    both = [
        dataclasses.replace(item, setting=name)
        for name, ours in (("one", good), ("two", bad))
        for item in answered(tmp_path, ours)
    ]
    found = {(j.claim.id, j.setting): j.verdict for j in judge_claims(load_claims(tmp_path), both)}
    assert found == {
        ("gain", "one"): "holds",
        ("gain", "two"): "does not hold",
        ("ahead", "one"): "holds",
        ("ahead", "two"): "does not hold",
    }


# --- what the papers claim --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("over", "gain", "ahead"), [("sgd", 1.44, 11), ("cdr", 0.76, 8), ("aux", 0.89, 9)])
def test_the_averages_and_counts_of_the_cdr_aux_report_follow_from_its_table(over, gain, ahead):
    claims = {claim.id: claim for claim in load_claims() if claim.paper == "cdr-aux"}
    told = claims[f"gain-over-{over}"]
    assert (told.value, told.decimals, len(told.comparisons)) == (gain, 2, 12)
    assert printed_value(dataclasses.replace(told, value=None)) == pytest.approx(gain, abs=0.005)
    assert printed_value(claims[f"ahead-of-{over}"]) == ahead


def test_every_packaged_claim_is_a_gain_or_a_majority():
    claims = load_claims()
    assert {claim.paper for claim in claims} == {"cdr-aux", "kpd", "rrm", "sop"}
    for claim in claims:
        assert printed_value(claim) > (len(claim.comparisons) / 2 if claim.kind == "count" else 0), claim.id


def test_what_the_text_prints_is_what_the_cells_give_or_is_flagged():
    differing = {
        f"{claim.suite} {claim.id}"
        for claim in load_claims()
        if claim.value is not None
        and abs(printed_value(dataclasses.replace(claim, value=None)) - claim.value)
        > 0.51 * 10.0 ** -(claim.decimals or 0)
    }
    flagged = {f"{claim.suite} {claim.id}" for claim in load_claims() if claim.flag}
    assert differing <= flagged


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('table = "table1"\nkind = "gain"', 'table = "table9"\nkind = "gain"', "table9"),
        ('over = "CE"\n\n[[claim]]', 'over = "SCE"\n\n[[claim]]', "compares nothing"),
        ('over = "CE"\n\n[[claim]]', 'over = "CE"\nvalue = -1.0\n\n[[claim]]', "swap method and over"),
        ('over = "CE"\n\n[[claim]]', 'over = "CE"\nselect = { colour = 1 }\n\n[[claim]]', "colour"),
        ('id = "ahead"', 'id = "gain"', "two claims"),
        ('kind = "count"', 'kind = "count"\nvalue = 2', "no majority"),
        ('kind = "gain"', 'kind = "gain"\nvalue = true', "finite"),
        ('kind = "gain"', 'kind = "lead"', "kind"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_place(tmp_path, old, new, message):
    assert old in PAPER
    with pytest.raises(ResultsError, match=message) as caught:
        load_claims(paper(tmp_path, PAPER.replace(old, new)))
    assert "p.toml" in str(caught.value) and "\n" not in str(caught.value)


# --- as files ---------------------------------------------------------------------------------------------------------


def test_cells_and_claims_are_exported_in_every_form(tmp_path):
    import pyarrow.parquet

    paper(tmp_path)
    found = answered(tmp_path, scattered((2, 3, 1, 4), 0.05))
    claims = judge_claims(load_claims(tmp_path), found)
    rows = json.loads(export_published(found, claims, "json", None))
    assert [row["kind"] for row in rows] == ["cell"] * 8 + ["gain", "count"]
    assert rows[-1]["verdict"] == "holds" and rows[-1]["printed"] == 3 and rows[-1]["here"] == 4
    lines = list(csv.DictReader(io.StringIO(export_published(found, claims, "csv", None))))
    assert lines[-2]["claim"] == "gain" and float(lines[-2]["low"]) < float(lines[-2]["here"])
    for form in ("markdown", "latex"):
        text = export_published(found, claims, form, None)
        assert "New gains on CE" in text and "holds" in text
    for form in FORMATS:
        export_published(found, claims, form, tmp_path / f"out.{form}")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").num_rows == 10
    with pytest.raises(ResultsError, match="--output"):
        export_published(found, claims, "parquet", None)
    with pytest.raises(ResultsError, match="format"):
        export_published(found, claims, "xls", None)
