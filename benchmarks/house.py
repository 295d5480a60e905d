"""How large the house is and which way its imports go: of this checkout, or of others beside it.

    python benchmarks/house.py [CHECKOUT ...]

Lines are those of code outside tests, without blank lines, comments and docstrings. A circle is a set of folders of `harness/`
that import each other at run time; an upward arrow is an import of a folder that stands higher in the layers of this checkout's
`pyproject.toml`. import-linter refuses both in CI; here they are counted, so that checkouts can be compared.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = ("harness", "plugins/harness_plugins", "leaderboard/harness_leaderboard", "slurm")
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
           tokenize.ENDMARKER}  # fmt: skip


def code_lines(text: str) -> int:
    """Lines that hold a token which is neither a comment nor of a docstring."""
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def functions(text: str) -> Iterator[tuple[int, str]]:
    """(lines, name) of every function, with its signature and docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, node.name


def layers() -> dict[str, int]:
    """The height of every folder and file of `harness/`; the top is 0."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {name.strip(): height for height, row in enumerate(rows) for name in row.split(":")}


def arrows() -> list[tuple[str, str]]:
    """The imports between the folders and files of `harness/` at run time, of the package that Python finds."""
    import grimp

    graph = grimp.build_graph("harness", exclude_type_checking_imports=True, cache_dir=None)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = tuple(([*name.split("."), ""])[1] for name in (module, imported))
            if all(pair) and pair[0] != pair[1]:
                found.add(pair)
    return sorted(found)  # type: ignore[arg-type]


def circles(edges: list[tuple[str, str]]) -> list[list[str]]:
    """Sets of names that reach each other."""
    reach: dict[str, set[str]] = {name: set() for edge in edges for name in edge}
    for first, second in edges:
        reach[first].add(second)
    for _ in reach:
        for name in reach:
            reach[name] |= {far for near in reach[name] for far in reach[near]}
    sets = {tuple(sorted(m for m in reach if n in reach[m] and m in reach[n])) for n in reach if n in reach[n]}
    return [list(names) for names in sorted(sets)]


def measured(checkout: Path) -> dict[str, Any]:
    """What is counted of a checkout; its imports are read by a Python that finds it first."""
    files = [file for part in PARTS for file in sorted((checkout / part).rglob("*.py"))]
    files = [file for file in files if "tests" not in file.relative_to(checkout).parts]
    texts = {file.relative_to(checkout).as_posix(): file.read_text() for file in files}
    longest = max((lines, name, file) for file, text in texts.items() for lines, name in functions(text))
    largest = max((text.count("\n"), file) for file, text in texts.items())
    asked = [sys.executable, __file__, "--arrows"]
    said = subprocess.run(asked, env={"PYTHONPATH": str(checkout)}, capture_output=True, text=True, check=True).stdout
    edges = [(first, second) for first, second in json.loads(said)]
    height = layers()
    up = [(a, b) for a, b in edges if height.get(a, -1) > height.get(b, len(height))]
    return {
        "lines of code": sum(map(code_lines, texts.values())),
        "of them in harness/": sum(code_lines(text) for file, text in texts.items() if file.startswith("harness/")),
        "files": len(texts),
        "longest function": f"{longest[0]} ({longest[1]}, {longest[2]})",
        "longest file": f"{largest[0]} ({largest[1]})",
        "circles": "; ".join(" ".join(names) for names in circles(edges)) or 0,
        "upward arrows": ", ".join(f"{a} -> {b}" for a, b in up) or 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--arrows", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arrows:
        sys.path.remove(str(Path(__file__).parent))
        print(json.dumps(arrows()))
        return
    for checkout in given.checkouts:
        print(checkout)
        for what, value in measured(checkout.resolve()).items():
            print(f"  {what:20} {value}")


if __name__ == "__main__":
    main()
