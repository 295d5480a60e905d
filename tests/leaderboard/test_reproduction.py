"""Printed against reproduced: which of our cells answers which printed one, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from harness_leaderboard.tables import claims_list, published_table
from made_results import Folder

from harness.api import open_store
from harness.papers.claims import claims_sentence, read_published
from harness.papers.reproduction import gap_that_matters, ordering_sentence, orderings, reproduce, summary_sentence
from harness.printed import load_published

SUITE = "cdr-aux/table1"


@pytest.fixture
def reproduced(empty: Folder) -> Folder:
    """CDR and AUX as the CDR+AUX report prints them, CE ten points below it."""
    printed = {(c.method, c.noise, c.rate): c.mean for c in load_published() if f"{c.paper}/{c.table}" == SUITE}
    for (method, noise, rate), mean in printed.items():
        if rate == 0.2 and method in ("CE", "CDR", "AUX"):
            for seed in range(3):
                value = mean / 100 + 0.0005 * (seed - 1) - (0.1 if method == "CE" else 0.0)
                empty.trial(method, ("mnist", noise, rate), seed, value, suite=SUITE, epochs=100, batch_size=32)
    empty.collect()
    return empty


def found_in(folder: Folder):
    with open_store(folder.path) as connection:
        found = reproduce(connection, SUITE)
        return found, orderings(connection, found)


def test_a_printed_cell_is_answered_by_method_data_noise_rate_and_model(reproduced):
    found, _ = found_in(reproduced)
    answered = [item for item in found if item.values]
    assert len(found) == 48 and len(answered) == 12
    item = next(i for i in answered if (i.printed["method"], i.printed["noise"]) == ("CDR", "pairflip"))
    assert item.setting == "mnist / lenet / pairflip 0.2"
    assert item.mean == pytest.approx(99.05) and item.check.verdict == "consistent"
    assert item.assumed_at == "last"  # the report does not say which epoch


def test_where_the_paper_is_silent_the_reader_says_the_epoch(reproduced):
    with open_store(reproduced.path) as connection:
        best = [item for item in reproduce(connection, SUITE, "best") if item.values]
        last = [item for item in reproduce(connection, SUITE) if item.values]
    assert {item.assumed_at for item in best} == {"best"}
    assert any(b.mean > a.mean for a, b in zip(last, best, strict=True))


def test_a_reproduction_ten_points_lower_is_below(reproduced):
    found, _ = found_in(reproduced)
    verdicts = {i.check.verdict for i in found if i.values and i.printed["method"] == "CE"}
    assert verdicts == {"below"}
    assert "4 below" in summary_sentence(found) and "36 not comparable" in summary_sentence(found)


def test_a_scattered_reproduction_is_inconclusive_and_says_what_it_could_have_seen(empty):
    printed = {(c.method, c.noise, c.rate): c.mean for c in load_published() if f"{c.paper}/{c.table}" == SUITE}
    for seed in range(3):
        value = printed["CE", "pairflip", 0.2] / 100 + 0.01 * (seed - 1)
        empty.trial("CE", ("mnist", "pairflip", 0.2), seed, value, suite=SUITE, epochs=100, batch_size=32)
    empty.collect()
    found, _ = found_in(empty)
    (item,) = (item for item in found if item.values)
    assert item.check.verdict == "inconclusive" and item.check.detectable > 1
    assert "0 above the printed one, 1 inconclusive" in summary_sentence(found)
    assert f"a gap of {item.check.detectable:.2g} could have been seen" in published_table(found)


def test_a_gap_that_matters_is_a_point_a_printed_gain_or_a_tenth():
    assert gap_that_matters("accuracy", "percent", 98.0) == 1.0
    assert gap_that_matters("fgsm_accuracy@0.1", "fraction", 0.98) == pytest.approx(0.01)
    assert gap_that_matters("accuracy_gain", "points", -1.44) == pytest.approx(1.44)
    assert gap_that_matters("mae", "target", 4.0) == pytest.approx(0.4)


def test_claims_are_judged_beside_the_cells(empty):
    printed = {(c.method, c.noise, c.rate): c.mean for c in load_published() if f"{c.paper}/{c.table}" == SUITE}
    for (method, noise, rate), mean in printed.items():
        for seed in range(3):
            value = mean / 100 + 0.0005 * (seed - 1)
            empty.trial(method, ("mnist", noise, rate), seed, value, suite=SUITE, epochs=100, batch_size=32)
    empty.collect()
    with open_store(empty.path) as connection:
        found, claims = read_published(connection, SUITE, "last")
        assert connection.execute("SELECT count(*) FROM claims WHERE paper = 'cdr-aux'").fetchone() == (8,)
    by_id = {one.claim.id: one for one in claims}
    assert by_id["gain-over-sgd"].verdict == "holds" and by_id["gain-over-sgd"].here == pytest.approx(1.44, abs=0.01)
    assert by_id["lead-asymmetric-70"].verdict == "does not hold"  # 10 in the text, 7.78 in the table
    assert by_id["ahead-of-cdr"].here == 8
    page = claims_list(claims)
    assert "1.44 points on SGD" in page and "does not hold" in page and claims_sentence(claims) in page
    assert claims_list([one for one in claims if not one.covered]) == ""
    assert len(found) == 48


def test_the_printed_order_is_judged_per_setting(reproduced):
    _, agreements = found_in(reproduced)
    assert len(agreements) == 4
    agreement = agreements[f"{SUITE}: mnist / lenet / pairflip 0.2"]
    assert agreement.methods == ("CE", "CDR", "AUX") and agreement.disagree == 0 and agreement.agree >= 2
    assert ordering_sentence(agreement).startswith("of the printed order,")


def test_another_model_does_not_answer(empty):
    empty.trial("CDR", ("mnist", "pairflip", 0.2), 0, 0.9, suite=SUITE, model="resnet18")
    empty.collect()
    found, _ = found_in(empty)
    assert not any(item.values for item in found)


def test_a_flagged_number_is_not_measured_against(empty):
    for seed in range(3):
        empty.trial("L1", ("california_housing", "gaussian", 0.0), seed, None, suite="kpd/table1")
    empty.collect()
    with open_store(empty.path) as connection:
        found = reproduce(connection, "kpd/table1")
    assert {item.check.verdict for item in found} == {"not comparable"}
    assert all(item.check.reason.startswith("level:") for item in found)


def test_a_doubtful_level_leaves_the_order_of_methods_comparable(empty):
    for method, value in (("L1", 0.5), ("L1 + KPD", 0.6)):
        for seed in range(3):
            place = ("california_housing", "gaussian", 0.5)
            measured = {"mae": {"selected": value + 0.01 * seed}}
            empty.trial(method, place, seed, 0.5, suite="kpd/table1", model="linear", metrics=measured)
    empty.collect()
    with open_store(empty.path) as connection:
        found = reproduce(connection, "kpd/table1")
        (agreement,) = orderings(connection, found).values()
    assert {item.check.verdict for item in found} == {"not comparable"} and len(agreement.methods) == 2
    assert agreement.agree + agreement.disagree + agreement.undecided == 1


def test_another_budget_is_not_comparable_whatever_the_numbers_say(empty):
    printed = {(c.method, c.noise, c.rate): c.mean for c in load_published() if f"{c.paper}/{c.table}" == SUITE}
    for seed in range(3):
        mean = printed["CE", "pairflip", 0.2] / 100
        empty.trial(
            "CE", ("mnist", "pairflip", 0.2), seed, mean + 0.0005 * (seed - 1), suite=SUITE, epochs=20, batch_size=32
        )
    empty.collect()
    found, _ = found_in(empty)
    (item,) = (item for item in found if item.values)
    assert item.check.verdict == "not comparable" and item.check.by_numbers == "consistent"
    assert item.check.reason == "another configuration: training.epochs 20, the suite's 100"
    assert "1 was run in another configuration" in summary_sentence(found)
    assert "by numbers consistent; another configuration" in published_table(found)
    assert "1 consistent, 0 below, 0 above" in summary_sentence(found) and "over 1 cell" in summary_sentence(found)


def test_the_command_prints_both_sides(reproduced):
    command = [sys.executable, "-m", "harness.cli.main", "board", "--published", "--results", str(reproduced.path)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "printed against reproduced" in shown and "99.05" in shown and "consistent" in shown
    told = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout)
    assert told["summary"]["below"] == 4 and len(told["ordering"]) == 4
    claims = {claim["claim"]: claim for claim in told["claims"]}
    assert len(claims) == 8 and claims["gain-over-sgd"]["verdict"] == "not comparable"  # CDR+AUX was not run
    shown = subprocess.run([*command, "--metric", "best"], check=True, capture_output=True, text=True).stdout
    assert "ours is read at `best`" in shown
    refused = subprocess.run([*command, "--metric", "memorisation"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "--metric" in refused.stderr
