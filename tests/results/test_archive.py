"""Packed records: they come back as they were, and nothing that is not a record gets out of the file."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import harness
from harness.errors import ResultsError
from harness.results.records import known_trials
from harness.results.records.archive import pack, reference_files, unpack
from harness.results.report import read_board
from harness.results.store import collect

SUITE = """
[suite]
name = "group/packed"
seeds = [0, 1]
[training]
epochs = 2
[[setting]]
dataset = "digits"
model = "linear"
noise = { name = "symmetric", rate = 0.4 }
[[method]]
name = "CE"
[[method]]
name = "broken"
optimizer = { lr = 1e30 }
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    (folder / "suite.toml").write_text(SUITE)
    harness.run(folder / "suite.toml", folder / "results")
    return folder / "results"


def boards(folder):
    collect(folder)
    with harness.open_store(folder) as connection:
        board = read_board(connection, "group/packed", "last")
    return [(row.method, setting, cell.values) for row in board.rows for setting, cell in row.cells.items()]


def test_what_is_packed_comes_back_as_it_was(results, tmp_path):
    packed = pack(results, tmp_path / "packed.parquet")
    taken, kept = unpack(tmp_path / "packed.parquet", tmp_path / "other")
    assert (packed, taken, kept) == (4, 4, 0)
    assert boards(tmp_path / "other") == boards(results)
    for trial in known_trials(results):
        for name in ("result.json", "epochs.jsonl", "timing.jsonl", "trial.json"):
            path = f"trials/{trial}/attempt-001/{name}"
            assert (tmp_path / "other" / path).read_bytes() == (results / path).read_bytes()
    again = unpack(tmp_path / "packed.parquet", tmp_path / "other")
    assert again == (0, 4)
    assert not list((tmp_path / "other").glob(".unpacking*"))


def test_neither_host_nor_log_goes_into_the_file(results, tmp_path):
    pack(results, tmp_path / "packed.parquet")
    rows = dict(zip(*(column.to_pylist() for column in pq.read_table(tmp_path / "packed.parquet")), strict=True))
    environments = [json.loads(text) for path, text in rows.items() if path.endswith("environment.json")]
    assert environments and all("host" not in found and "versions" in found for found in environments)
    assert not any(path.endswith(("log.txt", ".pt", "claim.json")) for path in rows)


@pytest.mark.parametrize(
    "path",
    ["../escape.json", "trials/0123456789abcdef/../../x.json", "/etc/passwd", "trials/0123456789abcdef/log.txt",
     "suites/../0123456789abcdef.json", "trials/0123456789abcdef/attempt-001/checkpoint.pt"],
)  # fmt: skip
def test_a_row_that_is_no_record_is_refused(tmp_path, path):
    pq.write_table(pa.table({"path": [path], "text": ["{}"]}), tmp_path / "bad.parquet")
    with pytest.raises(ResultsError, match="no record"):
        unpack(tmp_path / "bad.parquet", tmp_path / "results")
    assert not known_trials(tmp_path / "results")


def test_a_trial_whose_id_is_not_the_hash_of_its_words_is_refused(results, tmp_path):
    pack(results, tmp_path / "packed.parquet")
    table = pq.read_table(tmp_path / "packed.parquet")
    forged = [text.replace('"digits"', '"mnist"') for text in table["text"].to_pylist()]
    pq.write_table(pa.table({"path": table["path"], "text": forged}), tmp_path / "forged.parquet")
    with pytest.raises(ResultsError, match="not what its id says"):
        unpack(tmp_path / "forged.parquet", tmp_path / "other")
    assert not known_trials(tmp_path / "other")


@pytest.mark.parametrize("content", [None, b"", b"not parquet"])
def test_a_file_that_is_no_archive_gets_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        unpack(tmp_path / "x.parquet", tmp_path / "results")
    assert "\n" not in str(caught.value)


def test_nothing_finished_or_no_such_suite_is_said(results, tmp_path):
    with pytest.raises(ResultsError, match="no finished trial"):
        pack(tmp_path, tmp_path / "x.parquet")
    with pytest.raises(ResultsError, match="no suite 'other'"):
        pack(results, tmp_path / "x.parquet", ["other"])


@pytest.mark.parametrize("file", reference_files(), ids=lambda file: file.stem)
def test_every_reference_file_holds_done_trials_with_their_provenance(file, tmp_path):
    unpack(file, tmp_path / "results")
    collect(tmp_path / "results")
    with harness.open_store(tmp_path / "results") as connection:
        rows = connection.execute(
            "SELECT t.status, a.commit, a.harness, a.started FROM trials t JOIN attempts a USING (trial) WHERE a.final"
        ).fetchall()
    assert rows
    assert all(status == "done" and commit and version and started for status, commit, version, started in rows)
