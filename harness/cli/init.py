"""Look at data of the user's own and write a suite for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def init(
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Images: with --csv, or in a folder for each class.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="The columns file,label[,split][,clean] of the images.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="A table of features: .csv, .parquet or .npz.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="A CSV file with a column of texts and one of labels.")
    ] = None,
    column: Annotated[
        str, typer.Option("--label", metavar="NAME", help="The column of labels, of a table or of texts.")
    ] = "label",
    text_column: Annotated[str, typer.Option("--text-column", metavar="NAME", help="The column of texts.")] = "text",
    trusted: Annotated[
        bool,
        typer.Option(
            "--trusted", help="The test labels are known to be right; without it the board says they are not."
        ),
    ] = False,
    method: Annotated[
        list[str], typer.Option("--method", metavar="NAME", help="A loss or an algorithm; the usual ones without.")
    ] = [],  # noqa: B006 -- typer reads the default, nobody changes it
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="How many seeds.")] = 3,
    name: Annotated[str | None, typer.Option("--name", help="Name of the suite; that of the data without.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; NAME.toml without.")
    ] = None,
) -> None:
    """Look at images, a table or texts of your own, whose labels may be wrong, and write a suite for them."""
    from harness.errors import HarnessError, writing
    from harness.paths import expanded
    from harness.suite.starting import start_suite

    given = {kind: expanded(path) for kind, path in (("images", images), ("table", table), ("text", text)) if path}
    if len(given) != 1:
        said = "say what the data are" if not given else "the data are of one kind"
        raise HarnessError(said, "init", "give one of --images DIR, --table FILE and --text FILE")
    ((kind, path),) = given.items()
    if csv is not None and kind != "images":
        raise HarnessError("the label file is that of --images", "--csv", "leave it out")
    data: dict[str, Any] = {"root" if kind == "images" else "file": str(path.absolute())}
    if csv is not None:
        data["csv"] = _beside(path, expanded(csv))
    if kind != "images" and column != "label":
        data["label"] = column
    if kind == "text" and text_column != "text":
        data["text"] = text_column
    if trusted:
        data["trusted"] = True
    called = name or path.stem or path.absolute().name
    target = expanded(output) if output is not None else Path(f"{called}.toml")
    if target.exists():
        raise HarnessError("is there already", str(target), "give another one with --output, or remove it")
    content = start_suite(kind, data, called, method, seeds)
    with writing(target):
        target.write_text(content, encoding="utf-8")
    typer.echo(f"{target}: {content.partition(chr(10))[0].removeprefix('# ')}")
    typer.echo(f"next: harness run {target}")


def _beside(folder: Path, csv: Path) -> str:
    """A label file as the data set names it: relative to the folder where it lies in it, else absolute."""
    from harness.errors import HarnessError

    for candidate in (csv, folder / csv):
        if candidate.is_file():
            found = candidate.absolute()
            inside = found.is_relative_to(folder.absolute())
            return str(found.relative_to(folder.absolute()) if inside else found)
    raise HarnessError("no such label file", str(csv), "write one with the columns file,label[,split][,clean]")
