"""Planning for SLURM without a SLURM: packing, array ids, resources, batches, and what a batch carries."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from harness_slurm import batches, parcel, scheduler
from harness_slurm.diagnosis import read_partitions, suggestion
from harness_slurm.executor import Slurm, check_shared
from harness_slurm.packing import Item, pack
from harness_slurm.resources import Resources
from harness_slurm.waiting import _status
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.results.records import claim, read_trial
from harness.trial import Trial, canonical, digest, seeded

items_strategy = st.lists(st.floats(0.1, 1000), min_size=1, max_size=300).map(
    lambda costs: [Item(str(n), cost, str(n % 3)) for n, cost in enumerate(costs)]
)


@given(items_strategy, st.integers(1, 20))
def test_every_trial_is_in_one_job_and_there_are_no_more_jobs_than_needed(items: list[Item], per_job: int) -> None:
    jobs = pack(items, per_job)
    assert sorted(item.id for job in jobs for item in job) == sorted(item.id for item in items)
    assert max(map(len, jobs)) <= per_job
    assert len(jobs) == math.ceil(len(items) / per_job)


@given(items_strategy, st.integers(1, 20), st.floats(10, 5000))
def test_no_job_is_more_than_the_largest_trial_over_the_wanted_length(
    items: list[Item], per_job: int, longest: float
) -> None:
    for job in pack(items, per_job, longest):
        total = sum(item.cost for item in job)
        assert total <= longest + max(item.cost for item in items) + 1e-6


def test_early_jobs_hold_early_seeds() -> None:
    seeds = {str(n): n // 100 for n in range(1000)}  # 100 cells, seeds outermost
    jobs = pack([Item(str(n), 1.0 + n % 7) for n in range(1000)], 5)
    inside = [{seeds[item.id] for item in job} for job in jobs]
    assert inside[:16] == [{0}] * 16
    assert all(max(mixed) - min(mixed) <= 1 for mixed in inside)
    assert [min(mixed) for mixed in inside] == sorted(min(mixed) for mixed in inside)


def test_costs_are_shared_out_evenly() -> None:
    costs = [100.0, 1.0, 1.0, 1.0, 50.0, 50.0, 1.0, 1.0]
    loads = [sum(item.cost for item in job) for job in pack([Item(str(n), c) for n, c in enumerate(costs)], 4)]
    assert sorted(loads) == [102.0, 103.0]


def test_trials_of_one_data_set_follow_each_other_within_a_job() -> None:
    (job,) = pack([Item(str(n), 1.0, "ab"[n % 2]) for n in range(8)], 8)
    assert [item.affinity for item in job] == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[0-2,5%4]", ["12_0", "12_1", "12_2", "12_5"]),
        ("12_[4]", ["12_4"]),
        ("12_[0-6:3]", ["12_0", "12_3", "12_6"]),
    ],
)
def test_waiting_tasks_of_an_array_are_told_one_by_one(text: str, ids: list[str]) -> None:
    rows = list(scheduler.parse_queue(f"{text}|PENDING||Resources|gpu|0:00\n"))
    assert [row.id for row in rows] == ids
    assert rows[0].reason == "Resources"


@given(st.sets(st.integers(0, 500), min_size=1))
def test_compressed_indices_expand_to_themselves(indices: set[int]) -> None:
    expanded = scheduler.expand(f"7_[{scheduler.compress(indices)}]")
    assert expanded == [f"7_{index}" for index in sorted(indices)]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "sbatch: error: invalid partition specified: gpuu\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "invalid partition specified: gpuu; Invalid partition name specified",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "Invalid qos specification"),
        ("", "no error message was given"),
    ],
)
def test_slurms_own_words_are_shortened(message: str, words: str) -> None:
    assert scheduler.shorten(message) == words


def test_a_job_asks_for_what_recorded_times_suggest_and_at_most_its_limit() -> None:
    resources = Resources(timeout_min=120)
    assert resources.limit(None) == 120
    assert resources.limit(30.0) == 15
    assert resources.limit(600.0) == 30
    assert resources.limit(1e6) == 120


def test_every_key_of_submitit_is_reachable() -> None:
    made = Slurm(slurm_exclude="n7", slurm_additional_parameters={"licenses": "x"}, nodes=1, slurm_signal_delay_s=30)
    parameters = made.resources.parameters("name", 60, 4)
    assert parameters["slurm_exclude"] == "n7"
    assert parameters["slurm_additional_parameters"] == {"licenses": "x"}
    assert parameters["slurm_signal_delay_s"] == 30
    assert parameters["nodes"] == 1
    from submitit import SlurmExecutor

    for name in SlurmExecutor._valid_parameters():
        Resources(additional={f"slurm_{name}": 1}).check()


def test_a_results_folder_that_nodes_do_not_see_is_refused(tmp_path: Path) -> None:
    check_shared(tmp_path, {"127.0.0.1", "localhost"})
    check_shared(Path("/home/somebody/results"), {"node7"})
    with pytest.raises(HarnessError, match=r"the nodes \(node7 \.\.\.\) do not see it"):
        check_shared(Path("/tmp/results"), {"node7"})


def test_without_slurm_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HarnessError, match=r"`sbatch` is not on PATH; run on a login node, or use --executor local"):
        Slurm().submit(["0" * 16], tmp_path)


def test_submitters_take_turns_and_an_empty_batch_leaves_nothing(tmp_path: Path) -> None:
    inside = 0
    most = 0

    def submit() -> None:
        nonlocal inside, most
        with batches.submitting(tmp_path) as batch:
            inside += 1
            most = max(most, inside)
            (batch / "jobs.json").write_text(json.dumps({"jobs": []}))
            inside -= 1

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(batches.batches(tmp_path)) == 4
    with batches.submitting(tmp_path):
        pass
    assert len(batches.batches(tmp_path)) == 4


def test_the_batch_of_a_submitter_that_died_holds_nobody_up(tmp_path: Path) -> None:
    dead = tmp_path / "slurm" / "batch-0001"
    dead.mkdir(parents=True)
    (dead / "claim.json").write_text(json.dumps({"boot": "another machine", "pid": 1, "started": 0.0}))
    with batches.submitting(tmp_path, patience_s=1.0) as batch:
        assert batch.name == "batch-0002"


def test_a_cancelled_trial_counts_as_cancelled_until_it_is_submitted_again(tmp_path: Path) -> None:
    def batch(number: int, **files: Any) -> None:
        folder = tmp_path / "slurm" / f"batch-{number:04d}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))

    batch(1, jobs={"jobs": [{"job": "1_0", "trials": ["a", "b"]}]}, cancelled=["a", "b"])
    assert batches.cancelled(tmp_path) == {"a", "b"}
    batch(2, jobs={"jobs": [{"job": "2", "trials": ["a"]}]})
    assert batches.cancelled(tmp_path) == {"b"}


values = st.integers() | st.text('ab "\\é', max_size=5) | st.lists(st.floats(-1e9, 1e9), max_size=3)
identities = st.dictionaries(st.sampled_from(["schema", "dataset", "subset", "model", "zeta"]), st.none() | values)


@given(identities, st.integers(0, 10**9))
def test_the_id_made_from_the_words_around_the_seed_is_the_hash_of_all_words(
    identity: dict[str, Any], seed: int
) -> None:
    trial = seeded(identity, {})(seed)
    assert trial.id == digest({**identity, "seed": seed}) == Trial({**identity, "seed": seed}, {}).id
    assert canonical(trial.identity) == canonical({**identity, "seed": seed})


PART = {"name": "a", "version": "1", "params": {}}
WHOLE = {
    **dict.fromkeys(("dataset", "noise", "model", "loss"), PART), "transforms": [], "algorithms": [PART],
    "training": {"epochs": 1},
}  # fmt: skip
"""What the words of every trial hold."""


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries({"zeta": values, "subset": st.none() | values}),
            st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
        ),
        max_size=4,
    )
)
def test_a_batch_carries_its_trials(tmp_path_factory: pytest.TempPathFactory, groups: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("batch")
    trials = {
        trial.id: trial
        for number, (identity, seeds) in enumerate(groups)
        for make in [seeded({**WHOLE, **identity}, {"number": number})]
        for trial in map(make, seeds)
    }
    parcel.write(folder, trials.values())
    parcel.unpack(folder, list(trials), folder)
    for trial in trials.values():
        found = read_trial(folder, trial.id)
        assert found.identity == trial.identity
        assert found.options == trial.options


SINFO = """\
cpu*|up|1-00:00:00|10|64|256000|(null)
gpu|up|2:00:00|4|32+|512000+|gpu:a100:4(S:0-1),gpu:v100:2
old|down|infinite|1|8|16000|gpu:2
"""


def test_partitions_are_read_as_sinfo_tells_them() -> None:
    cpu, gpu, old = read_partitions(SINFO)
    assert (cpu.name, cpu.default, cpu.minutes, cpu.gpus) == ("cpu", True, 1440, [])
    assert (gpu.cpus, gpu.minutes, gpu.gpus) == (32, 120, [("a100", 4), ("v100", 2)])
    assert (old.up, old.minutes, old.gpus) == (False, None, [("", 2)])
    assert suggestion([cpu, gpu, old])[1:4] == ['partition = "gpu"', "gpus_per_node = 1", "cpus_per_task = 5"]


def test_a_waiting_run_learns_that_a_rerun_has_failed(tmp_path: Path) -> None:
    error = {"type": "E", "message": "m", "traceback": ""}
    first = claim(tmp_path, "t")
    assert first is not None
    first.finish({"status": "done", "metrics": {}, "error": None}, {"loss:ce": "aaaa"})
    again = claim(tmp_path, "t", rerun=True)
    assert again is not None
    batch = tmp_path / "batch"
    batch.mkdir()
    (batch / "jobs.json").write_text(json.dumps({"rerun": {"t": "attempt-001"}}))
    placed = {"t": (batch, "1_0")}
    assert _status(tmp_path, "t", frozenset(["t"]), placed) == "running"
    again.finish({"status": "failed", "metrics": {}, "error": error}, {"loss:ce": "bbbb"})
    assert _status(tmp_path, "t", frozenset(["t"]), placed) == "failed"
