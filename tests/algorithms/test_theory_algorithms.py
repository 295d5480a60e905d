"""SOP's theory as trials: what is recorded, what is refused, and that a trial can be stopped and resumed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.algorithms.score_census import ScoreCensus, bin_of
from harness_plugins.algorithms.sop_linear import SOPLinear
from harness_plugins.theory.sparse_corruption import matching_alpha

from harness import HarnessError, load_suite, open_store, run

pytest.importorskip("cvxpy")

LINEAR = """
[suite]
name = "linear"
seeds = [0]

[training]
epochs = {epochs}
batch_size = {batch_size}
optimizer = {{ name = "sgd", lr = 1.0 }}
validation = 0.0

[[setting]]
dataset = {{ name = "sparse_linear", samples = 20, features = 40, rank = 3 }}
noise = {{ name = "gaussian", std = 1.0, rate = 0.15, count = "exact" }}
model = {{ name = "linear", bias = {bias} }}
normalize = "{normalize}"

[[method]]
name = "theory"
loss = "l2"
algorithms = [{algorithm}]
"""
DESCENT = '{ name = "sop_linear", alpha = [4.0, 40.0], lam = [0.1, 1.0], steps = 5000 }'
RECOVERY = '{ name = "sparse_recovery", lam = [0.0001, 0.1], instances = 3 }'


def trial(folder: Path, algorithm: str, **parts: Any) -> dict[str, Any]:
    """Run one linear trial; its diagnostics at the last epoch, metrics and error."""
    filled = {"epochs": 2, "batch_size": 20, "bias": "false", "normalize": "none", "algorithm": algorithm, **parts}
    file = folder / "linear.toml"
    file.write_text(textwrap.dedent(LINEAR).format(**filled))
    run(load_suite(file), folder / "results", executor="inline")
    with open_store(folder / "results") as store:
        (error,) = store.execute("SELECT error FROM trials").fetchone() or (None,)
        last = "SELECT name, value FROM diagnostics WHERE epoch = (SELECT max(epoch) FROM diagnostics)"
        metrics = store.execute('SELECT metric, value FROM metrics WHERE "at" = ?', ["last"]).fetchall()
        return {"error": error, "metrics": dict(metrics), **dict(store.execute(last).fetchall())}


def test_gradient_descent_records_differences_for_every_pair(tmp_path: Path) -> None:
    found = trial(tmp_path, DESCENT, epochs=10)
    pairs = [f"@alpha={alpha}@lam={lam}" for alpha in ("4", "40") for lam in ("0.1", "1")]
    assert {name for name in found if name.startswith("theta_difference")} == {f"theta_difference{p}" for p in pairs}
    assert {name for name in found if name.startswith("s_difference")} == {f"s_difference{p}" for p in pairs}
    assert matching_alpha(0.1) == pytest.approx(40)
    assert found["theta_difference@alpha=40@lam=0.1"] < 0.05
    assert found["residual@alpha=40"] < 0.1


def test_the_network_carries_the_solution_so_that_its_test_error_is_measured(tmp_path: Path) -> None:
    assert trial(tmp_path, RECOVERY)["metrics"]["mae"] < 1e-3


def test_recovery_records_errors_and_success_for_every_lam(tmp_path: Path) -> None:
    found = trial(tmp_path, RECOVERY)
    assert found["theta_success@lam=0.1"] == 1.0
    assert found["s_success@lam=0.1"] == 1.0
    assert found["theta_success@lam=0.0001"] == 0.0
    assert found["theta_error@lam=0.0001"] > 0.1
    assert found["theta_error@lam=0.1"] < 1e-6


@pytest.mark.parametrize("algorithm", [DESCENT, RECOVERY])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bias": "true"}, "no bias"),
        ({"normalize": "channel"}, "inputs as they are"),
        ({"batch_size": 5}, "samples at once"),
    ],
)
def test_a_setting_that_is_not_the_papers_is_refused_in_one_line(
    tmp_path: Path, algorithm: str, change: dict[str, Any], words: str
) -> None:
    error = trial(tmp_path, algorithm, **change)["error"]
    assert words in error
    assert "\n" not in error


def test_the_iterate_is_its_state() -> None:
    torch.manual_seed(0)
    jacobian, y, alpha = torch.randn(6, 9).double(), torch.randn(6).double(), torch.tensor([3.0]).double()
    tau = torch.tensor([1e-3]).double()
    make = SOPLinear(alpha=[3.0], lam=[0.1])
    through, stopped, resumed = (type(make)(alpha=[3.0], lam=[0.1]) for _ in range(3))
    from harness_plugins.theory.sparse_corruption import Descent

    for part in (through, stopped, resumed):
        part.descent = Descent.start(1, 6, 9)
    through.descent.run(jacobian, y, alpha, tau, 20)
    stopped.descent.run(jacobian, y, alpha, tau, 10)
    resumed.load_state_dict(stopped.state_dict())
    resumed.descent.run(jacobian, y, alpha, tau, 10)
    torch.testing.assert_close(resumed.descent.theta, through.descent.theta, rtol=0, atol=0)
    torch.testing.assert_close(resumed.descent.u, through.descent.u, rtol=0, atol=0)


# --- the census of scores ---------------------------------------------------------------------------------------------


def test_ranges_are_closed_above() -> None:
    scores = torch.tensor([-3.0, 0.0, 0.1, 0.5, 0.6])
    edges = [0.0, 0.5]
    assert bin_of(scores, edges).tolist() == np.digitize(scores.numpy(), edges, right=True).tolist() == [0, 0, 1, 1, 2]


def test_edges_that_do_not_rise_are_refused() -> None:
    with pytest.raises(HarnessError, match="rise"):
        ScoreCensus(score="rrm.u", epochs=[1], edges=[0.5, 0.5])


def test_a_census_is_kept_for_every_epoch_asked_and_counts_every_sample(write_suite: Any, tmp_path: Path) -> None:
    stack = (
        '[{ name = "rrm", every = 2 }, '
        '{ name = "score_census", score = "rrm.u", epochs = [1, 3], edges = [-0.5, 0.5] }]'
    )
    suite = load_suite(write_suite(epochs=4, methods=f'[[method]]\nname = "RRM"\nalgorithms = {stack}'))
    run(suite, tmp_path / "results", executor="inline")
    import json

    with open_store(tmp_path / "results") as store:
        row = store.execute("SELECT histograms, status, error FROM trials").fetchone()
    assert row is not None
    assert row[1] == "done", row[2]
    histograms = json.loads(row[0])
    first, later = histograms["rrm.u@1"], histograms["rrm.u@3"]
    assert first["values"] == [1]  # no re-weighting yet: every u is 0
    total = sum(first["clean"]) + sum(first["corrupted"])
    assert sum(later["clean"]) + sum(later["corrupted"]) == total
    removed = later["values"].index(2)
    assert later["corrupted"][removed] + later["clean"][removed] == pytest.approx(0.4 * total, abs=1)


def test_a_census_of_a_score_that_nobody_gives_says_so(write_suite: Any, tmp_path: Path) -> None:
    stack = '[{ name = "score_census", score = "rrm.u", epochs = [1], edges = [0.0] }]'
    run(
        load_suite(write_suite(methods=f'[[method]]\nname = "CE"\nalgorithms = {stack}')),
        tmp_path / "results",
        executor="inline",
    )
    with open_store(tmp_path / "results") as store:
        (error,) = store.execute("SELECT error FROM trials").fetchone() or ("",)
    assert "score" in error
    assert "\n" not in error
