"""The one way to the terminal: whatever is written to the standard streams passes :func:`harness.foreign.printable`.

The streams themselves are guarded, so that no command, log message, warning or plugin can forget it. Rich, which writes
control characters of its own, takes the stream below and makes every text printable before it lays it out.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from harness.foreign import LONGEST, printable, shortened

if TYPE_CHECKING:
    from rich.console import Console


class Printable:
    """A text stream that writes control and bidirectional characters as escapes.

    Args:
        below: the stream that is written to.
        longest: characters of a line, the middle of a longer one is left out; ``None`` for no limit.
    """

    def __init__(self, below: TextIO, longest: int | None = None) -> None:
        self.below = below
        self._longest = longest

    def write(self, text: str) -> int:
        shown = printable(text, lines=True)
        if self._longest is not None and len(shown) > self._longest:
            shown = "\n".join(shortened(line, self._longest) for line in shown.split("\n"))
        self.below.write(shown)
        return len(text)

    @property
    def encoding(self) -> str:
        """As if all could be written: what the stream below cannot is written as an escape."""
        return "utf-8"

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """The standard streams guarded while the context lasts. Lines of standard error, which answers, have a limit."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = out if isinstance(out, Printable) else Printable(out)  # type: ignore[assignment]
    sys.stderr = err if isinstance(err, Printable) else Printable(err, LONGEST - 1)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def below(stream: TextIO) -> TextIO:
    """The stream that a guarded one writes to, for who writes control characters on purpose."""
    return stream.below if isinstance(stream, Printable) else stream


def console(stream: TextIO, width: int | None = None) -> Console:
    """Rich on a standard stream. Every text that is printed, laid out or measured has been made printable."""
    from rich.console import Console
    from rich.text import Text

    class Guarded(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Guarded(file=below(stream), width=width, highlight=False)
