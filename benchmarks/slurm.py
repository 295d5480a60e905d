"""SLURM: trials per minute, many in a job against one per job; and how long a very large grid takes to submit.

    eval "$(python slurm/cluster/cluster.py up --dir /tmp/slurm)"
    python benchmarks/slurm.py --trials 100
    python benchmarks/slurm.py --simulate 100000      # needs no SLURM: sbatch and squeue are played by scripts

The peer is the same suite with ``trials_per_job = 1``: what submitting each trial by itself does. Trials are tiny
(digits, one epoch), so that what is measured is SLURM, the start of Python and the harness itself.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from history import History

SUITE = """
[suite]
name = "tiny"
seeds = {seeds}
[training]
epochs = 1
[execution]
device = "cpu"
[[setting]]
dataset = "digits"
model = "linear"
noise = {{ name = "symmetric", rate = 0.4 }}
[[method]]
name = "CE"
[slurm]
timeout_min = 60
poll_s = 0.5
"""


GRID = """
[suite]
name = "grid"
seeds = {seeds}
[training]
epochs = 3
[[setting]]
dataset = "digits"
model = "mlp"
noise = [{noise}]
{methods}
[slurm]
gpus_per_node = 1
trials_per_gpu = 4
trials_per_job = 16
max_parallel = 64
"""
CLIENTS = {
    "sbatch": """\
n=$(($(cat $HERE/number 2>/dev/null || echo 0) + 1)); echo $n > $HERE/number
echo "${n}_[$(sed -n 's/#SBATCH --array=//p' "$1")]|PENDING||Resources|gpu|0:00" >> $HERE/queue
echo "Submitted batch job $n"
""",
    "squeue": "cat $HERE/queue 2>/dev/null || true\n",
    "scontrol": "echo MaxArraySize = 1001\n",
    "sinfo": "echo localhost\n",
    "srun": "exit 1\n",
}


def simulate(trials: int) -> None:
    """Print how long planning, grouping and writing take, and a status after it, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for client, script in CLIENTS.items():
            (folder / client).write_text(f"#!/bin/sh\nHERE={folder}\n{script}")
            (folder / client).chmod(0o755)
        cells = max(1, trials // 100)
        noise = ", ".join(f'{{ name = "symmetric", rate = {0.1 + 0.05 * n:.2f} }}' for n in range(10))
        loss = 'loss = {{ name = "gce", q = {:.4f} }}'
        methods = "".join(f'[[method]]\nname = "M{n}"\n{loss.format(0.1 + 0.001 * n)}\n' for n in range(cells // 10))
        (folder / "grid.toml").write_text(GRID.format(seeds=list(range(100)), noise=noise, methods=methods))
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        submit = ["run", "grid.toml", "--executor", "slurm"]
        for words in (submit, submit, ["status", "grid.toml"]):
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            command = [sys.executable, "-m", "harness.cli.main", *words]
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            wall = time.monotonic() - started
            print(f"{trials} trials, harness {words[0]}: {wall:.1f} s ({cpu:.1f} s of CPU)", flush=True)


def measure(trials: int, per_job: int, folder: Path) -> tuple[float, int]:
    """Seconds from the submission to the last result, and the number of jobs."""
    (folder / "tiny.toml").write_text(SUITE.format(seeds=list(range(trials))))
    command = [sys.executable, "-m", "harness.cli.main", "run", "tiny.toml", "--executor", "slurm", "--wait"]
    started = time.monotonic()
    command += ["--slurm", f"trials_per_job={per_job}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    done = len(list(folder.glob("results/trials/*/done.json")))
    if done != trials:
        raise SystemExit(f"{done} of {trials} trials are done")
    return seconds, len(list(folder.glob("results/slurm/batch-*/log/*_submitted.pkl")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100, help="trials in packed jobs")
    parser.add_argument("--single", type=int, default=16, help="trials in jobs of their own")
    parser.add_argument("--per-job", type=int, default=50, help="trials of a packed job")
    parser.add_argument("--simulate", type=int, metavar="TRIALS", help="submit a large grid to a SLURM that is none")
    arguments = parser.parse_args()
    if arguments.simulate:
        simulate(arguments.simulate)
        return
    rates = {}
    history = History("slurm")
    plans = (("one per job", arguments.single, 1), ("packed", arguments.trials, arguments.per_job))
    for name, trials, per_job in plans:
        with tempfile.TemporaryDirectory() as folder:
            seconds, jobs = measure(trials, per_job, Path(folder))
        rates[name] = 60 * trials / seconds
        print(f"{name}: {trials} trials in {jobs} jobs, {seconds:.1f} s, {rates[name]:.0f} trials/min", flush=True)
        history.row(f"{name}, in a minute", rates[name], "trials")
    history.row("packed / one per job", rates["packed"] / rates["one per job"], "ratio")
    print(f"\nkept in {history.keep()}")


if __name__ == "__main__":
    main()
