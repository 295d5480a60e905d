"""Trackers of others, as single-file plugins: the real packages, without a network, hold what the records hold."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.results.records import read_lines
from harness.suite.load import load_suite

TRACKERS = Path(harness.__file__).parents[1] / "examples" / "trackers"
Write = Callable[..., Path]


def tracked(write_suite: Write, tmp_path: Path, tracker: str, **environment: str) -> tuple[str, list[dict[str, Any]]]:
    """The id of a trial that ran under a tracker, and its epochs."""
    path = write_suite(epochs=2)
    command = [
        sys.executable,
        "-m",
        "harness.cli.main",
        "run",
        path,
        "--results",
        tmp_path / "r",
        "--executor",
        "inline",
    ]
    done = subprocess.run(
        [*map(str, command), "--plugin", str(TRACKERS / f"{tracker}_tracker.py")],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (trial,) = (tmp_path / "r" / "trials").iterdir()
    log = (trial / "attempt-001" / "log.txt").read_text()
    assert "raised" not in log, log
    return trial.name, read_lines(trial / "attempt-001" / "epochs.jsonl")


@pytest.mark.slow
def test_tensorboard_has_the_epochs_of_a_trial(write_suite: Write, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed here")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trial, epochs = tracked(write_suite, tmp_path, "tensorboard", TENSORBOARD_DIR=str(tmp_path / "runs"))
    found = EventAccumulator(str(tmp_path / "runs" / trial)).Reload()
    scalars = [(event.step, event.value) for event in found.Scalars("test_accuracy")]
    assert scalars == [(line["epoch"], pytest.approx(line["test_accuracy"])) for line in epochs]


@pytest.mark.slow
def test_weights_and_biases_has_a_run_of_the_trials_id(write_suite: Write, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed here")
    trial, epochs = tracked(
        write_suite, tmp_path, "wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path), WANDB_SILENT="true"
    )
    (file,) = (tmp_path / "wandb").glob(f"offline-run-*-{trial}/run-{trial}.wandb")
    assert history(file.read_bytes()) == [(line["epoch"], line["test_accuracy"]) for line in epochs]


def history(raw: bytes) -> list[tuple[int, float]]:
    """Steps and test accuracies of a run's file: a header of 7 bytes, then LevelDB's log of protocol buffers."""
    from wandb.proto import wandb_internal_pb2 as buffers

    found, at, record = [], 7, b""
    while at + 7 <= len(raw):
        if 32768 - at % 32768 < 7:  # what is left of a block is padding
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", raw, at + 4)
        record += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            told = buffers.Record.FromString(record)
            record = b""
            if told.WhichOneof("record_type") == "history":
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in told.history.item}
                found.append((told.history.step.num, items["test_accuracy"]))
    return found


@pytest.mark.slow
def test_mlflow_has_the_epochs_of_an_attempt(write_suite: Write, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed here")
    place = {"MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    trial, epochs = tracked(write_suite, tmp_path, "mlflow", **place)
    read = (
        "import json, mlflow\nclient = mlflow.MlflowClient()\n"
        "(run,) = client.search_runs([client.get_experiment_by_name('noisy-labels').experiment_id])\n"
        "print(json.dumps([run.info.run_name, run.info.status, "
        "[[m.step, m.value] for m in client.get_metric_history(run.info.run_id, 'test_accuracy')]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", read], env={**os.environ, **place}, capture_output=True, text=True, check=True
    )
    told = [[line["epoch"], line["test_accuracy"]] for line in epochs]
    assert json.loads(done.stdout.splitlines()[-1]) == [trial, "FINISHED", told]


def test_what_a_tracker_draws_changes_no_result(write_suite: Write, tmp_path: Path) -> None:
    drawing = tmp_path / "drawing.py"
    drawing.write_text(
        "import random\nimport numpy as np\nimport torch\nfrom harness import hookimpl\nSEEN = []\n"
        "@hookimpl\ndef harness_epoch_end(trial, record):\n    SEEN.append(record['epoch'])\n"
        "    random.random(), np.random.rand(), torch.rand(1)\n    raise ValueError('of the tracker')\n"
    )
    path = write_suite(epochs=3)
    plain = harness.run(path, tmp_path / "plain")
    watched = harness.run(load_suite(path, plugins=[drawing]), tmp_path / "watched")
    assert plain.counts()["done"] == watched.counts()["done"] == 1
    (one,), (other,) = ((tmp_path / name / "trials").iterdir() for name in ("plain", "watched"))
    assert one.name == other.name
    for file in ("epochs.jsonl",):
        assert (one / "attempt-001" / file).read_bytes() == (other / "attempt-001" / file).read_bytes()
    log = (other / "attempt-001" / "log.txt").read_text()
    assert log.count("harness_epoch_end raised ValueError: of the tracker") == 3
