"""The papers' numbers beside the reproduced ones."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from harness.papers.claims import JudgedClaim, judge_claims
from harness.papers.printed import load_claims
from harness.papers.reproduction import EPOCHS, Reproduced, ordering_sentence, orderings, reproduce, summary_sentence
from harness.papers.verdict import OrderingAgreement
from harness_leaderboard import queries, shell, tables
from harness_leaderboard.shell import View

REPRODUCED, ALL = "reproduced", "all printed"


@st.cache_resource(max_entries=4, show_spinner=False)
def answers(snapshot: str, at: str) -> tuple[list[Reproduced], dict[str, OrderingAgreement], list[JudgedClaim]]:
    """Every printed number with our answer, what becomes of the printed orders, and of what the papers claim."""
    with queries.cursor(Path(snapshot)) as connection:
        found = reproduce(connection, at=at)
        return found, orderings(connection, found), judge_claims(load_claims(), found)


def page(view: View) -> None:
    """Printed against reproduced."""
    shell.titled("Published")
    left, middle, right, last = st.columns(4)
    with last:
        at = st.selectbox("Epoch to use when the paper gives none", EPOCHS, key="at", bind="query-params")
    found, agreements, claims = answers(view.snapshot, at)
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
    if not reproduced:
        lead = "No suite here reproduces a paper's table yet: these are the printed numbers."
        how = tables.code("harness suites\nharness run suite:kpd/table2")
        html = f'<p class="lead">{lead}</p><p class="note">The packaged suites run them:</p>{how}'
    else:
        html = f'<p class="lead">{tables.text(summary_sentence(shown))}</p>'
    html += (
        '<p class="note">A verdict asks whether the printed mean lies in the 95 % prediction interval of our seeds; what a paper '
        "does not print (n, standard deviation, the epoch) is assumed and said. ✓ consistent, ? inconclusive (a gap that matters "
        "would not have been seen), ▼ below, ▲ above, ∅ not comparable.</p>"
    )
    html += tables.claims_list([one for one in claims if not chosen or one.claim.suite in chosen])
    html += tables.published_table(shown)
    ordered = [
        f"<dt>{tables.text(label)}</dt><dd>{tables.text(ordering_sentence(a))}</dd>" for label, a in agreements.items()
    ]
    if ordered:
        html += f"<h2>Does the printed order hold?</h2><dl>{''.join(ordered)}</dl>"
    shell.show(html + shell.snapshot_note(view.snapshot), "published")
