"""``harness``: finds commands in the entry-point group ``harness.commands`` and runs one.

Commands are listed from metadata, with the first line of their docstring; only the one that is called is
imported. A target is a function (its signature is the command) or a ``typer.Typer`` (a group of commands).
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import typer
import typer.core

if TYPE_CHECKING:
    from harness.errors import HarnessError

GROUP = "harness.commands"
UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Click's, which typer brings along under changing names."""
LONGEST_USAGE = 400
"""Characters of click's answer, which stands below two lines on the command's use."""


@functools.cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """Commands by name; the first of two with one name wins, first-party ones first."""
    found = list(importlib.metadata.entry_points(group=GROUP))
    found.sort(key=lambda e: (e.dist is None or e.dist.name != "noisy-label-harness", e.name))
    commands: dict[str, importlib.metadata.EntryPoint] = {}
    for entry_point in found:
        commands.setdefault(entry_point.name, entry_point)
    return commands


class Commands(typer.core.TyperGroup):
    """A group whose commands are imported only when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(entry_points())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry_point = entry_points().get(cmd_name)
        if entry_point is None:
            return None
        return _placeholder(cmd_name, entry_point)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run with guarded streams, in this process or in a caller's."""
        from harness.cli.terminal import guarded

        with guarded():
            return super().main(*args, **options)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> Any:
        """Refuse words that are no UTF-8 at the door: neither TOML nor the store can hold them."""
        from harness.errors import HarnessError

        for word in args:
            try:
                word.encode()
            except UnicodeEncodeError:
                raise HarnessError("is no UTF-8", word, "write it anew") from None
        return super().make_context(info_name, args, *rest, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; click's answers to a wrong command line are cut like the harness's own."""
        from harness.foreign import shortened

        try:
            return super().invoke(ctx)
        except UsageError as error:
            error.message = shortened(error.message, LONGEST_USAGE)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in entry_points():
            from harness.errors import unknown

            typer.echo(f"harness: {unknown('command', args[0], entry_points())}", err=True)
            raise typer.Exit(2)
        name, *rest = args
        return name, make_command(name, entry_points()[name].load()), rest


def make_command(name: str, target: Any) -> Any:
    """A click command from a function or a Typer app."""
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(target)
    return typer.main.get_command(app)


def _placeholder(name: str, entry_point: importlib.metadata.EntryPoint) -> Any:
    """Stands for a command in a listing: its help is its first line, or its module's, read without importing it."""
    from harness.registry import function_summary

    def command() -> None: ...

    command.__doc__ = function_summary(entry_point.module, entry_point.attr)
    return make_command(name, command)


app = typer.Typer(
    name="harness",
    cls=Commands,
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "color": True},  # click would strip what is to be escaped
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from harness.plugins import harness_version

        typer.echo(harness_version())
        raise typer.Exit


@app.callback()
def harness(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
    ),
) -> None:
    """The benchmark harness for learning with noisy labels."""


def main() -> None:
    """Run a command; bad input, and what the system refuses, is one line on standard error and exit status 2."""
    from harness.cli.terminal import guarded
    from harness.errors import HarnessError, ResultsError, raise_ctrl_c

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, raise_ctrl_c)  # so that only the user's own Ctrl-C interrupts
    with guarded():
        try:
            app()
        except HarnessError as error:
            _tell(error)
            sys.exit(2)
        except KeyboardInterrupt:
            typer.echo("harness: interrupted", err=True)
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            if error.filename is None or error.errno is None:
                raise
            _tell(ResultsError(f"cannot be used ({os.strerror(error.errno)})", str(error.filename)))
            sys.exit(2)


def _tell(error: HarnessError) -> None:
    """One line on standard error; for programs, which ask for JSON, an object."""
    if "--json" not in sys.argv[1:]:
        typer.echo(f"harness: {error}", err=True)
        return
    import json

    from harness.foreign import printable, shortened

    told = {"what": error.what, "where": error.where, "remedy": error.remedy}
    lines = {key: shortened(printable(" ".join(text.split())), LONGEST_USAGE) for key, text in told.items() if text}
    typer.echo(json.dumps({"error": lines}), err=True)


if __name__ == "__main__":
    main()
