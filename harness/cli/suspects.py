"""Which labels of a suite's data seem to be wrong, and the data set with corrected ones."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DEFAULT_RESULTS, Results


def suspects(
    file: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's TOML file, or suite:NAME.")],
    results: Results = DEFAULT_RESULTS,
    method: Annotated[
        list[str], typer.Option("--method", metavar="NAME", help="A method of the suite; all without.")
    ] = [],  # noqa: B006 -- typer reads the default, nobody changes it
    folds: Annotated[int, typer.Option("--folds", min=2, metavar="K", help="Parts of the training data.")] = 5,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="How many of the suite's seeds, from the first.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; suspects.csv without.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="FILE", help="Corrections: the columns id,given,label,mark.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Where to write the corrected data.")] = None,
) -> None:
    """List the samples whose labels seem to be wrong, the most suspicious first; or write the data set with corrections.

    Every training sample is judged by networks that have not seen it: each method is trained K times for each seed.
    """
    from harness.errors import HarnessError, writing
    from harness.paths import expanded
    from harness.suite.load import load_suite
    from harness.words import counted

    suite = load_suite(file)
    if (apply is None) != (to is None):
        raise HarnessError("--apply and --to stand together", "suspects", "give both: --apply FILE --to DIR")
    if apply is not None and to is not None:
        from harness.results.suspects import read_corrections

        corrections = read_corrections(expanded(apply))
        datasets = {setting.dataset.name: setting.dataset for setting in suite.settings}
        if len(datasets) != 1:
            raise HarnessError("the suite has several data sets", file, "name one in a suite of its own")
        ((name, dataset),) = datasets.items()
        target = expanded(to)
        if target.exists():
            raise HarnessError("is there already", str(target), "give another folder")
        values = {**dataset.params, **dataset.places}
        made = suite.host.registry.corrected(name, values, corrections, target)
        typer.echo(f"{counted(len(corrections), 'label')} corrected: {made}")
        return
    from harness.execution.orchestrate import check_device
    from harness.execution.suspects import find_suspects
    from harness.results.records import open_results
    from harness.results.suspects import to_csv

    check_device(suite)
    target = expanded(output) if output is not None else Path("suspects.csv")
    found = find_suspects(suite, open_results(results), method, folds, seeds, lambda words: typer.echo(words, err=True))
    with writing(target):
        target.write_text(to_csv(found), encoding="utf-8")
    doubted = sum(one.suggested != one.given for one in found)
    typer.echo(f"{target}: {len(found)} samples, of which {doubted} are expected to be of another class")
    for one in found[:10]:
        typer.echo(f"  {one.id}: {one.given}, rather {one.suggested} ({one.score:.3f})")
    typer.echo(f"to look at them and mark them: {shlex.join(['harness', 'leaderboard', '--results', str(results)])}")
