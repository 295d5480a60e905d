"""The house: the core names no component, the page on the architecture names every folder, messages are free of old words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import harness
from harness.plugins import Host
from harness.registry import KINDS

CORE = Path(harness.__file__).parent
ROOT = CORE.parent
PAGE = ROOT / "docs" / "architecture.md"
OTHER_WORDS = frozenset(
    {"loss", "none", "forward", "mae", "recovery", "phase", "fgsm", "timm:", "human", "annotators", "table", "given"}
)
"""Words that name a component and have a sense of their own: no noise, a model's pass, the error, a kind of attack that
the evaluator makes, the prefix of timm's optimizers, the labels of people that a data set brings, and those people; a table of a suite, and what is given;
a kind of component, which is a detector too."""
DEFAULTS = {
    "tasks.py": {"ce", "bce", "l2"},
    "cli/scaffold.py": {"digits", "mlp", "lenet"},
    "suite/references.py": {"hoc"},
}
"""The plain loss of each task, what a new plugin's tests stand in, and what estimates where a method names nothing."""


def test_the_core_names_no_component() -> None:
    registry = Host().registry
    names = {
        component.name
        for kind in KINDS
        if kind != "executor"
        for component in registry.components(kind)
        if component.owner.startswith("noisy-label-harness ")
    }
    assert {"cdr", "sop", "mnist5k"} <= names
    found: dict[str, set[str]] = defaultdict(set)
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names - OTHER_WORDS:
                found[path.relative_to(CORE).as_posix()].add(node.value)
    assert dict(found) == DEFAULTS


def test_the_page_on_the_architecture_names_every_folder_and_only_files_that_are_there() -> None:
    page = PAGE.read_text()
    folders = {path.name for path in CORE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert all(f"`harness/{folder}/`" in page for folder in folders)
    named = set(re.findall(r"`((?:harness|plugins|leaderboard|slurm|tests|docs|benchmarks)/[\w./-]+)`", page))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_what_the_guide_replaces_is_in_no_message() -> None:
    old = (
        "stands twice", "failed without a word", "where a paper is silent", "Only settings that all have:",
        "does not know how to fetch itself", "says not what to retry", "What stands beside what",
    )  # fmt: skip
    folders = (CORE, ROOT / "leaderboard/harness_leaderboard", ROOT / "slurm/harness_slurm")
    sources = [path for folder in folders for path in folder.rglob("*.py")] + [ROOT / "mkdocs.yml"]
    assert [(path.name, words) for path in sources for words in old if words in path.read_text()] == []


def test_a_name_of_a_class_means_one_thing() -> None:
    folders = (CORE, ROOT / "leaderboard/harness_leaderboard", ROOT / "slurm/harness_slurm")
    places: dict[str, list[str]] = defaultdict(list)
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
