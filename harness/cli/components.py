"""List components by kind, or one with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, PluginFile, print_json
from harness.needs import COSTING, NEEDS, asked

Needs = Annotated[
    list[str],
    typer.Option(
        "--needs",
        metavar="WORD,...",
        help="Only those that need all of these: two_networks, rate, matrix, features, strong_view, warmup, clean_labels.",
    ),
]
Without = Annotated[
    list[str], typer.Option("--without", metavar="WORD,...", help="Only those that need none of these.")
]


def components(
    kind: Annotated[
        str | None, typer.Argument(help="A kind, such as loss or estimator; all when there is none.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One component, with its parameters.")] = None,
    needs: Needs = [],  # noqa: B006 -- typer reads the default, nobody changes it
    without: Without = [],  # noqa: B006
    plugin: PluginFile = [],  # noqa: B006
    json: AsJson = False,
) -> None:
    """List components by kind, or one with its parameters."""
    from harness.parameters import spell
    from harness.plugins import load_host
    from harness.registry import PLURALS

    singular = {plural: single for single, plural in PLURALS.items()}
    registry = load_host(plugin).registry
    kind = singular.get(kind, kind) if kind is not None else None
    wanted, unwanted = asked(needs, "--needs"), asked(without, "--without")
    found = [registry.find(kind, name)[0]] if kind and name else registry.components(kind)
    lines: list[dict[str, Any]] = []
    for component in found:
        facts, described, needed = registry.facts(component), component.described, registry.needs(component)
        if not wanted <= set(needed) or unwanted & set(needed):
            continue
        lines.append(
            {
                "kind": component.kind,
                "name": component.name,
                "version": component.version,
                "owner": component.owner,
                "summary": facts.summary,
                "family": described.family,
                "year": described.year,
                "paper": described.paper,
                "needs": list(needed),
                **({"rows": list(described.rows), "cost": described.cost} if component.kind in COSTING else {}),
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
        for told in _told(line):
            typer.echo(f"  {told}")
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
        needing = f"  needs {', '.join(line['needs'])}" if line["needs"] else ""
        typer.echo(f"  {line['name']:{width}}  {line['summary']}" + (f"  ({given})" if given else "") + needing)
    if not lines and (wanted or unwanted):
        typer.echo("none")


def _told(line: Mapping[str, Any]) -> list[str]:
    """Family, paper, needs and cost of a component, in lines."""
    source = ", ".join(str(part) for part in (line["paper"], line["year"]) if part)
    told = [": ".join(part for part in (line["family"], source) if part)] if line["family"] or source else []
    told += [f"needs {need}: {NEEDS[need]}" for need in line["needs"]]
    if line.get("cost", 1.0) != 1.0:
        forward, trained = line["rows"]
        told.append(
            f"costs {line['cost']:.2g} x cross entropy: {trained:g} rows of a sample in an epoch, {forward:g} more forward only"
        )
    return [*told, ""] if told else []
