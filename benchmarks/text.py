"""What texts cost: ``HARNESS_DATA=... python benchmarks/text.py [--quick]``, on IMDb.

An epoch of the harness's loop in batches of about one length against the same reviews padded to a fixed length, each cut to as
many tokens; and a training step of LoRA against that of Hugging Face's peft on the same model, where peft is installed. Every
ratio is the median of interleaved pairs.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
from collections.abc import Callable

import torch
from history import History
from pairing import HEAD, Ratio, paired
from torch import Tensor, nn
from torch.nn import functional
from training import harness_epoch, prepared

import harness
from harness.training.augment import Augmentation
from harness.training.data import ResidentSource

WINDOW = 50
"""Batches whose reviews are sorted by length together, as ``rrm/table12`` has it."""
BERT = '{ name = "bert", weights = "", layers = 2, width = 128, heads = 2, inner = 512 }'
"""An encoder small enough for one core; what padding costs is nearly the same share of any."""
RANK, ALPHA, TARGET = 4, 8.0, "query"


def by_length(length: int, samples: int, pairs: int, bound: float) -> Ratio:
    """Batches of about one length / batches padded to ``length``."""
    works: list[Callable[[], None]] = []
    for fixed in (False, True):
        ready = prepared(
            batch=32, samples=samples, dataset=f'{{ name = "imdb", length = {length}, test = 2 }}', model=BERT,
            training=f"length_window = {WINDOW}",
        )  # fmt: skip
        source = ready.run.source
        assert isinstance(source, ResidentSource)
        if fixed:
            ready.run.source = ResidentSource(source.inputs, None, Augmentation(), torch.device("cpu"))
        works.append(harness_epoch(ready))
    return paired(f"IMDb by length / fixed length {length}", works[0], works[1], pairs, bound)


def step_of(model: nn.Module, tokens: Tensor, targets: Tensor) -> Callable[[], None]:
    """One step of what a model has to train."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def work() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(tokens), targets).backward()
        optimizer.step()

    return work


def lora(pairs: int) -> Ratio:
    """A step of the harness's LoRA / of peft's, on MiniLM-L6 with 8 reviews of 128 tokens."""
    from peft import LoraConfig, inject_adapter_in_model

    data = harness.create("dataset", "imdb", length=128, test=2).train
    tokens, targets = data.inputs[::3125], data.targets[::3125]  # type: ignore[index]
    options = {
        "pooling": "mean",
        "dropout": 0.0,
        "input_shape": (128,),
        "num_outputs": 2,
        "vocabulary": data.vocabulary,
    }
    plain = harness.create("model", "bert", **options)
    frozen = harness.create("transform", "freeze", **{"except": ["classifier"]})(plain)
    ours = harness.create("transform", "lora", rank=RANK, alpha=ALPHA, targets=[TARGET])(copy.deepcopy(frozen))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=[TARGET])
    theirs = inject_adapter_in_model(config, copy.deepcopy(frozen))
    theirs.classifier.requires_grad_(True)
    counts = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (ours, theirs)]
    assert counts[0] == counts[1], counts
    works = [step_of(model, tokens, targets) for model in (ours, theirs)]
    return paired("LoRA step / peft's", works[0], works[1], pairs, 1.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and reviews, to see that it runs")
    arguments = parser.parse_args()
    samples, pairs = (320, 3) if arguments.quick else (1600, 7)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {os.cpu_count()} cores\n\n{HEAD}")
    history = History("text")
    for length, bound in ((512, 1 / 1.5), (256, 1 / 1.1)):
        history.ratio(by_length(length, samples, pairs, bound))
    if importlib.util.find_spec("peft") is None:
        print("peft is not installed, so a step of LoRA is not compared: uv pip install peft")
    else:
        history.ratio(lora(3 if arguments.quick else 21))
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
