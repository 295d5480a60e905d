"""Browse results in a browser, or write them as a static site."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results
from harness.errors import HarnessError
from harness.words import counted

DEFAULT_PORT = 8501
START_S = 30.0
OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "global.developmentMode": "false",
    "logger.level": "error",
    "server.enableStaticServing": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.showEmailPrompt": "false",
    "logger.hideWelcomeMessage": "true",
    "theme.font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "theme.headingFont": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "theme.codeFont": "ui-monospace, 'SF Mono', Menlo, Consolas, monospace",
    "theme.light.primaryColor": "#2f6fb3",
    "theme.dark.primaryColor": "#3f7fc4",
}


def leaderboard(
    results: Results = DEFAULT_RESULTS,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = DEFAULT_PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Browse results in a browser."""
    from harness.results.records import open_results
    from harness.results.store import connect, current_snapshot

    folder = open_results(results, create=False)
    if (snapshot := current_snapshot(folder)) is not None:
        connect(snapshot).close()  # one that cannot be read is told here, not on every page
    check_port(host, port)
    if host not in ("127.0.0.1", "localhost", "::1"):
        typer.echo(f"harness: everyone who reaches {host}:{port} can read these results", err=True)
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else f'[{host}]' if ':' in host else host}:{port}"
    process = start(folder, host, port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the child ends with its parent
    try:
        wait(process, url)
        typer.echo(f"{folder} is shown at {url} (Ctrl-C ends)")
        if browser:
            webbrowser.open(url)
        raise typer.Exit(process.wait())
    except KeyboardInterrupt:
        typer.echo("ended", err=True)
    finally:
        process.terminate()
        process.wait()


def check_port(host: str, port: int) -> None:
    """Say in one line that a port cannot be had, before Streamlit says it in thirty."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (socket.gaierror, UnicodeError):
            remedy = "give an address of this machine, such as 127.0.0.1"
            raise HarnessError(f"{host!r} is no address", "--host", remedy) from None
        except OSError as error:
            raise HarnessError(f"{host}:{port} cannot be used ({error.strerror})", "--port", "choose another") from None


def start(results: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    """Streamlit as a child process: the core imports none of it, and its settings come from here alone."""
    from harness_leaderboard.shell_variables import RESULTS_VARIABLE

    script = files("harness_leaderboard") / "app" / "served.py"
    options = {**OPTIONS, "server.address": host, "server.port": str(port)}
    flags = [f"--{name}={value}" for name, value in options.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    environment[RESULTS_VARIABLE] = str(results)
    return subprocess.Popen([sys.executable, "-m", "harness_leaderboard.serve", str(script), *flags], env=environment)


def wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the server answers.

    Raises:
        HarnessError: when it ends before, or does not answer in time.
    """
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise HarnessError(
                f"streamlit ended with status {process.returncode}", "leaderboard", "see its message above"
            )
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise HarnessError(f"no answer from {url} in {START_S:.0f} s", "leaderboard", "try another --port")


def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the site into.")],
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write the results as a static site that opens from disk and from any static host."""
    from harness.results.records import open_results
    from harness_leaderboard.site import publish as write

    written = write(open_results(results, create=False), folder)
    typer.echo(f"{counted(written.trials, 'trial')} of {counted(written.suites, 'suite')}: {folder}/index.html")
