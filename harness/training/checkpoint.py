"""Checkpoints: written in one step, read with ``weights_only=True``, nothing unpickled beyond tensors and containers."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from harness.errors import escaped, said
from harness.files import write_bytes

CHECKPOINT_SCHEMA = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state to ``path``; a crash leaves the previous file whole."""
    buffer = io.BytesIO()
    torch.save({"schema": CHECKPOINT_SCHEMA, "state": state}, buffer)
    write_bytes(path, buffer.getvalue())


def unreadable(state: Any) -> str | None:
    """Why a state could not be read back from a checkpoint; ``None`` for one that can."""
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # a part's own object raises whatever it likes
        return escaped(" ".join(said(error).split()), 200)
    return None


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a state, or ``None`` when the file is absent, damaged or of another schema: then the trial starts over."""
    if not os.path.exists(path):
        return None
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception:  # a damaged archive raises whatever its bytes suggest; the cure is the same
        return None
    if not isinstance(found, dict) or found.get("schema") != CHECKPOINT_SCHEMA:
        return None
    state: dict[str, Any] = found["state"]
    return state
