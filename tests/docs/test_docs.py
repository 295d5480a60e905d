"""The documentation is whole: every hook, command, component and suite key has its words, and what it says works."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness import hookspecs
from harness.cli.main import entry_points, make_command
from harness.errors import HarnessError
from harness.plugins import Host
from harness.registry import KINDS, PLURALS
from harness.suite.load import load_suite
from harness.suite.schema import TABLES, AugmentTable, WhenTable

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted(DOCS.rglob("*.md"))
RUNNER = [sys.executable, "-m", "harness.cli.main"]


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> Any:
    return generator()


@pytest.fixture(scope="module")
def pages(generate: Any) -> dict[str, str]:
    found: dict[str, str] = generate.pages()
    return found


def ours() -> list[Any]:
    registry = Host().registry
    found = [component for kind in KINDS for component in registry.components(kind)]
    return [component for component in found if component.owner.startswith("noisy-label-harness ")]


def blocks(page: Path, language: str) -> dict[str, str]:
    """The titled code blocks of a page, by title."""
    pattern = rf'^```{language} title="([^"]+)"\n(.*?)^```$'
    return dict(re.findall(pattern, page.read_text(), flags=re.MULTILINE | re.DOTALL))


def commands(page: Path) -> list[str]:
    """Every line of every sh block of a page that calls the harness."""
    text = "".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL))
    lines = [line.split("#")[0].split("&&")[-1].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("harness ")]


@pytest.mark.parametrize("name", [*hookspecs.HOST_HOOKS, *hookspecs.TRAINING_HOOKS])
def test_every_hook_has_a_docstring_a_page_and_its_place_in_the_loop(name: str, pages: dict[str, str]) -> None:
    assert inspect.getdoc(getattr(hookspecs, name))
    assert f"# {name}\n" in pages[f"reference/hooks/{name}.md"]
    assert f"]({name}.md)" in pages["reference/hooks/index.md"]
    if name in hookspecs.TRAINING_HOOKS:
        assert f"{name}(" in (DOCS / "training-loop.md").read_text()


def test_every_training_hook_of_the_specs_is_listed() -> None:
    specs = {name for name, value in vars(hookspecs).items() if hasattr(value, "harness_training_spec")}
    assert specs == set(hookspecs.TRAINING_HOOKS)


@pytest.mark.parametrize("component", ours(), ids=lambda component: component.label)
def test_every_component_has_a_docstring_and_a_page_with_its_parameters(
    component: Any, generate: Any, pages: dict[str, str]
) -> None:
    facts = Host().registry.facts(component)
    page = pages[f"reference/components/{PLURALS[component.kind]}/{generate.slug(component.name)}.md"]
    assert facts.summary, f"{component.label} has no docstring"
    _, described, _ = generate.sections(facts.doc)
    for parameter in facts.parameters:
        if parameter["name"] in ("variant", "**"):
            continue
        assert f"| `{parameter['name']}` |" in page
        assert described.get(parameter["name"]), f"{component.label}: the parameter {parameter['name']!r} has no words"


@pytest.mark.parametrize(
    "name", sorted(name for name, e in entry_points().items() if e.dist is None or "noisy-label" in e.dist.name)
)
def test_every_command_and_option_is_described(name: str, generate: Any, pages: dict[str, str]) -> None:
    command = make_command(name, entry_points()[name].load())
    for words, one in {
        name: command,
        **{f"{name} {k}": c for k, c in getattr(command, "commands", {}).items()},
    }.items():
        assert one.help, f"harness {words} has no help"
        page = pages[f"reference/commands/{generate.slug(words)}.md"]
        for parameter in one.params:
            if parameter.name != "help" and parameter.param_type_name == "option":
                assert parameter.opts[0] in page
                assert parameter.help, f"harness {words} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("name, model", [*TABLES.items(), ("augment", AugmentTable), ("when", WhenTable)])
def test_every_suite_key_has_a_description(name: str, model: Any, pages: dict[str, str]) -> None:
    for key, field in model.model_fields.items():
        assert field.description, f"{name}.{key} has no description"
        assert f"| `{key}` |" in pages["reference/suite.md"]


def test_every_public_name_is_in_the_python_interface() -> None:
    text = (DOCS / "api.md").read_text()
    assert [name for name in harness.__all__ if not re.search(rf"\.{name}\b", text)] == []


def test_every_check_is_described(pages: dict[str, str]) -> None:
    import harness.testing.checks
    from harness.testing import CHECKS

    assert harness.testing.checks is not None
    for name, one in CHECKS.items():
        assert f"## {name}\n" in pages["reference/checks.md"]
        assert inspect.getdoc(one.function) and one.reason and one.remedy


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_every_command_line_that_the_pages_show_can_be_parsed(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line.partition("|")[0])[1:]
        if words[0].startswith("-"):
            continue
        command = make_command(words[0], entry_points()[words[0]].load())
        while "commands" in vars(command) and words[1:]:
            command, words = command.commands[words[1]], words[1:]
        with command.make_context(words[0], words[1:], resilient_parsing=False) as context:
            assert context.params is not None, line


STANDS = [
    ("digits", "mlp", "ce"),
    ("linear_regression", "linear", "l2"),
    ("cifar10n", "mlp", "ce"),
    ("cifar100", "mlp", "ce"),
    ("mnist_pairs", "mlp", "bce"),
]


def example_of(component: Any, generate: Any, pages: dict[str, str]) -> str:
    page = pages[f"reference/components/{PLURALS[component.kind]}/{generate.slug(component.name)}.md"]
    (found,) = re.findall(r"^## In a suite\n\n```toml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.parametrize(
    "component",
    [c for c in ours() if c.kind not in ("plot", "estimator", "detector")],
    ids=lambda component: component.label,
)
def test_every_example_of_a_component_loads_as_a_suite(
    component: Any, generate: Any, pages: dict[str, str], tmp_path: Path
) -> None:
    """In a suite around it, on the first data set whose task and labels it is for."""
    example = tomllib.loads(example_of(component, generate, pages))
    assert component.name in str(example)
    faults = []
    for dataset, model, loss in STANDS:
        document = {
            "suite": {"name": "example", "seeds": [0]},
            "setting": [{"dataset": dataset, "model": model}],
            "method": [{"name": "example", "loss": loss}],
        }
        if loss == "bce":
            document["setting"][0]["noise"] = {"name": "label_flip", "on": 0.1, "off": 0.3}
        if component.kind in ("executor", "metric"):
            document |= example
        else:
            document["setting" if component.kind in ("dataset", "model", "noise") else "method"][0] |= example
        path = tmp_path / "example.toml"
        path.write_text("".join(written(document)))
        try:
            (entry,) = load_suite(path).entries()
        except HarnessError as error:
            faults.append(str(error))
            continue
        assert component.name.rstrip(":") in str(entry.trial.identity) or component.kind in ("executor", "metric")
        return
    pytest.fail("\n".join(faults))


def written(document: dict[str, Any]) -> Iterator[str]:
    """A suite as TOML."""
    for name, table in document.items():
        for head, body in (
            [(f"[[{name}]]", each) for each in table] if isinstance(table, list) else [(f"[{name}]", table)]
        ):
            yield f"{head}\n"
            yield from (f"{key} = {inline(value)}\n" for key, value in body.items())


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)


def test_no_table_of_a_generated_page_shows_a_backslash_or_loses_a_cell(pages: dict[str, str]) -> None:
    markdown = pytest.importorskip("markdown", reason="mkdocs is not installed; uv sync --group docs")
    bars = 0
    for name, page in pages.items():
        shown = markdown.markdown(page, extensions=["tables", "fenced_code"])
        assert "\\|" not in shown, name
        bars += sum("|" in code for code in re.findall(r"<td><code>(.*?)</code></td>", shown))
        for listed in re.findall(r"<table>.*?</table>", shown, flags=re.DOTALL):
            cells = {
                len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", listed, flags=re.DOTALL)
            }
            assert len(cells) == 1, f"{name}: rows of {cells} cells"
    assert bars > 20  # types such as `float | None`


PYTHON = [
    pytest.param(page, code, id=f"{page.stem}-{number}")
    for page in [*WRITTEN, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    )
]
"""Examples without a title; titled ones are files of a tutorial, which a test of their own follows."""
PACKAGE = """
import harness
from torch.nn import functional as F
class Mine:
    "Cross entropy."
    def __call__(self, outputs, targets, index): return F.cross_entropy(outputs, targets, reduction="none")
@harness.hookimpl
def harness_register_losses(register): register("mine", Mine)
"""


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_every_python_example_runs_by_itself(
    page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty folder, where a package ``my_package`` is installed."""
    installed = tmp_path / "installed"
    metadata = installed / "my_package-1.0.dist-info"
    metadata.mkdir(parents=True)
    (installed / "my_package.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[harness]\nmy_package = my_package\n")
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, f"{page.name}: {code.splitlines()[0]}", "exec"), namespace)
    torch.set_rng_state(state)
    if "register" in code and "class " in code:  # a plugin in one file
        (tmp_path / "plugin.py").write_text(code)
        (name,) = re.findall(r'register\("(\w+)"', code)
        suite = {
            "suite": {"name": "example", "seeds": [0]},
            "training": {"epochs": 1},
            "setting": [{"dataset": "digits", "model": "linear", "subset": 100}],
            "method": [{"name": "example", "loss": name}],
        }
        (tmp_path / "example.toml").write_text("".join(written(suite)))
        loaded = load_suite(tmp_path / "example.toml", plugins=[tmp_path / "plugin.py"])
        assert harness.run(loaded, tmp_path / "results", executor="inline").counts()["done"] == 1


def test_links_between_pages_lead_somewhere(pages: dict[str, str]) -> None:
    known = {str(page.relative_to(DOCS)) for page in WRITTEN} | set(pages)
    for page in WRITTEN:
        for link in re.findall(r"\]\(([^)#:]+\.md)(?:#[\w-]+)?\)", page.read_text()):
            target = os.path.normpath(page.relative_to(DOCS).parent / link)
            assert target in known, f"{page.name}: {link}"


def test_the_tutorials_suites_can_be_planned(tmp_path: Path) -> None:
    for name, text in blocks(DOCS / "tutorials" / "first-run.md", "toml").items():
        path = tmp_path / name
        path.write_text(text)
        plan = harness.plan(path, tmp_path / "results")
        assert len(plan.trials) == 18  # as the tutorial says


@pytest.mark.slow
def test_the_first_plugin_works_as_its_tutorial_says(tmp_path: Path) -> None:
    """The tutorial's steps with its own code, the package on the path through metadata as pip would write it."""
    page = DOCS / "tutorials" / "first-plugin.md"
    code, suites = blocks(page, "python"), blocks(page, "toml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call(*arguments: str, folder: Path) -> str:
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    call(*RUNNER, "plugin", "new", "taylor", "--kind", "loss", folder=tmp_path)
    package = tmp_path / "taylor"
    for name in ("taylor/loss.py", "tests/test_taylor.py"):
        (package / name).write_text(code[name])
    metadata = package / "taylor-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: taylor\nVersion: 0.1.0\n")
    points = tomllib.loads((package / "pyproject.toml").read_text())["project"]["entry-points"]["harness"]
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[harness]\n{lines}")
    environment["PYTHONPATH"] = str(package)
    assert " 0 faults" in call(*RUNNER, "plugin", "check", "--without", "composes", folder=package)
    call(sys.executable, "-m", "pytest", "-q", "-k", "not contract", folder=package)
    board = call(*RUNNER, "run", "suite.toml", "--scale", "quick", folder=package)
    assert "Taylor" in board
    call(*RUNNER, "plugin", "new", "my_loss.py", "--kind", "loss", folder=tmp_path)
    (tmp_path / "penalty.py").write_text(code["penalty.py"])
    call(*RUNNER, "plugin", "check", "penalty.py", "--only", "canary", "--only", "resumes", folder=tmp_path)
    (tmp_path / "try.toml").write_text(suites["try.toml"])
    call(*RUNNER, "run", "try.toml", "--executor", "inline", "--set", "training.epochs=1", folder=tmp_path)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; uv sync --group docs")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (site / "index.html", site / "training-loop.html", site / "reference" / "checks.html"):
        fetched = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)"[^>]*>', page.read_text())
        assert [address for address in fetched if "stylesheet" in address or address.endswith((".js", ".css"))] == []
