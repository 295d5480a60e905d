"""The Python interface: ``harness.create``, ``plan``, ``run`` and ``open_store``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ResultsError
from harness.plugins import load_host

if TYPE_CHECKING:
    import duckdb

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
