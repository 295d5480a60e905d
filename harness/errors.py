"""The one root of every error that a user is meant to read: what is wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.foreign import LONGEST, printable, shortened


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
