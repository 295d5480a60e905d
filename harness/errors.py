"""The one root of every error that a user is meant to read: what is wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.foreign import LONGEST, printable, shortened

MOST_SAID = 2000
"""Characters that are kept of what a plugin's exception says."""


class HarnessError(Exception):
    """Bad input, told in one printable line of at most 600 characters: ``where: what; remedy``.

    Args:
        what: what is wrong, in a few words.
        where: file and key (``benchmarks.toml: method[2].loss``); may be filled in by a caller that knows more.
        remedy: what to do about it.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        line = f"{line}; {self.remedy}" if self.remedy else line
        return shortened(printable(" ".join(line.split())), LONGEST - len("harness: \n"))

    def within(self, where: str) -> HarnessError:
        """The same error with ``where`` put before what is already known of the place."""
        joined = f"{where}.{self.where}" if self.where and not where.endswith(":") else f"{where} {self.where}".strip()
        return type(self)(self.what, joined if self.where else where.rstrip(":"), self.remedy)


class SuiteError(HarnessError):
    """A suite file, an override or a selection that cannot be used."""


class ComponentError(HarnessError):
    """A component that does not exist, cannot be loaded, or refuses its parameters."""


class StackError(HarnessError):
    """A loss, transforms and algorithms that do not compose."""


class DataError(HarnessError):
    """A data set that is not there, or is not what it should be."""


class ResultsError(HarnessError):
    """A results folder, or a file made for the user, that cannot be read or written."""


class TrialTimeout(HarnessError):
    """A trial ran past its ``timeout_s``."""


class TrialInterrupted(Exception):
    """A trial stopped at a batch boundary because somebody asked; its checkpoint is on disk."""


class ClaimLost(Exception):
    """A later attempt has taken this trial over: the one that raises this yields and writes nothing more."""


class CtrlC(KeyboardInterrupt):
    """The user's own Ctrl-C, raised by a signal handler of ours; a ``KeyboardInterrupt`` of a plugin is no such thing."""


def raise_ctrl_c(*_: object) -> None:
    """A handler of SIGINT."""
    raise CtrlC


def is_ctrl_c(error: BaseException) -> bool:
    """Whether the user has interrupted. Where Python's own handler of SIGINT stands, its exception cannot be told from a
    plugin's and counts as the user's."""
    if isinstance(error, CtrlC):
        return True
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def kind_of(error: BaseException) -> str:
    """The name of an exception's class, fit for a record."""
    return escaped(type.__getattribute__(type(error), "__name__"), 100)


def said(error: BaseException) -> str:
    """What an exception says, fit for a record or a terminal: at most :data:`MOST_SAID` characters, and escapes for
    what is not printable. An exception that cannot be made a string is told as such."""
    try:
        text = str(error)
    except BaseException as failed:  # a plugin's own __str__ may raise anything
        if is_ctrl_c(failed):
            raise
        return f"(its message cannot be written: {kind_of(failed)})"
    return escaped(text)


def escaped(text: str, limit: int = MOST_SAID) -> str:
    """Text of others, printable but for its line ends and tabs; cut at ``limit``."""
    text = str.__str__(text)  # a subclass of str may have a hostile method
    kept = printable(text[:limit], lines=True)
    return kept if len(text) <= limit else f"{kept} ... ({len(text) - limit:,} more characters)"


@contextlib.contextmanager
def writing(path: Path, remedy: str = "name another place") -> Iterator[None]:
    """What the system refuses while ``path`` is written, told as a :class:`ResultsError`."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # pyarrow's strerror is longer
        raise ResultsError(f"cannot be written ({why})", str(path), remedy) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'q'?`` when a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """``unknown parameter 'qq' (did you mean 'q'?)``, or the known names when none is close.

    What was refused is never named as known; a family (``timm:``) is known as ``timm:NAME``, since it needs one.
    """
    names = sorted({f"{each}NAME" if each.endswith(":") else each for each in known} - {name})
    hint = did_you_mean(name, names)
    if not hint:
        hint = f"known: {', '.join(names)}" if names else "it takes none"
    return f"unknown {what} {name!r} ({hint})"
