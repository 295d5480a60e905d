"""What stands beside what: stacks that a plan accepts, and the reason where it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import HarnessError
from harness.suite.load import load_suite

WriteSuite = Callable[..., Path]


def method(algorithms: str, loss: str = "ce") -> str:
    return f'[[method]]\nname = "tried"\nloss = "{loss}"\nalgorithms = {algorithms}'


@pytest.mark.parametrize(
    ("algorithms", "loss"),
    [
        ('["cdr", "aux"]', "ce"),
        ('["rdi", "cdr", "aux", "elr", "rrm", "fgsm"]', "gce"),
        ('["sop_plus", "cdr", "fgsm"]', "ce"),
        ('["forward", "rrm"]', "gce"),
        ('["backward", "mixup", "fgsm"]', "ce"),
        ('["mixup", "cdr", "rdi"]', "ce"),
        ('["cores2", "rdi"]', "ce"),
        ('["co_teaching"]', "sce"),
        ('[{ name = "forward", matrix = "estimated" }]', "ce"),
    ],
)
def test_accepted(write_suite: WriteSuite, algorithms: str, loss: str) -> None:
    load_suite(write_suite(methods=method(algorithms, loss)))


@pytest.mark.parametrize(
    ("algorithms", "loss", "reason"),
    [
        ('["sop_plus"]', "sce", "replaces the loss 'ce'"),
        ('["sop", "sop_plus"]', "ce", "each computes the losses"),
        ('["cores2", "backward"]', "ce", "each computes the losses"),
        ('["mixup", "elr"]', "ce", "mixes samples"),
        ('["mixup", "rrm"]', "ce", "mixes samples"),
        ('["mixup", "cores2"]', "ce", "mixes samples"),
        ('["mixup"]', "gce", "soft targets"),
        ('["co_teaching", "co_teaching_plus"]', "ce", "each replaces the training step"),
        ('["co_teaching", "aux"]', "ce", "would never fire"),
        ('["co_teaching", "cdr"]', "ce", "would never fire"),
        ('["co_teaching_plus", "forward"]', "ce", "would never fire"),
        ('[{ name = "rrm", gamma = -1.0 }]', "ce", "greater than or equal to 0"),
        ('[{ name = "mixup", alpha = 0.0 }]', "ce", "greater than 0"),
        ('[{ name = "cdr", schedule = "slow" }]', "ce", "constant"),
    ],
)
def test_refused_with_the_reason_in_one_line(write_suite: WriteSuite, algorithms: str, loss: str, reason: str) -> None:
    with pytest.raises(HarnessError, match=reason) as caught:
        load_suite(write_suite(methods=method(algorithms, loss)))
    assert "\n" not in str(caught.value)


def test_a_noise_without_a_matrix_needs_an_estimate_or_a_matrix(write_suite: WriteSuite) -> None:
    noise = '{ name = "instance", rate = 0.3 }'
    with pytest.raises(HarnessError, match="no transition matrix"):
        load_suite(write_suite(noise=noise, methods=method('["forward"]')))
    load_suite(write_suite(noise=noise, methods=method('[{ name = "backward", matrix = "estimated" }]')))


def test_knowing_the_noise_makes_an_oracle(write_suite: WriteSuite) -> None:
    written = '[{ name = "co_teaching", forget_rate = 0.2 }]'
    known = '["co_teaching"]', '["cdr"]', '["forward"]', '["rrm"]'
    unknowing = written, '["sop_plus"]', '["mixup"]', '["cores2"]', '[{ name = "forward", matrix = "estimated" }]'
    for oracle, stacks in ((True, known), (False, unknowing)):
        for algorithms in stacks:
            (entry,) = load_suite(write_suite(methods=method(algorithms))).entries()
            assert entry.oracle is oracle, algorithms
