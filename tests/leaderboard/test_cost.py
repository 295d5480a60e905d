"""The Pareto front with what is certain of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from harness_leaderboard import queries, tables
from harness_leaderboard.site import publish
from harness_leaderboard.views import method_costs
from made_results import SETTINGS, Folder
from test_pages import html_of, words_of

from harness.api import open_store
from harness.errors import HarnessError
from harness.results.report import read_board
from harness.results.statistics import front_certainty
from harness.results.store import current_snapshot

SPEED = {"CE": 1.0, "L1": 2.0, "AUX": 2.0, "CDR": 4.0}
LEVEL = {"CE": 0.70, "L1": 0.60, "AUX": 0.90, "CDR": 0.905}


@pytest.fixture
def raced(empty: Folder) -> Folder:
    """CE is fast, AUX good, L1 slower and worse than CE; CDR is slower than AUX and hardly better."""
    noise = np.random.default_rng(0)
    for seed in range(4):
        for method, level in LEVEL.items():
            for place in SETTINGS[:2]:
                trial = empty.trial(method, place, seed, level + 0.01 * noise.normal())
                timing = empty.path / "trials" / trial / "attempt-001" / "timing.jsonl"
                lines = [json.loads(line) for line in timing.read_text().splitlines()]
                seconds = SPEED[method] + 0.01 * noise.normal()
                timing.write_text("".join(json.dumps({**line, "train_seconds": seconds}) + "\n" for line in lines))
    empty.collect()
    return empty


def costs_of(folder: Folder):
    with open_store(folder.path) as connection:
        board, times = read_board(connection, "made"), read_board(connection, "made", "seconds_per_epoch")
    return method_costs(board, times, queries.costs(current_snapshot(folder.path), "made"))


def test_who_is_separably_faster_or_better_than_each_other_is_on_the_front(raced):
    found = {cost.method: cost for cost in costs_of(raced)}
    assert {method: cost.certainty for method, cost in found.items()} == {
        "CE": "on", "AUX": "on", "CDR": "perhaps", "L1": "off",
    }  # fmt: skip
    assert found["CE"].per_epoch == pytest.approx(1.0, abs=0.02)
    assert found["CE"].per_epoch_interval.low < found["CE"].per_epoch < found["CE"].per_epoch_interval.high


def test_a_front_of_few_runs_is_no_certain_front(filled):
    """One time for all seeds, and two methods that tie: none of the two is said to be on it or off it."""
    assert {cost.certainty for cost in costs_of(filled) if cost.method != "CE"} <= {"perhaps", "on"}


def test_page_plot_table_and_site_tell_certain_from_perhaps(raced, app, tmp_path):
    publish(raced.path, tmp_path / "site")
    for html in (html_of(app(raced.path, page="cost")), (tmp_path / "site" / "made.html").read_text()):
        said = words_of(html)
        assert "On the Pareto front: AUX, CE; perhaps: CDR." in said
        assert html.count("&#34;open&#34;:true") == 1 and html.count("○ perhaps") == 1 and html.count("● on it") == 2
        assert html.count("Span&#34;:[") == 8  # time and score of four methods


def test_without_times_the_page_says_so(filled):
    with open_store(filled.path) as connection:
        board = read_board(connection, "made")
    found = method_costs(board, None, [])
    assert "No time was recorded" in tables.cost_head(found)
    assert "nothing recorded" in tables.cost_chart(found, board.metric)


@pytest.mark.parametrize("seed", range(20))
def test_certainty_agrees_with_its_definition(seed):
    rng = np.random.default_rng(seed)
    cost, score = rng.integers(0, 6, size=(2, 7))
    cheaper, better = cost[:, None] < cost - 1, score[:, None] > score + 1
    expected = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        if all(cheaper[i, j] or better[i, j] for j in others):
            expected.append("on")
        else:
            expected.append("off" if any(cheaper[j, i] and better[j, i] for j in others) else "perhaps")
    assert list(front_certainty(cheaper, better)) == expected


def test_certainty_needs_squares():
    with pytest.raises(HarnessError, match="squares"):
        front_certainty(np.zeros((2, 3), dtype=bool), np.zeros((2, 3), dtype=bool))
