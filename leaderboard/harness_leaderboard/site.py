"""The static site: the pages as files that open from disk and from any static host, without a server or a library.

Tables, charts and texts are those of the app. Trials are data, in small scripts that `trial.html` loads one of: a script
is all that a page opened from disk may load.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import duckdb
from markupsafe import Markup

from harness.errors import HarnessError, ResultsError, writing
from harness.foreign import file_name
from harness.papers.claims import judge_claims
from harness.papers.reproduction import orderings, reproduce, summary_sentence
from harness.paths import expanded
from harness.printed import load_claims
from harness.results.quantities import (
    Quantity,
    curve_charts,
    find_quantity,
    metric_word,
    offered,
    parse_metric,
    quantities_in,
)
from harness.results.records import known_trials
from harness.results.report import Board, main_metric, read_board, with_ties
from harness.results.report.export import TEXT_FORMATS, write_parquet
from harness.results.store import current_snapshot
from harness_leaderboard import queries, tables
from harness_leaderboard.render import SCRIPTS, joined, part
from harness_leaderboard.views import method_costs, rank_methods

MARK = '<meta name="generator" content="noisy-label-harness">'
MANY_CELLS = 1000
"""Cells of a suite beyond which only the main metrics get a page of their own."""
MAIN = ("last", "selected", "best")
LOG_CHARACTERS = 4000
SUFFIXES = {"csv": "csv", "json": "json", "markdown": "md", "latex": "tex"}


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written."""

    suites: int
    trials: int


def publish(results: Path, folder: Path) -> Written:
    """Write the site of the newest snapshot into a folder, which is new, empty or an earlier site.

    Raises:
        ResultsError: nothing has been collected, or the folder holds something else or cannot be written.
    """
    snapshot = current_snapshot(results)
    if snapshot is None:
        raise ResultsError("nothing has been collected here", str(results), "run a suite, or `harness collect`")
    folder = expanded(folder).absolute()
    with writing(folder, "name another folder"):
        _check(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            written = _write(results, snapshot, building)
            building.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return written


def _check(folder: Path) -> None:
    """Never write over what is not a site of ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ResultsError("is a file", str(folder), "name a folder")
    index = folder / "index.html"
    if any(folder.iterdir()) and not (index.is_file() and MARK in index.read_text(errors="replace")[:2000]):
        raise ResultsError("is neither empty nor an earlier site", str(folder), "name another folder")


def _write(results: Path, snapshot: Path, folder: Path) -> Written:
    assets, source = folder / "assets", files("harness_leaderboard") / "assets"
    assets.mkdir()
    (folder / "data").mkdir()
    style = (source / "harness.css").read_text(encoding="utf-8") + (source / "site.css").read_text(encoding="utf-8")
    script = "".join((source / name).read_text(encoding="utf-8") for name in (*SCRIPTS, "site.js"))
    (assets / "style.css").write_text(style, encoding="utf-8")
    (assets / "site.js").write_text(script, encoding="utf-8")
    (assets / "icon.svg").write_text((source / "icon.svg").read_text(encoding="utf-8"), encoding="utf-8")
    known = queries.suites(snapshot)
    slugs = _slugs([facts.name for facts in known])
    cards = []
    for facts in known:
        conclusion = _suite(snapshot, facts.name, slugs[facts.name], folder)
        cards.append(part("site.html", "card", facts=facts, file=f"{slugs[facts.name]}.html", conclusion=conclusion))
    reproduced = _published(snapshot, folder)
    body = cards or [tables.lead("The store holds no suite.")]
    _page(folder / "index.html", "Leaderboard", [*body, _note(snapshot)], reproduced)
    _page(folder / "trial.html", "Trial", [part("site.html", "trial")], reproduced)
    return Written(len(known), _trials(results, snapshot, folder, slugs))


def _slugs(names: list[str]) -> dict[str, str]:
    """File names for suites: readable, and different even where the names differ in signs alone."""
    slugs: dict[str, str] = {}
    for name in names:
        own = file_name(name) in ("index", "trial", "published")
        slugs[name] = file_name(f"suite {name}" if own else name, slugs.values())
    return slugs


def _note(snapshot: Path) -> Markup:
    return tables.note(f"Snapshot {snapshot.stem}, written by noisy-label-harness.")


def _page(path: Path, title: str, parts: Iterable[Markup], reproduced: bool) -> None:
    links = [("index.html", "Suites"), ("trial.html", "Trial")] + (
        [("published.html", "Published")] if reproduced else []
    )
    made = part("site.html", "file", title=title, body=joined(parts), links=links, here=path.name)
    path.write_text(made, encoding="utf-8")


def trial_link(trial_id: str) -> str:
    """Where the site shows a trial."""
    return f"trial.html#{trial_id}"


# --- a suite ----------------------------------------------------------------------------------------------------------


def _suite(snapshot: Path, suite: str, slug: str, folder: Path) -> str:
    """A suite's pages and data files; returns what can be concluded at the last epoch."""
    cells = queries.cell_trials(snapshot, suite)
    costs = queries.costs(snapshot, suite)
    references = queries.plain_methods(snapshot, suite)
    with queries.cursor(snapshot) as connection:
        main, known = main_metric(connection, suite), quantities_in(connection)
    metrics = _metrics(snapshot, suite, main, known, len(cells))
    pages = _pages(slug, metrics)
    conclusion = ""
    for position, metric in enumerate(metrics):
        with queries.cursor(snapshot) as connection:
            try:
                board = read_board(connection, suite, metric)
            except HarnessError:
                continue
        ranked = rank_methods(board, references, costs)
        choices = [(pages[other], _words(other, main, known)) for other in metrics]
        parts = [part("site.html", "metrics", pages=choices, here=pages[metric])] if len(metrics) > 1 else []
        parts += [part("site.html", "filter"), tables.leaderboard_head(ranked)]
        parts += [tables.leaderboard_table(ranked, cells, to=trial_link), tables.leaderboard_legend(ranked)]
        parts.append(tables.leaderboard_questions(ranked))
        if position == 0:
            conclusion = ranked.board.conclusion
            found = method_costs(board, _times(snapshot, suite), costs)
            if found:
                parts += [
                    Markup("<h2>Cost</h2>"),
                    tables.cost_head(found),
                    tables.cost_chart(found, board.metric),
                    tables.cost_table(found, board.metric),
                ]
            parts.append(
                _data_files(ranked.board if ranked.shown == ranked.settings else with_ties(board), slug, folder)
            )
        parts.append(_note(snapshot))
        _page(
            folder / pages[metric],
            suite,
            parts,
            bool(queries.rows(snapshot, "SELECT 1 FROM published LIMIT 1")),
        )
    return conclusion


def _times(snapshot: Path, suite: str) -> Board | None:
    """Seconds per epoch; ``None`` where none were recorded."""
    with queries.cursor(snapshot) as connection:
        try:
            return read_board(connection, suite, "seconds_per_epoch")
        except HarnessError:
            return None


def _words(metric: str, main: str, known: Mapping[str, Quantity]) -> str:
    """A metric's word as people read it."""
    name, at = parse_metric(metric)
    return find_quantity(name or main, known).words(at)


def _metrics(snapshot: Path, suite: str, main: str, known: Mapping[str, Quantity], cells: int) -> list[str]:
    """The metrics that get a page; losses and costs are with the trials and in the cost table."""
    pairs = offered(queries.metrics(snapshot, suite), main, known)
    words = [metric_word(name, at, main) for name, at in pairs if name == main or _paged(name, at, known)]
    return [word for word in words if word in MAIN] if cells > MANY_CELLS else words


def _paged(name: str, at: str, known: Mapping[str, Quantity]) -> bool:
    return at in ("last", "selected") and find_quantity(name, known).paged


def _pages(slug: str, metrics: Iterable[str]) -> dict[str, str]:
    """The file of every metric's page, the first one's named as the suite; no two share a file."""
    names: dict[str, str] = {}
    for metric in metrics:
        names[metric] = file_name(metric, names.values())
    return {metric: f"{slug}--{name}.html" if i else f"{slug}.html" for i, (metric, name) in enumerate(names.items())}


def _data_files(board: Board, slug: str, folder: Path) -> Markup:
    for form, suffix in SUFFIXES.items():
        (folder / "data" / f"{slug}.{suffix}").write_text(TEXT_FORMATS[form](board), encoding="utf-8")
    write_parquet(board, folder / "data" / f"{slug}.parquet")
    written = [(f"data/{slug}.{suffix}", form) for form, suffix in (*SUFFIXES.items(), ("parquet", "parquet"))]
    return part("site.html", "data", files=written)


def _published(snapshot: Path, folder: Path) -> bool:
    """The page of printed against reproduced numbers; nothing where none is reproduced."""
    with queries.cursor(snapshot) as connection:
        every = reproduce(connection)
        agreements = orderings(connection, every)
    claims = tables.claims_list(judge_claims(load_claims(), every))
    found = [item for item in every if item.values]
    if not every:
        return False
    shown = found or every
    nothing = "No suite here reproduces a paper's table: these are the printed numbers."
    parts = [tables.lead(summary_sentence(found) if found else nothing), claims, part("site.html", "filter")]
    parts += [tables.published_table(shown), tables.printed_order(agreements), _note(snapshot)]
    _page(folder / "published.html", "Published", parts, True)
    return True


# --- trials -----------------------------------------------------------------------------------------------------------


def _trials(results: Path, snapshot: Path, folder: Path, slugs: Mapping[str, str]) -> int:
    """Every trial's data in scripts by the last digits of its id; returns how many there are."""
    count = int(queries.rows(snapshot, "SELECT count(*) AS n FROM trials")[0]["n"])
    digits = 1 if count <= 2000 else 2 if count <= 20_000 else 3
    home = folder / "data" / "trials"
    home.mkdir()
    on_disk = known_trials(results)
    with queries.cursor(snapshot) as connection:
        charts = curve_charts(quantities_in(connection))
        partial = _partly_taken(connection, [q.column for chart in charts for q in chart.curves if q.column])
    drawn = [quantity for chart in charts for quantity in chart.curves]
    columns = [quantity.column for quantity in drawn if quantity.column]
    added = [quantity.name for quantity in drawn if not quantity.column]
    averages = ", ".join(f"list(round({c}, 4) ORDER BY epoch) FILTER ({c} IS NOT NULL) AS {c}" for c in columns)
    # Epochs are written only for what was not taken at every one of them.
    taken = ", ".join(
        f"CASE WHEN count({c}) < max(epoch) THEN list(epoch ORDER BY epoch) FILTER ({c} IS NOT NULL) END AS {c}_at"
        if c in partial
        else f"NULL AS {c}_at"
        for c in columns
    )
    curves = ", ".join(f"'{c}': {{'x': {c}_at, 'y': {c}}}" for c in columns)
    stale = queries.stale_digests(snapshot)
    for last in "0123456789abcdef":
        shards: dict[str, list[str]] = {}
        with queries.cursor(snapshot) as connection:
            answer = connection.execute(
                f"""
                WITH mine AS (SELECT * FROM trials WHERE right(trial, 1) = ?),
                curves AS (
                    SELECT trial, {averages}, {taken} FROM epochs WHERE right(trial, 1) = ? GROUP BY trial
                ), measured AS (
                    SELECT trial, list([metric, "at", round(value, 6)::VARCHAR] ORDER BY metric, "at") AS metrics
                    FROM metrics WHERE right(trial, 1) = ? AND value IS NOT NULL GROUP BY trial
                ), places AS (
                    SELECT trial, list([suite, method, setting, seed::VARCHAR] ORDER BY suite) AS places
                    FROM compared WHERE right(trial, 1) = ? GROUP BY trial
                ), further AS (
                    SELECT trial, json_group_object(name, {{'x': epochs, 'y': taken}}) AS further FROM (
                        SELECT trial, name, list(epoch ORDER BY epoch) AS epochs, list(round(value, 4) ORDER BY epoch) AS taken
                        FROM diagnostics
                        WHERE right(trial, 1) = ? AND value IS NOT NULL AND name IN (SELECT unnest(?::VARCHAR[]))
                        GROUP BY trial, name
                    ) GROUP BY trial
                )
                SELECT t.trial, t.attempt, to_json({{
                    'status': {queries.STANDING}, 'error': t.error_type || ': ' || t.error, 'traceback': t.traceback,
                    'identity': t.identity, 'transitions': t.transitions, 'label_digest': t.label_digest,
                    'places': p.places, 'metrics': m.metrics, 'environment': e.environment, 'curves': {{{curves}}},
                    'further': f.further
                }})::VARCHAR
                FROM mine t LEFT JOIN curves USING (trial) LEFT JOIN measured m USING (trial)
                LEFT JOIN places p USING (trial) LEFT JOIN further f USING (trial)
                LEFT JOIN environments e ON e.trial = t.trial AND e.attempt = t.attempt
                """,
                [*[last] * 5, added, stale],
            )
            while batch := answer.fetchmany(2000):
                for trial_id, attempt, content in batch:
                    log = _log(results, trial_id, attempt) if trial_id in on_disk else ""
                    tail = f', "log": {json.dumps(log)}' if log else ""
                    entry = f"{json.dumps(trial_id)}: {content[:-1]}{tail}}}"
                    shards.setdefault(trial_id[-digits:], []).append(entry)
        for shard, entries in shards.items():
            script = f"trials({{{','.join(entries)}}});\n"
            (home / f"{shard}.js").write_text(script, encoding="utf-8")
    about = {"digits": digits, "suites": dict(slugs), "charts": [chart.to_json() for chart in charts]}
    (folder / "data" / "about.js").write_text(f"about({json.dumps(about)});\n", encoding="utf-8")
    return count


def _partly_taken(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> set[str]:
    """The columns that some trial lacks at an epoch."""
    if not columns:
        return set()
    counts = ", ".join(f"count({c}) AS n_{c}" for c in columns)
    lacking = ", ".join(f"bool_or(n_{c} < last)" for c in columns)
    found = connection.execute(
        f"SELECT {lacking} FROM (SELECT max(epoch) AS last, {counts} FROM epochs GROUP BY trial)"
    ).fetchone()
    return {column for column, lacks in zip(columns, found or (), strict=True) if lacks}


def _log(results: Path, trial_id: str, attempt: str | None) -> str:
    found = queries.log(results, trial_id, attempt or "")
    return found if len(found) <= LOG_CHARACTERS else f"...\n{found[-LOG_CHARACTERS:]}"
