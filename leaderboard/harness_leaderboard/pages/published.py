"""The papers' numbers beside the reproduced ones."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from harness.papers.claims import JudgedClaim, judge_claims
from harness.papers.reproduction import EPOCHS, Reproduced, orderings, reproduce, summary_sentence
from harness.papers.verdict import OrderingAgreement
from harness.printed import load_claims
from harness_leaderboard import queries, shell, tables
from harness_leaderboard.render import joined, part
from harness_leaderboard.shell import Asked

REPRODUCED, ALL = "reproduced", "all printed"


@st.cache_resource(max_entries=4, show_spinner=False)
def answers(snapshot: str, at: str) -> tuple[list[Reproduced], dict[str, OrderingAgreement], list[JudgedClaim]]:
    """Every printed number with our answer, what becomes of the printed orders, and of what the papers claim."""
    with queries.cursor(Path(snapshot)) as connection:
        found = reproduce(connection, at=at)
        return found, orderings(connection, found), judge_claims(load_claims(), found)


def page(asked: Asked) -> None:
    """Printed against reproduced."""
    shell.titled("Published")
    left, middle, right, last = st.columns(4)
    with last:
        at = st.selectbox("Epoch to use when the paper gives none", EPOCHS, key="at", bind="query-params")
    found, agreements, claims = answers(asked.snapshot, at)
    reproduced = [item for item in found if item.values]
    with left:
        which = st.segmented_control(
            "Numbers",
            [REPRODUCED, ALL],
            default=REPRODUCED if reproduced else ALL,
            required=True,
            key="numbers",
            bind="query-params",
        )
    with middle:
        verdicts = st.multiselect(
            "Verdict", list(tables.VERDICTS), key="verdict", bind="query-params", placeholder="all"
        )
    with right:
        papers = list(dict.fromkeys(item.suite for item in found))
        chosen = st.multiselect("Table", papers, key="table", bind="query-params", placeholder="all")
    shown = [
        item
        for item in (reproduced if which == REPRODUCED else found)
        if (not verdicts or item.check.verdict in verdicts) and (not chosen or item.suite in chosen)
    ]
    parts = [tables.lead(summary_sentence(shown)) if reproduced else part("published.html", "nothing")]
    parts.append(part("published.html", "legend"))
    parts.append(tables.claims_list([one for one in claims if not chosen or one.claim.suite in chosen]))
    parts += [tables.published_table(shown), tables.printed_order(agreements), shell.snapshot_note(asked.snapshot)]
    shell.show(joined(parts), "published")
