"""Fixtures that many tests share: a cache of their own, small suites, and a way to run them."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = """
[suite]
name = "small"
seeds = [0]
{suite}
[training]
epochs = {epochs}
batch_size = 64
optimizer = {{ name = "sgd", lr = 0.1, momentum = 0.9 }}
{training}
[evaluation]
train_every = 1
{evaluation}
{tables}
[[setting]]
dataset = "digits"
model = {{ name = "mlp", hidden = [32] }}
noise = {noise}
{setting}
{methods}
"""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Facts and parsed data go into a folder of the session, never into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        base = tmp_path_factory.getbasetemp()
        session = (
            base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        )  # workers share one, other sessions do not
        patch.setenv("HARNESS_CACHE", str(session / "harness-cache"))
        yield


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Write a small suite; keywords fill in its parts."""

    def write(name: str = "suite.toml", **parts: Any) -> Path:
        filled = {
            "suite": "",
            "epochs": 2,
            "training": "",
            "evaluation": "",
            "tables": "",
            "noise": '{ name = "symmetric", rate = 0.4 }',
            "setting": "",
            "methods": '[[method]]\nname = "CE"',
            **parts,
        }
        path = tmp_path / name
        path.write_text(textwrap.dedent(SMALL).format(**filled))
        return path

    return write
