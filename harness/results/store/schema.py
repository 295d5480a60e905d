"""The tables of the store, and how rows get into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.results.quantities import epoch_columns

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

STORE_SCHEMA = 11

TABLES: dict[str, dict[str, str]] = {
    "trials": {
        "trial": "VARCHAR", "dataset": "VARCHAR", "noise": "VARCHAR", "rate": "DOUBLE", "model": "VARCHAR",
        "loss": "VARCHAR", "transforms": "VARCHAR", "algorithms": "VARCHAR", "seed": "BIGINT", "epochs": "BIGINT",
        "batch_size": "BIGINT", "threads": "BIGINT", "num_classes": "BIGINT", "test_samples": "BIGINT",
        "status": "VARCHAR", "sealed": "BOOLEAN", "attempt": "VARCHAR", "attempts": "BIGINT", "label_digest": "VARCHAR",
        "corrupted": "DOUBLE", "selected_epoch": "BIGINT", "error_type": "VARCHAR", "error": "VARCHAR",
        "traceback": "VARCHAR", "identity": "VARCHAR", "options": "VARCHAR", "histograms": "VARCHAR",
        "transitions": "VARCHAR", "truth_known": "BIGINT", "test_trusted": "BOOLEAN",
    },
    "suite_trials": {
        "suite": "VARCHAR", "digest": "VARCHAR", "newest": "BOOLEAN", "trial": "VARCHAR", "method": "VARCHAR",
        "setting": "VARCHAR", "seed": "BIGINT", "oracle": "BOOLEAN", "estimated": "BOOLEAN", "tuning": "BOOLEAN", "candidate": "VARCHAR",
        "tries": "BIGINT", "search_over": "VARCHAR", "comparable": "BOOLEAN", "method_position": "BIGINT", "setting_position": "BIGINT",
    },
    "attempts": {
        "trial": "VARCHAR", "attempt": "VARCHAR", "number": "BIGINT", "status": "VARCHAR", "host": "VARCHAR",
        "device": "VARCHAR", "device_name": "VARCHAR", "executor": "VARCHAR", "job": "VARCHAR", "started": "DOUBLE",
        "finished": "DOUBLE", "seconds": "DOUBLE", "resumes": "BIGINT", "commit": "VARCHAR", "harness": "VARCHAR",
        "final": "BOOLEAN",
    },
    "epochs": {
        "trial": "VARCHAR", "epoch": "BIGINT", **dict.fromkeys(epoch_columns(), "DOUBLE"),
    },
    "metrics": {"trial": "VARCHAR", "metric": "VARCHAR", "at": "VARCHAR", "value": "DOUBLE"},
    "quantities": {"trial": "VARCHAR", "name": "VARCHAR", "facts": "VARCHAR"},
    "diagnostics": {"trial": "VARCHAR", "epoch": "BIGINT", "name": "VARCHAR", "value": "DOUBLE"},
    "environments": {"trial": "VARCHAR", "attempt": "VARCHAR", "environment": "VARCHAR"},
    "published": {
        "paper": "VARCHAR", "table": "VARCHAR", "page": "BIGINT", "label": "VARCHAR", "method": "VARCHAR",
        "column": "VARCHAR", "dataset": "VARCHAR", "noise": "VARCHAR", "rate": "DOUBLE", "model": "VARCHAR",
        "extra": "VARCHAR", "metric": "VARCHAR", "at": "VARCHAR", "unit": "VARCHAR", "mean": "DOUBLE", "std": "DOUBLE",
        "n": "BIGINT", "flag": "VARCHAR", "decimals": "BIGINT", "comparable": "BOOLEAN", "ordered": "BOOLEAN",
    },
    "claims": {
        "paper": "VARCHAR", "id": "VARCHAR", "page": "BIGINT", "place": "VARCHAR", "says": "VARCHAR", "table": "VARCHAR",
        "kind": "VARCHAR", "unit": "VARCHAR", "value": "DOUBLE", "decimals": "BIGINT", "flag": "VARCHAR",
    },
    "quarantine": {"trial": "VARCHAR", "reason": "VARCHAR"},
    "sources": {"trial": "VARCHAR", "signature": "VARCHAR"},
    "meta": {"key": "VARCHAR", "value": "VARCHAR"},
}  # fmt: skip
VIEWS: dict[str, str] = {"compared": "SELECT * FROM suite_trials WHERE newest AND NOT tuning"}
"""``compared``: the trials that boards, plots and pages are about, those of the newest plan of each suite."""
BY_TRIAL = (
    "trials",
    "attempts",
    "epochs",
    "metrics",
    "quantities",
    "diagnostics",
    "environments",
    "quarantine",
    "sources",
)


class Columns:
    """Rows of a table on their way into a store, column by column; absent keys are null, and others have no column."""

    def __init__(self, table: str) -> None:
        self.kinds = TABLES[table]
        self.count = 0
        self._values: dict[str, list[Any]] = {name: [] for name in self.kinds}

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        count, lists = self.count, self._values
        for name, value in row.items():
            if name in lists:
                known = lists[name]
                if len(known) < count:
                    known.extend([None] * (count - len(known)))
                known.append(value)
        self.count = count + 1

    def extend(self, count: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows, of which ``columns`` holds ``count`` values each."""
        for name, values in columns.items():
            known = self._values.get(name)
            if known is not None:
                known.extend([None] * (self.count - len(known)))
                known.extend(values)
        self.count += count

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table with the columns of the store's."""
        import pyarrow as pa

        self.extend(0, dict.fromkeys(self.kinds, ()))
        kinds = {"VARCHAR": pa.string(), "DOUBLE": pa.float64(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
        return pa.table({name: pa.array(self._values[name], type=kinds[kind]) for name, kind in self.kinds.items()})


Rows = dict[str, Columns]


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Every table and view of a store, empty."""
    for table, columns in TABLES.items():
        spelled = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        connection.execute(f"CREATE TABLE {table} ({spelled})")
    for view, query in VIEWS.items():
        connection.execute(f"CREATE VIEW {view} AS {query}")


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows by one columnar transfer; absent keys are null."""
    columns = Columns(table)
    for row in rows:
        columns.append(row)
    transfer(connection, table, columns.to_arrow())


def transfer(connection: duckdb.DuckDBPyConnection, table: str, arrow: pa.Table) -> None:
    if not len(arrow):
        return
    connection.register("incoming", arrow)
    connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")
    connection.unregister("incoming")


def count_rows(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows by table."""
    tables = [table for table in TABLES if table != "meta"]
    words = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in tables)
    return dict(connection.execute(words).fetchall())
