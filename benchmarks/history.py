"""What the benchmarks measured, kept: a line of JSON per run in ``benchmarks/history/<benchmark>.jsonl``.

A benchmark makes one :class:`History`, gives it every row as it is measured, and ends with :meth:`History.keep`. The
documentation draws the lines (``docs/generate.py``). Numbers of two machines do not compare; ratios nearly do.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pairing import Ratio

FOLDER = Path(__file__).parent / "history"


@dataclasses.dataclass
class History:
    """The rows of one run of the benchmark ``name`` (its file without ``.py``)."""

    name: str
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def ratio(self, ratio: Ratio) -> None:
        """A ratio of two pieces of work: printed, with its quartiles kept."""
        print(ratio.line(), flush=True)
        spread = {"low": ratio.low, "high": ratio.high}
        self._add(ratio.name, ratio.median, "ratio", ratio.bound, **spread)

    def row(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        """A single number: printed, and kept. ``bound`` is the most that it may be."""
        verdict = "" if bound is None else f"  <= {bound:g} {unit}  {'ok' if value <= bound else 'MISSED'}"
        print(f"{name:44} {value:10.2f} {unit}{verdict}", flush=True)
        self._add(name, value, unit, bound)

    def _add(self, name: str, value: float, unit: str, bound: float | None, **more: float) -> None:
        row = {"name": name, "value": value, "unit": unit, "bound": bound, **more}
        self.rows.append({key: round(v, 5) if isinstance(v, float) else v for key, v in row.items() if v is not None})

    def keep(self, folder: Path = FOLDER) -> Path:
        """Append the run to the history, and return the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.jsonl"
        run = {
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "arguments": sys.argv[1:],
            "machine": machine(),
            "rows": self.rows,
        }
        with path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        return path


def commit() -> str:
    """The first ten digits of the commit, with ``+`` where files have changed since, or ``unknown``."""
    described = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--abbrev=10", "--dirty=+"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def machine() -> dict[str, Any]:
    """What the numbers depend on, and nothing that tells whose machine it is."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def processor() -> str:
    """Its name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
