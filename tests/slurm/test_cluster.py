"""The one-machine SLURM does what the executor's tests rely on: GPUs, signals, preemption, faults and a clean end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import psutil
import pytest
import submitit
from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import SlurmInfoWatcher

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]

# Jobs cannot import this file, so what they run of it travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SACCT = ("sacct", "-o", "JobID,State,NodeList", "--parsable2")  # word for word what submitit asks


class Counting:
    """A job that counts for ever when new, and three further when resumed from its checkpoint."""

    def __init__(self, log: Path, count: int = 0) -> None:
        self.log = log
        self.count = count

    def __call__(self) -> tuple[int, int]:
        resumed_at = self.count
        while not resumed_at or self.count < resumed_at + 3:
            self.count += 1
            self.log.write_text(str(self.count))
            time.sleep(0.1)
        return resumed_at, self.count

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(Counting(self.log, self.count))


def eventually(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.1)


def sbatch(cluster: Any, script: str, *options: str) -> str:
    """Submit a shell script; its job id."""
    return str(cluster.client("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}")).strip()


def state(cluster: Any, job_id: str) -> str:
    return str(cluster.client("squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T")).strip()


def restarts(cluster: Any, job_id: str) -> int:
    shown = str(cluster.client("scontrol", "show", "job", job_id))
    return int(shown.partition("Restarts=")[2].split()[0])


def live_processes(directory: Path) -> list[str]:
    """What still runs and names the cluster's folder anywhere: command line, environment, work folder, open files."""
    found = []
    for process in psutil.process_iter():
        try:
            opened = [file.path for file in process.open_files()]
            text = " ".join([*process.cmdline(), *process.environ().values(), process.cwd(), *opened])
            if str(directory) in text and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


@pytest.fixture
def counting_job(slurm_cluster: Any, tmp_path: Path) -> tuple[submitit.Job[tuple[int, int]], Path]:
    """A job that counts in partition `test`, caught while it runs, and the file with its count."""
    executor = submitit.AutoExecutor(tmp_path / "submitit", cluster="slurm")
    # Above ten minutes, or submitit takes every signal for the time limit's.
    executor.update_parameters(timeout_min=60, slurm_partition="test", slurm_gpus_per_node=1)
    log = tmp_path / "count"
    job = executor.submit(Counting(log))
    eventually(lambda: log.exists() and log.read_text())
    return job, log


@pytest.fixture
def small_cluster(cluster_module: ModuleType) -> Iterator[Any]:
    """A cluster of the test's own, to break."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # sockets want a shorter path than tmp_path's
        cluster = cluster_module.Cluster(Path(folder), nodes=1, gpus=0, base_port=cluster_module.free_base_port(1))
        cluster.up()
        yield cluster
        cluster.down()


def test_comes_up_with_all_nodes_idle(slurm_cluster: Any) -> None:
    assert slurm_cluster.node_states() == {"n1": "idle", "n2": "idle"}
    assert slurm_cluster.ready()


def test_listens_on_loopback_only(slurm_cluster: Any) -> None:
    daemons = {slurm_cluster.pid(daemon) for daemon in slurm_cluster.daemons}
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("inet")
        if connection.pid in daemons and connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port) for port in slurm_cluster.ports}


@pytest.mark.parametrize(
    ("option", "visible"), [("--gpus-per-node=1", "0"), ("--gpus-per-node=2", "0,1"), ("--gpus-per-node=0", "none")]
)
def test_a_job_sees_the_gpus_it_asked_for(slurm_cluster: Any, option: str, visible: str) -> None:
    printed = slurm_cluster.client("srun", option, "sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-none}")
    assert printed.strip() == visible


def test_two_jobs_on_one_node_get_different_gpus(slurm_cluster: Any, tmp_path: Path) -> None:
    script = f"echo $CUDA_VISIBLE_DEVICES > {tmp_path}/$SLURM_ARRAY_TASK_ID; sleep 60"
    sbatch(slurm_cluster, script, "--array=0-1", "--nodelist=n1", "--gpus-per-node=1")
    eventually(lambda: sorted(file.read_text() for file in tmp_path.iterdir()) == ["0\n", "1\n"])


def test_a_signalled_job_checkpoints_requeues_and_resumes(
    slurm_cluster: Any, counting_job: tuple[submitit.Job[tuple[int, int]], Path]
) -> None:
    job, log = counting_job
    seen = int(log.read_text())
    slurm_cluster.client("scancel", "--signal=USR2", job.job_id)
    resumed_at, end = job.result()
    assert resumed_at >= seen
    assert end == resumed_at + 3
    assert restarts(slurm_cluster, job.job_id) == 1


def test_a_job_in_high_preempts_one_in_test(
    slurm_cluster: Any, counting_job: tuple[submitit.Job[tuple[int, int]], Path]
) -> None:
    job, log = counting_job
    seen = int(log.read_text())
    urgent = sbatch(slurm_cluster, "sleep 1", "--partition=high", "--nodes=2", "--exclusive")
    eventually(lambda: state(slurm_cluster, urgent) == "RUNNING")
    assert state(slurm_cluster, job.job_id) == "PENDING"
    resumed_at, end = job.result()
    assert state(slurm_cluster, urgent) == "COMPLETED"
    assert resumed_at >= seen
    assert end == resumed_at + 3
    # Once by submitit, and in newer SLURMs once more by the preemption: not a count of interruptions.
    assert restarts(slurm_cluster, job.job_id) in {1, 2}


def test_sacct_answers_as_submitit_expects(slurm_cluster: Any) -> None:
    done = sbatch(slurm_cluster, "true")
    failed = sbatch(slurm_cluster, "exit 3")
    array = sbatch(slurm_cluster, "sleep 60", "--array=0-2%1", "--nodelist=n2")
    eventually(lambda: state(slurm_cluster, failed) == "FAILED" and state(slurm_cluster, done) == "COMPLETED")
    eventually(lambda: "RUNNING" in state(slurm_cluster, array))
    printed = slurm_cluster.client(*SACCT, "-j", done, "-j", failed, "-j", array, "-j", "67000000")
    states = {job_id: row["State"] for job_id, row in SlurmInfoWatcher().read_info(printed).items()}
    assert states == {
        done: "COMPLETED",
        failed: "FAILED",
        f"{array}_0": "RUNNING",
        f"{array}_1": "PENDING",
        f"{array}_2": "PENDING",
    }
    assert SlurmInfoWatcher().read_info(printed)[f"{array}_0"]["NodeList"] == "n2"


def test_sacct_gives_no_row_for_an_unknown_job(slurm_cluster: Any) -> None:
    assert slurm_cluster.client(*SACCT, "-j", "67000000") == "JobID|State|NodeList\n"


def test_sacct_refuses_what_it_cannot_answer(cluster_module: ModuleType, slurm_cluster: Any) -> None:
    with pytest.raises(cluster_module.ClusterError, match="no accounting and cannot answer field 'maxrss'"):
        slurm_cluster.client("sacct", "-o", "JobID,MaxRSS", "-j", "1")


def test_a_node_set_down_sends_its_jobs_elsewhere(slurm_cluster: Any) -> None:
    job_id = sbatch(slurm_cluster, "sleep 60")
    eventually(lambda: state(slurm_cluster, job_id) == "RUNNING")
    slurm_cluster.node_down("n1")
    eventually(lambda: slurm_cluster.node_states() == {"n1": "down", "n2": "mixed"})
    assert restarts(slurm_cluster, job_id) == 1
    slurm_cluster.node_resume("n1")
    eventually(lambda: slurm_cluster.node_states()["n1"] == "idle")


def test_jobs_outlive_the_controller(cluster_module: ModuleType, small_cluster: Any, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    job_id = sbatch(small_cluster, f"echo $$ > {pid_file}; exec sleep 170")
    eventually(lambda: pid_file.exists() and pid_file.read_text())
    small_cluster.stop_controller()
    with pytest.raises(cluster_module.ClusterError, match="Unable to contact slurm controller"):
        small_cluster.client(*SACCT, "-j", job_id)
    small_cluster.start_controller()
    assert state(small_cluster, job_id) == "RUNNING"
    assert restarts(small_cluster, job_id) == 0
    assert psutil.Process(int(pid_file.read_text())).name() == "sleep"


def test_a_killed_slurmd_comes_back(small_cluster: Any) -> None:
    daemon = small_cluster.slurmd("n1")
    small_cluster.kill_slurmd("n1")
    assert not small_cluster.running(daemon)
    small_cluster.start_slurmd("n1")
    assert small_cluster.running(daemon)
    job_id = sbatch(small_cluster, "true")
    eventually(lambda: state(small_cluster, job_id) == "COMPLETED")


@pytest.mark.parametrize("fault", ["none", "slurmd", "all"])
def test_down_leaves_no_process(small_cluster: Any, tmp_path: Path, fault: str) -> None:
    started = tmp_path / "started"
    sbatch(small_cluster, f"trap '' TERM; touch {started}; sleep 300")
    eventually(started.exists)
    if fault == "slurmd":
        small_cluster.kill_slurmd("n1")
    elif fault == "all":
        for daemon in small_cluster.daemons:
            os.kill(small_cluster.pid(daemon), signal.SIGKILL)
    small_cluster.down()
    assert live_processes(small_cluster.directory) == []
    small_cluster.down()


def test_a_restart_keeps_job_numbers_and_forgets_faults(small_cluster: Any) -> None:
    first = int(sbatch(small_cluster, "true"))
    small_cluster.node_down("n1")
    small_cluster.down()
    small_cluster.up()
    assert small_cluster.node_states() == {"n1": "idle"}
    assert int(sbatch(small_cluster, "true")) == first + 1


def test_a_second_cluster_in_the_same_folder_is_refused(cluster_module: ModuleType, slurm_cluster: Any) -> None:
    with pytest.raises(cluster_module.ClusterError, match=r"a cluster runs in .* already"):
        slurm_cluster.up()
    assert slurm_cluster.ready()


@pytest.mark.parametrize(
    ("folder", "message"), [("with space", "no such characters"), ("deep" * 20, "too long for the sockets")]
)
def test_a_folder_that_slurm_cannot_use_is_refused(
    cluster_module: ModuleType, tmp_path: Path, folder: str, message: str
) -> None:
    with pytest.raises(cluster_module.ClusterError, match=message):
        cluster_module.Cluster(tmp_path / folder).up()


def test_a_taken_port_is_refused(cluster_module: ModuleType, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(cluster_module.ClusterError, match=f"port {port} is taken"):
            cluster_module.Cluster(tmp_path, base_port=port).up()


def test_command_line(cluster_module: ModuleType, tmp_path: Path) -> None:
    """The README's ten lines, in a shell."""
    cluster = f"{sys.executable} {cluster_module.__file__}"
    port = cluster_module.free_base_port(1)
    script = f"""
        set -e
        cd {tmp_path}
        eval "$({cluster} up --dir c --nodes 1 --memory-mb 64000 --base-port {port})"
        command -v sacct
        scontrol show node n1 | grep -o RealMemory=64000
        {cluster} node-down n1 --dir c
        {cluster} status --dir c || echo exit $?
        {cluster} node-resume n1 --dir c
        {cluster} env --dir c
        {cluster} down --dir c
        {cluster} down --dir c
        {cluster} status --dir c || echo exit $?
        {cluster} kill-slurmd n7 --dir c || echo exit $?
        {cluster} env --dir nowhere || echo exit $?
    """
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{tmp_path}/c/bin/sacct", "RealMemory=64000"]
    assert f"export SLURM_CONF={tmp_path}/c/etc/slurm.conf" in lines
    assert lines[-3:] == ["exit 1", "exit 2", "exit 2"]
    assert done.stderr.splitlines() == [
        f"cluster: no node 'n7' in {tmp_path}/c; its nodes are n1",
        "cluster: nowhere: no cluster here; start one with `up --dir nowhere`",
    ]
    assert live_processes(tmp_path / "c") == []
