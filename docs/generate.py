"""Reference pages made from docstrings, signatures and models when the documentation is built.

mkdocs calls :func:`on_config` and :func:`on_files` (see ``hooks`` in ``mkdocs.yml``). :func:`pages` is the whole
content by path, so that a test can ask for what is missing without building anything.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import hookspecs
from harness.cli.main import entry_points, make_command
from harness.needs import COSTING, FAMILIES, NEEDS, needs_of
from harness.parameters import spell
from harness.plugins import Host
from harness.registry import KINDS, PLURALS, Component, Facts
from harness.results.quantities import Quantity
from harness.suite.schema import TABLES, AugmentTable, Table, WhenTable

sys.path.insert(0, str(Path(__file__).parent))
import drawings

GROUPS = {
    "Registering": [name for name in hookspecs.HOST_HOOKS if "_register_" in name],
    "Life cycle": [name for name in hookspecs.HOST_HOOKS if "_register_" not in name],
    "Training": list(hookspecs.TRAINING_HOOKS),
}
FURTHER_TABLES: dict[str, type[Table]] = {"augment": AugmentTable, "when": WhenTable}
OURS = "noisy-label-harness"
VARIANTS = {"timm:": "resnet18", "features:": "cifar10-resnet50", "wrench:": "youtube"}
"""A name of each family, for its example."""
EXAMPLES: dict[str, Any] = {
    "rate": 0.4,
    "on": 0.1,
    "off": 0.3,
    "std": 0.5,
    "root": "photos",
    "file": "reviews.csv",
    "targets": ["query"],
    "except": ["head"],
    "data": "cifar10",
    "score": "rrm.u",
    "epochs": [10, 20],
    "edges": [0.0, 0.5],
    "alpha": [1.0, 4.0],
    "lam": [0.001, 0.01],
}
"""What the examples give to parameters without a default, by name."""
CHOSEN = {"open_set": {"source": "cifar100"}}
"""What an example gives besides, of components that need one of several parameters."""
REPORTING = ("estimator", "detector")
SHOWN = {"plot": ("## Drawn by", "sh"), **dict.fromkeys(REPORTING, ("## In Python", "python"))}
"""Title and language of the example of a component that is not written in a suite."""
MEASURED_ON = {
    "test": "test data",
    "train": "training data, against the given and the clean labels",
    "scores": "scores of training samples, against the given and the clean labels",
}
BESIDE = {"score_census": ("rrm",)}
"""Algorithms that an example needs beside its own."""

FOUND_BY = ("family", "paper", "needs", "cost")
LEGEND = """
*cost*: rows of a sample in an epoch after any warm-up, forward only and forward and back, at cross entropy's prices;
`benchmarks/methods.py` measures times.
"""
FAMILY_HEAD = (
    "The built-in methods, by what they do about wrong labels. A terminal finds them by the same facts:",
    "",
    "```sh",
    "harness components algorithm --needs two_networks --without rate",
    "```",
    "",
    "Facts are those of registrations and declarations, which [plugins](../plugins.md#registering) give too.",
)


def pages() -> dict[str, str]:
    """Every generated page by its path under the documentation's folder."""
    made = {**hook_pages(), **component_pages(), **family_pages(), **command_pages(), **suite_pages(), **check_pages()}
    return {**made, drawings.PAGE: drawings.benchmark_page(drawings.histories())}


# --- docstrings ------------------------------------------------------------------------------------------------------


def sections(doc: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """A docstring as (text, arguments by name, other sections by title).

    Sections are those of Google's style: a title with a colon on a line of its own, its content indented.
    """
    parts = re.split(r"^(Args|Returns|Raises|Attributes|Yields):\n", doc.strip(), flags=re.MULTILINE)
    text, arguments, others = parts[0].strip(), {}, {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        inside, after = _indented(body)
        if title in ("Args", "Attributes"):
            for match in re.finditer(r"^(\w[\w, ]*):\s*(.*(?:\n[ ]+.*)*)", inside, flags=re.MULTILINE):
                for name in match[1].split(","):
                    arguments[name.strip()] = " ".join(match[2].split())
        else:
            others[title] = " ".join(inside.split())
        text += f"\n\n{after}" if after else ""
    return text, arguments, others


def _indented(body: str) -> tuple[str, str]:
    lines = body.splitlines()
    stop = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:stop])).strip(), "\n".join(lines[stop:]).strip()


def plain(text: str) -> str:
    """Sphinx roles and double backticks as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def cell(text: str) -> str:
    """Text fit for a cell of a table: a bar ends a cell, except in code, where a backslash before it would be seen."""
    return re.sub(r"`[^`]*`|\|", lambda found: "\\|" if found[0] == "|" else found[0], plain(" ".join(text.split())))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- hooks -----------------------------------------------------------------------------------------------------------


def hook_pages() -> dict[str, str]:
    """One page for each hook, and their index."""
    made = {}
    listing = [
        "# Hooks",
        "",
        "A plugin implements any of them; an implementation takes the arguments that it needs, by name.",
    ]
    for group, names in GROUPS.items():
        listing += ["", f"## {group}", "", table(("hook", "when"), [_hook_row(name) for name in names])]
        for name in names:
            made[f"reference/hooks/{name}.md"] = _hook_page(name, group)
    listing += [
        "",
        "The place of the training hooks in the loop is drawn in [The training loop](../../training-loop.md).",
    ]
    made["reference/hooks/index.md"] = "\n".join(listing)
    return made


def _hook_row(name: str) -> tuple[str, str]:
    doc = inspect.getdoc(getattr(hookspecs, name)) or ""
    return f"[`{name}`]({name}.md)", cell(doc.split("\n\n")[0])


def _hook_page(name: str, group: str) -> str:
    spec = getattr(hookspecs, name)
    signature = str(inspect.signature(spec)).replace("'", "")
    options = getattr(spec, "harness_training_spec", None) or getattr(spec, "harness_spec", None) or {}
    order = "Every implementation is called."
    if options.get("firstresult"):
        order = "The first implementation that returns something other than `None` wins."
    if group == "Training":
        order += (
            " Implementations are called in the order of the stack, the loss last; `@hookimpl(tryfirst=True)` and"
            " `@hookimpl(trylast=True)` move one to the front or the end."
        )
        users = [(component, facts) for component, facts in _ours(("algorithm", "loss")) if name in facts.hooks]
        links = [f"[`{c.name}`](../components/{PLURALS[c.kind]}/{slug(c.name)}.md)" for c, _ in users]
        examples = (
            f"Built-in components that use it: {', '.join(links)}." if links else "No built-in component uses it."
        )
    else:
        examples = (
            "An implementation is a function marked with `@harness.hookimpl` in the plugin's module."
            " One that raises is logged and listed by `harness plugins`; the others are called all the same."
        )
    doc = plain(inspect.getdoc(spec) or "")
    return f"# {name}\n\n```python\ndef {name}{signature}\n```\n\n{doc}\n\n{order}\n\n{examples}\n"


# --- components ------------------------------------------------------------------------------------------------------


def slug(name: str) -> str:
    """A component's name as a file's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def _ours(kinds: Iterable[str] = KINDS) -> list[tuple[Component, Facts]]:
    registry = Host().registry
    found = [component for kind in kinds for component in registry.components(kind)]
    return [(component, registry.facts(component)) for component in found if component.owner.startswith(f"{OURS} ")]


def component_pages() -> dict[str, str]:
    """One page for each built-in component, and an index of each kind."""
    made = {}
    for kind in KINDS:
        found = _ours((kind,))
        folder = f"reference/components/{PLURALS[kind]}"
        described = any(component.described.paper for component, _ in found)
        rows = [
            (f"[`{c.name}`]({slug(c.name)}.md)", cell(facts.summary), *(_found_by(c, facts) if described else ()))
            for c, facts in found
        ]
        head = (kind, "what it is", *(FOUND_BY if described else ()))
        title = PLURALS[kind].capitalize()
        made[f"{folder}/index.md"] = f"# {title}\n\n{table(head, rows)}\n{LEGEND if described else ''}"
        for component, facts in found:
            made[f"{folder}/{slug(component.name)}.md"] = _component_page(component, facts)
    return made


def _found_by(component: Component, facts: Facts) -> tuple[str, str, str, str]:
    """Family, paper, needs and cost of a component, as cells."""
    described = component.described
    source = " ".join(str(part) for part in (described.paper, described.year) if part)
    needs = needs_of(component.kind, described, facts.parameters, facts.declares)
    cost = f"{described.cost:.2g}" if component.kind in COSTING else ""
    return described.family, cell(source), cell(", ".join(f"`{need}`" for need in needs)), cost


def family_pages() -> dict[str, str]:
    """The methods by family, from the first to the latest of each."""
    found = [(component, facts) for component, facts in _ours(("loss", "transform", "algorithm"))]
    lines = ["# Methods by family", "", *FAMILY_HEAD]
    for family, words in FAMILIES.items():
        own = [(c, facts) for c, facts in found if c.described.family == family]
        own.sort(key=lambda pair: (pair[0].described.year or 0, pair[0].name))
        rows = []
        for component, facts in own:
            link = f"[`{component.name}`](components/{PLURALS[component.kind]}/{slug(component.name)}.md)"
            _, _, needs, cost = _found_by(component, facts)
            said = component.described
            rows.append((str(said.year or ""), link, component.kind, cell(said.paper), needs, cost))
        head = ("year", "method", "kind", "paper", "needs", "cost")
        lines += ["", f"## {family.capitalize()}", "", words, "", table(head, rows)]
    words = [(f"`{need}`", meaning) for need, meaning in NEEDS.items()]
    lines += ["", "## What a method may need", "", table(("word", "meaning"), words), LEGEND]
    return {"reference/families.md": "\n".join(lines)}


def _component_page(component: Component, facts: Facts) -> str:
    text, described, others = sections(facts.doc)
    lines = [f"# {component.name}", "", f"{component.kind.capitalize()}, version {component.version}.", "", plain(text)]
    family, source, needs, cost = _found_by(component, facts)
    said = [(title, value) for title, value in zip(FOUND_BY, (family, source, needs, cost), strict=True) if value]
    if source:
        lines += ["", table(("", ""), said)]
    if facts.parameters:
        rows = [
            (
                f"`{p['name']}`",
                cell(f"`{spell(p['type'])}`") if p["name"] != "**" else "",
                "required" if p["required"] else cell(f"`{_spelled(p['default'])}`"),
                cell(described.get(p["name"], "")),
            )
            for p in facts.parameters
            if p["name"] != "variant"
        ]
        lines += ["", "## Parameters", "", table(("name", "type", "default", "meaning"), rows)]
    for title, words in others.items():
        lines += ["", f"**{title}**: {plain(words)}"]
    if facts.hooks and component.kind in ("algorithm", "loss"):
        links = ", ".join(f"[`{hook}`](../../hooks/{hook}.md)" for hook in facts.hooks)
        lines += ["", f"Hooks: {links}."]
    declared = facts.declares.to_json()
    if declared:
        lines += [
            "",
            "## Declares",
            "",
            table(("", "value"), [(f"`{k}`", cell(f"`{v}`")) for k, v in declared.items()]),
        ]
    lines += _measured(component)
    title, language = SHOWN.get(component.kind, ("## In a suite", "toml"))
    lines += ["", title, "", f"```{language}", _example(component, facts), "```"]
    source = component.address.replace(":", ".")
    return "\n".join([*lines, "", f"Source: `{source}`.", ""])


def _measured(component: Component) -> list[str]:
    """What a metric says of itself, in lines."""
    measured = component.measured
    if measured is None:
        return []
    quantity = Quantity.from_json({"name": component.name, **measured.quantity})
    rows = [
        ("title", quantity.title),
        ("shown in", quantity.unit or "its own unit"),
        ("better", "high" if quantity.higher_is_better else "low"),
        ("measured on", MEASURED_ON[measured.on]),
        ("for", " and ".join(measured.tasks)),
        ("a run that diverged counts as", "chance level" if measured.chance is not None else "no value"),
    ]
    return ["", table(("", ""), rows)]


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_spelled, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_spelled(item)}" for key, item in value.items()) + " }" if value else "{}"
    return "none" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def _example(component: Component, facts: Facts) -> str:
    """A component as a suite writes it: every required parameter, the first few that have a default, and the loss or
    the algorithm that it cannot do without."""
    given = [(p["name"], p["default"]) for p in facts.parameters if p["name"] not in ("variant", "**")]
    required = {p["name"]: EXAMPLES[p["name"]] for p in facts.parameters if p["required"] and p["name"] != "variant"}
    shown = {**required, **dict([(name, default) for name, default in given if default is not None][:3])}
    shown |= CHOSEN.get(component.name, {})
    if component.kind in REPORTING:
        given = "".join(f", {key}={value!r}" for key, value in shown.items())
        return (
            f'{component.kind} = harness.create("{component.kind}", "{component.name}"{given})\n'
            f"report = {component.kind}(features, labels, num_classes, rng=numpy.random.default_rng(0))"
        )
    if component.kind == "plot":
        return f"harness plot {component.name} --suite SUITE"
    if component.kind == "metric":
        return f'[evaluation]\nmetrics = ["{component.name}"]'
    if component.kind == "executor":
        return "\n".join([f"[{component.name}]", *(f"{key} = {_spelled(value)}" for key, value in shown.items())])
    name = f"{component.name}{VARIANTS[component.name]}" if component.is_family else component.name
    spec = _spelled({"name": name, **shown}) if shown else f'"{name}"'
    if component.kind not in ("transform", "algorithm"):
        return f"{component.kind} = {spec}"
    needed = facts.declares.replaces or ("ce" if "classification" in facts.declares.tasks else "l2")
    beside = [f'"{partner}"' for partner in BESIDE.get(component.name, ())]
    line = f"{component.kind}s = [{', '.join([*beside, spec])}]"
    return line if needed == "ce" else f'loss = "{needed}"\n{line}'


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command and subcommand as a click command, by its words (``plugin check``)."""
    found: dict[str, Any] = {}
    for name, entry_point in entry_points().items():
        if entry_point.dist is not None and entry_point.dist.name != OURS:
            continue
        command = make_command(name, entry_point.load())
        found[name] = command
        for part, inner in getattr(command, "commands", {}).items():
            found[f"{name} {part}"] = inner
    return dict(sorted(found.items()))


def command_pages() -> dict[str, str]:
    """One page for each command, and their index."""
    found = commands()
    rows = [(f"[`harness {name}`]({slug(name)}.md)", cell(_first(command.help))) for name, command in found.items()]
    made = {"reference/commands/index.md": f"# Commands\n\n{table(('command', 'what it does'), rows)}\n"}
    for name, command in found.items():
        made[f"reference/commands/{slug(name)}.md"] = _command_page(name, command)
    return made


def _first(text: str | None) -> str:
    return (text or "").strip().partition("\n\n")[0]


def _command_page(name: str, command: Any) -> str:
    lines = [f"# harness {name}", "", plain((command.help or "").strip())]
    usage = []
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            word = parameter.metavar or str(parameter.name).upper()
            spelled = word if parameter.required or word.startswith("[") else f"[{word}]"
            usage.append(spelled)
        else:
            spelled = ", ".join([*parameter.opts, *parameter.secondary_opts])
            spelled += f" {parameter.metavar}" if parameter.metavar else ""
        default = parameter.default if not callable(parameter.default) else None
        shown = "" if default in (None, False, (), []) else f"`{default}`"
        rows.append((cell(f"`{spelled}`"), shown, cell(getattr(parameter, "help", "") or "")))
    lines += ["", "```sh", " ".join(["harness", name, "[OPTIONS]", *usage]), "```"]
    inner = getattr(command, "commands", {})
    if inner:
        lines += [
            "",
            table(
                ("", ""),
                [(f"[`{part}`]({slug(f'{name} {part}')}.md)", cell(_first(c.help))) for part, c in inner.items()],
            ),
        ]
    if rows:
        lines += ["", table(("option", "default", "meaning"), rows)]
    return "\n".join([*lines, ""])


# --- the suite file --------------------------------------------------------------------------------------------------


def suite_pages() -> dict[str, str]:
    """One page with every table and key of a suite file."""
    lines = ["# The suite file", "", "A suite is a TOML file. Unknown keys are errors, with a suggestion."]
    for name, model in {**TABLES, **FURTHER_TABLES}.items():
        lines += [
            "",
            f"## {_heading(name)}",
            "",
            plain(_about(model)),
            "",
            table(("key", "type", "default", "meaning"), _keys(model)),
        ]
    lines += ["", "## `[quick]`", "", 'Assignments that hold at `--scale quick`, such as `"training.epochs" = 2`.']
    lines += ["", "## Tables of executors", "", "A table that is named like an executor holds its parameters:"]
    lines += [f"[`[{c.name}]`](components/executors/{slug(c.name)}.md)" for c, _ in _ours(("executor",))]
    lines += ["", "## Optimizers and schedules", "", *_optim_lines()]
    return {"reference/suite.md": "\n".join([*lines, ""])}


def _heading(name: str) -> str:
    listed = {
        "setting": "`[[setting]]`",
        "method": "`[[method]]`",
        "when": "`[[method.when]]`",
        "augment": "`augment` of a setting",
    }
    return listed.get(name, f"`[{name}]`")


def _about(model: type[Table]) -> str:
    return (inspect.getdoc(model) or "").partition(": ")[2]


def _keys(model: type[Table]) -> list[tuple[str, str, str, str]]:
    schema = model.model_json_schema()
    rows = []
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else cell(f"`{_spelled(field.default)}`")
        rows.append((f"`{key}`", cell(_type(schema["properties"][key])), default, cell(field.description or "")))
    return rows


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    names = {
        "integer": "integer",
        "number": "number",
        "string": "string",
        "boolean": "true or false",
        "object": "table",
    }
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return names.get(str(schema.get("type", "")), "name, table or list")


def _optim_lines() -> list[str]:
    from harness import parameters
    from harness.suite.optim import OPTIMIZERS, SCHEDULES

    lines = []
    for title, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        rows = []
        for name, factory in known.items():
            described, _ = parameters.describe(factory)
            keys = ", ".join(f"`{p['name']}`" for p in described if p["name"] not in ("variant", "**"))
            rows.append((f"`{name}`", cell(_first(inspect.getdoc(factory))), keys))
        lines += ["", table((title, "what it is", "keys"), rows)]
    return lines


# --- checks ----------------------------------------------------------------------------------------------------------


def check_pages() -> dict[str, str]:
    """The checks of ``harness plugin check``."""
    importlib.import_module("harness.testing.checks")
    from harness.testing import CHECKS

    lines = [
        "# Checks",
        "",
        "What `harness plugin check` and `harness.testing.cases` hold a component to. Each failure is printed with the",
        "reason and a remedy. Two more concern the plugin as a whole: `loads` (it is admitted) and `listing` (naming its",
        "components imports no torch and says the same in every process).",
    ]
    for name, one in CHECKS.items():
        lines += ["", f"## {name}", "", plain(inspect.getdoc(one.function) or ""), "", f"For: {', '.join(one.kinds)}."]
        lines += [f"Why: {plain(one.reason)}.", f"Remedy: {plain(one.remedy)}."]
    return {"reference/checks.md": "\n".join([*lines, ""])}


# --- mkdocs ----------------------------------------------------------------------------------------------------------

_made: dict[str, str] = {}


def on_config(config: Any) -> Any:
    """Make the pages and put them into the navigation under ``Reference``."""
    _made.clear()
    _made.update(pages())
    for name, runs in drawings.histories().items():
        _made[f"reference/benchmarks/{name}.svg"] = drawings.drawing(name, runs)
    hooks = {group: [f"reference/hooks/{name}.md" for name in names] for group, names in GROUPS.items()}
    components = [
        {PLURALS[kind].capitalize(): sorted(p for p in _made if p.startswith(f"reference/components/{PLURALS[kind]}/"))}
        for kind in KINDS
    ]
    for entry in components:
        for listed in entry.values():
            listed.sort(key=lambda path: not path.endswith("index.md"))
    reference = [
        {"Hooks": ["reference/hooks/index.md", *({group: listed} for group, listed in hooks.items())]},
        {"Methods by family": "reference/families.md"},
        {"Components": components},
        {
            "Commands": [
                "reference/commands/index.md",
                *sorted(p for p in _made if p.startswith("reference/commands/") and "index" not in p),
            ]
        },
        {"The suite file": "reference/suite.md"},
        {"Checks": "reference/checks.md"},
        {"Python interface": "api.md"},
        {"Benchmarks": drawings.PAGE},
    ]
    config.nav = [*config.nav, {"Reference": reference}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to mkdocs's files."""
    from mkdocs.structure.files import File

    for path, content in _made.items():
        files.append(File.generated(config, path, content=content))
    return files
