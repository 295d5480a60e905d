"""What a data set's factory says of where its files come from: licence, citation, how to get what nobody may pass on.

`harness data` reads these attributes. They are apart from :mod:`~harness_plugins.datasets.files`, which every data set
imports, and whose code is thus a part of every data set's digest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])


def origin(
    *, licence: str, citation: str, obtain: str = "", check: Callable[[Path], str] | None = None
) -> Callable[[Factory], Factory]:
    """Put `licence`, `citation`, `obtain` and `check` on a factory.

    Args:
        licence: of the files.
        citation: the paper to cite.
        obtain: how to get the files, where `harness data fetch` cannot.
        check: says of a folder what md5 cannot: one line, or a DataError.
    """

    def mark(factory: Factory) -> Factory:
        given = {"licence": licence, "citation": citation, "obtain": obtain, "check": check}
        for name, value in given.items():
            if value:
                setattr(factory, name, value)
        return factory

    return mark
