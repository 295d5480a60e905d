"""The code that jobs will run: its fingerprint at submission, and a copy of it where a suite asks for one."""

from __future__ import annotations

import hashlib
import importlib.util
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PACKAGES = ("harness", "harness_plugins", "harness_slurm")


def package_folders() -> Iterator[Path]:
    """Folders of the harness's packages, found without importing them."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            yield Path(folder)


def fingerprint(plugins: Iterable[str] = ()) -> str:
    """First 16 hex digits of the sha256 over every source file of the harness and of the given plugin files."""
    content = hashlib.sha256()
    for folder in package_folders():
        for file in sorted(folder.rglob("*.py")):
            content.update(f"{folder.name}/{file.relative_to(folder).as_posix()}".encode())
            content.update(file.read_bytes())
    for plugin in sorted(plugins):
        content.update(Path(plugin).read_bytes() if Path(plugin).is_file() else b"gone")
    return content.hexdigest()[:16]


def snapshot(folder: Path, plugins: Sequence[str]) -> list[str]:
    """Copy the harness's packages and plugin files to ``folder``; the paths of the copied plugin files."""
    for source in package_folders():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".mypy_cache", ".ruff_cache")
        shutil.copytree(source, folder / source.name, ignore=ignored, dirs_exist_ok=True)
    copies = []
    for number, plugin in enumerate(plugins):
        target = folder / "plugin_files" / str(number) / Path(plugin).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(plugin, target)
        copies.append(str(target))
    return copies


def setup_line(folder: Path) -> str:
    """The shell line that puts a snapshot before what is installed."""
    return f'export PYTHONPATH={shlex.quote(str(folder))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
