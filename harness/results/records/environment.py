"""The machine and the versions that a result was computed with."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import socket
from pathlib import Path
from typing import Any

from harness.source import code_commit


def environment_facts() -> dict[str, Any]:
    """Machine and versions, as far as they need no torch."""
    import importlib.metadata

    versions = {}
    for name in ("noisy-label-harness", "torch", "torchvision", "timm", "numpy", "pluggy", "pydantic"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "versions": versions,
        "commit": code_commit(),
    }


@functools.cache
def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
