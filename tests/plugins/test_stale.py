"""A single file is a plugin; editing it marks its results stale, and they can be run again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.execution.orchestrate import Orchestrator
from harness.registry import Component
from harness.results.records import attempts, open_results, read_json, trial_folder, write_json
from harness.suite.load import load_suite
from harness.suite.plan import make_plan

LOSS = """
class Mine:
    '''A loss.'''
    def __call__(self, outputs, targets, index):
        return {factor} * torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
"""


def test_editing_the_file_makes_its_results_stale_and_only_its(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "tested"\nloss = "mine"'
    path = write_suite(epochs=1, methods=methods, setting="subset = 64")
    results = open_results(tmp_path / "results")

    def statuses() -> dict[str, str]:
        plan = make_plan(load_suite(path, plugins=[file]), results)
        return {planned.entry.method: planned.status for planned in plan.trials}

    file = write_plugin(LOSS.format(factor="1.0"), "losses")
    Orchestrator(load_suite(path, plugins=[file]), results, "inline").run()
    assert statuses() == {"CE": "done", "tested": "done"}
    file = write_plugin(LOSS.format(factor="2.0"), "losses")
    os.utime(file, ns=(file.stat().st_mtime_ns + 1_000_000,) * 2)
    assert statuses() == {"CE": "done", "tested": "stale"}
    kept = Orchestrator(load_suite(path, plugins=[file]), results, "inline").run()
    assert kept.counts()["stale"] == 1
    Orchestrator(load_suite(path, plugins=[file]), results, "inline", rerun_stale=True).run()
    assert statuses() == {"CE": "done", "tested": "done"}
    tested = next(p for p in make_plan(load_suite(path, plugins=[file]), results).trials if p.entry.method == "tested")
    assert len(attempts(trial_folder(results, tested.id))) == 2


def old_digests(results: Path, file: Path) -> None:
    """Give records the digests that they once had: over the bytes of the plugin's file, without a prefix."""
    old = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    for folder in (results / "trials").iterdir():
        for path in (folder / "done.json", folder / "trial.json", folder / "attempt-001" / "trial.json"):
            words = read_json(path)
            digests = words["digests"] if "digests" in words else words["options"]["digests"]
            if "loss:mine" in digests:
                digests["loss:mine"] = old
            write_json(path, words)


def test_a_comment_or_a_docstring_makes_nothing_stale(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_suite(epochs=1, methods='[[method]]\nname = "tested"\nloss = "mine"', setting="subset = 64")
    results = open_results(tmp_path / "results")

    def status(source: str) -> str:
        file = write_plugin(source, "losses")
        return make_plan(load_suite(path, plugins=[file]), results).trials[0].status

    source = LOSS.format(factor="1.0")
    Orchestrator(load_suite(path, plugins=[write_plugin(source, "losses")]), results, "inline").run()
    documented = source.replace("A loss.", "A loss, better said.").replace("self, outputs", "self,  # it\n outputs")
    assert status(documented) == "done"
    assert status(documented.replace("1.0", "1.00")) == "stale"


def test_an_old_record_is_judged_by_the_bytes_of_the_source(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_suite(epochs=1, methods='[[method]]\nname = "tested"\nloss = "mine"', setting="subset = 64")
    results = open_results(tmp_path / "results")
    file = write_plugin(LOSS.format(factor="1.0"), "losses")
    Orchestrator(load_suite(path, plugins=[file]), results, "inline").run()
    old_digests(results, file)

    def status() -> str:
        return make_plan(load_suite(path, plugins=[file]), results).trials[0].status

    assert status() == "done"
    file.write_text(file.read_text().replace("A loss.", "A loss, better said."))
    assert status() == "stale"


def test_a_board_of_both_rules_is_not_mixed_while_the_source_is_one(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    import harness
    from harness.results.report import read_board

    path = write_suite(epochs=1, methods='[[method]]\nname = "tested"\nloss = "mine"', setting="subset = 64")
    results = open_results(tmp_path / "results")
    file = write_plugin(LOSS.format(factor="1.0"), "losses")

    def mixed(seeds: str) -> dict[str, tuple[str, ...]]:
        suite = load_suite(path, [f"suite.seeds={seeds}"], plugins=[file])
        Orchestrator(suite, results, "inline").run()
        with harness.open_store(results) as connection:
            return dict(read_board(connection, suite.name).mixed)

    assert mixed("[0]") == {}
    old_digests(results, file)
    assert mixed("[0, 1]") == {}
    file.write_text(file.read_text().replace("1.0", "2.0"))
    assert mixed("[0, 1, 2]") == {"loss:mine": ("tested",)}


def test_facts_follow_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "documented_loss.py").write_text("def loss():\n    'One.'\n")
    component = Component("loss", "mine", "documented_loss:loss", "1", "me 1")
    digests = component.digest(), component.content_digest()
    (tmp_path / "documented_loss.py").write_text("def loss():\n    'Another.'\n")
    assert component.digest() == digests[0] and component.content_digest() != digests[1]


@pytest.mark.parametrize(
    "statement",
    [
        "from PACKAGE.maths import f",
        "from PACKAGE import maths",
        "from PACKAGE import (  # a comment (here)\n    maths as m,\n)",
        "import os, PACKAGE.maths",
        "from . import maths",
        "from .maths import f",
        "from .maths import \\\n    f",
        "if True: from .maths import f",
        "from PACKAGE.inner import f",
        "from .inner import f",
        "from .inner import deep",
        "from .inner.deep import g",
    ],
)
def test_a_helper_of_the_same_package_counts_however_it_is_imported(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"plugin_{hashlib.sha256(statement.encode()).hexdigest()[:12]}"
    monkeypatch.syspath_prepend(tmp_path)
    sources = {
        "__init__.py": "",
        "losses.py": f"import math\n{statement.replace('PACKAGE', package)}\n\ndef loss(): ...\n",
        "maths.py": "def f(): ...\n",
        "inner/__init__.py": "from .deep import g as f\n",
        "inner/deep.py": "from ..maths import f\n\ndef g(): ...\n",
        "other.py": "",
    }
    for name, text in sources.items():
        (tmp_path / package / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / package / name).write_text(text)
    component = Component("loss", "mine", f"{package}.losses:loss", "1", "me 1")

    def moved_by(name: str) -> bool:
        before = component.digest()
        with (tmp_path / package / name).open("a") as file:
            file.write("EDITED = True\n")
        return component.digest() != before

    assert moved_by("losses.py") and moved_by("maths.py")
    assert not moved_by("other.py") and not moved_by("__init__.py")


def test_what_a_package_itself_defines_counts_where_it_is_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_init").mkdir()
    (tmp_path / "plugin_init" / "__init__.py").write_text("SCALE = 1\n")
    (tmp_path / "plugin_init" / "losses.py").write_text("from . import SCALE\n\ndef loss(): ...\n")
    component = Component("loss", "mine", "plugin_init.losses:loss", "1", "me 1")
    before = component.digest()
    (tmp_path / "plugin_init" / "__init__.py").write_text("SCALE = 20\n")
    assert component.digest() != before


def test_a_method_stands_on_the_board_with_the_owner_of_its_components(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    import harness
    from harness.results.report import read_board

    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "tested"\nloss = "mine"'
    file = write_plugin(LOSS.format(factor="1.0"), "losses")
    suite = load_suite(write_suite(epochs=1, methods=methods, setting="subset = 64"), plugins=[file])
    Orchestrator(suite, open_results(tmp_path / "results"), "inline").run()
    with harness.open_store(tmp_path / "results") as connection:
        assert read_board(connection, suite.name).owners == {"tested": (str(file),)}


def test_a_board_of_two_versions_of_a_source_says_so(
    write_plugin: Callable[..., Path], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    import harness
    from harness.cli.board import board_json
    from harness.results.report import read_board
    from harness.results.report.export import to_markdown

    methods = '[[method]]\nname = "CE"\n[[method]]\nname = "tested"\nloss = "mine"'
    path = write_suite(epochs=1, methods=methods, setting="subset = 64")
    results = open_results(tmp_path / "results")

    def caution(factor: str, seeds: str, stale: bool = False) -> str:
        file = write_plugin(LOSS.format(factor=factor), "losses")
        os.utime(file, ns=(1_000_000_000 * int(10 * float(factor)),) * 2)
        suite = load_suite(path, [f"suite.seeds={seeds}"], plugins=[file])
        Orchestrator(suite, results, "inline", rerun_stale=stale).run()
        with harness.open_store(results) as connection:
            board = read_board(connection, suite.name)
        assert board_json(board)["caution"] == board.caution and bool(board.caution) == (
            "mix versions of" in to_markdown(board)
        )
        return board.caution

    assert caution("1.0", "[0]") == ""
    assert caution("2.0", "[0, 1]").startswith("These results mix versions of loss:mine (tested); `harness run")
    assert caution("2.0", "[0, 1]", stale=True) == ""
