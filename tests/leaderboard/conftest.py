"""Fixtures of the leaderboard's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_results import Folder, fill

MAIN = sys.modules["__main__"]


@pytest.fixture
def empty(tmp_path: Path) -> Folder:
    """A results folder without any trial."""
    return Folder(tmp_path / "results")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The full made folder, collected; read it only."""
    folder = Folder(tmp_path_factory.mktemp("leaderboard") / "results")
    fill(folder)
    folder.collect()
    return folder


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """Streamlit puts the app in the place of `__main__`, which processes that later tests spawn would run."""
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture(autouse=True)
def _no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are tested on a folder's own results; the tests of the reference results ask for them."""
    monkeypatch.setattr("harness_leaderboard.shell.reference_files", list)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the app on a results folder, optionally a page of it with a query."""
    from importlib.resources import files

    from streamlit.testing.v1 import AppTest
    from streamlit.util import calc_hash

    def run(results: Path, page: str = "leaderboard", **query: str | list[str]) -> Any:
        monkeypatch.setenv("HARNESS_LEADERBOARD_RESULTS", str(results))
        test = AppTest.from_file(str(files("harness_leaderboard") / "app" / "leaderboard.py"), default_timeout=60)
        if page != "leaderboard":  # AppTest switches between files only, and our pages are functions
            test._page_hash = calc_hash(page)
        for key, value in query.items():
            test.query_params[key] = value
        return test.run()

    return run
