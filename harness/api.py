"""The Python interface: ``harness.create``, ``plan``, ``run``, ``open_store``, ``board`` and ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError
from harness.plugins import load_host

if TYPE_CHECKING:
    import duckdb
    import pandas

    from harness.suite.load import Suite
    from harness.suite.plan import Plan


def create(kind: str, name: str, /, **params: Any) -> Any:
    """Make any component by kind and name.

    Args:
        kind: ``dataset``, ``noise``, ``model``, ``transform``, ``loss``, ``algorithm``, ``estimator``, ``detector`` or
            ``executor``.
        name: its registered name, such as ``gce`` or ``timm:resnet18``.
        params: its parameters, arrays and tensors for lists; a model also takes ``input_shape=(C, H, W)`` and
            ``num_outputs=K``.

    Raises:
        HarnessError: for an unknown name or a bad parameter.
    """
    context = {
        key: params.pop(key)
        for key in ("input_shape", "num_outputs", "vocabulary")
        if kind == "model" and key in params
    }
    if "input_shape" in context:
        context["input_shape"] = tuple(context["input_shape"])
    registry = load_host().registry
    plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in params.items()}
    made = registry.create(kind, name, plain, **context)
    registry.save_cache()
    return made


def plan(suite: Suite | str | Path, results: str | Path = "results", select: Sequence[str] = ()) -> Plan:
    """The trials of a suite with their status.

    Args:
        suite: a loaded suite, or the path of one.
        results: the results folder; it need not exist.
        select: selections such as ``method=CDR*,noise.rate=0.4``.
    """
    from harness.results.records import open_results
    from harness.suite.load import Suite, load_suite
    from harness.suite.plan import make_plan

    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    return make_plan(loaded, open_results(results, create=False), select)


def run(
    suite: Suite | str | Path,
    results: str | Path = "results",
    executor: str = "inline",
    *,
    select: Sequence[str] = (),
    **options: Any,
) -> Plan:
    """Run what is missing of a suite, collect, and return the plan as it then stands.

    Args:
        suite: a loaded suite, or the path of one.
        results: the results folder.
        executor: ``inline``, ``local`` or any registered one.
        select: selections such as ``method=CDR*,noise.rate=0.4``.
        options: the executor's parameters, over the suite's table of its name.
    """
    from harness.execution.orchestrate import Orchestrator
    from harness.results.records import open_results
    from harness.suite.load import Suite, load_suite

    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    return Orchestrator(loaded, open_results(results), executor, options, select).run()


def open_store(results: str | Path = "results") -> duckdb.DuckDBPyConnection:
    """A read-only DuckDB connection to the newest snapshot of a results folder, opened through its real path.

    Raises:
        ResultsError: when nothing has been collected there.
    """
    from harness.results.store import connect, current_snapshot

    snapshot = current_snapshot(Path(results))
    if snapshot is None:
        raise ResultsError("nothing has been collected here", str(results), "run a suite, or `harness collect`")
    return connect(snapshot)


def board(results: str | Path = "results", suite: str | None = None, metric: str = "last") -> pandas.DataFrame:
    """The board of a suite as a data frame: a row for each method and setting, the best first, as ``harness export`` has it.

    Args:
        results: the results folder.
        suite: its name; may be left out when the store holds one.
        metric: ``last``, ``best``, ``accuracy@selected``, ...

    Returns:
        Columns ``method``, ``setting``, ``rank``, ``mean``, ``std``, ``n``, ``values``, ``test_trusted`` and others; its
        ``attrs["caution"]`` says what a reader must know.
    """
    import pandas

    from harness.results.report import read_board, with_ties
    from harness.results.report.export import rows

    with open_store(results) as connection:
        found = with_ties(read_board(connection, suite, metric))
    frame = pandas.DataFrame(rows(found))
    frame.attrs["caution"] = found.caution
    return frame


def compare(
    X: Any,
    y: Any,
    methods: Sequence[str] = (),
    seeds: int = 3,
    *,
    test: tuple[Any, Any] | None = None,
    trusted: bool = False,
    clean: Any = None,
    results: str | Path = "results",
    name: str = "",
    executor: str = "inline",
    **options: Any,
) -> pandas.DataFrame:
    """Compare methods on data of your own, whose labels may be wrong; a second call trains only what is missing.

    Args:
        X: (N, D) numbers or (N, H, W[, C]) uint8 images as an array or a tensor, a data frame of columns, a Hugging Face data
            set, or N texts.
        y: N labels, words or numbers; or the name of X's column of labels.
        methods: losses and algorithms by name; the usual ones without.
        seeds: how many.
        test: inputs and labels to measure on, like X and y; without them a stratified fifth is held out, the same each time.
        trusted: whether the test labels are known to be right; the board says so.
        clean: N true labels, ``None`` where nobody knows one: what needs the truth is measured on these.
        results: the results folder; the data are kept in its folder ``data``.
        name: of the suite; made of the data's content without.
        executor: ``inline``, ``local`` or any registered one.
        options: of the executor.

    Returns:
        :func:`board` of the suite.

    Raises:
        HarnessError: for data that do not fit, and for an unknown method.
    """
    suite = _suite_of(X, y, methods, seeds, test=test, trusted=trusted, clean=clean, results=results, name=name)
    run(suite, results, executor, **options)
    return board(results, suite.name)


def suspects(
    X: Any,
    y: Any,
    methods: Sequence[str] = (),
    seeds: int = 1,
    *,
    folds: int = 5,
    clean: Any = None,
    results: str | Path = "results",
    name: str = "",
) -> pandas.DataFrame:
    """Which labels of data of your own seem to be wrong, the most suspicious first.

    Every sample is judged by networks that have not seen it: each method and seed is trained once for each fold.

    Args:
        X, y, methods, seeds, clean, results, name: as in :func:`compare`.
        folds: parts of the training data.

    Returns:
        A row for each sample: ``id`` (its row, from 1), ``given``, ``suggested``, ``score`` (higher is more suspicious),
        ``p_wrong`` (a calibrated probability, where 20 true labels or more are known), and how many ``seeds`` and
        ``methods`` expect another class.
    """
    import dataclasses

    import pandas

    from harness.execution.suspects import find_suspects
    from harness.results.records import open_results
    from harness.results.suspects import COLUMNS

    suite = _suite_of(X, y, methods, seeds, clean=clean, results=results, name=name)
    found = find_suspects(suite, open_results(results), folds=folds)
    return pandas.DataFrame([dataclasses.asdict(one) for one in found], columns=list(COLUMNS))


def _suite_of(
    X: Any,
    y: Any,
    methods: Sequence[str],
    seeds: int,
    *,
    results: str | Path,
    name: str,
    test: tuple[Any, Any] | None = None,
    trusted: bool = False,
    clean: Any = None,
) -> Suite:
    """A suite for data that are handed over, which are kept in the results folder."""
    from harness.results.records import open_results
    from harness.suite.arrays import keep
    from harness.suite.load import load_suite
    from harness.suite.starting import start_suite

    kind, file = keep(open_results(results) / "data", X, y, test=test, clean=clean)
    called = name or file.stem
    data = {"file": str(file.absolute()), **({"trusted": True} if trusted else {})}
    path = file.with_name(f"{called}.toml")
    path.write_text(start_suite(kind, data, called, tuple(methods), seeds), encoding="utf-8")
    return load_suite(path)
