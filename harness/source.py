"""Fingerprints of code: the source that a component has, and the commit of the harness.

A component's digest is that of the tokens of its files without comments and docstrings, so that a better docstring
makes no result stale and any other change does. It is the same under every version of Python. Its first part says by
which rule it was made: ``t1:`` and 16 hex digits. Bare hex digits are of the rule before it, over the bytes of the
files; facts, which hold docstrings, are kept under that one.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import io
import re
import sys
import time
import token
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from harness.paths import CacheFile

RULE = "t1:"
_OLD_RULE = re.compile(r"[0-9a-f]{16}")
SOURCES_SCHEMA = 1
_LEFT_OUT = frozenset({token.ENCODING, token.COMMENT, token.NL, token.ENDMARKER})
_MARKS = {token.NEWLINE: "\n", token.INDENT: "\x01", token.DEDENT: "\x02"}
_OPENING, _CLOSING = (
    frozenset(getattr(token, f"{kind}_{end}") for kind in ("FSTRING", "TSTRING") if hasattr(token, f"{kind}_{end}"))
    for end in ("START", "END")
)
_PLAIN_STRING = re.compile(r"[rRuU]?[\"']")
_SETTLED_NS = 1_000_000_000

Import = tuple[int, str | None, tuple[str, ...]]
"""Leading dots, module, names; no names for ``import module``."""


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """What is known of a file of source.

    Attributes:
        content: first 16 hex digits of the sha256 of its bytes.
        tokens: the same of its tokens without comments and docstrings.
        imports: its import statements.
    """

    content: str
    tokens: str
    imports: tuple[Import, ...]


def of_old_rule(digest: str) -> bool:
    """Whether a recorded digest is over the bytes of a component's files, comments and docstrings included."""
    return _OLD_RULE.fullmatch(digest) is not None


def component_digest(module_name: str, path: Path) -> str:
    """The digest of a module and of what it imports, directly or not, from its own top-level package."""
    return RULE + _digest(module_name, path, "tokens")


def content_digest(module_name: str, path: Path) -> str:
    """The same over the bytes of the files: what component digests were once, and what facts are kept under."""
    return _digest(module_name, path, "content")


def renewed(recorded: str, module_name: str, path: Path) -> str:
    """A recorded digest: one of the old rule that belongs to the source as it is now, by the present rule; others as they
    are, since nothing tells which source they were of."""
    if of_old_rule(recorded) and path.is_file() and content_digest(module_name, path) == recorded:
        return component_digest(module_name, path)
    return recorded


def _digest(module_name: str, path: Path, part: Literal["content", "tokens"]) -> str:
    package = module_name.partition(".")[0]
    files = {module_name: path}
    queue = [module_name]
    while queue:
        importer = queue.pop()
        for base, names in _imports(package, importer, files[importer]):
            for sibling, found in _reached(package, base, names):
                if sibling not in files and found.is_file():
                    files[sibling] = found
                    queue.append(sibling)
    digests: list[str] = [getattr(read_source(files[name]), part) for name in sorted(files)]
    return digests[0] if len(digests) == 1 else _sha("".join(digests).encode())


def _imports(package: str, module_name: str, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What a file's import statements name of ``package``: (module, names), without names for ``import module``."""
    parent = module_name if path.name == "__init__.py" else module_name.rpartition(".")[0]
    for level, module, names in read_source(path).imports:
        base = _absolute(parent, level, module)
        if base.partition(".")[0] == package:
            yield base, names


def _absolute(parent: str, level: int, module: str | None) -> str:
    """The module that a relative import names, seen from a module in the package ``parent``."""
    above = parent.split(".")[: len(parent.split(".")) - level + 1] if level else []
    return ".".join([*above, *([module] if module else [])])


def _reached(package: str, base: str, names: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Modules and their files that ``from base import names`` reads, or ``import base`` without names. The top-level
    ``__init__`` counts only where a name is its own: it registers all components, so each would go stale with any."""
    found = [(f"{base}.{name}", path) for name in names if (path := _submodule(base, name)) is not None]
    if base != package or not names or len(found) < len(names):
        path = module_file(base)
        found += [(base, path)] if path is not None else []
    return found


@functools.cache
def module_file(module_name: str) -> Path | None:
    """The file of a module that is not imported."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the packages above it are imported, and may print
            spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@functools.cache
def _submodule(base: str, name: str) -> Path | None:
    """The file of a package's module, found without importing the package."""
    origin = module_file(base)
    if origin is None or origin.name != "__init__.py":
        return None
    places = (origin.with_name(f"{name}.py"), origin.with_name(name) / "__init__.py")
    return next((place for place in places if place.is_file()), None)


# --- one file ----------------------------------------------------------------------------------------------------------

_known: dict[tuple[str, int, int, int], SourceFile] = {}
_kept = CacheFile(f"sources-{SOURCES_SCHEMA}")


def read_source(path: Path) -> SourceFile:
    """What is known of a file: from memory, from the cache under its path, times and size, or by reading it."""
    stat = path.stat()
    key = (str(path), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    if key not in _known:
        stamp = list(key[1:])
        entry = _kept.get(key[0])
        if entry is not None and entry["stamp"] == stamp:
            imports = tuple((level, module, tuple(names)) for level, module, names in entry["imports"])
            _known[key] = SourceFile(entry["content"], entry["tokens"], imports)
        else:
            _known[key] = source = _read(path)
            if (
                time.time_ns() - stat.st_ctime_ns > _SETTLED_NS
            ):  # a second edit within one tick of its times stays unseen
                _kept.put(key[0], {"stamp": stamp, **dataclasses.asdict(source)})
    return _known[key]


def save_sources() -> None:
    """Keep what this process had to read."""
    _kept.save()


def _read(path: Path) -> SourceFile:
    content = path.read_bytes()
    try:
        found = list(significant(_decoded(content)))
    except (SyntaxError, UnicodeError, tokenize.TokenError):  # no Python: every byte counts
        return SourceFile(_sha(content), _sha(content), ())
    return SourceFile(_sha(content), _sha("\0".join(found).encode()), tuple(_import_statements(found)))


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _decoded(content: bytes) -> str:
    """The text of a source file with its lines ended alike: what the last line ends with is no difference."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = io.TextIOWrapper(io.BytesIO(content), encoding).read()
    return text if text.endswith("\n") else f"{text}\n"


def significant(text: str) -> Iterator[str]:
    """The tokens of a source without comments and docstrings, with marks for the ends of lines and for indentation.

    A docstring is a string that is a statement of its own, wherever it stands: none of them is evaluated.
    """
    statement: list[str] = []
    begun = False  # whether the line has a statement already
    header, depth = False, 0  # of `def f(): ...` on one line: whether the colon is still to come, how deep in brackets
    lines = list(io.StringIO(text))
    for kind, word in _whole_strings(tokenize.generate_tokens(io.StringIO(text).readline), lines):
        if kind in _LEFT_OUT:
            continue
        if kind in (token.INDENT, token.DEDENT):
            yield _MARKS[kind]
            continue
        ends = kind == token.NEWLINE or (kind == token.OP and word == ";")
        if not ends:
            if not statement and word in ("def", "class", "async"):
                header, depth = True, 0
            statement.append(word)
            depth += (word in "([{") - (word in ")]}") if kind == token.OP else 0
            if header and depth == 0 and word == ":":
                yield from statement
                statement, header, begun = [], False, True
            continue
        documents = bool(statement) and all(_PLAIN_STRING.match(part) for part in statement)
        if not documents:
            yield from statement
        if not documents or (begun and kind == token.NEWLINE):
            yield _MARKS.get(kind, word)
        begun = kind != token.NEWLINE and (begun or not documents)
        statement, header = [], False


def _whole_strings(tokens: Iterable[tokenize.TokenInfo], lines: list[str]) -> Iterator[tuple[int, str]]:
    """Kind and text of every token, an f-string being one: from Python 3.12 on it comes in pieces."""
    begun: list[tuple[int, int]] = []
    for each in tokens:
        if each.type in _OPENING:
            begun.append(each.start)
        elif each.type in _CLOSING:
            start = begun.pop()
            if not begun:
                yield token.STRING, _between(lines, start, each.end)
        elif not begun:
            yield each.type, each.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one (line, column) to another."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    return "".join([lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1], lines[end[0] - 1][: end[1]]])


def _import_statements(tokens: list[str]) -> Iterator[Import]:
    """The import statements among a source's significant tokens."""
    starts = [0, *(position + 1 for position, word in enumerate(tokens) if word in ("\n", ";", ":", "\x01", "\x02"))]
    for start in starts:
        if start < len(tokens) and tokens[start] in ("from", "import"):
            end = next(position for position in range(start, len(tokens)) if tokens[position] in ("\n", ";"))
            try:
                (parsed,) = ast.parse(" ".join(tokens[start:end])).body
            except SyntaxError:
                continue
            if isinstance(parsed, ast.ImportFrom):
                yield parsed.level, parsed.module, tuple(alias.name for alias in parsed.names)
            elif isinstance(parsed, ast.Import):
                yield from ((0, alias.name, ()) for alias in parsed.names)


# --- the harness's own -------------------------------------------------------------------------------------------------


@functools.cache
def code_commit() -> str | None:
    """The git commit of the harness's own checkout, with ``-dirty`` when files differ; ``None`` outside one."""
    import subprocess

    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit, changed = (
            subprocess.run(
                ["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit
