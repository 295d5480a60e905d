"""Single-file plugins written for a test."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

PRELUDE = """
import torch
from harness import Declares, hookimpl
from harness.parameters import NonNegative, Positive, Rate
"""
REGISTER = """

@hookimpl
def harness_register_{plural}(register):
    register("{name}", {factory})
"""


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[..., Path]:
    """Write a plugin file: source, then a registration of ``factory`` unless the source registers by itself."""

    def write(source: str, plural: str = "", name: str = "mine", factory: str = "Mine", file: str = "mine.py") -> Path:
        text = PRELUDE + textwrap.dedent(source)
        if plural:
            text += REGISTER.format(plural=plural, name=name, factory=factory)
        path = tmp_path / file
        path.write_text(text)
        return path

    return write
