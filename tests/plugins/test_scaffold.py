"""``harness plugin new``: what it writes is complete, sound, and passes its own checks."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from harness.cli.scaffold import KINDS, words, write_file, write_package
from harness.errors import HarnessError
from harness.testing import cases, loading, read_plugin

QUICK = (
    "registered",
    "parameters",
    "hooks",
    "identity",
    "per_sample",
    "gradcheck",
    "draws",
    "splits",
    "transforms",
    "measures",
    "reports",
    "canary",
    "descends",
    "resumes",
)


SHAPES = [*((kind, False) for kind in KINDS), ("algorithm", True)]
"""What can be written: each kind, and an algorithm with passes of its own."""


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


@pytest.mark.parametrize(("kind", "passes"), SHAPES)
def test_a_package_has_all_its_parts_and_they_can_be_read(kind: str, passes: bool, tmp_path: Path) -> None:
    written = {
        str(path.relative_to(tmp_path / "my-thing")) for path in write_package("my-thing", kind, tmp_path, passes)
    }
    assert written == {
        "pyproject.toml", "README.md", "suite.toml", ".github/workflows/test.yml",
        "my_thing/__init__.py", f"my_thing/{kind}.py", "tests/test_my_thing.py",
    }  # fmt: skip
    root = tmp_path / "my-thing"
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["harness"] == {"my_thing": "my_thing"}
    assert tomllib.loads((root / "suite.toml").read_text())["suite"]["name"] == "my-thing"
    for path in root.rglob("*.py"):
        ast.parse(path.read_text())
        assert "$" not in path.read_text()
    assert "${{ matrix.python }}" in (root / ".github/workflows/test.yml").read_text()


@pytest.mark.parametrize(("kind", "passes"), SHAPES)
def test_a_package_passes_its_own_tests_as_written(kind: str, passes: bool, on_path: Path) -> None:
    """Its tests of the mathematics are called as they stand; of the checks, the quick ones."""
    name = f"mine-{kind}" + "-passes" * passes
    own = name.replace("-", "_")
    write_package(name, kind, on_path, passes)
    root = on_path / name
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(own)
        checked = read_plugin(Path(module.__file__ or ""))
        assert loading(checked).status == "ok"
        failed = [
            str(f) for f in (case.find() for case in cases(checked) if case.check.name in QUICK) if f.status == "fault"
        ]
        assert failed == []
        source = (root / "tests" / f"test_{own}.py").read_text()
        start = source.index('@pytest.mark.parametrize("case"')
        space: dict[str, object] = {}
        exec(compile(source[:start] + source[source.index("\n\n\n", start) :], "tests", "exec"), space)
        tests = [value for key, value in space.items() if key.startswith("test_")]
        assert tests
        for test in tests:
            assert callable(test)
            test()
    finally:
        sys.path.remove(str(root))


@pytest.mark.parametrize(("kind", "passes"), SHAPES)
def test_a_single_file_is_a_plugin(kind: str, passes: bool, tmp_path: Path) -> None:
    (path,) = write_file(tmp_path / f"single_{kind}.py", kind, passes)
    checked = read_plugin(path)
    assert [subject.component.name for subject in checked.subjects] == [f"single_{kind}"]


@pytest.mark.parametrize(("kind", "passes"), SHAPES)
def test_the_suite_can_be_planned(kind: str, passes: bool, tmp_path: Path) -> None:
    write_package("planned", kind, tmp_path, passes)
    single = write_file(tmp_path / "planned.py", kind, passes)
    from harness.suite.load import load_suite

    suite = load_suite(tmp_path / "planned" / "suite.toml", plugins=single)
    assert len(harness.plan(suite, tmp_path / "results").trials) == 6


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    write_package("mine", "loss", tmp_path)
    with pytest.raises(HarnessError, match="is there already"):
        write_package("mine", "loss", tmp_path)


@pytest.mark.parametrize("name", ["1st", "class", "harness", "a/b", ""])
def test_a_name_that_is_no_module_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="gives no name for a Python module"):
        words(name, "loss")


@pytest.mark.parametrize("name", ["torch", "Torch", "test", "tests", "json", "sklearn", "sys"])
def test_a_name_that_hides_another_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="choose a name of its own: my-"):
        write_package(name, "loss", tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_an_algorithm_has_passes(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="a loss has no passes; use --kind algorithm"):
        write_package("mine", "loss", tmp_path, passes=True)


def test_a_kind_without_a_template_is_refused_with_a_suggestion() -> None:
    with pytest.raises(HarnessError, match="did you mean 'loss'"):
        words("mine", "los")
