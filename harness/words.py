"""Words around a number, so that one trial is not ``1 trials``."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """``1 trial``, ``3 trials``; ``many`` where the plural is not the singular with an s (``try``, ``tries``)."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
