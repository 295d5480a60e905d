"""How fast the leaderboard is on 100,000 trials of 50 epochs: a made store, a real server, a real Chromium.

    python benchmarks/leaderboard.py [--folder DIR] [--chromium /usr/bin/chromium] [--one-suite]

Prints each measurement beside its bound, and an empty Streamlit app as the peer: on a busy machine compare with that. The store is written through the tables of `harness.results.store`, in columns;
no trial has files. Ten suites of 40 methods x 50 settings x 5 seeds; `--one-suite` makes a single one of 50 x 400 x 5.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import pyarrow as pa
from harness_leaderboard.cli import OPTIONS, start, wait
from history import History

from harness.results.store import STORE_SCHEMA, TABLES, create_tables, insert

EPOCHS, SEEDS = 50, 5
DATASETS, MODELS = ("mnist5k", "fashion_mnist", "cifar10", "cifar100", "clothing1m"), ("lenet", "resnet18")
NOISES = (("symmetric", 0.2), ("symmetric", 0.4), ("pairflip", 0.2), ("pairflip", 0.4), ("asymmetric", 0.4))
PORT = 8697
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# --- the made store ---------------------------------------------------------------------------------------------------


def make_store(results: Path, *, suites: int = 10, methods: int = 40, settings: int = 50, seed: int = 0) -> int:
    """A results folder with a snapshot of ``suites * methods * settings * 5`` trials; returns their number."""
    store = results / "store"
    store.mkdir(parents=True)
    (results / "trials").mkdir()
    rng = np.random.default_rng(seed)
    path = store / "made00000000.duckdb"
    total = 0
    with duckdb.connect(str(path)) as connection:
        create_tables(connection)
        for number in range(suites):
            total += _suite(connection, rng, number, methods, settings, total)
            _manifest(results, connection, f"made-{number}")
        insert(connection, "meta", [{"key": "schema", "value": str(STORE_SCHEMA)}, {"key": "suites", "value": "made"}])
    (store / "current").symlink_to(path.name)
    (results / "version.json").write_text('{"schema": 1}')
    return total


def _suite(
    connection: duckdb.DuckDBPyConnection,
    rng: np.random.Generator,
    number: int,
    methods: int,
    settings: int,
    first: int,
) -> int:
    places = [(d, n, r, m) for d in DATASETS for n, r in NOISES for m in MODELS]
    places = [
        (f"{d}", n, r, m if i < len(places) else f"{m}-{i // len(places)}")
        for i, (d, n, r, m) in enumerate(places * (settings // len(places) + 1))
    ][:settings]
    m, s, r = (a.ravel() for a in np.meshgrid(range(methods), range(settings), range(SEEDS), indexing="ij"))
    count = len(m)
    ids = np.array([f"{first + i:016x}" for i in range(count)], dtype=object)
    names = ["CE", *(f"method {i:02d}" for i in range(1, methods))]
    ability, difficulty = 0.06 * rng.random(methods), 0.3 * rng.random(settings)
    accuracy = (
        0.9
        + ability[m]
        - difficulty[s]
        - 0.04
        + 0.006 * rng.normal(size=count)
        + 0.004 * rng.normal(size=(settings, SEEDS))[s, r]
    )
    column = {
        "trial": ids,
        "dataset": [places[i][0] for i in s],
        "noise": [places[i][1] for i in s],
        "rate": [places[i][2] for i in s],
        "model": [places[i][3] for i in s],
        "method": [names[i] for i in m],
        "setting": [f"{places[i][0]} / {places[i][3]} / {places[i][1]} {places[i][2]:g}" for i in s],
    }
    identity = json.dumps(
        {"dataset": {"name": "made"}, "training": {"epochs": EPOCHS}, "noise": {"name": "made", "params": {}}}
    )
    _put(connection, "trials", count, {
        **{key: column[key] for key in ("trial", "dataset", "noise", "rate", "model")},
        "loss": ["ce"] * count, "transforms": [""] * count, "algorithms": ["" if i == 0 else "elr" for i in m],
        "seed": r, "epochs": np.full(count, EPOCHS), "status": ["done"] * count, "attempt": ["attempt-001"] * count,
        "attempts": np.ones(count, dtype=int), "label_digest": ["0123456789abcdef"] * count,
        "corrupted": np.array([places[i][2] for i in s]), "selected_epoch": np.full(count, 31),
        "identity": [identity] * count, "options": ["{}"] * count, "histograms": ["{}"] * count,
    })  # fmt: skip
    _put(connection, "suite_trials", count, {
        "suite": [f"made-{number}"] * count, "digest": ["0" * 16] * count, "newest": [True] * count, "trial": ids,
        "method": column["method"], "setting": column["setting"], "seed": r, "oracle": [False] * count,
        "tuning": [False] * count, "tries": np.ones(count, dtype=int), "comparable": [True] * count,
        "method_position": m, "setting_position": s,
    })  # fmt: skip
    seconds = 20.0 + 10.0 * rng.random(count) + m
    _put(connection, "attempts", count, {
        "trial": ids, "attempt": ["attempt-001"] * count, "number": np.ones(count, dtype=int), "status": ["done"] * count,
        "host": ["made"] * count, "device": ["cpu"] * count, "started": np.arange(count) + 1e9 + number,
        "seconds": seconds, "commit": ["0" * 40] * count, "harness": ["0"] * count, "final": [True] * count,
    })  # fmt: skip
    _put(
        connection,
        "environments",
        count,
        {"trial": ids, "attempt": ["attempt-001"] * count, "environment": ['{"host": "made"}'] * count},
    )
    values = {
        ("accuracy", "last"): accuracy, ("accuracy", "last10"): accuracy - 0.001, ("accuracy", "selected"): accuracy - 0.004,
        ("accuracy", "best"): accuracy + 0.003, ("accuracy", "best_minus_last"): np.full(count, 0.003),
        ("memorisation", "last"): 0.3 * rng.random(count), ("recovery", "last"): 0.5 + 0.3 * rng.random(count),
        ("fgsm_accuracy@0.1", "last"): accuracy - 0.3, ("test_loss", "last"): 1 - accuracy,
        ("seconds_per_epoch", "last"): seconds / EPOCHS, ("peak_memory", "last"): np.full(count, 8e8),
        ("parameters", "last"): np.full(count, 61706.0),
    }  # fmt: skip
    for (metric, at), value in values.items():
        _put(
            connection, "metrics", count, {"trial": ids, "metric": [metric] * count, "at": [at] * count, "value": value}
        )
    epoch = np.tile(np.arange(1, EPOCHS + 1), count)
    rise = 1 - np.exp(-epoch / 8)
    last = np.repeat(accuracy, EPOCHS)
    noise = 0.01 * rng.normal(size=len(epoch))
    _put(connection, "epochs", len(epoch), {
        "trial": np.repeat(ids, EPOCHS), "epoch": epoch, "lr": np.full(len(epoch), 0.05), "train_loss": 2.3 - 1.5 * rise + noise,
        "test_accuracy": last * rise + noise, "validation_accuracy": 0.7 * last * rise + noise, "test_loss": 1.5 - rise + noise,
        "memorisation": 0.4 * rise + noise, "recovery": 0.6 * rise, "train_seconds": 0.5 + noise, "evaluation_seconds": 0.1 + noise,
    })  # fmt: skip
    return count


def _put(connection: duckdb.DuckDBPyConnection, table: str, count: int, given: dict[str, Any]) -> None:
    kinds = {"VARCHAR": pa.string(), "DOUBLE": pa.float64(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
    arrays = {}
    for name, kind in TABLES[table].items():
        arrays[name] = pa.array(given[name], type=kinds[kind]) if name in given else pa.nulls(count, kinds[kind])
    connection.register("incoming", pa.table(arrays))
    connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")
    connection.unregister("incoming")


def _manifest(results: Path, connection: duckdb.DuckDBPyConnection, suite: str) -> None:
    rows = connection.execute(
        "SELECT trial, method, setting, seed FROM suite_trials WHERE suite = ? ORDER BY ALL", [suite]
    ).fetchall()
    folder = results / "suites" / suite
    folder.mkdir(parents=True)
    plain = {"oracle": False, "tuning": False, "candidate": None}
    trials = [{"id": t, "method": m, "setting": s, "seed": r, **plain} for t, m, s, r in rows]
    manifest = {
        "suite": suite,
        "methods": list(dict.fromkeys(m for _, m, _, _ in rows)),
        "settings": list(dict.fromkeys(s for _, _, s, _ in rows)),
        "tries": {},
        "comparable": True,
        "trials": trials,
    }
    (folder / "0000000000000000.json").write_text(json.dumps(manifest))


# --- measuring --------------------------------------------------------------------------------------------------------


@contextmanager
def served(results: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A cold server of its own."""
    process = start(results, "127.0.0.1", PORT)
    url = f"http://127.0.0.1:{PORT}"
    try:
        wait(process, url)
        yield url, process
    finally:
        process.terminate()
        process.wait()


PEER = """
import streamlit as st
chosen = st.multiselect("Data set", ["mnist5k", "fashion_mnist", "cifar10"])
st.html(f"<p class='shown'>{len(chosen)}</p>")
"""


def measure_peer(folder: Path, chromium: str) -> tuple[float, float]:
    """Seconds of the first page (cold server) and of a filter change of a Streamlit app that does nothing at all: what
    no Streamlit page can beat on this machine, now."""
    from playwright.sync_api import sync_playwright

    script = folder / "peer.py"
    script.write_text(PEER)
    flags = [
        f"--{name}={value}" for name, value in {**OPTIONS, "server.address": "127.0.0.1", "server.port": PORT}.items()
    ]
    process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", str(script), *flags])
    try:
        url = f"http://127.0.0.1:{PORT}"
        wait(process, url)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1360, "height": 900})
            first = seconds(lambda: (page.goto(url), page.wait_for_selector(".shown")))
            page.wait_for_timeout(1000)
            page.get_by_label("Data set").first.click()
            changes = []
            for number, option in enumerate(DATASETS[:3], 1):
                target = page.get_by_role("option", name=option, exact=True)
                target.wait_for()
                page.wait_for_timeout(300)
                shown = f"document.querySelector('.shown').textContent === '{number}'"
                changes.append(seconds(lambda t=target, s=shown: (t.click(), page.wait_for_function(s, polling=10))))
            browser.close()
        return first, statistics.median(changes)
    finally:
        process.terminate()
        process.wait()


def seconds(do: Callable[[], Any]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def measure_pages(results: Path, chromium: str) -> Iterator[tuple[str, float, float, str]]:
    """(what, measured, bound, unit) for the pages and the server's memory."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        first = []
        for _ in range(3):
            with served(results) as (url, _process):
                page = browser.new_page(viewport={"width": 1360, "height": 900})

                def load(page: Any = page, url: str = url) -> None:
                    page.goto(url)
                    page.wait_for_selector("table a[data-go]")

                first.append(seconds(load))
                page.close()
        yield "first page, cold server (median of 3)", statistics.median(first), 3.0, "s"
        with served(results) as (url, process):
            page = browser.new_page(viewport={"width": 1360, "height": 900})
            page.goto(url)
            page.wait_for_selector("table a[data-go]")
            page.wait_for_timeout(1500)
            changes = [_choose(page, "Data set", option) for option in DATASETS[:3]]
            yield "filter change (median of 3)", statistics.median(changes), 0.3, "s"
            yield "filter change (slowest)", max(changes), 0.3, "s"
            trials = []
            for number in (1, 5, 9):
                link = page.locator("table tbody tr").nth(number).locator("td a[data-go]").first
                page.wait_for_timeout(700)
                trials.append(seconds(lambda link=link: (link.click(), page.wait_for_selector("svg.chart"))))
                page.get_by_role("link", name="Leaderboard").click()
                page.wait_for_selector("table tbody tr:nth-child(30) a[data-go]")
            yield "trial page (median of 3)", statistics.median(trials), 0.5, "s"
            for name in ("compare", "cost", "published", "export", "progress"):
                page.goto(f"{url}/{name}")
                page.wait_for_selector(".nh p, .stCode")
                page.wait_for_timeout(500)
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            yield "memory of the server after all pages", sum(p.memory_info().rss for p in tree) / 2**30, 1.5, "GiB"
        browser.close()


def _choose(page: Any, label: str, option: str) -> float:
    """Seconds from choosing a filter's option to the table that shows it."""
    box = page.get_by_label(label).first
    box.click()
    target = page.get_by_role("option", name=option, exact=True)
    target.wait_for()
    page.wait_for_timeout(300)
    before = page.evaluate(MARK)
    began = time.perf_counter()
    target.click()
    page.wait_for_function(f"before => ({MARK}) !== before", arg=before, polling=10)
    took = time.perf_counter() - began
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    return took


MARK = """[...document.querySelectorAll('*')].map(e => e.shadowRoot && e.shadowRoot.querySelector('.nh'))
    .filter(e => e && e.querySelector('table')).map(e => e.dataset.shown).join()"""


def measure_commands(results: Path, folder: Path) -> Iterator[tuple[str, float, float, str]]:
    """(what, measured, bound, unit) for `board` and `publish`."""
    harness = [sys.executable, "-m", "harness.cli.main"]
    suite = ["--results", str(results), "--suite", "made-0"]
    runs = [
        seconds(lambda: subprocess.run([*harness, "board", *suite], check=True, capture_output=True)) for _ in range(3)
    ]
    yield "harness board (median of 3)", statistics.median(runs), 1.5, "s"
    site = folder / "site"
    run = [*harness, "publish", str(site), "--results", str(results)]
    yield "harness publish", seconds(lambda: subprocess.run(run, check=True, capture_output=True)), 60.0, "s"
    yield "size of the site", sum(f.stat().st_size for f in site.rglob("*") if f.is_file()) / 2**20, float("inf"), "MiB"


def main() -> None:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to keep the made store; a temporary folder when absent")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--one-suite", action="store_true", help="a single suite of 100,000 trials")
    parser.add_argument("--only-make", action="store_true", help="make the store and stop")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="leaderboard-benchmark-"))
    results = folder / ("one" if given.one_suite else "ten")
    if not results.exists():
        shape = {"suites": 1, "methods": 50, "settings": 400} if given.one_suite else {}
        began = time.perf_counter()
        count = make_store(results, **shape)
        print(f"made {count:,} trials x {EPOCHS} epochs in {time.perf_counter() - began:.0f} s under {results}")
    if given.only_make:
        return
    first, change = measure_peer(folder, given.chromium)
    history = History("leaderboard")
    history.row("peer: empty Streamlit app, first page", first, "s")
    history.row("peer: empty Streamlit app, filter change", change, "s")
    for measured in (measure_pages(results, given.chromium), measure_commands(results, folder)):
        for what, value, bound, unit in measured:
            history.row(what, value, unit, None if bound == float("inf") else bound)
    print(f"\nkept in {history.keep()}")
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
