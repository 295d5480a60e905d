"""What every method costs against plain cross entropy: ``HARNESS_DATA=... python benchmarks/methods.py [--device cuda]``.

Ratios of epochs in the harness's own loop, interleaved, median of 11 pairs, LeNet on MNIST at batch 128 unless said; methods
with several networks, views or passes also against their own rows at cross entropy's prices (`rows.py`), LeNet and ResNet-18,
and where they draw views, which cross entropy does not, against rows and views;
then re-weighting, mixture fits and noise in milliseconds, and the peak memory of DivideMix.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness_plugins.algorithms.semi_supervised import mixture_posterior
from history import History
from memory import network_with_optimizer, peak
from pairing import HEAD, paired
from rows import priced
from training import harness_epoch, prepared

import harness
from harness.plugins import load_host

STILL = 1e-12
SAMPLES = 3200
ONLY = "*"
HISTORY = History("methods")
ALGORITHMS = {
    "sop": 1.10, "aux": 1.05, "cdr": 1.15, "elr": 1.10, "rdi": None, "forward": None, "backward": None, "mixup": None,
    "cores2": None,
}  # fmt: skip
SEVERAL = {
    "CE (control)": "",
    "co_teaching": "",
    "co_teaching_plus": "",
    "jocor": "",
    "sop_plus": "",
    "strong_augmentation": "",
    "ema": "",
    "sam": "",
    "reg_mixup": "",
    "elr_plus": "",
    "divide_mix": "warmup = 1",
    "divide_mix + rrm": "warmup = 1",
    "long_re_mix": "warmup = 1",
    "pro_mix": "warmup = 1",
    "cc": "warmup = 1, discrepancy_steps = 4",
    "pes": "warmup = 1, refine = 1",
    "unicon": "warmup = 1",
    "peer": "alpha = 1.0",
    "f_divergence": "",
    "gjs": "",
    "t_revision": "stage1 = 1, stage2 = 1000",
    "vol_min_net": "",
    "cal": 'stage1 = 1, optimizer = "setting"',
    "disc": "warmup = 1",
    "cores2_star": 'warmup = 0, ramp = 1, phase1 = 1, optimizer = "setting"',
}
"""Methods that send more than a row for each sample through networks, with what leads them past their warm-up."""
SECOND_PASS = ("peer", "f_divergence", "gjs")
"""Losses with a forward pass of their own, which are priced by their rows."""
MOST = 1.10


def stack(name: str, options: str) -> str:
    """The method that a row is about, as a suite writes it."""
    if name.startswith("CE"):
        return ""
    first, *more = name.split(" + ")
    if first in SECOND_PASS:
        return f'loss = {{ name = "{first}"{", " + options if options else ""} }}'
    parts = [f'{{ name = "{first}"{", " + options if options else ""} }}', *(f'"{part}"' for part in more)]
    return f"algorithms = [{', '.join(parts)}]"


def several(rounds: int, device: str, network: str, **options: Any) -> None:
    """Methods with several networks, views or passes: against cross entropy, and against their own rows."""
    for name, parameters in SEVERAL.items():
        if not fnmatch.fnmatchcase(name.partition(" ")[0], ONLY):
            continue
        of_ce, of_rows, with_views, rows = priced(
            f"{name}, {network}", stack(name, parameters), rounds, MOST, device=device, lr=STILL, **options
        )
        HISTORY.ratio(of_ce)
        HISTORY.ratio(of_rows)
        if with_views is not None:
            HISTORY.ratio(with_views)
        samples = options["samples"]
        forward, trained = rows.forward / samples, rows.trained / samples
        views = "".join(f", {number / samples:.2f} views {view}" for view, number in rows.views.items())
        print(f"{'':4}rows of a sample: {forward:.2f} forward, {trained:.2f} forward and back{views}", flush=True)


def memory(device: str) -> None:
    """DivideMix at batch 64 against cross entropy at four times the batch with one more network, ResNet-18."""
    if not fnmatch.fnmatchcase("divide_mix", ONLY):
        return
    options = {"dataset": "mnist5k", "model": "cifar_resnet18", "samples": 256, "device": device, "lr": STILL}
    base = statistics.median(peak(batch=256, **options) for _ in range(3)) + network_with_optimizer(**options)
    method = stack("divide_mix", SEVERAL["divide_mix"])
    found = statistics.median(peak(method, batch=64, **options) for _ in range(3))
    HISTORY.row("peak memory, CE at batch 256 + a network", base, "MiB")
    HISTORY.row("peak memory, DivideMix at batch 64", found, "MiB", 1.1 * base)


def against(name: str, method: str, pairs: int, bound: float | None, **options: Any) -> None:
    """Measure a row. Both networks stay where they start (a learning rate of next to nothing): what ReLU and pooling cost
    depends on the weights, and a loss that trains otherwise would be charged for that."""
    if not fnmatch.fnmatchcase(name.partition(" ")[0], ONLY):
        return
    work = harness_epoch(prepared(method, lr=STILL, **options))
    base = harness_epoch(prepared(lr=STILL, **options))
    HISTORY.ratio(paired(name, work, base, pairs, bound))


def ratios(pairs: int, device: str) -> None:
    """Every loss and algorithm against cross entropy, LeNet on MNIST."""
    against("CE / CE (control)", "", pairs, 1.02, device=device, samples=SAMPLES)
    registry = load_host().registry
    for name in registry.names("loss"):
        facts = registry.facts(registry.find("loss", name)[0])
        if "classification" in facts.declares.tasks and name not in ("ce", *SECOND_PASS):
            against(f"{name} / CE", f'loss = "{name}"', pairs, 1.05, device=device, samples=SAMPLES)
    for name, bound in ALGORITHMS.items():
        against(f"{name} / CE", f'algorithms = ["{name}"]', pairs, bound, device=device, samples=SAMPLES)
    rrm = 'algorithms = [{ name = "rrm", every = 1000 }]'
    against("rrm between re-weightings / CE", rrm, pairs, 1.05, device=device, samples=SAMPLES)
    against("fgsm / CE, LeNet", 'algorithms = ["fgsm"]', pairs, 2.6, device=device, samples=SAMPLES)


def large(pairs: int, device: str, samples: int) -> None:
    """ResNet-18 on 32 x 32 inputs (Fashion-MNIST's grey images are 28 x 28; CIFAR-10 is taken where it is there)."""
    from harness.paths import data_folder

    dataset = "cifar10" if (data_folder() / "cifar-10-batches-py").is_dir() else "mnist"
    options = {"dataset": dataset, "model": "cifar_resnet18", "samples": samples, "device": device}
    kpd = 'transforms = [{ name = "kpd", rank = 100 }]'
    against(f"kpd rank 100 / CE, ResNet-18, {dataset}", kpd, pairs, 1.15, **options)
    against(f"fgsm / CE, ResNet-18, {dataset}", 'algorithms = ["fgsm"]', pairs, 1.8, **options)


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def absolute() -> None:
    """Re-weighting, mixture fits and noise."""
    rng = np.random.default_rng(0)
    losses = torch.from_numpy(rng.exponential(size=1_000_000)).float()
    rows: list[tuple[str, Callable[[], object], float]] = []
    for spread in ("lowest", "argmin"):
        rrm = harness.create("algorithm", "rrm", contamination=0.4, spread=spread)
        rows.append((f"re-weighting 1,000,000 losses, {spread}", lambda rrm=rrm: rrm.solve(losses), 25))
    mixed = torch.from_numpy(np.concatenate([rng.beta(1, 12, 30_000), rng.beta(4, 4, 20_000)]))
    rows.append(("a mixture fitted to 50,000 losses", lambda: mixture_posterior(mixed, 0), 150))
    labels = harness.LabelledData(
        torch.zeros(1_000_000, 1, dtype=torch.uint8), torch.from_numpy(rng.integers(0, 10, 1_000_000)), 10
    )
    for name, params in (
        ("symmetric", {"rate": 0.4}),
        ("pairflip", {"rate": 0.4}),
        ("asymmetric", {"rate": 0.4, "map": "mnist_cdr"}),
        ("kernel", {"rate": 0.4}),
    ):
        noise = harness.create("noise", name, **params)
        rows.append((f"{name} noise on 1,000,000 labels", lambda n=noise: n(labels, rng=rng), 100))
    for what, size, width, classes, bound in (("MNIST", 60_000, 784, 10, 500), ("CIFAR-100", 50_000, 3072, 100, 3000)):
        inputs = torch.from_numpy(rng.integers(0, 256, (size, width), dtype=np.uint8))
        data = harness.LabelledData(inputs, torch.from_numpy(rng.integers(0, classes, size)), classes)
        noise = harness.create("noise", "instance", rate=0.4)
        rows.append((f"instance noise at {what} size", lambda n=noise, d=data: n(d, rng=rng), bound))
    print()
    for name, work, bound in rows:
        HISTORY.row(name, milliseconds(work, 5), "ms", bound)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="few pairs, to see that it runs")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="rows of some losses or algorithms alone")
    arguments = parser.parse_args()
    global ONLY
    ONLY = arguments.only
    torch.set_num_threads(1)
    pairs = 3 if arguments.quick else 11
    print(f"torch {torch.__version__} on {arguments.device}\n\n{HEAD}")
    ratios(pairs, arguments.device)
    large(3 if arguments.quick else 9, arguments.device, 256 if arguments.device == "cpu" else 12_800)
    rounds = 3 if arguments.quick else 7
    several(rounds, arguments.device, "LeNet", samples=SAMPLES if arguments.device != "cpu" else SAMPLES // 2, batch=64)
    size = 128 if arguments.device == "cpu" else 6_400
    options: dict[str, Any] = {"dataset": "mnist5k", "model": "cifar_resnet18", "samples": size, "batch": size // 4}
    several(3, arguments.device, "ResNet-18", **{**options, "batch": min(options["batch"], 64)})
    memory(arguments.device)
    if ONLY == "*":
        absolute()
    print(f"\nkept in {HISTORY.keep()}")


if __name__ == "__main__":
    main()
