"""What the engine costs: ``HARNESS_DATA=... python benchmarks/engine.py [--quick]``.

Harness against a bare PyTorch loop and against a ``DataLoader`` with per-image transforms; the algorithms against plain
cross entropy; the command line, the plan and the collector in seconds. With `--before CHECKOUT` what
looking at records costs, as ratios to another checkout. Every ratio is the median of interleaved pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from history import History
from loader import loader_epoch, loader_of
from pairing import HEAD, Ratio, paired
from torch.nn import functional
from training import bare_epoch, harness_epoch, prepared

from harness.paths import data_folder

PAIRS = 11


def data_alone(samples: int, batch: int) -> Ratio:
    """What feeding costs without a network: the most that a faster feed can gain."""
    run = prepared(batch=batch, samples=samples, augment="{ crop = 4, flip = true }").run
    loader = loader_of(data_folder(), samples, batch, api="v2", augmented=True)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for _ in run.source.shuffled(torch.randperm(samples), batch, 0, generator):
            pass

    def theirs() -> None:
        for _ in loader:
            pass

    return paired(f"the same without a network, batch {batch}", ours, theirs, 9, 1 / 3)


def loops() -> Iterator[Ratio]:
    """The loop itself."""
    for batch in (32, 128):
        samples = 50 * 128
        ours = harness_epoch(prepared(batch=batch, samples=samples))
        bare = bare_epoch(prepared(batch=batch, samples=samples))
        yield paired(f"harness / bare loop, LeNet, batch {batch}", ours, bare, PAIRS, 1.05)
        moving = harness_epoch(prepared(batch=batch, samples=samples, augment="{ crop = 4, flip = true }"))
        for api in ("v1", "v2"):
            with loader_epoch(data_folder(), samples, batch, api=api, augmented=False) as plain:
                yield paired(f"harness / loader {api}, batch {batch}", ours, plain, 9)
            with loader_epoch(data_folder(), samples, batch, api=api, augmented=True) as moved:
                yield paired(f"harness / loader {api}, crop, flip, batch {batch}", moving, moved, 9, 1 / 3)
        yield data_alone(samples, batch)


def algorithms() -> Iterator[Ratio]:
    """Algorithms of the default suite against plain cross entropy."""
    stacks = {
        "CE / CE (control, within 2 %)": ("", 1.02),
        "CDR / CE": ('algorithms = ["cdr"]', 1.15),
        "SOP / CE": ('algorithms = ["sop"]', 1.10),
        "ELR / CE": ('algorithms = ["elr"]', 1.10),
        "AUX / CE": ('algorithms = ["aux"]', 1.05),
        "RRM / CE, between re-weightings": ('algorithms = [{ name = "rrm", every = 1000 }]', 1.05),
    }
    for name, (method, bound) in stacks.items():
        yield paired(name, harness_epoch(prepared(method)), harness_epoch(prepared()), PAIRS, bound)
    ready = prepared('algorithms = [{ name = "rrm", every = 1 }]')
    run = ready.run

    def reweighting() -> None:
        run.epoch = 1
        assert run.stack.epoch_end is not None
        run.stack.epoch_end(run=run)

    def one_forward_pass() -> None:
        with torch.no_grad(), run.evaluating():
            for index, inputs in run.source.ordered(512):
                functional.cross_entropy(run.model(inputs), run.targets[index], reduction="none")

    yield paired("RRM re-weighting / one forward pass", reweighting, one_forward_pass, PAIRS)


def seconds(command: list[str], repeats: int = 5) -> float:
    """Median wall seconds of a whole process, after one uncounted run, with bytecode kept as Python does by itself."""
    times = []
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for number in range(repeats + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


GRID = """
[suite]
name = "grid"
seeds = {seeds}
[[setting]]
dataset = ["digits", "mnist5k"]
model = ["lenet", "linear"]
noise = {{ name = "symmetric", rate = {rates} }}
[[method]]
name = "CE"
[[method]]
name = "GCE"
loss = "gce"
[[method]]
name = "SOP"
algorithms = ["sop"]
[[method]]
name = "CDR+AUX"
algorithms = ["cdr", "aux"]
[[method]]
name = "CE + KPD"
transforms = ["kpd"]
"""


def command_line(trials: int) -> list[tuple[str, float, float]]:
    """Whole-process seconds of commands: (what, seconds, bound)."""
    harness = [sys.executable, "-m", "harness.cli.main"]
    rows = [
        ("harness --help", seconds([*harness, "--help"]), 0.3),
        ("harness components", seconds([*harness, "components"]), 0.3),
    ]
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "small.toml"
        suite.write_text(
            GRID.format(seeds="[0]", rates="[0.2]")
            .replace('["digits", "mnist5k"]', '"digits"')
            .replace('["lenet", "linear"]', '"linear"')
        )
        small = ["--results", f"{folder}/small", "--set", "training.epochs=1"]
        subprocess.run(
            [*harness, "run", str(suite), *small], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        rows.append(("harness run with nothing to do", seconds([*harness, "run", str(suite), *small]), 1.5))
        one, two = (starting(harness, suite, Path(folder) / "started", workers) for workers in (1, 2))
        rows.append(("two trials of an epoch on digits, from nothing to the ranking", one, 6.0))
        rows.append(("the same with a second worker, more", two - one, 0.3))
        suite = Path(folder) / "grid.toml"
        rates = [round(0.01 * (i + 1), 2) for i in range(50)]
        suite.write_text(GRID.format(seeds=list(range(trials // 1000)), rates=rates) + "[training]\nepochs = 20\n")
        rows.append((f"plan of {trials:,} trials", in_process_plan(suite, Path(folder) / "r", trials), 1.0))
        rows.append((f"collecting {trials:,} records", in_process_collect(suite, Path(folder) / "r"), 5.0))
    return rows


def starting(harness: list[str], suite: Path, results: Path, workers: int) -> float:
    """Seconds of a run of two small trials: nearly all of it is starting."""
    chosen = ["--select", "method=CE|GCE", "--set", "training.epochs=1", "--workers", str(workers)]
    clean = f"import shutil; shutil.rmtree({str(results)!r}, ignore_errors=True)"
    words = [*harness, "run", str(suite), *chosen, "--results", str(results)]
    return seconds([sys.executable, "-c", f"import subprocess; {clean}; subprocess.run({words!r}, check=True)"])


def in_process_plan(suite: Path, results: Path, trials: int) -> float:
    """Loading and planning in a warm process, as the second plan of a session."""
    from harness.suite.load import load_suite
    from harness.suite.plan import make_plan

    make_plan(load_suite(suite), results)
    started = time.perf_counter()
    plan = make_plan(load_suite(suite), results)
    taken = time.perf_counter() - started
    assert len(plan.trials) == trials
    return taken


def in_process_collect(suite: Path, results: Path) -> float:
    """Collecting records of 20 epochs each, as a run would have left them."""
    from harness.results.store import collect

    make_records(suite, results)
    started = time.perf_counter()
    collect(results)
    return time.perf_counter() - started


def make_records(suite: Path, results: Path) -> None:
    """Records of 20 epochs of every trial of a suite, sealed where this harness seals."""
    from harness.results import records
    from harness.suite.load import load_suite

    records.open_results(results)
    entries = list(load_suite(suite).entries())
    records.submit_trials(results, [entry.trial for entry in entries])
    epoch = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "test_accuracy": 0.9, "test_loss": 0.5, "validation_accuracy": 0.8,
             "validation_loss": 0.7, "memorisation": 0.1, "diagnostics": {"sop.u_squared": 0.1}}  # fmt: skip
    timing = {"epoch": 1, "train_seconds": 0.1, "evaluation_seconds": 0.1, "peak_memory": 1}
    lines = "".join(json.dumps({**epoch, "epoch": n + 1}) + "\n" for n in range(20))
    times = "".join(json.dumps({**timing, "epoch": n + 1}) + "\n" for n in range(20))
    curve = {"last": 0.9, "last10": 0.9, "selected": 0.9, "best": 0.9, "best_minus_last": 0.0}
    result = json.dumps(
        {"status": "done", "metrics": {"accuracy": curve, "memorisation": {"last": 0.1}}, "error": None}
    )
    seal = getattr(records, "seal", None)
    for entry in entries:
        attempt = records.trial_folder(results, entry.trial.id) / "attempt-001"
        attempt.mkdir()
        shutil.copyfile(attempt.parent / "trial.json", attempt / "trial.json")
        (attempt / "epochs.jsonl").write_text(lines)
        (attempt / "timing.jsonl").write_text(times)
        (attempt / "environment.json").write_text('{"host": "h", "versions": {}}')
        (attempt / "result.json").write_text(result + "\n")
        done = {"attempt": "attempt-001", "digests": entry.trial.options["digests"]}
        (attempt.parent / "done.json").write_text(json.dumps(done))
        if seal is not None:
            seal(attempt.parent)


MAKE = "import sys; from pathlib import Path; import engine; engine.make_records(Path(sys.argv[1]), Path(sys.argv[2]))"

WITHOUT_TIES = """
import importlib, importlib.util
for name in ("harness.results.board", "harness.results.report"):
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name).with_ties = lambda found, *rest, **named: found
from harness.cli.main import main
main()
"""
"""A command whose board tells nothing of chance: what records cost, without what statistics cost."""


def records_before_and_after(before: Path, trials: int, pairs: int) -> Iterator[tuple[str, list[float]]]:
    """What looking at records costs, as ratios to an earlier checkout: the pairs of whole processes, interleaved.

    Each checkout has a results folder of its own, of the same trials. ``collect`` reads every record anew.
    """
    here = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place) / "grid.toml"
        rates = [round(0.01 * (i + 1), 2) for i in range(50)]
        seeds = list(range(max(1, trials // 1000)))
        suite.write_text(GRID.format(seeds=seeds, rates=rates) + "[training]\nepochs = 20\n")
        plain = ["-m", "harness.cli.main"]
        commands = {
            "run with nothing to do": [*plain, "run", str(suite)],
            "the same without tests of ties": ["-c", WITHOUT_TIES, "run", str(suite)],
            "status": [*plain, "status", str(suite)],
            "collect": [*plain, "collect", "--rebuild"],
        }

        def of(tree: Path, arguments: list[str]) -> float:
            paths = os.pathsep.join(
                str(tree / part) for part in (".", "plugins", "leaderboard", "slurm", here / "benchmarks")
            )
            kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            environment = {**kept, "PYTHONPATH": paths, "HARNESS_CACHE": f"{place}/cache-{tree.name}"}
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments], check=True, env=environment, cwd=place, stdout=subprocess.DEVNULL
            )
            return time.perf_counter() - started

        trees = (before.resolve(), here)
        for tree in trees:
            of(tree, ["-c", MAKE, str(suite), f"{place}/{tree.name}"])
        for name, command in commands.items():
            times: dict[Path, list[float]] = {tree: [] for tree in trees}
            for number in range(pairs + 1):
                for tree in trees if number % 2 else reversed(trees):
                    taken = of(tree, [*command, "--results", f"{place}/{tree.name}"])
                    if number:  # the first fills caches
                        times[tree].append(taken)
            yield name, [after / earlier for earlier, after in zip(times[trees[0]], times[trees[1]], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pairs and records, to see that it runs")
    parser.add_argument("--before", type=Path, help="another checkout: what looking at records costs, as ratios to it")
    arguments = parser.parse_args()
    if arguments.before is not None:
        trials, pairs = (1000, 3) if arguments.quick else (10_000, 9)
        print(f"{trials:,} trials, after / before, median of {pairs} interleaved pairs (least, most)")
        for name, ratios in records_before_and_after(arguments.before, trials, pairs):
            median = statistics.median(ratios)
            verdict = "ok" if median <= 1.05 else "MISSED"
            print(f"{name:28} {median:6.3f} ({min(ratios):.3f}, {max(ratios):.3f})  <= 1.05 {verdict}", flush=True)
        return
    global PAIRS
    PAIRS = 3 if arguments.quick else 11
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {os.cpu_count()} cores\n\n{HEAD}")
    history = History("engine")
    for rows in (loops(), algorithms()):
        for ratio in rows:
            history.ratio(ratio)
    print()
    for what, taken, bound in command_line(1000 if arguments.quick else 10_000):
        history.row(what, taken, "s", bound)
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
