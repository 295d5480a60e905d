"""Words of others, made safe for the place they go to: a terminal, a cell of a spreadsheet, the name of a file.

Names, logs and errors come from suites, plugins and results of strangers. They are kept as they are in records, and
pass one of these functions where they leave the harness.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

LONGEST = 600
"""Characters of an answer; the middle of a longer one is left out."""
LONGEST_NAME = 80
"""Characters of a file's name, less its ending: with the longest ending far from any file system's limit of 255."""
_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_IN_LINES = re.compile(r"[^\n\t -~]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text: str, *, lines: bool = False) -> str:
    """Text as a terminal may show it: control, bidirectional, invisible and lone surrogate characters as escapes.

    What Python calls unprintable is written as its ``repr`` writes it: ``\\x1b``, ``\\u202e``. DEL becomes
    ``\\u007f``, so that JSON in which it stands is JSON still.

    Args:
        text: of anyone.
        lines: keep line ends and tabs, for texts of several lines; a name keeps to its line without.
    """
    return (_UNUSUAL_IN_LINES if lines else _UNUSUAL).sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    if character.isprintable():
        return character
    return "\\u007f" if character == "\x7f" else repr(character)[1:-1]


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text of at most ``longest`` characters: start and end are kept, since the end holds the remedy."""
    if len(text) <= longest:
        return text
    mark = " [...] "
    tail = (longest - len(mark)) // 2
    return f"{text[: longest - len(mark) - tail]}{mark}{text[-tail:]}"


def csv_cell(value: Any) -> Any:
    """A value of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe, numbers stay numbers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def uncelled(text: str) -> str:
    """What :func:`csv_cell` was given: text without the apostrophe before a formula's sign."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def file_name(words: str, taken: Iterable[str] = ()) -> str:
    """A file's name, less its ending, for a name of any length and with any signs.

    Small letters, digits, ``.`` and ``-``, at most about :data:`LONGEST_NAME` characters: the end of a longer one is a
    digest of ``words``. Words that differ from those of a name in ``taken`` in their signs alone get a number.
    """
    base = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.") or "unnamed"
    if len(base) > LONGEST_NAME:
        digest = hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:10]
        base = f"{base[: LONGEST_NAME - 11].rstrip('-.')}-{digest}"
    taken = set(taken)
    name, count = base, 2
    while name in taken:
        name, count = f"{base}-{count}", count + 1
    return name
