"""What a data set's factory says of its files: what they are, how to fetch them, what they must contain.

`harness data` reads these attributes of a factory, so that any plugin's data set can be fetched and verified:
`declares` (its `files`, relative to the data folder), `fetch(folder)` and `md5` (file to md5 of its content), and those of
:mod:`~harness_plugins.datasets.origin`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness import Declares
from harness.errors import DataError

Factory = TypeVar("Factory", bound=Callable[..., Any])


def describe(
    declares: Declares, *, fetch: Callable[[Path], None] | None = None, md5: Mapping[str, str] | None = None
) -> Callable[[Factory], Factory]:
    """Put `declares`, `fetch` and `md5` on a factory."""

    def mark(factory: Factory) -> Factory:
        factory.declares = declares  # type: ignore[attr-defined]
        if fetch is not None:
            factory.fetch = fetch  # type: ignore[attr-defined]
        if md5 is not None:
            factory.md5 = dict(md5)  # type: ignore[attr-defined]
        return factory

    return mark


def torchvision_fetch(name: str, torchvision_name: str) -> Callable[[Path], None]:
    """A `fetch` that has torchvision download a data set and check it.

    Args:
        name: the data set's registered name, for errors.
        torchvision_name: the class in `torchvision.datasets`.
    """

    def fetch(folder: Path) -> None:
        import torchvision

        try:
            for train in (True, False):
                getattr(torchvision.datasets, torchvision_name)(folder, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise not_fetched(name, folder, error) from None

    return fetch


def not_fetched(name: str, folder: Path, error: Exception) -> DataError:
    """The one line for a download that failed."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"cannot be downloaded: {reason[:200]}",
        f"datasets.{name}",
        f"connect to the internet, or copy its files into {folder.absolute()}",
    )
