"""Peer samples (Liu and Guo, 2020): inputs of some training samples with the labels of others."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Run, Step
from harness.training.seeds import numpy_stream

OWN_OUTPUTS = "its second term is of the network's own outputs, which {} would not change"
TWICE = "each corrects for all of the label noise, which would be taken away twice"
REFUSES = {"forward": TWICE, "backward": TWICE, "vol_min_net": TWICE, "aux": OWN_OUTPUTS.format("`aux`")}


def draw_peers(seed: int, epoch: int, number: int, samples: int, size: int) -> tuple[Tensor, Tensor]:
    """Positions (n,) of the samples that give inputs, and (n,) of those that give labels: two disjoint draws without
    replacement, as the first two batches of another order of all would be.

    Args:
        seed, epoch, number: of the trial, the epoch and the step, whose stream ``peer`` it is.
        samples: of the training set.
        size: of the batch; ``n`` is at most half of the samples, and at least one.
    """
    count = max(1, min(size, samples // 2))
    stream = numpy_stream(seed, "peer", epoch, number)
    drawn = torch.from_numpy(stream.choice(samples, min(2 * count, samples), replace=False))
    return drawn[:count], drawn[-count:]


class Peers:
    """The peer batch of the step under way: views of samples as in training, and the labels of others."""

    def __init__(self) -> None:
        self._inputs: Tensor | None = None
        self._targets: Tensor | None = None

    def outputs(self, run: Run, step: Step) -> tuple[Tensor, Tensor]:
        """(n, K) outputs of drawn inputs in another forward pass of the step's network, and (n,) drawn labels.

        A step that is taken again (SAM) meets the same views.
        """
        if step.phase == "train":
            drawn = draw_peers(run.seed, run.epoch, step.number, run.num_samples, len(step.index))
            inputs, labels = (index.to(run.device, non_blocking=True) for index in drawn)
            self._inputs, self._targets = run.view(inputs, "weak"), run.targets.index_select(0, labels)
        assert self._inputs is not None and self._targets is not None
        return run.forward(self._inputs, run.of(step.network).model), self._targets
