"""A suite file as a document: read, changed by ``--scale quick`` and ``--set``, and checked for its shape.

Whatever a file or a command line holds passes here before anything else reads it. What comes after may rely on tables
being tables, on lists of tables holding tables, and on values that are nested no deeper than :data:`DEEPEST`.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import SuiteError, unknown
from harness.suite.schema import TABLES
from harness.suite.select import assign, parse_assignment, parse_toml

LISTS = ("setting", "method")
"""The tables of which a suite has several."""
FORCED = ("training", "evaluation")
"""The tables whose assignments hold against settings and methods too."""


def read_document(path: Path) -> dict[str, Any]:
    """The TOML document.

    Raises:
        SuiteError: when there is no such file, it is no text, or it is no TOML (with the line).
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise SuiteError("is no regular file", str(path), "give the path of a TOML file")
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise SuiteError(
            "no such suite file", str(path), "give the path of a TOML file, or see `harness suites`"
        ) from None
    except IsADirectoryError:
        raise SuiteError("is a folder, not a suite file", str(path), "give the path of a TOML file") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"is not text (byte {error.start} is no UTF-8)", str(path), "give a TOML file") from None
    except OSError as error:
        raise SuiteError(f"cannot be read ({error.strerror})", str(path)) from None
    try:
        return parse_toml(text, path.name)
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"broken TOML: {error}", str(path), "mend that line") from None


def check_shape(document: Mapping[str, Any], file: str) -> None:
    """Refuse a document whose tables are no tables.

    Raises:
        SuiteError: naming the key.
    """
    if "suite" not in document:
        raise SuiteError("the table [suite] is missing", file, "see `harness schema` for a suite's tables")
    for key in (*TABLES, "quick"):
        if key not in document:
            continue
        value = document[key]
        if key in LISTS:
            if not isinstance(value, list):
                raise SuiteError("should be a list of tables", f"{file}: {key}", f"write [[{key}]]")
            for number, item in enumerate(value):
                if not isinstance(item, dict):
                    raise SuiteError(f"should be a table, got {item!r}", f"{file}: {key}[{number}]", f"write [[{key}]]")
        elif not isinstance(value, dict):
            raise SuiteError(f"should be a table, got {value!r}", f"{file}: {key}", f"write [{key}]")


def tables_in(document: Mapping[str, Any], key: str, file: str) -> list[dict[str, Any]]:
    """The tables of a list of a document of good shape, of which there should be one at least.

    Raises:
        SuiteError: when there is none.
    """
    if not document.get(key):
        raise SuiteError(f"there is no [[{key}]], so the grid is empty", file, f"add at least one [[{key}]]")
    return list(document[key])


def assignments(
    document: Mapping[str, Any], scale: str, overrides: Sequence[str], file: str
) -> Iterator[tuple[list[str], Any, str]]:
    """What ``--scale`` and ``--set`` assign: path, value and where that is said, in the order in which they hold.

    ``--scale quick`` is one seed, two epochs and 2,000 samples, and over them the suite's own ``[quick]``.

    Raises:
        SuiteError: for an unknown scale, or an assignment that is none.
    """
    if scale not in ("full", "quick"):
        raise SuiteError(unknown("scale", scale, ["full", "quick"]), "--scale")
    if scale == "quick":
        quick: dict[str, Any] = {"training.epochs": 2, "setting.subset": 2000}
        seeds = document["suite"].get("seeds", [0])
        if isinstance(seeds, list):
            quick["suite.seeds"] = seeds[:1]
        for key, value in {**quick, **document.get("quick", {})}.items():
            path, where = key.split("."), f"{file}: quick.{key}"
            if len(path) < 2 or not all(path):
                raise SuiteError("is no key of a table", where, 'write such as "training.epochs" = 1')
            yield path, value, where
    for text in overrides:
        path, value = parse_assignment(text)
        where = f"--set {text}"
        if path[0] not in TABLES and path[0] not in document:
            raise SuiteError(unknown("key", path[0], TABLES), where)
        if path[0] in LISTS:
            raise SuiteError(
                "settings and methods are lists", where, "set training., evaluation., execution. or suite. keys"
            )
        yield path, value, where


def apply(document: dict[str, Any], path: Sequence[str], value: Any, where: str) -> None:
    """Put one assignment into a document of good shape; one of ``setting.KEY`` goes into every setting."""
    if path[0] == "setting":
        for setting in document.get("setting", []):
            assign(setting, path[1:], value, where)
    else:
        assign(document, path, value, where)
