"""List plugins with their owner, and what is wrong with those that do not load."""

from __future__ import annotations

import typer

from harness.cli.options import AsJson, PluginFile, print_json


def plugins(
    plugin: PluginFile = [],  # noqa: B006 -- typer reads the default, nobody changes it
    json: AsJson = False,
) -> None:
    """List plugins with their owner, and what is wrong with those that do not load."""
    import dataclasses

    from harness.plugins import load_host

    host = load_host(plugin)
    problems = [
        (component.label, component.owner, f"registered twice: by {' and '.join(c.owner for c in clash)}")
        for clash in host.registry.clashes.values()
        for component in clash[1:]
    ]
    for component in host.registry.components():
        try:
            problems += [(component.label, component.owner, p) for p in host.registry.facts(component).problems]
        except Exception as error:
            problems.append((component.label, component.owner, str(error)))
    host.registry.save_cache()
    if json:
        found = [{"component": label, "owner": owner, "problem": words} for label, owner, words in problems]
        print_json({"plugins": [dataclasses.asdict(p) for p in host.plugins], "problems": found})
        return
    for found_plugin in host.plugins:
        if found_plugin.error:
            typer.echo(f"{found_plugin.name} ({found_plugin.owner}): BROKEN: {found_plugin.error}; {found_plugin.remedy}")
        else:
            typer.echo(f"{found_plugin.name} ({found_plugin.owner}): {found_plugin.components} components from {found_plugin.place}")
    for label, owner, words in problems:
        typer.echo(f"{label} ({owner}): {words}")
