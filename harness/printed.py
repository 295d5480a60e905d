"""The papers' own numbers: TOML files typed from the papers, read into flat cells that the store keeps as `published`.

One file is one paper: `[paper]`, its `[[table]]`s, its `[[claim]]`s and its `[[hyperparameters]]`.

    [[table]]
    id = "table4"                       # the reproducing suite is named <paper key>/<table id>: rrm/table4
    page = 8
    printed = "table"                   # or "text": numbers from running text, such as a claimed average; or "quoted":
                                        # read elsewhere than in the paper: no page, but an attribute `source`
    title = "..."  protocol = "..."     # own words; the protocol ends with what the paper does not state
    metric = "accuracy"  unit = "percent"
    at = "selected"                     # last | last10 | selected | best; absent where the paper does not say
    seeds = 5                           # absent where the paper does not say
    spread = "std"                      # what follows +-: "std", or "interval"
    dataset = "cifar10"  noise = "symmetric"
    attributes = { epsilon = "what it means" }       # names every further key that columns, rows and blocks carry
    columns = [{ name = "10%", rate = 0.1 }, { name = "10% (+RRM)", rate = 0.1, method = "{row} + RRM" }]
    rows = [{ method = "CE", label = "CCE", cells = [[89.94, 0.29], [92.20, 0.26]] }]
    flags = [{ method = "CE", column = "10%", reason = "misprint: ..." }]

A cell is a number, `[mean, spread]`, or `[]` where nothing is printed. `method` is the display name in the reproducing
suite, `label` the paper's own where it differs; a column may build the method from the row's (`{row}`). What is said
more than once is said once: table, then `[[table.block]]` (rows under a sub-heading), then column, then row, the later
winning. No noise named means the labels as the data set comes. A flag holds for every cell that has all its other
keys' values (a list means any of them); its reason starts with `misprint:` (the number is wrong), `suspect:` (do not
compare with it), `level:` (compare the order of methods only) or `note:` (the number stands). How many decimals a table
prints of a metric is read from its cells: write them as printed, 98.30 not 98.3, at least once in each table.

A claim is what the paper says of a table as a whole: how much a method gains on another on average, or how often it is ahead.

    [[claim]]
    id = "gain-over-sgd"
    page = 6  where = "section 5"       # where it is said
    says = "..."                        # own words
    table = "table1"                    # whose cells it is about
    kind = "gain"                       # "gain": the mean difference; "count": in how many comparisons it is ahead
    method = "CDR+AUX"  over = "CE"     # a name each, or lists; method = "{over} + RRM" goes with each of over
    select = { noise = "asymmetric" }   # of which cells, as in a flag; all of the table where it is left out
    apart = ["margin"]                  # further keys in which the two sides may differ
    value = 1.44                        # as printed; left out where the paper prints only the cells that it follows from
    flag = "note: ..."

A comparison is one entry of `over` in one place (data set, noise, rate, metric, epoch and further keys). Several methods
stand for the best of them, and `over = "others"` for the best of all other methods of the table.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from harness.errors import ResultsError, unknown

PACKAGED: Final = "harness_plugins.published"

Scalar = str | int | float | bool
Source = str | Path | Traversable

_RANGES: Final = {
    "percent": (0.0, 100.0),
    "fraction": (0.0, 1.0),
    "points": (-100.0, 100.0),
    "count": (0.0, math.inf),
    "hours": (0.0, math.inf),
    "seconds": (0.0, math.inf),
    "target": (0.0, math.inf),
}
_FLAG_JOIN: Final = " | "


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """One printed number with everything that says what it is; the row of the store's table `published`.

    `std` and `n` are None where the paper does not say, `page` where the number is quoted from elsewhere; `extra` is JSON
    with sorted keys (epsilon, rank, iteration ...; an interval half-width that is no standard deviation is there as
    `interval`).
    """

    paper: str
    table: str
    page: int | None
    printed: str
    block: str | None
    label: str
    method: str | None
    column: str
    dataset: str | None
    noise: str | None
    rate: float | None
    model: str | None
    extra: str
    metric: str
    at: str | None
    unit: str
    mean: float
    std: float | None
    n: int | None
    flag: str | None
    decimals: int

    @property
    def suite(self) -> str:
        """The suite that reproduces this cell's table: `kpd/table2`."""
        return f"{self.paper}/{self.table}"

    @property
    def comparable(self) -> bool:
        """False for misprints, suspects and doubtful levels: numbers that no reproduction should be measured against."""
        return self.ordered and not self._flagged("level:")

    @property
    def ordered(self) -> bool:
        """Whether the number may be compared with those of other methods beside it."""
        return not self._flagged("misprint:", "suspect:")

    def _flagged(self, *kinds: str) -> bool:
        return any(part.startswith(kinds) for part in (self.flag or "").split(_FLAG_JOIN))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Cells that a claim sets against each other in one place: the best of the one side against the best of the other."""

    methods: tuple[PublishedCell, ...]
    over: tuple[PublishedCell, ...]


@dataclass(frozen=True, slots=True)
class PublishedClaim:
    """One claim with the comparisons that it is about; the row of the store's table `claims`.

    `value` is as the text prints it and `decimals` says how; both are None where only the cells are printed.
    """

    paper: str
    id: str
    page: int
    place: str
    says: str
    table: str
    kind: str
    unit: str
    value: float | None
    decimals: int | None
    flag: str | None
    comparisons: tuple[Comparison, ...]

    @property
    def suite(self) -> str:
        """The suite that reproduces the claim's table."""
        return f"{self.paper}/{self.table}"


class _Literal(float):
    """A number of the file that knows with how many decimals it was written."""

    decimals: int

    def __new__(cls, text: str) -> _Literal:
        made = super().__new__(cls, text)
        made.decimals = len(text.partition(".")[2].partition("e")[0])
        return made


class Value(NamedTuple):
    """What one cell prints, and with how many decimals its mean is written."""

    mean: float
    spread: float | None
    decimals: int


def _value(raw: object) -> Value | None:
    numbers: list[Any] = raw if isinstance(raw, list) else [raw]
    if len(numbers) > 2 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError("a cell is a number, [mean, spread], or [] where nothing is printed")
    if not all(math.isfinite(n) for n in numbers):
        raise ValueError("a printed number is finite; write [] where nothing is printed")
    if not numbers:
        return None
    decimals = getattr(numbers[0], "decimals", 0)
    return Value(float(numbers[0]), float(numbers[1]) if len(numbers) == 2 else None, decimals)


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ValueError("a printed number is finite")
    return raw  # as it was read: a literal knows its decimals


Cell = Annotated[Value | None, PlainValidator(_value)]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Described(BaseModel):
    """What a table, block, column or row may say of its cells; further keys are the table's `attributes`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    dataset: Name | None = None
    noise: Name | None = None
    rate: Share | None = None
    model: Name | None = None
    metric: Name | None = None
    unit: Literal["percent", "fraction", "points", "count", "hours", "seconds", "target"] | None = None
    at: Literal["last", "last10", "selected", "best"] | None = None

    def said(self) -> dict[str, Scalar]:
        """The descriptions that are given here, further keys included."""
        own = {key: getattr(self, key) for key in _Described.model_fields if getattr(self, key) is not None}
        return own | (self.model_extra or {})


class Column(_Described):
    """A column of numbers; `method` may hold `{row}`, the row's own method."""

    name: Name
    method: Name | None = None


class Row(_Described):
    """A printed row."""

    method: Name | None = None
    label: Name | None = None
    cells: list[Cell]


class Block(_Described):
    """Rows under a sub-heading of the table."""

    name: Name
    rows: Annotated[list[Row], Field(min_length=1)]


class Flag(BaseModel):
    """Why some cells are not what they seem; every key but `reason` selects cells."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    reason: Annotated[str, Field(pattern=r"^(misprint|suspect|level|note): \S[^|]*$")]

    def selects(self, known: Mapping[str, object], where: str) -> bool:
        """Whether a cell (or hyper-parameter) with these values is meant."""
        wanted = self.model_extra or {}
        if not wanted:
            raise ResultsError("a flag selects no cell", where, "name method, column or another key of the cells meant")
        for key, value in wanted.items():
            if key not in known:
                raise ResultsError(unknown("key", key, known), where)
            if known[key] not in (value if isinstance(value, list) else [value]):
                return False
        return True


class PrintedTable(_Described):
    """A results table, or numbers from running text."""

    id: Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9.-]*$")]
    page: Annotated[int, Field(ge=1)] | None = None
    printed: Literal["table", "text", "quoted"] = "table"
    title: Name
    protocol: str = ""
    seeds: Annotated[int, Field(ge=1)] | None = None
    spread: Literal["std", "interval"] | None = None
    attributes: dict[str, Name] = {}
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: list[Row] = []
    block: list[Block] = []
    flags: list[Flag] = []


class Claim(_Closed):
    """What the paper says of a table as a whole."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$")]
    page: Annotated[int, Field(ge=1)]
    where: Name
    says: Name
    table: Name
    kind: Literal["gain", "count"]
    method: Name | Annotated[list[Name], Field(min_length=1)]
    over: Name | Annotated[list[Name], Field(min_length=1)]
    over_table: Name | None = None
    apart: list[Name] = []
    select: dict[str, Scalar | list[Scalar]] = {}
    value: Annotated[float, PlainValidator(_number)] | None = None
    flag: Annotated[str, Field(pattern=r"^(misprint|suspect|level|note): \S[^|]*$")] | None = None


class PrintedParameter(_Closed):
    """One hyper-parameter across the columns."""

    name: Name
    cells: list[Scalar]


class Hyperparameters(_Closed):
    """A table of hyper-parameters, kept for whoever writes the suite; not part of the cells."""

    id: Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9.-]*$")]
    page: Annotated[int, Field(ge=1)]
    printed: Literal["table", "text"] = "table"
    title: Name
    columns: Annotated[list[Name], Field(min_length=1)]
    rows: list[PrintedParameter]
    flags: list[Flag] = []


class Paper(_Closed):
    """Which paper; `pages` says how its pages were counted."""

    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    title: Name
    authors: Name
    year: int | None = None
    venue: Name | None = None
    pages: Name


class PublishedPaper(_Closed):
    """One file."""

    paper: Paper
    table: Annotated[list[PrintedTable], Field(min_length=1)]
    claim: list[Claim] = []
    hyperparameters: list[Hyperparameters] = []


def load_published(*sources: Source) -> list[PublishedCell]:
    """Every printed cell of the given files or folders of `*.toml`, in the order of the papers.

    Without a source, the packaged papers. Raises `ResultsError`, naming file and key, for the first thing that is
    wrong: shape, unknown keys, rows of another width than their columns, numbers outside their unit's range, two cells
    that say the same of themselves, flags that mean no cell.
    """
    return [cell for _, cells, _ in _read(sources) for cell in cells]


def load_claims(*sources: Source) -> list[PublishedClaim]:
    """Every claim of the given files or folders, in the order of the papers, with the printed cells that it is about.

    Without a source, the packaged papers. Raises `ResultsError` for what `load_published` refuses, a claim of a table that
    is not there or about no two cells, a count larger than its comparisons, and one of half of them or fewer.
    """
    return [claim for paper, cells, file in _read(sources) for claim in _claims(file, paper, cells)]


def load_papers(*sources: Source) -> list[PublishedPaper]:
    """The files as written, hyper-parameters and protocols included; checked as by `load_published`."""
    return [paper for paper, _, _ in _read(sources)]


def _read(sources: Iterable[Source]) -> Iterator[tuple[PublishedPaper, list[PublishedCell], str]]:
    seen: dict[str, str] = {}
    for source in sources or (files(PACKAGED),):
        for path in _toml_files(source):
            paper = _parse(path)
            key = paper.paper.key
            if key in seen:
                raise ResultsError(f"paper {key!r} is already in {seen[key]}", f"{path.name}: paper.key")
            seen[key] = path.name
            yield paper, _cells(path.name, paper), path.name


def _toml_files(source: Source) -> list[Traversable]:
    place: Traversable = Path(source) if isinstance(source, str) else source
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ResultsError("no such file or folder", str(source))
    found = sorted((entry for entry in place.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    if not found:
        raise ResultsError("no .toml file in this folder", str(source))
    return found


def _parse(path: Traversable) -> PublishedPaper:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=_Literal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"not TOML: {error}", path.name) from None
    try:
        return PublishedPaper.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ResultsError(_what(first), f"{path.name}: {_key(data, first['loc'])}") from None


def _what(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "missing"
    if error["type"] == "extra_forbidden":
        return "unknown key"
    return str(error["msg"]).removeprefix("Value error, ")


def _key(data: object, loc: Iterable[str | int]) -> str:
    """`table2.block[1].rows[3].cells[0]` from a position in the file: tables by their id, and no union branches."""
    key, here = "", data
    for part in loc:
        if isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
            name = here.get("id") if isinstance(here, dict) else None
            key = name if isinstance(name, str) else f"{key}[{part}]"
        elif isinstance(here, dict) and isinstance(part, str):
            key = f"{key}.{part}" if key else part
            if part not in here:
                break
            here = here[part]
        else:
            break
    return key


def _cells(file: str, paper: PublishedPaper) -> list[PublishedCell]:
    ids = [table.id for table in paper.table] + [table.id for table in paper.hyperparameters]
    for number, name in enumerate(ids):
        if name in ids[:number]:
            raise ResultsError("two tables have this id", f"{file}: {name}")
    for hyperparameters in paper.hyperparameters:
        _check_hyperparameters(f"{file}: {hyperparameters.id}", hyperparameters)
    return [cell for table in paper.table for cell in _table_cells(f"{file}: {table.id}", paper.paper.key, table)]


def _table_cells(where: str, paper: str, table: PrintedTable) -> Iterator[PublishedCell]:
    if (table.page is None) != (table.printed == "quoted"):
        raise ResultsError("a table has a page, unless it is quoted", where, 'give page, or printed = "quoted"')
    if len({column.name for column in table.columns}) < len(table.columns):
        raise ResultsError("two columns have one name", f"{where}.columns")
    flagged: set[int] = set()
    identities: set[tuple[object, ...]] = set()
    printed = list(_printed(where, table))
    decimals: dict[str | None, int] = {}
    for _, known, value in printed:
        decimals[known["metric"]] = max(decimals.get(known["metric"], 0), value.decimals)
    for of_cell, known, value in printed:
        identity = tuple(said for key, said in sorted(known.items()) if key != "column")
        if identity in identities:
            raise ResultsError("two cells say the same of themselves", of_cell)
        identities.add(identity)
        flags = {n: flag for n, flag in enumerate(table.flags) if flag.selects(known, f"{where}.flags[{n}]")}
        flagged |= flags.keys()
        reasons = _FLAG_JOIN.join(flag.reason for flag in flags.values())
        yield _cell(of_cell, paper, table, known, value, reasons or None, decimals[known["metric"]])
    _check_flags(where, table.flags, flagged)


def _printed(where: str, table: PrintedTable) -> Iterator[tuple[str, dict[str, Any], Value]]:
    """Each printed number with where it stands in the file and all that is said of it (None: not said)."""
    if bool(table.rows) == bool(table.block):
        raise ResultsError("a table has either rows or blocks", where)
    nothing = dict.fromkeys([*_Described.model_fields, *table.attributes])
    of_table = _described(where, table, table)
    of_columns = [_described(f"{where}, column {column.name!r}", table, column) for column in table.columns]
    for block in table.block or (None,):
        within = f"{where}, block {block.name!r}" if block else where
        of_block = _described(within, table, block) if block else {}
        for row in block.rows if block else table.rows:
            label = row.label or row.method
            if label is None:
                raise ResultsError("a row has neither method nor label", within)
            place = f"{within}, row {label!r}"
            if len(row.cells) != len(table.columns):
                raise ResultsError(f"{len(row.cells)} cells under {len(table.columns)} columns", place)
            of_row = _described(place, table, row)
            for column, of_column, value in zip(table.columns, of_columns, row.cells, strict=True):
                if value is None:
                    continue
                of_cell = f"{place}, column {column.name!r}"
                names = {"block": block.name if block else None, "label": label, "column": column.name}
                names["method"] = _method(of_cell, column, row)
                yield of_cell, nothing | of_table | of_block | of_column | of_row | names, value


def _described(where: str, table: PrintedTable, part: _Described) -> dict[str, Scalar]:
    said = part.said()
    for key, value in (part.model_extra or {}).items():
        if key not in table.attributes:
            known = {*type(part).model_fields, *table.attributes}
            raise ResultsError(unknown("key", key, known), where, "or name it in the table's attributes")
        if not isinstance(value, Scalar):
            raise ResultsError("an attribute is one string or number", f"{where}.{key}")
    return said


def _method(where: str, column: Column, row: Row) -> str | None:
    if column.method is None:
        return row.method
    if "{row}" not in column.method:
        return column.method
    if row.method is None:
        raise ResultsError("the column builds on the row's method, and the row has none", where)
    return column.method.replace("{row}", row.method)


def _cell(
    where: str, paper: str, table: PrintedTable, known: Mapping[str, Any], value: Value, flag: str | None, decimals: int
) -> PublishedCell:
    metric, unit = known["metric"], known["unit"]
    if metric is None or unit is None:
        raise ResultsError("neither metric nor unit may be missing", where)
    low, high = _RANGES[unit]
    whole = unit != "count" or value.mean.is_integer()
    if not low <= value.mean <= high or not whole:
        raise ResultsError(f"{value.mean:g} is no {unit}", where)
    if known["noise"] == "none" and known["rate"] not in (None, 0):
        raise ResultsError(f"no noise, yet a rate of {known['rate']:g}", where)
    extra = {key: known[key] for key in table.attributes if known[key] is not None}
    if table.printed == "quoted" and not extra.get("source"):
        raise ResultsError("a quoted number has no source", where, 'say source = "where it was read"')
    if value.spread is not None:
        if table.spread is None:
            raise ResultsError("a spread is printed", where, 'say what follows +-: spread = "std"')
        if value.spread < 0:
            raise ResultsError(f"{value.spread:g} is no spread", where)
        if table.spread != "std":
            extra[table.spread] = value.spread
    return PublishedCell(
        paper=paper,
        table=table.id,
        page=table.page,
        printed=table.printed,
        block=known["block"],
        label=known["label"],
        method=known["method"],
        column=known["column"],
        dataset=known["dataset"],
        noise=known["noise"],
        rate=known["rate"],
        model=known["model"],
        extra=json.dumps(extra, sort_keys=True),
        metric=metric,
        at=known["at"],
        unit=unit,
        mean=value.mean,
        std=value.spread if table.spread == "std" else None,
        n=table.seeds,
        flag=flag,
        decimals=decimals,
    )


def _claims(file: str, paper: PublishedPaper, cells: list[PublishedCell]) -> Iterator[PublishedClaim]:
    names = [claim.id for claim in paper.claim]
    for number, claim in enumerate(paper.claim):
        where = f"{file}: claim {claim.id!r}"
        if claim.id in names[:number]:
            raise ResultsError("two claims have this id", where)
        comparisons = tuple(_comparisons(where, claim, cells))
        if not comparisons:
            raise ResultsError("the claim compares nothing", where, "check its table, method, over and select")
        if (
            claim.kind == "count"
            and claim.value is not None
            and not len(comparisons) / 2 < claim.value <= len(comparisons)
        ):
            raise ResultsError(f"{claim.value:g} of {len(comparisons)} comparisons is no majority of them", where)
        if claim.value is not None and claim.value <= 0:
            raise ResultsError(f"a claimed gain of {claim.value:g} is none", where, "swap method and over")
        units = {cell.unit for comparison in comparisons for cell in (*comparison.methods, *comparison.over)}
        if len(units) > 1:
            raise ResultsError(f"cells in {' and '.join(sorted(units))} are compared", where)
        unit = "points" if units <= {"percent"} else units.pop()
        yield PublishedClaim(
            paper=paper.paper.key,
            id=claim.id,
            page=claim.page,
            place=claim.where,
            says=claim.says,
            table=claim.table,
            kind=claim.kind,
            unit="count" if claim.kind == "count" else unit,
            value=None if claim.value is None else float(claim.value),
            decimals=None if claim.value is None else getattr(claim.value, "decimals", 0),
            flag=claim.flag,
            comparisons=comparisons,
        )


def _comparisons(where: str, claim: Claim, cells: list[PublishedCell]) -> Iterator[Comparison]:
    """Every entry of ``over`` in every place where both sides are printed."""
    tables = {cell.table for cell in cells}
    for name in (claim.table, claim.over_table):
        if name is not None and name not in tables:
            raise ResultsError(unknown("table", name, tables), where)
    told = {key for cell in cells if cell.table == claim.table for key in _told(cell)}
    for key in claim.select:
        if key not in told:
            raise ResultsError(unknown("key", key, told), f"{where}: select")
    of_table = [cell for cell in cells if cell.table == claim.table and _selected(claim, cell)]
    beside = [cell for cell in cells if cell.table == claim.over_table] if claim.over_table else of_table
    patterns = [claim.method] if isinstance(claim.method, str) else claim.method
    for name in [claim.over] if isinstance(claim.over, str) else claim.over:
        wanted = [pattern.replace("{over}", name) for pattern in patterns]
        mine = [cell for cell in of_table if cell.method in wanted]
        if name == "others":
            theirs = [cell for cell in beside if cell.method is not None and cell.method not in wanted]
        else:
            theirs = [cell for cell in beside if cell.method == name]
        places: dict[tuple[object, ...], list[PublishedCell]] = {}
        for cell in mine:
            places.setdefault(_place(cell), []).append(cell)
        for place in places.values():
            where_over = _place(place[0], claim.apart)
            if against := tuple(cell for cell in theirs if _place(cell, claim.apart) == where_over):
                yield Comparison(tuple(place), against)


def _selected(claim: Claim, cell: PublishedCell) -> bool:
    known = _told(cell)
    return all(known.get(key) in (value if isinstance(value, list) else [value]) for key, value in claim.select.items())


def _told(cell: PublishedCell) -> dict[str, Any]:
    """What can be selected by."""
    plain = (*_Described.model_fields, "block", "label", "column", "method")
    further: dict[str, Any] = json.loads(cell.extra)
    return {key: getattr(cell, key) for key in plain} | further


def _place(cell: PublishedCell, apart: Iterable[str] = ()) -> tuple[object, ...]:
    """What a cell faces, but for the keys in which two sides may differ (an estimate that only one of them is given)."""
    further = {key: value for key, value in json.loads(cell.extra).items() if key not in {"interval", *apart}}
    return cell.dataset, cell.noise, cell.rate, cell.metric, cell.at, json.dumps(further, sort_keys=True)


def _check_hyperparameters(where: str, table: Hyperparameters) -> None:
    flagged: set[int] = set()
    for row in table.rows:
        place = f"{where}, row {row.name!r}"
        if len(row.cells) != len(table.columns):
            raise ResultsError(f"{len(row.cells)} cells under {len(table.columns)} columns", place)
        for column in table.columns:
            known = {"name": row.name, "column": column}
            flagged |= {n for n, flag in enumerate(table.flags) if flag.selects(known, f"{where}.flags[{n}]")}
    _check_flags(where, table.flags, flagged)


def _check_flags(where: str, flags: list[Flag], flagged: set[int]) -> None:
    for number in range(len(flags)):
        if number not in flagged:
            raise ResultsError("a flag means no cell", f"{where}.flags[{number}]", "check its keys and values")
