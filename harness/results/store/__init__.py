"""The store: immutable DuckDB snapshots built from records by the collector.

DuckDB allows one writing process or many readers, never both, so nobody opens a snapshot for writing once it has its
name: the collector copies the newest one, brings it up to date under a temporary name, renames it to its digest and
swaps the link ``current``. Readers open the real path read-only and reopen when the link has moved.
"""

from harness.results.store.collect import collect as collect
from harness.results.store.collect import current_snapshot as current_snapshot
from harness.results.store.schema import STORE_SCHEMA as STORE_SCHEMA
from harness.results.store.schema import TABLES as TABLES
from harness.results.store.schema import VIEWS as VIEWS
from harness.results.store.schema import create_tables as create_tables
from harness.results.store.schema import insert as insert
from harness.results.store.snapshot import connect as connect
from harness.results.store.snapshot import is_whole as is_whole
from harness.results.store.snapshot import odd_trials as odd_trials
