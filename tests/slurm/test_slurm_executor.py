"""The SLURM executor on a real cluster: the same results as inline, whatever happens to the jobs."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from lab import SUITE, Faults, Lab, eventually, finish, harness

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of all metrics of an undisturbed run in one process."""
    lab = Lab(tmp_path_factory.mktemp("inline"))
    finish(lab.start("--executor", "inline"))
    lab.check(trials=6)
    return lab.digest()


@pytest.fixture
def lab(tmp_path: Path, slurm_cluster: Any) -> Lab:
    return Lab(tmp_path)


def test_a_grid_through_slurm_gives_the_very_results_of_one_process(lab: Lab, undisturbed: str) -> None:
    out = finish(lab.start("--executor", "slurm", "--wait"))
    assert "queued 6 trials as 3 jobs" in out
    assert "all 6 trials are done" in out
    lab.check(trials=6)
    assert lab.digest() == undisturbed


def test_the_record_says_where_and_as_what_a_trial_ran(lab: Lab) -> None:
    finish(lab.start("--executor", "slurm", "--wait", "--slurm", "trials_per_job=3", "--slurm", "trials_per_gpu=3"))
    facts = lab.environments()
    assert {e["executor"] for e in facts} == {"slurm"}
    assert {e["array_index"] for e in facts} == {0, 1}
    for e in facts:
        assert e["job"] == f"{e['array_job']}_{e['array_index']}"
        assert e["node"] in ("n1", "n2")
        assert e["partition"] == "test"
        assert 0 < e["queue_seconds"] < 300
        assert (e["attempt"], e["requeues"], e["restarts"]) == (1, 0, 0)
        assert e["code"] == e["code_at_submission"] or e["warnings"]
    assert {e["worker"] for e in facts} == {0, 1, 2}


@pytest.mark.parametrize("fault", Faults.NAMES)
def test_a_fault_in_mid_run_costs_time_and_nothing_else(
    fault: str, lab: Lab, undisturbed: str, slurm_cluster: Any
) -> None:
    requeued = fault in ("usr2", "preemption")
    run = lab.start("--executor", "slurm", "--wait", slow_s=0.15 if requeued else 0.05)  # so that some still run then
    eventually(lambda: lab.epochs() >= 2, 120)
    Faults(slurm_cluster, random.Random(0)).happen(fault, lab)
    finish(run, 300)
    lab.check(trials=6)
    assert lab.digest() == undisturbed
    if requeued:
        resumed = [e for e in lab.environments() if e["requeues"]]
        assert resumed
        assert any(e.get("resumed_from", {}).get("epoch", 0) >= 1 for e in resumed)


def test_a_trial_longer_than_its_jobs_limit_finishes_over_several_requeues(lab: Lab, slurm_cluster: Any) -> None:
    """SLURM counts minutes; the signal that comes before the limit is sent here every few seconds instead."""
    select = "--select", "method=SOP,seed=0"
    run = lab.start("--executor", "slurm", "--wait", *select, slow_s=0.3)
    jobs = 0
    while run.poll() is None and jobs < 5:  # more often than submitit's default of three allows
        before = lab.epochs()
        eventually(lambda before=before: run.poll() is not None or lab.epochs() > before, 120)
        time.sleep(0.5)
        if run.poll() is None:
            Faults(slurm_cluster, random.Random(0)).usr2(lab)
        jobs += 1
    finish(run, 300)
    lab.check(trials=1)
    assert max(e["requeues"] for e in lab.environments()) >= 4


def test_submit_leave_and_come_back(lab: Lab, undisturbed: str) -> None:
    out = finish(lab.start("--executor", "slurm", slow_s=0.1))
    assert "submitted; `harness status" in out
    told = json.loads(lab.call("status", "--json"))
    assert told["counts"]["queued"] + told["counts"]["running"] == 6
    again = finish(lab.start("--executor", "slurm"))
    assert "queued 6 trials" not in again, "what is queued is not queued twice"
    running = eventually(lambda: [t for t in json.loads(lab.call("status", "--json"))["trials"] if t["epoch"]], 120)
    assert running[0]["status"] == "running"
    assert running[0]["job"]
    log = finish(harness("logs", running[0]["id"], "--follow", cwd=lab.folder))
    assert "epoch 6" in log
    eventually(lambda: json.loads(lab.call("status", "--json"))["counts"]["done"] == 6, 200)
    finish(harness("collect", cwd=lab.folder))
    assert "RRM+FGSM" in finish(harness("board", cwd=lab.folder))
    lab.check(trials=6)
    assert lab.digest() == undisturbed


def test_two_runs_at_the_same_moment_run_no_trial_twice(lab: Lab, undisturbed: str) -> None:
    runs = [lab.start("--executor", "slurm", "--wait", slow_s=0.02) for _ in range(2)]
    said = "".join(finish(run) for run in runs)
    assert said.count("queued 6 trials as 3 jobs") == 1
    lab.check(trials=6)
    assert len(list(lab.results.glob("trials/*/attempt-*"))) == 6
    assert lab.digest() == undisturbed


def test_cancelled_trials_stop_with_checkpoints_and_go_on_at_the_next_run(
    lab: Lab, undisturbed: str, slurm_cluster: Any
) -> None:
    finish(lab.start("--executor", "slurm", slow_s=0.2))
    eventually(lambda: lab.epochs() >= 1, 120)
    lab.call("cancel", "--yes")
    eventually(lambda: not slurm_cluster.client("squeue", "--noheader"), 60)
    told = json.loads(lab.call("status", "--json"))
    assert told["counts"]["running"] == told["counts"]["queued"] == 0
    # who is told to stop lets go of its trial, which then is missing; who cannot is lost
    assert told["counts"]["missing"] + told["counts"]["lost"] >= 1
    finish(lab.start("--executor", "slurm", "--wait"))
    lab.check(trials=6)
    assert lab.digest() == undisturbed


def test_settings_and_methods_may_ask_for_resources_of_their_own(lab: Lab) -> None:
    suite = SUITE.replace('name = "SOP"', 'name = "SOP"\nslurm = { cpus_per_task = 3, trials_per_job = 1 }')
    lab = Lab(lab.folder, suite)
    (lab.folder / "site.toml").write_text('[slurm]\nmem_gb = 1\npartition = "elsewhere"\n')
    out = finish(lab.start("--executor", "slurm", "--dry-run", "--cluster-profile", "site.toml"))
    assert "6 trials would be submitted as 4 jobs" in out
    assert "2 jobs, 2 trials: test, 1 GPU, 3 CPUs, 1 GB, 60 min" in out
    assert "2 jobs, 4 trials: test, 1 GPU, 1 CPU, 1 GB, 60 min" in out
    forced = finish(lab.start("--executor", "slurm", "--dry-run", "--slurm", "cpus_per_task=2"))
    assert "3 CPUs" not in forced
    assert not lab.results.exists(), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["partition=nowhere"], "slurm.partition: SLURM refuses: invalid partition specified: nowhere"),
        (["gpus_per_node=7"], "cpus_per_task or mem_gb: SLURM refuses: Requested node configuration"),
        (["timeout_min=3"], "timeout_min: 3 min are too short for one checkpoint interval"),
        (["gpus_per_node=0", "trials_per_gpu=4"], "trials_per_gpu: 4 trials share a GPU, but the job asks for none"),
        (["partitoin=test"], "unknown key 'partitoin' (did you mean 'partition'?)"),
        (["slurm_acount=x"], "unknown key 'slurm_acount' (did you mean 'slurm_account'?)"),
        (["mem_gb=-1"], "mem_gb: should be greater than 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(lab: Lab, options: list[str], said: str) -> None:
    suite = SUITE.replace("checkpoint_epochs = 1", "checkpoint_minutes = 5.0")
    lab = Lab(lab.folder, suite)
    run = lab.start("--executor", "slurm", *(part for option in options for part in ("--slurm", option)))
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 2
    lines = [line for line in out.splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1
    assert "Traceback" not in out
    assert said in lines[0]
    assert not list(lab.results.glob("slurm/batch-*")), "nothing is left of a refused submission"


def test_the_doctor_tells_what_the_cluster_has(lab: Lab) -> None:
    lab.results.mkdir()
    out = finish(harness("doctor", cwd=lab.folder))
    assert "partition test (default): 2 nodes with 8 CPUs" in out
    assert "2 x GPU" in out
    assert "accounting not kept" in out
    assert "a node can write to" in out
    assert 'partition = "test"' in out


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_everything_at_once_at_random(seed: int, lab: Lab, undisturbed: str, slurm_cluster: Any) -> None:
    rng = random.Random(seed)
    faults = Faults(slurm_cluster, rng)
    run = lab.start("--executor", "slurm", "--wait", slow_s=0.6)
    eventually(lambda: lab.epochs() >= 1, 120)
    happened = []
    for fault in rng.sample(Faults.NAMES, len(Faults.NAMES)):
        time.sleep(rng.uniform(0, 6))
        if run.poll() is not None:
            break
        faults.happen(fault, lab)
        happened.append(fault)
    finish(run, 900)
    print(f"seed {seed}: {', '.join(happened)}; {len(lab.environments())} attempts")
    lab.check(trials=6)
    assert lab.digest() == undisturbed
