"""What SLURM itself says: its queue, its partitions and limits, and a way to cancel. Nothing here needs submitit."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence

from harness.errors import HarnessError

WHERE = "--executor slurm"
TIMEOUT_S = 60.0
SQUEUE_FORMAT = "%i|%T|%N|%r|%P|%M"
MAX_ARGUMENTS = 500
"""Job ids per command, so that a command line stays short."""


@dataclasses.dataclass(frozen=True)
class QueuedJob:
    """One job or array task that SLURM has in hand.

    Attributes:
        id: ``12`` or ``12_3``.
        state: SLURM's word, such as ``PENDING`` or ``RUNNING``.
        node: where it runs, if it does.
        reason: why it waits, in SLURM's words.
    """

    id: str
    state: str
    node: str = ""
    reason: str = ""
    partition: str = ""
    elapsed: str = ""


def is_here() -> bool:
    """Whether this machine has SLURM's client commands."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def require() -> None:
    """Refuse to go on where there is no SLURM.

    Raises:
        HarnessError: when its commands are not on the PATH.
    """
    if not is_here():
        remedy = "run on a login node, or use --executor local"
        raise HarnessError("there is no SLURM here: `sbatch` is not on PATH", WHERE, remedy)


def client(*command: str, timeout_s: float = TIMEOUT_S) -> str:
    """What one of SLURM's commands prints.

    Raises:
        HarnessError: when it is absent, fails or does not answer, with SLURM's own words, shortened.
    """
    # An array's pending tasks are one row; by default SLURM cuts a long list of indices off with an ellipsis.
    environment = {**os.environ, "SLURM_BITSTR_LEN": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=environment)
    except FileNotFoundError:
        raise HarnessError(f"`{command[0]}` is not on PATH", WHERE, "run on a login node") from None
    except subprocess.TimeoutExpired:
        words = f"`{command[0]}` gave no answer in {timeout_s:g} s"
        raise HarnessError(words, WHERE, "try again; ask `sinfo` whether SLURM is up") from None
    if done.returncode:
        words = f"`{command[0]}`: {shorten(done.stderr or done.stdout)}"
        raise HarnessError(words, WHERE, "`harness doctor` tells what this cluster has")
    return done.stdout


def shorten(message: str) -> str:
    """The telling line of SLURM's complaint: ``invalid partition specified: gpuu``."""
    start = re.compile(r"^\w+: (fatal: |error: )?(Batch job submission failed: )?")
    lines = [start.sub("", line.strip()) for line in message.splitlines() if line.strip()]
    words = "; ".join(dict.fromkeys(lines[:2])) or "no error message was given"
    return words if len(words) <= 200 else words[:197] + "..."


def queue(timeout_s: float = TIMEOUT_S) -> dict[str, QueuedJob]:
    """All jobs of this user that SLURM has in hand (waiting, running, ending), by id; array tasks one by one.

    Raises:
        HarnessError: when SLURM does not answer.
    """
    out = client("squeue", "--noheader", f"--user={os.getuid()}", f"--format={SQUEUE_FORMAT}", timeout_s=timeout_s)
    return {job.id: job for job in parse_queue(out)}


def parse_queue(text: str) -> Iterator[QueuedJob]:
    """Rows of squeue in :data:`SQUEUE_FORMAT`, with ``12_[0-3,7%2]`` taken apart."""
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 6:
            continue
        for job_id in expand(fields[0]):
            yield QueuedJob(job_id, *fields[1:])


def expand(job_id: str) -> list[str]:
    """``12_[0-2,5%4]`` as ``12_0``, ``12_1``, ``12_2``, ``12_5``; any other id as it is."""
    found = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job_id)
    if found is None:
        return [job_id]
    return [f"{found[1]}_{index}" for part in found[2].split(",") for index in _span(part)]


def _span(part: str) -> range:
    bounds, _, step = part.partition(":")
    first, _, last = bounds.partition("-")
    return range(int(first), int(last or first) + 1, int(step or 1))


def compress(indices: Iterable[int]) -> str:
    """``0-2,5`` for 0, 1, 2, 5."""
    parts: list[str] = []
    start = last = None
    for index in [*sorted(set(indices)), None]:
        if last is not None and index == last + 1:
            last = index
            continue
        if start is not None:
            parts.append(f"{start}" if start == last else f"{start}-{last}")
        start = last = index
    return ",".join(parts)


def cancel(job_ids: Collection[str]) -> None:
    """Cancel jobs; waiting ones vanish, running ones are told to end (their trials leave checkpoints)."""
    arrays: dict[str, list[int]] = {}
    targets: list[str] = []
    for job_id in job_ids:
        number, _, index = job_id.partition("_")
        if index:
            arrays.setdefault(number, []).append(int(index))
        else:
            targets.append(number)
    targets += [f"{number}_[{compress(indices)}]" for number, indices in arrays.items()]
    for start in range(0, len(targets), MAX_ARGUMENTS):
        client("scancel", *targets[start : start + MAX_ARGUMENTS])


def last_states(job_ids: Sequence[str]) -> dict[str, str]:
    """How jobs that are gone ended (``FAILED``, ``CANCELLED``, ``TIMEOUT`` ...), as far as accounting tells."""
    if shutil.which("sacct") is None or not job_ids:
        return {}
    numbers = dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids[:MAX_ARGUMENTS])
    arguments = [part for number in numbers for part in ("-j", number)]
    try:
        out = client("sacct", "-o", "JobID,State,NodeList", "--parsable2", *arguments, timeout_s=10.0)
    except HarnessError:
        return {}
    wanted = set(job_ids)
    rows = (line.split("|") for line in out.splitlines()[1:])
    return {row[0]: row[1].split()[0] for row in rows if len(row) > 1 and row[0] in wanted and row[1]}


def max_array_size() -> int:
    """The cluster's MaxArraySize: array indices stay below it."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", client("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(found[1])) if found else 1001


def node_hosts() -> set[str]:
    """Addresses of the cluster's nodes, as SLURM reaches them."""
    out = client("sinfo", "--noheader", "--Node", "--format=%o")
    return {line.strip() for line in out.splitlines() if line.strip()}
