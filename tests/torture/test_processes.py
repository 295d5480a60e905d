"""Runs that are killed, and runs beside each other, lose and double nothing, and every number is as ever.

The whole: ``python tests/torture/processes.py FOLDER --kills 500 --processes 50``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_killed_and_concurrent_runs_lose_and_double_nothing(tmp_path: Path) -> None:
    script = Path(__file__).with_name("processes.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "r"), "--kills", "10", "--processes", "6"],
        check=False,
        capture_output=True,
        text=True,
    )
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
