"""Words around numbers: one trial is not ``1 trials``, and nobody reads 9000 seconds."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """``1 trial``, ``3 trials``; ``many`` where the plural is not the singular with an s (``try``, ``tries``)."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float | None, unknown: str = "?") -> str:
    """``45 s``, ``3 min``, ``2.5 h``; three digits of a second, since an epoch may take less than one."""
    if seconds is None:
        return unknown
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
