"""Every algorithm through the whole pipeline: it trains, records what it says, and goes on bit for bit after a stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import TrialInterrupted
from harness.plugins import load_host
from harness.results.records import (
    claim,
    final_attempt,
    open_results,
    read_json,
    read_lines,
    submit_trials,
    trial_folder,
)
from harness.suite.load import load_suite
from harness.suite.plan import make_plan
from harness.training.loop import Loop
from harness.training.prepare import prepare
from harness.training.run import Step, copied
from harness.training.trial import run_trial

METHODS = {
    "sop": 'algorithms = ["sop"]',
    "sop_plus": 'algorithms = ["sop_plus"]',
    "cdr": 'algorithms = ["cdr"]',
    "cdr gradual, kpd": 'algorithms = [{ name = "cdr", schedule = "gradual", num_gradual = 3 }]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "aux": 'algorithms = [{ name = "aux", lam = 2.0, lr_b = 0.01 }]',
    "rdi": 'algorithms = [{ name = "rdi", lam = 0.5 }]',
    "cdr and rdi": 'algorithms = [{ name = "rdi", lam = 0.5 }, "cdr"]',
    "rrm": 'algorithms = [{ name = "rrm", every = 1 }]',
    "a-rrm": 'algorithms = [{ name = "rrm", gamma = 0.4, every = 1 }, { name = "fgsm", epsilon = 0.1 }]',
    "fgsm": 'algorithms = ["fgsm"]',
    "elr": 'algorithms = ["elr"]',
    "forward": 'algorithms = ["forward"]',
    "forward restarted": 'algorithms = [{ name = "forward", matrix = "estimated", warmup = 1, restart = true }]',
    "forward estimated": 'algorithms = [{ name = "forward", matrix = "estimated", warmup = 1 }]',
    "backward": 'algorithms = ["backward"]\noptimizer = { lr = 0.02 }',
    "backward estimated": 'algorithms = [{ name = "backward", matrix = "estimated", warmup = 1 }]\n'
    "optimizer = { lr = 0.05 }",
    "mixup": 'algorithms = ["mixup"]',
    "cores2": 'algorithms = [{ name = "cores2", warmup = 0, ramp = 2, sieve_after = 1 }]',
    "co_teaching": 'algorithms = [{ name = "co_teaching", warmup = 2 }]',
    "co_teaching both": 'algorithms = [{ name = "co_teaching", warmup = 2, ensemble = true }]',
    "co_teaching_plus": 'algorithms = [{ name = "co_teaching_plus", warmup = 2, init_epoch = 2 }]',
    "jocor": 'algorithms = [{ name = "jocor", lam = 0.5, warmup = 2 }]',
    "strong_augmentation": 'algorithms = ["strong_augmentation"]',
    "reg_mixup": 'algorithms = ["reg_mixup"]',
    "crl": 'algorithms = ["crl"]',
    "cosine_classifier": 'transforms = ["cosine_classifier"]\noptimizer = { lr = 0.3 }',
    "elr_plus": 'algorithms = [{ name = "elr_plus", decay_steps = 20 }]',
    "elr_plus, rrm, cdr and kpd": 'algorithms = [{ name = "elr_plus", lam = 1.0, decay_steps = 20 }, "cdr", '
    '{ name = "rrm", every = 1 }]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "pro_mix": 'algorithms = [{ name = "pro_mix", warmup = 1, ramp = 2 }]',
    "pro_mix in a stack": 'algorithms = [{ name = "pro_mix", warmup = 1, ramp = 2 }, "cdr", { name = "rrm", every = 1 }, "rdi"]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "cc": 'algorithms = [{ name = "cc", warmup = 1, discrepancy_steps = 3, consistency = 0.1 }]',
    "cc in a stack": 'algorithms = [{ name = "cc", warmup = 1, discrepancy_steps = 3, consistency = 0.1 }, "cdr", { name = "rrm", every = 1 }, "rdi"]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "unicon": 'algorithms = [{ name = "unicon", warmup = 1 }]',
    "unicon in a stack": 'algorithms = [{ name = "unicon", warmup = 1 }, "cdr", { name = "rrm", every = 1 }, "rdi"]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "divide_mix": 'algorithms = [{ name = "divide_mix", warmup = 2 }]',
    "divide_mix, rrm, cdr, rdi and kpd": 'algorithms = [{ name = "divide_mix", warmup = 1, history = 2 }, '
    '{ name = "rrm", every = 1 }, "cdr", "rdi"]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "ema": 'algorithms = [{ name = "ema", decay = 0.9, warmup = true }]',
    "swa": 'algorithms = [{ name = "swa", start = 1 }]',
    "sure": 'algorithms = ["sam", { name = "swa", start = 1 }, "reg_mixup", "crl"]\ntransforms = ["cosine_classifier"]',
    "cores2_star": 'algorithms = [{ name = "cores2_star", warmup = 0, ramp = 1, sieve_after = 1, phase1 = 1, lr = 0.1 }]',
    "cores2_star, the setting's rate": 'algorithms = [{ name = "cores2_star", phase1 = 1, gradual = true, '
    'optimizer = "setting" }]',
    "long_re_mix": 'algorithms = [{ name = "long_re_mix", warmup = 0, stage1 = 2, agreeing = 2 }]',
    "long_re_mix, warmed up": 'algorithms = [{ name = "long_re_mix", warmup = 1, agreeing = 2 }]',
    "pes": 'algorithms = [{ name = "pes", warmup = 1, refine = 2, refine_lr = 0.01 }]',
    "pes, trained on, kpd": 'algorithms = [{ name = "pes", warmup = 1, refine = 1, refine_lr = 0.02, '
    'classifier = "trained" }]\ntransforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "peer": 'loss = { name = "peer", alpha = [[0.0, 1.0, 3]] }\nschedule = { name = "step", milestones = [2], gamma = 0.1 }',
    "f_divergence": 'loss = { name = "f_divergence", divergence = "jeffrey", warmup = 1 }',
    "gls": 'loss = { name = "gls", rate = -0.2, warmup = 1, lr = 0.01 }\nalgorithms = ["mixup"]',
    "anl": 'loss = { name = "anl", lam = 2.0 }\nalgorithms = [{ name = "rrm", every = 1 }, "sam"]',
    "gjs": 'loss = { name = "gjs", view = "weak" }\nalgorithms = [{ name = "ema", decay = 0.9 }]',
    "t_revision": 'algorithms = [{ name = "t_revision", stage1 = 1, stage2 = 1, lr = 1e-3 }, { name = "rrm", every = 1 }]',
    "vol_min_net": 'algorithms = ["vol_min_net", { name = "ema", decay = 0.9 }]',
    "cal": 'algorithms = [{ name = "cal", stage1 = 1, threshold = -1.0, optimizer = "setting" }]\ntransforms = [{ name = "kpd", rank = 4 }]\n'
    "optimizer = { lr = 0.05 }",
    "disc": 'algorithms = [{ name = "disc", warmup = 1, momentum = 0.9 }]',
    "disc in a stack": 'algorithms = [{ name = "disc", warmup = 1, momentum = 0.9 }, "cdr", { name = "rrm", every = 1 }, "rdi"]\n'
    'transforms = [{ name = "kpd", rank = 4 }]\noptimizer = { lr = 0.02 }',
    "all of a stack": 'algorithms = ["cdr", "aux", "elr", { name = "rrm", every = 1 }, "fgsm"]',
}
DETECTS = {
    "sop": "sop.noise",
    "sop_plus": "sop.noise",
    "aux": "aux.shift",
    "rrm": "rrm.u",
    "a-rrm": "rrm.u",
    "elr": "elr.disagreement",
    "cores2": "cores2.sieve",
    "co_teaching": "co_teaching.loss",
    "co_teaching_plus": "co_teaching_plus.loss",
    "jocor": "jocor.loss",
    "crl": "crl.forgotten",
    "pes": "pes.doubt",
    "long_re_mix": "long_re_mix.noisy",
    "elr_plus": "elr_plus.disagreement",
    "cores2_star": "cores2_star.sieve",
    "pro_mix": "pro_mix.loss",
    "cc": "cc.noisy",
    "unicon": "unicon.divergence",
    "divide_mix": "divide_mix.noisy",
    "sure": "crl.forgotten",
    "cal": "cal.sieve",
    "disc": "disc.doubt",
}
DIAGNOSES = {
    "sop": "sop.recovered_share",
    "sop_plus": "sop.recovered_share",
    "cdr": "cdr.critical_share",
    "aux": "aux.absorbed",
    "rdi": "rdi.distance",
    "rrm": "rrm.pruned_share",
    "elr": "elr.confidence",
    "forward": "forward.diagonal",
    "backward estimated": "backward.diagonal",
    "cores2": "cores2.kept_share",
    "co_teaching": "co_teaching.selected_share",
    "co_teaching_plus": "co_teaching_plus.disagreement",
    "jocor": "jocor.disagreement",
    "crl": "crl.learnt_share",
    "pes": "pes.labelled_share",
    "long_re_mix": "long_re_mix.sure",
    "cores2_star": "cores2_star.removed_share",
    "sure": "crl.learnt_share",
    "t_revision": "t_revision.shift",
    "vol_min_net": "vol_min_net.log_volume",
    "cal": "cal.kept_share",
    "disc": "disc.purified_share",
}
BATCHES = 23
"""Of an epoch: 1,438 samples by 64."""


@pytest.fixture
def run_method(write_suite: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[dict[str, Any], list[Any]]]:
    """Run one method on digits, stopping after given numbers of questions whether to stop; its result and epochs."""

    def run(method: str, folder: str, stops: tuple[int, ...] = (), epochs: int = 3) -> tuple[dict[str, Any], list[Any]]:
        path = write_suite(
            epochs=epochs,
            training="validation = 0.0",
            noise='{ name = "symmetric", rate = 0.3 }',
            methods=f'[[method]]\nname = "tried"\n{METHODS[method]}',
        )
        suite = load_suite(path)
        results = open_results(tmp_path / folder)
        (planned,) = make_plan(suite, results).trials
        submit_trials(results, [planned.trial])
        for stop in (*stops, None):
            attempt = claim(results, planned.id)
            assert attempt is not None
            asked = iter(range(10**6))
            stopping = (lambda: False) if stop is None else (lambda asked=asked, stop=stop: next(asked) + 1 >= stop)
            result = run_trial(planned.trial, attempt, suite.host, should_stop=stopping)
            assert (result is None) == (stop is not None)
        assert result is not None
        final = final_attempt(trial_folder(results, planned.id))
        assert final is not None and read_json(final / "result.json") == result
        return result, read_lines(final / "epochs.jsonl")

    return run


@pytest.mark.parametrize("method", METHODS)
def test_it_trains_and_goes_on_after_stops_as_if_there_had_been_none(
    run_method: Callable[..., tuple[dict[str, Any], list[Any]]], method: str
) -> None:
    result, epochs = run_method(method, "whole")
    assert result["status"] == "done", result["error"]
    assert all(epoch["train_loss"] is not None for epoch in epochs)
    assert result["metrics"]["accuracy"]["last"] > 0.4
    if method in DETECTS:
        assert epochs[-1][f"detection_auroc@{DETECTS[method]}"] is not None
        assert set(result["histograms"][DETECTS[method]]) >= {"clean", "corrupted"}
    if method in DIAGNOSES:
        assert result["diagnostics"][DIAGNOSES[method]] is not None
    draw = random.Random(method)
    # one stop anywhere, one at the very end of an epoch, when every batch is trained and nothing is evaluated
    first = draw.randint(1, 2 * BATCHES)
    for number, stops in enumerate([(first, draw.randint(1, 10)), (BATCHES,), (2 * BATCHES + 1,)]):
        again, repeated = run_method(method, f"stopped-{number}", stops)
        assert repeated == epochs
        assert again == result


@pytest.mark.parametrize(
    "method", ["sop_plus", "rrm", "elr", "cores2", "co_teaching", "co_teaching_plus", "divide_mix"]
)
def test_scores_find_corrupted_samples(
    run_method: Callable[..., tuple[dict[str, Any], list[Any]]], method: str
) -> None:
    _, epochs = run_method(method, "whole", epochs=10)
    assert epochs[-1]["detection_auroc"] > 0.8


@pytest.mark.parametrize("algorithm", ["forward", "backward"])
def test_a_correction_that_restarts_is_the_one_that_was_given_the_estimate(
    write_suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Its estimate is that of two epochs without correction, and what follows is the trial that is given this matrix."""
    clock = SimpleNamespace(now=0.0)  # of mini-batches: the seconds of a few say more about the machine
    monkeypatch.setattr("harness.training.loop.time.perf_counter", lambda: clock.now)

    class Ticking(Loop):
        def train(self, step: Step) -> None:
            super().train(step)
            clock.now += 1

    def histories(spec: str, epochs: int, stop: int | None = None) -> tuple[list[Any], dict[str, Any], Any]:
        path = write_suite(
            epochs=epochs,
            training="validation = 0.0\nschedule = 'constant'",
            setting="subset = 200",
            methods=f'[[method]]\nname = "tried"\nalgorithms = [{spec}]\noptimizer = {{ lr = 0.05 }}',
        )
        trial = next(iter(load_suite(path).entries())).trial
        prepared = prepare(trial, load_host(), torch.device("cpu"))
        journal = Kept(stop)
        loop = Ticking(prepared.run, prepared.evaluator, journal)
        try:
            loop.fit()
        except TrialInterrupted:
            again = prepare(trial, load_host(), torch.device("cpu"))
            journal.left = None
            loop = Ticking(again.run, again.evaluator, journal)
            loop.load_state_dict(copied(journal.state), list(journal.records))
            return loop.fit(), {}, again.run
        return loop.history, journal.timings[0], prepared.run

    restarted = f'{{ name = "{algorithm}", matrix = "estimated", warmup = 2, restart = true }}'
    history, timing, run = histories(restarted, 3)
    matrix = run.stack.parts[algorithm].matrix
    plain = histories("", 2)[2]
    # to rounding: before its estimate the backward correction takes the logarithm of clipped probabilities
    torch.testing.assert_close(matrix, run.stack.parts[algorithm].estimate(plain), atol=1e-6, rtol=1e-4)
    given, cheaper, _ = histories(f'{{ name = "{algorithm}", matrix = {matrix.tolist()} }}', 3)
    assert history == given and len(history) == 3
    assert (timing["train_seconds"], cheaper["train_seconds"]) == (12, 4)  # an epoch of four, and two before it
    for stop in (2, 4, 5, 8, 11):  # an epoch is four batches and its end: in the prelude, at its end, after it
        assert histories(restarted, 3, stop)[0] == history


class Kept:
    """A journal that keeps what it is told and asks to stop after some questions."""

    def __init__(self, left: int | None) -> None:
        self.left = left
        self.records: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}

    def epoch(self, record: Any, timing: Any) -> None:
        self.records.append(dict(record))
        self.timings.append(dict(timing))

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.state = copied(state)

    def should_stop(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left == 0
