"""Named streams of randomness, derived from a trial's seed.

``split`` and ``noise`` depend on the data set, the noise and the seed only, so every method with one seed faces the very
same noisy labels; ``init``, ``order``, ``augment`` and ``algorithm`` belong to the trial. A stream's numbers do not
depend on how many numbers another stream has drawn.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def derive(seed: int, stream: str, *keys: object) -> int:
    """A 63-bit number from the sha256 of seed, stream and keys."""
    text = "/".join([str(seed), stream, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_stream(seed: int, stream: str, *keys: object) -> np.random.Generator:
    """A numpy generator of its own for a stream."""
    return np.random.Generator(np.random.PCG64(derive(seed, stream, *keys)))


def torch_stream(seed: int, stream: str, *keys: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for a stream, on ``device``."""
    return torch.Generator(device=device).manual_seed(derive(seed, stream, *keys))


def seed_globals(seed: int, *keys: object) -> None:
    """Seed what code outside our hands draws from (dropout, a plugin's ``numpy.random``)."""
    torch.manual_seed(derive(seed, "global", *keys))
    np.random.seed(derive(seed, "global-numpy", *keys) % 2**32)  # noqa: NPY002 -- the global state is the point
    random.seed(derive(seed, "global-python", *keys))


def global_state() -> dict[str, Any]:
    """The global generators' states as tensors and numbers, fit for a ``weights_only`` checkpoint."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    version, internal, gauss = random.getstate()
    del name
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [int(version), list(internal), gauss],
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_global_state(state: dict[str, Any]) -> None:
    """The inverse of :func:`global_state`."""
    torch.set_rng_state(state["torch"])
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
