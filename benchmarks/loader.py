"""The loop that most papers' code has: torchvision's MNIST through a ``DataLoader`` with per-image transforms.

A process of its own, since the harness's setting of the allocator would speed its peer up too. ``engine.py`` starts it:
each line that it reads asks for one epoch, and it answers with a line at its end.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pairing import Work
from torch.nn import functional
from torch.utils.data import DataLoader, Subset


def loader_of(folder: Path, samples: int, batch: int, *, api: str, augmented: bool) -> DataLoader[Any]:
    """``api`` is ``v1``, torchvision's frozen transforms, or ``v2``, those that it recommends."""
    from torchvision import datasets, transforms
    from torchvision.transforms import v2

    family: Any = transforms if api == "v1" else v2
    begin: list[Any] = [] if api == "v1" else [v2.ToImage()]
    end: list[Any] = [transforms.ToTensor()] if api == "v1" else [v2.ToDtype(torch.float32, scale=True)]
    moved = [family.RandomCrop(28, padding=4), family.RandomHorizontalFlip()] if augmented else []
    transform = family.Compose([*begin, *moved, *end, family.Normalize((0.1307,), (0.3081,))])
    data = Subset(datasets.MNIST(folder, transform=transform), range(samples))
    return DataLoader(data, batch_size=batch, shuffle=True)


@contextlib.contextmanager
def loader_epoch(folder: Path, samples: int, batch: int, *, api: str, augmented: bool) -> Iterator[Work]:
    """One epoch of LeNet fed by that loader, in its own process."""
    command = [sys.executable, __file__, str(folder), str(samples), str(batch), api]
    command += ["--augmented"] if augmented else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answered = process.stdin, process.stdout

        def work() -> None:
            asked.write("\n")
            asked.flush()
            if not answered.readline():
                raise RuntimeError("the loader's process ended")

        yield work
        asked.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("samples", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("api", choices=["v1", "v2"])
    parser.add_argument("--augmented", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    from harness_plugins.models.lenet import LeNet

    loader = loader_of(
        arguments.folder, arguments.samples, arguments.batch, api=arguments.api, augmented=arguments.augmented
    )
    model = LeNet((1, 28, 28), 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in sys.stdin:
        for inputs, targets in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        print("done", flush=True)


if __name__ == "__main__":
    main()
