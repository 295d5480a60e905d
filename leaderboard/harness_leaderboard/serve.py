"""The server's process: Streamlit, with what the first page needs imported while Streamlit starts."""

from __future__ import annotations

import importlib
import sys
import threading

NEEDED = ("numpy", "duckdb", "scipy.special", "harness_leaderboard.views", "harness_leaderboard.tables")
"""Nothing that imports Streamlit: two threads that import one package get into each other's way."""


def warm_up() -> None:
    """Import what the first page needs; an error shows where it matters, when the page is drawn."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            return


def main() -> None:
    """``streamlit run`` with the arguments of this process; what it logs of others is made printable."""
    from harness.cli.terminal import guarded

    threading.Thread(target=warm_up, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", *sys.argv[1:]]
    with guarded():
        streamlit()


if __name__ == "__main__":
    main()
