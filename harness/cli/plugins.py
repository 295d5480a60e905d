"""List plugins with their owner, and what is wrong with those that do not load."""

from __future__ import annotations

import typer

from harness.cli.options import AsJson, PluginFile, print_json
from harness.words import counted


def plugins(
    plugin: PluginFile = [],  # noqa: B006 -- typer reads the default, nobody changes it
    json: AsJson = False,
) -> None:
    """List plugins with their owner, and what is wrong with those that do not load."""
    import dataclasses

    from harness.plugins import load_host, problems

    host = load_host(plugin)
    found = problems(host)
    host.registry.save_cache()
    if json:
        print_json(
            {
                "plugins": [dataclasses.asdict(p) for p in host.plugins],
                "problems": [dataclasses.asdict(p) for p in found],
            }
        )
        return
    for known in host.plugins:
        if known.error:
            typer.echo(f"{known.name} ({known.owner}): BROKEN: {known.error}; {known.remedy}")
        else:
            typer.echo(f"{known.name} ({known.owner}): {counted(known.components, 'component')} from {known.place}")
    for problem in found:
        typer.echo(f"{problem.component} ({problem.owner}): {problem.problem}; {problem.remedy}")
