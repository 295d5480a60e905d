"""What this machine and its cluster offer, and what to put into a suite."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import typer

from harness.cli.options import DEFAULT_RESULTS, Results
from harness.paths import expanded
from harness.words import counted


def doctor(results: Results = DEFAULT_RESULTS) -> None:
    """What this machine and its cluster offer, and what to put into a suite."""
    from harness.execution.queues import queueing
    from harness.plugins import load_host

    host = load_host()
    for line in machine(results):
        typer.echo(line)
    for plugin in host.plugins:
        if plugin.error:
            typer.echo(f"plugin {plugin.name} is broken: {plugin.error}")
    executors, wrong = queueing(host, {})
    for line in (*wrong, *(line for one in executors for line in one.diagnose(expanded(results).absolute()))):
        typer.echo(line)


def machine(results: Path) -> list[str]:
    """This machine: versions, cores, GPUs, and the folders that trials need."""
    from harness.execution.local import available_cores, visible_gpus
    from harness.paths import cache_folder, data_folder
    from harness.results.records import environment_facts

    facts = environment_facts()
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    gpus = visible_gpus()
    folder = nearest(results)
    data = data_folder()
    return [
        f"python {platform.python_version()} on {facts['platform']}; {versions}",
        f"{counted(available_cores(), 'core')}, {counted(len(gpus), 'GPU')}",
        f"results: {expanded(results).absolute()} ({'writable' if os.access(folder, os.W_OK) else 'NOT writable'})",
        f"data: {data.absolute()} ({'there' if data.is_dir() else 'not there; set HARNESS_DATA'})",
        f"cache: {cache_folder()}",
    ]


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = expanded(folder).absolute()
    while not os.path.exists(path):  # Path.exists raises for a name that is too long
        path = path.parent
    return path
