"""List data sets, fetch them into HARNESS_DATA, verify what lies there."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import AsJson, PluginFile, assigned, print_json
from harness.words import counted

if TYPE_CHECKING:
    from harness.registry import Component, Registry

MOST_TOLD = 20
Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, as `harness data list` names it.")]
Parameter = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A parameter, such as root=photos.")]

app = typer.Typer(
    name="data",
    help="List data sets, fetch them into HARNESS_DATA, verify what lies there.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(
    plugin: PluginFile = [],  # noqa: B006 -- typer reads the default, nobody changes it
    json: AsJson = False,
) -> None:
    """Every data set: its task, and whether its files lie under HARNESS_DATA."""
    from harness.paths import data_folder

    registry = _registry(plugin)
    folder = data_folder()
    lines: list[dict[str, Any]] = []
    for component in registry.components("dataset"):
        facts = registry.facts(component)
        files = facts.declares.files
        absent = missing(folder, files)
        needed = [parameter["name"] for parameter in facts.parameters if parameter["required"]]
        state = f"needs {needed[0]}" if needed else "built in" if not files else "missing" if absent else "present"
        lines.append(
            {
                "name": component.name,
                "tasks": list(facts.declares.tasks),
                "classes": facts.declares.classes,
                "state": state,
                "missing": absent,
                "summary": facts.summary,
            }
        )
    registry.save_cache()
    if json:
        print_json({"folder": str(folder.absolute()), "datasets": lines})
        return
    typer.echo(f"HARNESS_DATA is {folder.absolute()}\n")
    width = max((len(str(line["name"])) for line in lines), default=0)
    for line in lines:
        typer.echo(f"{line['name']:{width}}  {line['state']:10}  {' '.join(line['tasks']):14}  {line['summary']}")


@app.command()
def fetch(
    name: Name,
    plugin: PluginFile = [],  # noqa: B006 -- as above
) -> None:
    """Download a data set into HARNESS_DATA."""
    from harness.errors import DataError
    from harness.paths import data_folder

    registry = _registry(plugin)
    component = _find(registry, name)
    files = registry.facts(component).declares.files
    folder = data_folder()
    if not files:
        typer.echo(f"{name} needs no download")
        return
    download = getattr(component.load(), "fetch", None)
    if download is None:
        remedy = getattr(component.load(), "obtain", "") or f"copy {', '.join(files)} into {folder.absolute()}"
        raise DataError("cannot be downloaded automatically", component.label, remedy)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make {folder.absolute()}: {error.strerror}", "HARNESS_DATA", "set it to another folder"
        ) from None
    download(folder)
    if absent := missing(folder, files):
        raise DataError(f"{absent[0]} is still not there", component.label, f"look into {folder.absolute()}")
    typer.echo(f"{name} is in {folder.absolute()}")


@app.command()
def verify(
    name: Name,
    parameter: Parameter = [],  # noqa: B006 -- as above
    plugin: PluginFile = [],  # noqa: B006 -- as above
    json: AsJson = False,
) -> None:
    """Check a data set's files against their md5, read every file of one's own data, and say what is in it."""
    from harness.errors import DataError
    from harness.paths import data_folder

    registry = _registry(plugin)
    component = _find(registry, name)
    folder = data_folder()
    if absent := missing(folder, registry.facts(component).declares.files):
        raise DataError(
            f"{absent[0]} is not under HARNESS_DATA ({folder.absolute()})",
            component.label,
            f"harness data fetch {name}",
        )
    sums = getattr(component.load(), "md5", {})
    if callable(sums):  # of a family, whose files depend on the name
        sums = sums(registry.find("dataset", name)[1])
    for file, expected in sums.items():
        found = md5_of(folder / file)
        if found != expected:
            raise DataError(
                f"{file} has md5 {found}, not {expected}", component.label, f"delete it, then harness data fetch {name}"
            )
    inspect_content = getattr(component.load(), "check", None)
    checked = inspect_content(folder) if inspect_content is not None else ""
    values = assigned(parameter)
    content = registry.content(name, registry.validate("dataset", name, values), exact=True)
    splits = registry.create("dataset", name, values)
    bad = [words for part in ("train", "test") for words in _unreadable(getattr(splits, part))]
    for words in bad[:MOST_TOLD]:
        typer.echo(words, err=True)
    if bad:
        what = f"{counted(len(bad), 'sample')} cannot be read, as told above"
        raise DataError(what, component.label, "mend or remove them, with their rows")
    parts = {part: _describe(getattr(splits, part)) for part in ("train", "test")}
    origin = {key: words for key in ("licence", "citation") if (words := getattr(component.load(), key, ""))}
    if json:
        digest = {"digest": content} if content else {}
        print_json({"name": name, "files_checked": len(sums), "content": checked, **digest, **origin, **parts})
        return
    if sums:
        typer.echo(f"{counted(len(sums), 'file has', 'files have')} the right md5")
    if checked:
        typer.echo(checked)
    if content:
        typer.echo(f"every file was read; their content is {content}")
    for part, facts in parts.items():
        typer.echo(f"{part}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    for key, words in origin.items():
        typer.echo(f"{key}: {words}")


@app.command()
def embed(
    name: Name,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="A model, such as timm:resnet50.")],
    parameter: Parameter = [],  # noqa: B006 -- typer reads the default, nobody changes it
    model_parameter: Annotated[
        list[str], typer.Option("--model-set", metavar="KEY=VALUE", help="A parameter of the model.")
    ] = [],  # noqa: B006 -- as above
    views: Annotated[
        str, typer.Option("--views", metavar="NAME:N,...", help="Store augmented views, such as weak:2,strong:1.")
    ] = "",
    augment: Annotated[
        list[str],
        typer.Option("--augment", metavar="KEY=VALUE", help="How weak views differ: crop=4, flip=true, cutout=8."),
    ] = [],  # noqa: B006 -- as above
    stored_as: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the features; made of their digest without.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="PIXELS", min=1, help="Side of what the model sees; its own without."),
    ] = None,
    samples: Annotated[
        str, typer.Option("--samples", metavar="TRAIN,TEST", help="Only the first so many of each; all without.")
    ] = "",
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples of a forward pass.")] = 64,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the views and of fresh weights.")] = 0,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, mps or auto.")] = "auto",
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that read images.")] = 0,
    plugin: PluginFile = [],  # noqa: B006 -- as above
    json: AsJson = False,
) -> None:
    """Write what a frozen model makes of every sample, as the data set features:NAME. A stopped run goes on."""
    from harness.training.embed import Recipe, prepare
    from harness.training.embed import embed as extract
    from harness.training.prepare import choose_device

    registry = _registry(plugin)
    recipe = Recipe(
        dataset={"name": name, "params": assigned(parameter)},
        model={"name": model, "params": assigned(model_parameter, "--model-set")},
        views=_views(views),
        augment=_augment(augment),
        size=size,
        batch=batch,
        seed=seed,
        samples=_samples(samples),
    )
    job = prepare(registry, recipe, choose_device(device), stored_as, workers)
    registry.save_cache()
    own = len(job.splits.train) + len(job.splits.test)
    typer.echo(
        f"{counted(job.passes, 'forward pass', 'forward passes')}, {job.passes - own} of them for views; "
        f"{job.bytes / 1e6:,.0f} MB of {job.width} float16 features each",
        err=json,
    )
    with typer.progressbar(length=job.passes, label="embedding", file=sys.stderr) as bar:
        folder = extract(job, bar.update)
    if json:
        print_json({"name": job.name, "folder": str(folder.absolute()), "passes": job.passes})
        return
    typer.echo(f'dataset = "features:{job.name}" is in {folder.absolute()}')


def _views(text: str) -> dict[str, int]:
    """``weak:2,strong:1`` as a table."""
    from harness.errors import HarnessError

    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        view, _, copies = part.partition(":")
        if not copies.isdecimal() or view in found:
            raise HarnessError(f"{part!r} is no view with a number", "--views", "write --views weak:2,strong:1")
        found[view] = int(copies)
    return found


def _samples(text: str) -> tuple[int, int] | None:
    """``10000,5000`` as two numbers; ``None`` without."""
    from harness.errors import HarnessError

    if not text:
        return None
    train, _, test = text.partition(",")
    if not (train.isdecimal() and test.isdecimal()):
        raise HarnessError(f"{text!r} is not two numbers", "--samples", "write --samples 10000,5000")
    return int(train), int(test)


def _augment(texts: Sequence[str]) -> dict[str, Any]:
    """The augmentation of weak views, as a setting has it."""
    from harness.errors import HarnessError
    from harness.suite.schema import AugmentTable, parse
    from harness.training.preprocessing import SIDES

    table: AugmentTable = parse(AugmentTable, assigned(texts, "--augment"), "--augment")
    for key in SIDES:
        if getattr(table, key):
            raise HarnessError(f"{key} is for settings", "--augment", "write --size for what the model sees")
    return {key: value for key, value in table.identity().items() if key != "cutout_fill"}


def missing(folder: Path, files: Sequence[str]) -> list[str]:
    """Those of `files` that are not in `folder`."""
    return [file for file in files if not (folder / file).exists()]


def md5_of(path: Path) -> str:
    """The md5 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _registry(plugins: Sequence[Path]) -> Registry:
    from harness.plugins import load_host

    return load_host(plugins).registry


def _find(registry: Registry, name: str) -> Component:
    return registry.find("dataset", name)[0]


def _unreadable(data: Any) -> Iterator[str]:
    """What is wrong with each sample of a streaming data set that cannot be read."""
    from torch import Tensor

    from harness.errors import HarnessError

    for position in range(0 if isinstance(data.inputs, Tensor) else len(data)):
        try:
            data.inputs[position]
        except HarnessError as error:
            yield error.what


def _describe(data: Any) -> dict[str, Any]:
    from harness.training.data import sample_at

    first = sample_at(data.inputs, 0)
    facts: dict[str, Any] = {
        "samples": len(data),
        "inputs": f"{'x'.join(map(str, first.shape))} {str(first.dtype).removeprefix('torch.')}",
        "task": data.task,
    }
    if data.num_classes is not None:
        facts["classes"] = data.num_classes
    if data.clean is not None:
        known = data.clean >= 0
        facts["clean labels of"] = int(known.sum())
        facts["noise of given labels"] = _rate((data.clean != data.targets)[known])
    if data.human:
        facts["human"] = "/".join(data.human)
        for label, given in data.human.items():
            facts[f"noise of {label}"] = _rate(given != data.targets)
    if data.votes is not None:
        cast = data.votes >= 0
        facts["annotators"] = data.votes.shape[1]
        facts["votes"] = int(cast.sum())
        facts["noise of a vote"] = _rate((data.votes != data.targets[:, None])[cast])
        facts["without a vote"] = int((~cast.any(1)).sum())
    return facts


def _rate(wrong: Any) -> str:
    return f"{float(wrong.double().mean()):.1%}" if wrong.numel() else "unknown"
