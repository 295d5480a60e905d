"""List the suites that installed packages ship."""

from __future__ import annotations

import typer

from harness.cli.options import AsJson, print_json


def suites(json: AsJson = False) -> None:
    """List the suites that installed packages ship."""
    from harness.suite.document import check_shape, read_document
    from harness.suite.load import packaged_suites

    lines = []
    for name, path in packaged_suites().items():
        document = read_document(path)
        check_shape(document, path.name)
        table = document["suite"]
        lines.append(
            {
                "name": name,
                "description": table.get("description", ""),
                "unavailable": table.get("unavailable", ""),
                "file": str(path),
            }
        )
    if json:
        print_json(lines)
        return
    width = max((len(line["name"]) for line in lines), default=0)
    for line in lines:
        reason = f" [cannot run yet: {line['unavailable']}]" if line["unavailable"] else ""
        typer.echo(f"suite:{line['name']:{width}}  {line['description']}{reason}")
