"""The JSON schema of suite files, with the components of installed plugins."""

from __future__ import annotations

from harness.cli.options import PluginFile, print_json


def schema(
    plugin: PluginFile = [],  # noqa: B006 -- typer reads the default, nobody changes it
) -> None:
    """The JSON schema of suite files, with the components of installed plugins."""
    from harness.plugins import load_host
    from harness.suite.jsonschema import suite_json_schema

    host = load_host(plugin)
    print_json(suite_json_schema(host.registry))
    host.registry.save_cache()
