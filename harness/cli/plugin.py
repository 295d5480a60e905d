"""Write a new plugin, or check one against everything that a plugin is held to."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, print_json
from harness.words import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Write a new plugin, or check one against everything that a plugin is held to.",
)

Names = Annotated[list[str], typer.Option("--only", metavar="CHECK", help="Only this check; may be given again.")]
Without = Annotated[list[str], typer.Option("--without", metavar="CHECK", help="Not this check; may be given again.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A parameter to test with: q=0.5, or losses.gce.q=0.5.")
]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the package, such as my-loss; or my_loss.py for a single file.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="loss, algorithm, noise, dataset, model, transform, estimator, detector or metric.",
        ),
    ] = "loss",
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder to write it in.")] = Path(),
    passes: Annotated[
        bool,
        typer.Option(
            "--passes", help="An algorithm that divides the epoch into passes, with a training step of its own."
        ),
    ] = False,
) -> None:
    """Write a small installable package with one component: it passes its own tests as written."""
    from harness.cli.scaffold import words, write_file, write_package
    from harness.errors import HarnessError
    from harness.plugins import load_host

    single = name.endswith(".py")
    known = words(Path(name).stem if single else name, kind)
    registry = load_host().registry
    if known["component"] in registry.names(kind):
        owner = registry.find(kind, known["component"])[0].owner
        raise HarnessError(
            f"there is already a {kind} {known['component']!r} (by {owner})", "plugin new", "choose another name"
        )
    written = write_file(into / name, kind, passes) if single else write_package(name, kind, into, passes)
    for path in written:
        typer.echo(f"wrote {path}")
    if single:
        path = written[0]
        typer.echo(f"\nnext:  harness plugin check {path}\n       harness run SUITE.toml --plugin {path}")
        return
    folder, module = into / known["distribution"], known["module"]
    typer.echo(
        f"\nnext:  cd {folder}\n"
        f'       pip install -e ".[test]"\n'
        f"       edit {module}/{kind}.py\n"
        f"       harness plugin check {module}\n"
        f"       harness run suite.toml"
    )


@app.command()
def check(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE|FILE]", help="A .py file, or an installed plugin's module or distribution."),
    ] = None,
    set_: Set = [],  # noqa: B006 -- typer reads the default, nobody changes it
    only: Names = [],  # noqa: B006
    without: Without = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """Run the named checks of every component of a plugin; without a name, of the plugin in this folder."""
    from harness.registry import printing_aside
    from harness.suite.select import parse_assignment
    from harness.testing import Finding, catalogue, read_plugin

    params = {".".join(path): value for path, value in map(parse_assignment, set_)}
    found: list[Finding] = []
    with printing_aside() if json else contextlib.nullcontext():  # what a component prints must not stand in the JSON
        for place in [target] if target is not None else _here():
            checked = read_plugin(place, params)
            findings = catalogue.findings(checked, only, without)
            if not json:
                typer.echo(f"{checked.plugin.name} ({checked.plugin.owner})")
            for finding in findings:
                found.append(finding)
                if not json:
                    _show(finding)
    faults = sum(finding.status == "fault" for finding in found)
    if json:
        import dataclasses

        print_json({"findings": [dataclasses.asdict(finding) for finding in found], "faults": faults})
    else:
        typer.echo(f"{counted(len(found), 'check')}, {counted(faults, 'fault')}")
    raise typer.Exit(1 if faults else 0)


def _show(finding: Any) -> None:
    mark = {"ok": "ok   ", "fault": "FAULT", "skip": "skip "}[finding.status]
    typer.echo(f"  {mark}  {finding.subject:24} {finding.check:14} {finding.message}".rstrip())
    if finding.status == "fault":
        typer.echo(f"         why:    {finding.reason}")
        typer.echo(f"         remedy: {finding.remedy}")
    sys.stdout.flush()


def _here() -> list[str]:
    """The plugins of the project in this folder, else all installed ones that are not the harness's own."""
    from harness.errors import HarnessError
    from harness.plugins import DISTRIBUTION, GROUP
    from harness.suite.document import read_document
    from harness.testing.subject import installed_plugins

    project = Path("pyproject.toml")
    if project.is_file():
        table = _table(read_document(project), "project")
        entries = [str(value) for value in _table(_table(table, "entry-points"), GROUP).values()]
        if entries and table.get("name") != DISTRIBUTION:
            return entries
    found = installed_plugins()
    if not found:
        raise HarnessError(
            "no plugin is named, and none but the harness's own is installed",
            "plugin check",
            "name a module or a .py file",
        )
    return found


def _table(owner: dict[str, Any], key: str) -> dict[str, Any]:
    found = owner.get(key)
    return found if isinstance(found, dict) else {}
