"""Labels of one class alone: nothing says that any of them is wrong."""

from __future__ import annotations

import torch

from harness import NoiseReport


def nothing_suspect(samples: int, label: int) -> NoiseReport:
    """The report on that many samples that are all labelled alike: no flag, equal scores, and the label suggested."""
    return NoiseReport(
        flags=torch.zeros(samples, dtype=torch.bool),
        score=torch.zeros(samples, dtype=torch.float64),
        suggested=torch.full((samples,), label),
    )
