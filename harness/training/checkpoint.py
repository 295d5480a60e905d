"""Checkpoints: written in one step, checked before they are read, nothing unpickled beyond tensors and containers.

A file is one line of JSON and torch's archive. The line says what the archive is: of which trial and which file, with the
SHA-256 of its bytes, and for a checkpoint of a run that goes on that of the epochs recorded so far.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.errors import escaped, said
from harness.files import Damage, encoded, parsed, read_bytes, write_bytes

CHECKPOINT_SCHEMA = 2
MOST_BYTES = 1 << 40
ARCHIVE = b"PK\x03\x04"
"""How torch's archives begin; those of schema 1 have no line before."""


def save(path: Path, state: dict[str, Any], trial_id: str, records: str = "") -> None:
    """Write a state to ``path``; a crash leaves the previous file whole.

    Args:
        trial_id: of the trial that the state is of.
        records: a digest of what the run has recorded so far.
    """
    buffer = io.BytesIO()
    torch.save({"schema": CHECKPOINT_SCHEMA, "state": state}, buffer)
    content = buffer.getbuffer()
    write_bytes(path, _line(path, trial_id, records, content) + content)


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


def load(path: Path, device: torch.device, trial_id: str) -> tuple[dict[str, Any], str]:
    """Read a state.

    Args:
        device: where its tensors go.
        trial_id: the trial that it must be of.

    Returns:
        The state, and the digest of what its run had recorded.

    Raises:
        Damage: when it is absent, changed, of another trial or file, or of another schema.
    """
    raw = read_bytes(path, most=MOST_BYTES)
    if raw is None:
        raise Damage("is not there", path.name)
    line, _, content = raw.partition(b"\n")
    facts = _facts(line)
    if raw.startswith(ARCHIVE) or facts.get("schema") != CHECKPOINT_SCHEMA:
        raise Damage("was written by another version of the harness", path.name)
    if facts.get("trial") != trial_id or facts.get("file") != path.name:
        raise Damage("is of another trial or epoch", path.name)
    if facts.get("sha256") != hashlib.sha256(content).hexdigest():
        raise Damage("has been changed", path.name)
    return _state(content, device, path.name), str(facts.get("records", ""))


def load_unsealed(path: Path, device: torch.device) -> dict[str, Any] | None:
    """A kept state of schema 1, which does not say what it is of; ``None`` for a file of today."""
    raw = read_bytes(path, most=MOST_BYTES)
    return _state(raw, device, path.name) if raw is not None and raw.startswith(ARCHIVE) else None


def _line(path: Path, trial_id: str, records: str, content: Any) -> bytes:
    facts = {"schema": CHECKPOINT_SCHEMA, "trial": trial_id, "file": path.name, "records": records}
    return encoded({**facts, "sha256": hashlib.sha256(content).hexdigest()})


def _facts(line: bytes) -> Mapping[str, Any]:
    try:
        found = parsed(line)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _state(content: bytes, device: torch.device, where: str) -> dict[str, Any]:
    try:
        found = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        state: dict[str, Any] = found["state"]
    except Exception as error:  # a damaged archive raises whatever its bytes suggest; the cure is the same
        raise Damage(f"cannot be read ({type(error).__name__})", where) from None
    return state
