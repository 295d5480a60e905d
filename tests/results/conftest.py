"""Records as an earlier harness wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.results.records import read_json, write_json


def _unseal(results: Path) -> None:
    for done in results.glob("trials/*/done.json"):
        kept = {key: value for key, value in read_json(done).items() if key in ("attempt", "digests", "status")}
        write_json(done, kept)
        for path in done.parent.glob("attempt-*/result.json"):
            write_json(path, {key: value for key, value in read_json(path).items() if key != "trial"} | {"schema": 1})
        if (evaluations := read_json(done.parent / "evaluations.json")) is not None:
            write_json(done.parent / "evaluations.json", {k: evaluations[k] for k in ("attempt", "metrics")})


@pytest.fixture
def unseal() -> Callable[[Path], None]:
    """Take the digests out of a results folder: schema 1."""
    return _unseal
