"""What is under test: a component of a plugin with parameters to make it by, and the plugin itself."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, unknown
from harness.paths import existing_file
from harness.plugins import DISTRIBUTION, GROUP, Host, Plugin
from harness.registry import Component, Facts
from harness.tasks import TASKS

TESTING = Path(__file__).with_name("components.py")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A component under test.

    Attributes:
        component: as registered.
        host: the host that its plugin was admitted to.
        params: the parameters that differ from the defaults; required ones are filled in with a value of their type.
        files: single-file plugins that belong to it.
        setting: keys of the setting to test it in, over the small one of the checks.
    """

    component: Component
    host: Host
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: tuple[Path, ...] = ()
    setting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    declined: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Checks that do not hold for it, with the reason, besides those in its attribute ``declines``."""
    partners: int | None = None
    """How many built-in components it is stacked with; all when ``None``."""
    name: str = ""
    """What a suite calls it: the registered name, for a family with a variant."""

    @property
    def kind(self) -> str:
        return self.component.kind

    @property
    def label(self) -> str:
        return self.component.label

    @functools.cached_property
    def facts(self) -> Facts:
        return self.host.registry.facts(self.component)

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.facts.declares.tasks

    @property
    def task(self) -> str:
        """The task it is tested on: the first of those it fits."""
        return next(task for task in TASKS if task in self.tasks)

    @functools.cached_property
    def declines(self) -> Mapping[str, str]:
        """Checks that it does not submit to, with the reason: ``declined`` and the attribute ``declines``."""
        return {**getattr(self.component.load(), "declines", {}), **self.declined}

    @functools.cached_property
    def filled(self) -> dict[str, Any]:
        """The given parameters, and a sample value for every required one that was not given."""
        sampled = {
            p["name"]: sample_value(p["type"])
            for p in self.facts.parameters
            if p["required"] and p["name"] not in self.params and p["name"] != "variant"
        }
        return {**sampled, **self.params}

    @property
    def spec(self) -> dict[str, Any]:
        """How a suite writes it."""
        return {"name": self.name or self.component.name, **self.filled}

    def make(self, **context: Any) -> Any:
        """The component, made as a trial would."""
        return self.host.registry.create(self.kind, self.name or self.component.name, self.filled, **context)


@dataclasses.dataclass(frozen=True)
class Checked:
    """A plugin under test with its components; ``plugin.error`` says why it was refused, if it was."""

    plugin: Plugin
    host: Host
    subjects: tuple[Subject, ...]
    module: str = ""
    file: Path | None = None


def sample_value(tree: Mapping[str, Any]) -> Any:
    """A plain value that a described type accepts: the middle of a range, the first of several choices."""
    kind = tree["t"]
    if kind == "union":
        return sample_value(tree["of"][0])
    if kind == "literal":
        return tree["values"][0]
    if kind == "list":
        return [sample_value(tree["item"])] * max(1, tree.get("min_len", 0))
    if kind == "tuple":
        return [sample_value(part) for part in tree["items"]]
    if kind == "dict":
        return {}
    if kind == "bool":
        return False
    if kind == "str":
        return "x"
    if kind in ("none", "any"):
        return None
    low = tree.get("ge", tree.get("gt"))
    high = tree.get("le", tree.get("lt"))
    if kind == "int":
        least = 1 if low is None else int(low) + (1 if "gt" in tree else 0)
        return least if high is None else min(max(least, 1), int(high))
    if low is not None and high is not None:
        return low + 0.4 * (high - low)
    if low is not None:
        return low + 0.5
    return high - 0.5 if high is not None else 0.5


def read_plugin(
    target: str | Path, params: Mapping[str, Any] | None = None, setting: Mapping[str, Any] | None = None
) -> Checked:
    """A plugin by file, or by the module, distribution or entry-point name of an installed one.

    Args:
        target: ``my_loss.py``, ``my_package``, ``my-distribution``.
        params: parameters for its components, ``{"q": 0.5}`` for all or ``{"losses.gce.q": 0.5}`` for one.
        setting: keys of the setting to test in.

    Raises:
        HarnessError: when there is no such file, or no installed plugin of that name.
    """
    if str(target).endswith(".py") or os.path.isfile(target):  # Path.is_file raises for odd names
        file = existing_file(target, "plugin file", "give a .py file or the name of an installed plugin")
        host = Host([file])
        plugin = next(plugin for plugin in host.plugins if plugin.place == str(file))
        return Checked(plugin, host, _subjects(host, plugin, params, setting, (file,)), file=file)
    host = Host()
    found = [plugin for plugin in host.plugins if str(target) in _names(plugin)]
    if not found:
        top = str(target).partition(".")[0]
        if top.isidentifier() and importlib.util.find_spec(top) is not None:
            raise HarnessError(
                f"the module is importable, but no entry point of the group {GROUP!r} names it", str(target),
                f'add [project.entry-points.{GROUP}] {target} = "{target}" to its pyproject.toml and install it',
            )  # fmt: skip
        raise HarnessError(
            unknown("plugin", str(target), [p.name for p in host.plugins]), remedy="`harness plugins` lists them"
        )
    plugin = found[0]
    return Checked(plugin, host, _subjects(host, plugin, params, setting, ()), module=plugin.place)


def installed_plugins() -> list[str]:
    """Modules of all installed plugins but the harness's own."""
    found = importlib.metadata.entry_points(group=GROUP)
    return sorted({e.value for e in found if e.dist is None or e.dist.name != DISTRIBUTION})


def _names(plugin: Plugin) -> tuple[str, ...]:
    distribution = plugin.owner.partition(" ")[0]
    return (plugin.name, plugin.place, plugin.place.partition(":")[0], distribution, distribution.replace("-", "_"))


def _subjects(
    host: Host,
    plugin: Plugin,
    params: Mapping[str, Any] | None,
    setting: Mapping[str, Any] | None,
    files: tuple[Path, ...],
) -> tuple[Subject, ...]:
    clashing = [component for clash in host.registry.clashes.values() for component in clash]
    owned = [c for c in [*host.registry.components(), *clashing] if c.owner == plugin.owner]
    unique = list({(c.kind, c.name, c.address): c for c in owned}.values())
    return tuple(
        Subject(component, host, _own(component, host, params or {}), files, setting or {})
        for component in unique
        if not component.is_family
    )


def _own(component: Component, host: Host, params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given parameters that are this component's."""
    prefix = f"{component.label}."
    mine = {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}
    try:
        names = [p["name"] for p in host.registry.facts(component).parameters]
    except HarnessError:
        return mine
    shared = {key: value for key, value in params.items() if key in names}
    return {**shared, **mine}


def subjects_of(
    host: Host, kinds: Sequence[str], params: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Subject]:
    """Every registered component of some kinds, with parameters by label (``{"noise.symmetric": {"rate": 0.4}}``)."""
    given = params or {}
    return [
        Subject(component, host, given.get(component.label, {}))
        for kind in kinds
        for component in host.registry.components(kind)
        if not component.is_family
    ]
