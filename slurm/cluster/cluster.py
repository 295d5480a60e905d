"""Start and stop a real SLURM on one machine: no systemd, no cgroups, no root needed.

Developers, CI and users who want to try before they queue get a cluster of several nodes with fake GPUs, preemption
and requeue, in one folder and on loopback only. Run it, `python cluster.py up --dir DIR`, or import it:
`Cluster(DIR).up()`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

APT_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMON_PROGRAMS = ("munged", "slurmctld", "slurmd")
PARTITIONS = ("test", "high")
READY_NODE_STATES = frozenset({"idle", "mixed", "allocated", "completing"})
# A unix socket's address holds 107 characters, and the longest that a slurmstepd appends to the folder is this one.
LONGEST_SOCKET = "/spool/n999/n999_67108863.4294967295"
LONGEST_SOCKET_ADDRESS = 107

SLURM_CONF = """\
ClusterName=harness
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}

# Requeue to running takes cred_expire seconds: the default of 120 is slow to test with, and 5 can relaunch a job before
# its old step has died.
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/run/munge.sock,cred_expire=10

StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool/%n
SlurmctldPidFile={directory}/run/slurmctld.pid
SlurmdPidFile={directory}/run/slurmd-%n.pid
SlurmctldLogFile={directory}/log/slurmctld.log
SlurmdLogFile={directory}/log/slurmd-%n.log
MailProg=/bin/true

# Nothing that needs systemd, cgroups or a database.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none

# config_overrides lets nodes have more CPUs and memory than the machine; the rest makes the scheduler quick.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
# A node that was silent returns by itself; with 2, one that was set down would as well, at once.
ReturnToService=1
KillWait=2
SlurmdTimeout=10
MinJobAge=3600

# A job in `high` has one in `test` sent the signal of its --signal option, and requeued within GraceTime seconds.
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal

{gres_types}
{nodes}
PartitionName=test Nodes=ALL Default=YES PriorityTier=1 GraceTime=10 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""

SACCT_SHIM = """\
#!/bin/sh
# Answers submitit's question to sacct from squeue, since this cluster keeps no accounting:
#     sacct -o JobID,State,NodeList --parsable2 -j 1 -j 2
fields=JobID,State,NodeList
jobs=
header=yes
while [ $# -gt 0 ]; do
    case $1 in
        -o | --format) fields=$2; shift ;;
        -j | --jobs) jobs=$jobs${jobs:+,}$2; shift ;;
        --format=*) fields=${1#*=} ;;
        --jobs=*) jobs=$jobs${jobs:+,}${1#*=} ;;
        -n | --noheader) header=no ;;
        -P | --parsable2 | -X | --allocations) ;;
        *) echo "sacct: this test cluster has no accounting and cannot answer '$1'" >&2; exit 1 ;;
    esac
    shift
done

names= layout=
for field in $(echo "$fields" | tr ',[:upper:]' ' [:lower:]'); do
    case $field in
        jobid) name=JobID code=%i ;;
        jobidraw) name=JobIDRaw code=%A ;;
        jobname) name=JobName code=%j ;;
        partition) name=Partition code=%P ;;
        state) name=State code=%T ;;
        nodelist) name=NodeList code=%N ;;
        *) echo "sacct: this test cluster has no accounting and cannot answer field '$field'" >&2; exit 1 ;;
    esac
    names=$names${names:+|}$name
    layout=$layout${layout:+|}$code
done

# As with sacct, an unknown job is no error but a missing row; a controller that does not answer is one.
if ! rows=$(squeue --noheader --array --states=all --jobs="$jobs" --format="$layout" 2>&1); then
    case $rows in
        *"Invalid job id"*) rows= ;;
        *) echo "$rows" >&2; exit 1 ;;
    esac
fi
[ $header = no ] || echo "$names"
[ -z "$rows" ] || echo "$rows"
"""


class ClusterError(RuntimeError):
    """The cluster cannot do what was asked; the message says what to do about it."""


@dataclass(frozen=True)
class Daemon:
    """One of the cluster's servers, known by its pid file."""

    name: str
    command: tuple[str, ...]
    pid_file: Path
    log: Path


@dataclass(frozen=True)
class Cluster:
    """A SLURM cluster that lives in `directory` and listens on `base_port` (slurmctld) and the `nodes` ports after it.

    Every node claims `cpus` CPUs, `memory_mb` MB of memory and `gpus` GPUs, whatever the machine has.
    """

    directory: Path
    nodes: int = 2
    cpus: int = 8
    gpus: int = 2
    memory_mb: int = 4000
    base_port: int = 16817

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory).absolute())

    @classmethod
    def load(cls, directory: Path) -> Cluster:
        """The cluster that `up` wrote to `directory`."""
        try:
            description = json.loads((directory / "cluster.json").read_text())
        except FileNotFoundError:
            raise ClusterError(f"{directory}: no cluster here; start one with `up --dir {directory}`") from None
        return cls(directory, **description)

    # What is where

    @property
    def slurm_conf(self) -> Path:
        return self.directory / "etc" / "slurm.conf"

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))

    @property
    def munged(self) -> Daemon:
        run, log = self.directory / "run", self.directory / "log" / "munged.log"
        options = {
            "key-file": self.directory / "etc" / "munge.key",
            "socket": run / "munge.sock",
            "pid-file": run / "munged.pid",
            "log-file": log,
            "seed-file": self.directory / "state" / "munged.seed",
        }
        # --force: it otherwise refuses folders that others could write to, and /tmp is one.
        command = (program("munged"), "--force", *(f"--{option}={path}" for option, path in options.items()))
        return Daemon("munged", command, run / "munged.pid", log)

    @property
    def slurmctld(self) -> Daemon:
        command = (program("slurmctld"), "-f", str(self.slurm_conf))
        return Daemon("slurmctld", command, self.directory / "run/slurmctld.pid", self.directory / "log/slurmctld.log")

    def slurmd(self, node: str) -> Daemon:
        if node not in self.node_names:
            raise ClusterError(f"no node {node!r} in {self.directory}; its nodes are {', '.join(self.node_names)}")
        command = (program("slurmd"), "-f", str(self.slurm_conf), "-N", node)
        name = f"slurmd-{node}"
        return Daemon(name, command, self.directory / f"run/{name}.pid", self.directory / f"log/{name}.log")

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """In the order in which they start."""
        return (self.munged, self.slurmctld, *(self.slurmd(node) for node in self.node_names))

    def environment(self) -> dict[str, str]:
        """The variables that a client needs: `SLURM_CONF`, and a `PATH` where the sacct shim comes first."""
        search = os.environ.get("PATH", os.defpath).split(os.pathsep)
        shims = str(self.directory / "bin")
        return {
            "SLURM_CONF": str(self.slurm_conf),
            "PATH": os.pathsep.join([shims, *(folder for folder in search if folder != shims)]),
        }

    # Up and down

    def up(self, timeout_s: float = 30) -> None:
        """Write the configuration, start the daemons and wait until every node takes jobs."""
        self._check_can_start()
        self._write_files()
        try:
            for daemon in self.daemons:
                self._start(daemon)
            self._wait_for(self.ready, timeout_s)
        except BaseException:
            self.down()
            raise

    def down(self, timeout_s: float = 30) -> None:
        """Cancel the jobs, stop the daemons, and end what is left of either; does nothing where nothing runs."""
        slurmds = [self.slurmd(node) for node in self.node_names]
        if self.running(self.slurmctld) and self.running(self.munged):
            # Jobs on a node without its slurmd stay COMPLETING until the node times out: those are ended below.
            patience_s = timeout_s if all(map(self.running, slurmds)) else min(timeout_s, 3)
            try:
                for partition in PARTITIONS:  # no more jobs start, neither waiting nor requeued ones
                    self.client("scontrol", "update", f"partitionname={partition}", "state=down")
                self.cancel_jobs(patience_s)
            except ClusterError as error:
                print(f"cluster: {error}; going on without", file=sys.stderr)
        for group in ([self.slurmctld], slurmds, [self.munged]):
            pids = [pid for daemon in group if (pid := self.pid(daemon))]
            if not end(pids, signal.SIGTERM):
                end(pids, signal.SIGKILL)
        # A slurmd that died left its jobs behind, and a crash the other daemons.
        end(list(self.processes()), signal.SIGKILL)
        for left in (self.directory / "run").glob("*"):
            left.unlink()

    def cancel_jobs(self, timeout_s: float = 30) -> bool:
        """Cancel every job; whether all were gone in time, which takes `KillWait` for those that ignore SIGTERM."""
        for partition in PARTITIONS:
            self.client("scancel", f"--partition={partition}")
        return wait_until(lambda: not self.client("squeue", "--noheader"), timeout_s)

    def ready(self) -> bool:
        """Whether every node takes jobs."""
        try:
            states = self.node_states()
        except ClusterError:
            return False
        return len(states) == self.nodes and READY_NODE_STATES.issuperset(states.values())

    def node_states(self) -> dict[str, str]:
        """Each node's state as `sinfo` names it: `idle`, `mixed`, `allocated`, `down`; with `*` when it is silent."""
        rows = self.client("sinfo", "--noheader", "--Node", f"--partition={PARTITIONS[0]}", "--format=%N %T")
        return dict(row.split() for row in rows.splitlines())

    def client(self, *command: str, timeout_s: float = 60) -> str:
        """What a client command such as `squeue` prints. Without a controller, clients try for 9 to 18 s and fail."""
        environment = {**outside_of_jobs(os.environ), **self.environment()}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError:
            raise ClusterError(f"{command[0]} is not installed; run `install`") from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"`{shlex.join(command)}` gave no answer in {timeout_s:g} s") from None
        if done.returncode:
            raise ClusterError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def pid(self, daemon: Daemon) -> int | None:
        """The daemon's process, or None: a pid file may be left over, and its number may be somebody else's by now."""
        try:
            pid = int(daemon.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if any(f"{self.directory}/" in argument for argument in command_line(pid)) else None

    def running(self, daemon: Daemon) -> bool:
        return self.pid(daemon) is not None

    def processes(self) -> Iterator[int]:
        """Every process of this cluster, daemon or job, with or without a pid file.

        A daemon carries the cluster's `SLURM_CONF` or, since newer slurmstepds wipe their environment, works in its
        folder. A job carries `SLURM_CONF` and a job's number; a shell that merely uses the cluster has no number.
        """
        setting = f"SLURM_CONF={self.slurm_conf}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                executable = (process / "exe").readlink().name
                works_here = (process / "cwd").readlink().is_relative_to(self.directory)
            except OSError:  # gone, a zombie, or another user's
                continue
            if executable.startswith(("munged", "slurmctld", "slurmd", "slurmstepd")):
                ours = setting in variables or works_here
            else:
                ours = setting in variables and any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
            if ours and int(process.name) != os.getpid():
                yield int(process.name)

    # Faults

    def kill_slurmd(self, node: str) -> None:
        """SIGKILL a node's slurmd: its jobs run on, and after half a minute SLURM starts second copies elsewhere."""
        pid = self.pid(self.slurmd(node))
        if pid is None:
            raise ClusterError(f"slurmd-{node} is not running")
        end([pid], signal.SIGKILL)

    def start_slurmd(self, node: str) -> None:
        """Start a node's slurmd again and wait until the node is back; it ends jobs that run elsewhere by now."""
        self._start(self.slurmd(node))
        self._wait_for(lambda: self.node_states()[node] in READY_NODE_STATES)

    def stop_controller(self) -> None:
        """Stop slurmctld, as for maintenance: jobs run on, clients fail after 9 to 18 s."""
        pid = self.pid(self.slurmctld)
        if pid is None:
            raise ClusterError("slurmctld is not running")
        end([pid], signal.SIGTERM)  # not SIGKILL: state is saved now and then, and it would forget the newest jobs

    def start_controller(self) -> None:
        """Start slurmctld again and wait until it has heard of all nodes, some seconds."""
        self._start(self.slurmctld)
        self._wait_for(lambda: "unknown" not in self.node_states().values())

    def node_down(self, node: str) -> None:
        """Take a node out of service as an administrator would: its jobs get NODE_FAIL and are requeued at once."""
        self._update_node(node, "state=down", "reason=fault-test")

    def node_resume(self, node: str) -> None:
        """Put a node back into service after `node-down`."""
        self._update_node(node, "state=resume")

    # Steps of the above

    def _check_can_start(self) -> None:
        missing = [name for name in (*DAEMON_PROGRAMS, "sinfo") if not shutil.which(name, path=search_path())]
        if missing:
            raise ClusterError(f"not installed: {', '.join(missing)}; run `install`")
        if not re.fullmatch(r"[\w./+-]+", str(self.directory)):
            raise ClusterError(f"{self.directory}: slurm.conf takes no such characters in paths; choose another folder")
        if len(f"{self.directory}{LONGEST_SOCKET}") > LONGEST_SOCKET_ADDRESS:
            longest = LONGEST_SOCKET_ADDRESS - len(LONGEST_SOCKET)
            raise ClusterError(f"{self.directory}: longer than {longest} characters, too long for the sockets in it")
        if self.directory.exists() and self.directory.stat().st_uid != os.geteuid():
            raise ClusterError(f"{self.directory}: belongs to another user; choose another --dir")
        if list(self.processes()):
            raise ClusterError(f"a cluster runs in {self.directory} already; `down --dir {self.directory}` stops it")
        host, address = socket.gethostname(), host_address()
        if not address.startswith("127."):
            raise ClusterError(
                f"this host's name, {host}, resolves to {address or 'nothing'}, where SLURM would listen; put the line "
                f"`127.0.0.1 {host}` at the top of /etc/hosts"
            )
        for port in self.ports:
            if not port_is_free(port):
                raise ClusterError(f"port {port} is taken; choose another --base-port")

    @property
    def ports(self) -> range:
        return range(self.base_port, self.base_port + 1 + self.nodes)

    def _write_files(self) -> None:
        for folder in ("etc", "state", "log", "run", "dev", "bin", *(f"spool/{node}" for node in self.node_names)):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        # Jobs and their numbers live on in the saved state, but a node that was set down starts in service.
        for saved in (self.directory / "state").glob("node_state*"):
            saved.unlink()
        etc = self.directory / "etc"
        key = etc / "munge.key"
        key.unlink(missing_ok=True)
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))

        nodes = [
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} "
            f"RealMemory={self.memory_mb} State=UNKNOWN" + (f" Gres=gpu:{self.gpus}" if self.gpus else "")
            for node, port in zip(self.node_names, self.ports[1:], strict=True)
        ]
        self.slurm_conf.write_text(
            SLURM_CONF.format(
                port=self.base_port,
                user=user_name(),
                directory=self.directory,
                gres_types="GresTypes=gpu" if self.gpus else "",
                nodes="\n".join(nodes),
            )
        )
        (etc / "cgroup.conf").write_text(f"CgroupPlugin={cgroup_plugin()}\n")
        devices = self._fake_gpus()
        (etc / "gres.conf").write_text(
            "".join(f"NodeName={node} Name=gpu File={devices}\n" for node in self.node_names) if self.gpus else ""
        )
        shim = self.directory / "bin" / "sacct"
        shim.write_text(SACCT_SHIM)
        shim.chmod(0o755)
        description = dataclasses.asdict(self)
        del description["directory"]
        (self.directory / "cluster.json").write_text(json.dumps(description, indent=2) + "\n")

    def _fake_gpus(self) -> str:
        """Make the devices that stand for GPUs, shared by all nodes; SLURM asks only for character devices."""
        for number in range(self.gpus):
            device = self.directory / "dev" / f"nvidia{number}"
            if not device.exists():
                device.symlink_to("/dev/null")
        return f"{self.directory}/dev/nvidia[0-{self.gpus - 1}]"

    def _start(self, daemon: Daemon) -> None:
        if self.running(daemon):
            raise ClusterError(f"{daemon.name} runs already")
        environment = {**outside_of_jobs(os.environ), **self.environment()}
        with daemon.log.open("a") as log:
            done = subprocess.run(
                daemon.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode or not wait_until(lambda: self.running(daemon), 10):
            last = "\n".join(daemon.log.read_text(errors="replace").splitlines()[-10:])
            raise ClusterError(f"{daemon.name} did not start; the end of {daemon.log}:\n{last}")

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        if not wait_until(condition, timeout_s):
            raise ClusterError(f"after {timeout_s:g} s the nodes are {self.node_states()}; see {self.directory}/log")

    def _update_node(self, node: str, *changes: str) -> None:
        self.slurmd(node)  # complains of an unknown node
        self.client("scontrol", "update", f"nodename={node}", *changes)


def program(name: str) -> str:
    """The path of a daemon: users seldom have sbin folders on their PATH."""
    return shutil.which(name, path=search_path()) or name


def cgroup_plugin() -> str:
    """The plugin that leaves cgroups alone: slurmd loads one even where nothing uses it, and v2 asks for systemd.

    From 24.05 on it may be disabled; before, v1 does nothing until a controller is asked of it.
    """
    shown = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", shown)
    return "cgroup/v1" if version and (int(version[1]), int(version[2])) < (24, 5) else "disabled"


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def outside_of_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what an enclosing SLURM job put there."""
    return {key: value for key, value in environment.items() if not key.startswith(("SLURM_", "SBATCH_"))}


def command_line(pid: int) -> list[str]:
    """A process's arguments; none when it is gone or a zombie that nobody reaps, as in many containers."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def end(pids: Sequence[int], with_signal: signal.Signals, timeout_s: float = 10) -> bool:
    """Whether the signal ended all of the processes in time."""
    for pid in pids:
        try:
            os.kill(pid, with_signal)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise ClusterError(f"process {pid} belongs to another user: run this as the one who ran `up`") from None
    return wait_until(lambda: not any(map(command_line, pids)), timeout_s)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def host_address() -> str:
    """What this host's name resolves to; empty when it does not."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def user_name() -> str:
    """The user that this process acts as, whatever `USER` says; a number when it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def port_is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_base_port(nodes: int) -> int:
    """A base port for a cluster of so many nodes, below the range that the kernel gives to outgoing connections."""
    while True:
        base = 10000 + secrets.randbelow(20000)
        if all(port_is_free(port) for port in range(base, base + 1 + nodes)):
            return base


def install() -> None:
    """Install SLURM's daemons and clients with apt-get, or print how."""
    script = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(APT_PACKAGES)}"
    if not shutil.which("apt-get"):
        raise ClusterError(f"no apt-get here; install what gives {', '.join(DAEMON_PROGRAMS)}, sbatch, srun and squeue")
    if os.geteuid() != 0:
        print(f"sudo sh -c {shlex.quote(script)}")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["sh", "-c", script], env=environment, check=False).returncode:
        raise ClusterError("apt-get failed, see above")


def exports(cluster: Cluster) -> str:
    """What a shell evaluates to become a client."""
    shims = shlex.quote(f"{cluster.directory}/bin")
    return f'export SLURM_CONF={shlex.quote(str(cluster.slurm_conf))}\nexport PATH={shims}:"$PATH"'


def status(cluster: Cluster) -> int:
    """Print the daemons, nodes and jobs; 0 when every node takes jobs, else 1."""
    for daemon in cluster.daemons:
        pid = cluster.pid(daemon)
        print(f"{daemon.name:12} {f'pid {pid}' if pid else 'not running'}")
    if not cluster.running(cluster.slurmctld):
        return 1
    for node, state in cluster.node_states().items():
        print(f"{node:12} {state}")
    print(cluster.client("squeue", "--array"), end="")
    return 0 if cluster.ready() else 1


# The faults that take a node, and those that take none.
NODE_FAULTS = {
    "kill-slurmd": Cluster.kill_slurmd,
    "start-slurmd": Cluster.start_slurmd,
    "node-down": Cluster.node_down,
    "node-resume": Cluster.node_resume,
}
CONTROLLER_FAULTS = {"stop-controller": Cluster.stop_controller, "start-controller": Cluster.start_controller}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    directory = Path(tempfile.gettempdir()) / f"harness-slurm-{os.geteuid()}"

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--dir", type=Path, default=directory, help="the cluster's folder (default: %(default)s)")
        return added

    commands.add_parser("install", help="install SLURM and munge with apt-get, or print how")
    up = command("up", "start a cluster and print the exports for a client's shell")
    for option, default, text in (
        ("--nodes", Cluster.nodes, "number of nodes, n1 to nN"),
        ("--cpus", Cluster.cpus, "CPUs that each node claims"),
        ("--gpus", Cluster.gpus, "fake GPUs on each node"),
        ("--memory-mb", Cluster.memory_mb, "memory that each node claims (RealMemory)"),
        ("--base-port", Cluster.base_port, "slurmctld's port; the nodes' follow"),
    ):
        up.add_argument(option, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    command("down", "cancel the jobs and stop the cluster; harmless where none runs")
    command("status", "show daemons, nodes and jobs; exit 0 when every node takes jobs")
    command("env", "print the exports for a client's shell")
    for faults in (NODE_FAULTS, CONTROLLER_FAULTS):
        for name, method in faults.items():
            fault = command(name, (method.__doc__ or "").partition("\n")[0])
            if name in NODE_FAULTS:
                fault.add_argument("node", help="n1, n2, ...")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    if options.command == "install":
        install()
    elif options.command == "up":
        cluster = Cluster(
            options.dir, options.nodes, options.cpus, options.gpus, options.memory_mb, base_port=options.base_port
        )
        cluster.up()
        print(exports(cluster))
    else:
        cluster = Cluster.load(options.dir)
        if options.command == "down":
            cluster.down()
        elif options.command == "status":
            return status(cluster)
        elif options.command == "env":
            print(exports(cluster))
        elif options.command in NODE_FAULTS:
            NODE_FAULTS[options.command](cluster, options.node)
        else:
            CONTROLLER_FAULTS[options.command](cluster)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return run(parse(arguments))
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
