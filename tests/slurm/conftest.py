"""A real SLURM for the tests marked `slurm`: two nodes with two fake GPUs each, one cluster per test session."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CLUSTER_SCRIPT = Path(__file__).parents[2] / "slurm" / "cluster" / "cluster.py"


@pytest.fixture(scope="session")
def cluster_module() -> ModuleType:
    """`slurm/cluster/cluster.py`, a script that belongs to no package; skips where SLURM is not installed."""
    name = "slurm_cluster"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, CLUSTER_SCRIPT)
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    module = sys.modules[name]
    if not shutil.which("slurmctld", path=module.search_path()):
        pytest.skip("slurmctld is not installed; `python slurm/cluster/cluster.py install` does it")
    return module


@pytest.fixture(scope="session")
def slurm_session(cluster_module: ModuleType) -> Iterator[Any]:
    """The session's cluster, with `SLURM_CONF` and `PATH` set for every client. Tests want `slurm_cluster`."""
    nodes = 2
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # sockets want a shorter path than tmp_path's
        cluster = cluster_module.Cluster(
            Path(folder), nodes=nodes, gpus=2, base_port=cluster_module.free_base_port(nodes)
        )
        cluster.up()
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in cluster.environment().items():
                patch.setenv(variable, value)
            yield cluster
        cluster.down()


@pytest.fixture
def slurm_cluster(slurm_session: Any) -> Iterator[Any]:
    """The session's cluster with an empty queue; what a test leaves running is cancelled."""
    yield slurm_session
    slurm_session.cancel_jobs()
