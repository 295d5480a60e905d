"""The app: pages, filters, and the look for a newer snapshot."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import streamlit as st

from harness_leaderboard import shell
from harness_leaderboard.pages import board, compare, cost, export, progress, published, suspects, trial
from harness_leaderboard.shell import Asked

PAGES: tuple[tuple[str, str, str, Callable[[Asked], None]], ...] = (
    ("Leaderboard", "leaderboard", ":material/leaderboard:", board.page),
    ("Compare", "compare", ":material/compare_arrows:", compare.page),
    ("Trial", "trial", ":material/science:", trial.page),
    ("Published", "published", ":material/menu_book:", published.page),
    ("Cost", "cost", ":material/timer:", cost.page),
    ("Progress", "progress", ":material/hourglass_top:", lambda asked: progress.page(asked.suite)),
    ("Suspects", "suspects", ":material/find_in_page:", suspects.page),
    ("Export", "export", ":material/download:", export.page),
)

BEFORE: dict[str, Callable[[], None]] = {
    "progress": lambda: progress.page(None),
    "suspects": lambda: suspects.page(None),
}
"""Pages that have something to show before anything is collected."""

ICON = str(files("harness_leaderboard") / "assets" / "icon.svg")
"""Of our own, since Streamlit fetches a page's Material icon from the network when it has to serve as favicon."""

STYLE = """<style>
.stMain .block-container { padding: 3.2rem 2.6rem 3rem; }
h1 { padding: 0 0 .3rem !important; font-size: 1.7rem !important; }
@media (max-width: 640px) { .stMain .block-container { padding: 4.2rem 1rem 2rem; } }
</style>"""


def main() -> None:
    """One run of the app."""
    st.set_page_config(page_title="Noisy-label leaderboard", page_icon=ICON, layout="wide", menu_items={"About": None})
    st.html(STYLE)
    st.session_state["_component"] = shell.register()
    shell.choose_source()
    snapshot = shell.newest_snapshot()
    known = shell.suites(snapshot) if snapshot is not None else []
    chosen: list[Asked] = []

    def shown(path: str, show: Callable[[Asked], None]) -> Callable[[], None]:
        def run() -> None:
            if chosen:
                show(chosen[0])
            elif path in BEFORE:
                BEFORE[path]()
            else:
                shell.titled("Leaderboard")
                shell.explain_empty()

        run.__name__ = path
        return run

    first = PAGES[0][1]
    pages = {
        path: st.Page(
            shown(path, show), title=title, icon=icon, url_path="" if path == first else path, default=path == first
        )
        for title, path, icon, show in PAGES
    }
    st.session_state["_pages"] = pages
    # The default page lies at the root alone: a hidden one answers to its name, so that both addresses lead to it.
    named = st.Page(shown(first, PAGES[0][3]), title=PAGES[0][0], url_path=first, visibility="hidden")
    current = st.navigation([*pages.values(), named], expanded=True)
    if snapshot is not None and known:
        chosen.append(shell.sidebar(snapshot))
    current.run()
    shell.watch(snapshot)
