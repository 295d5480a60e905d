"""List components by kind, or one with its parameters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, PluginFile, print_json


def components(
    kind: Annotated[
        str | None, typer.Argument(help="A kind, such as loss or estimator; all when there is none.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One component, with its parameters.")] = None,
    plugin: PluginFile = [],  # noqa: B006 -- typer reads the default, nobody changes it
    json: AsJson = False,
) -> None:
    """List components by kind, or one with its parameters."""
    from harness.parameters import spell
    from harness.plugins import load_host
    from harness.registry import PLURALS

    singular = {plural: single for single, plural in PLURALS.items()}
    registry = load_host(plugin).registry
    kind = singular.get(kind, kind) if kind is not None else None
    found = [registry.find(kind, name)[0]] if kind and name else registry.components(kind)
    lines: list[dict[str, Any]] = []
    for component in found:
        facts = registry.facts(component)
        lines.append(
            {
                "kind": component.kind,
                "name": component.name,
                "version": component.version,
                "owner": component.owner,
                "summary": facts.summary,
                "parameters": {
                    p["name"]: {"type": spell(p["type"]), **({} if p["required"] else {"default": p["default"]})}
                    for p in facts.parameters
                },
                "hooks": facts.hooks,
                "problems": facts.problems,
                "doc": facts.doc,
            }
        )
    registry.save_cache()
    if json:
        print_json(lines)
        return
    if name and lines:
        line = lines[0]
        typer.echo(f"{line['kind']} {line['name']} (version {line['version']}, {line['owner']})\n")
        typer.echo(f"{line['doc']}\n")
        for key, facts_of in line["parameters"].items():
            default = f" = {facts_of['default']!r}" if "default" in facts_of else " (required)"
            typer.echo(f"  {key}: {facts_of['type']}{default}")
        for problem in line["problems"]:
            typer.echo(f"  problem: {problem}")
        return
    current = ""
    width = max((len(str(line["name"])) for line in lines), default=0)
    for line in lines:
        if line["kind"] != current:
            current = str(line["kind"])
            typer.echo(f"\n{PLURALS[current]}")
        given = ", ".join(f"{k}={v['default']!r}" if "default" in v else str(k) for k, v in line["parameters"].items())
        typer.echo(f"  {line['name']:{width}}  {line['summary']}" + (f"  ({given})" if given else ""))
