"""One thread, and the field on which every accepted pair is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pairs import Field, pairs_of_algorithms, pairs_with_losses, surrounded, transformed


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    made = Field(tmp_path_factory.mktemp("pairs"))
    made.load(
        [
            *((loss, (algorithm,), ()) for algorithm, loss in pairs_with_losses()),
            *((loss, order, ()) for a, b, loss in pairs_of_algorithms() for order in ((a, b), (b, a))),
            *transformed(),
            *surrounded(),
        ]
    )
    return made
