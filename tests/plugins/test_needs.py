"""Methods are found by what they need and cost: what is declared is what a small training does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import load_suite
from harness.errors import HarnessError
from harness.needs import COSTING, FAMILIES, NEEDS, Described, asked
from harness.plugins import Host
from harness.testing import check_plugin, subjects_of
from harness.testing.bench import Bench
from harness.testing.checks.training import observed

SHOWN = {"two_networks", "features", "strong_view"}
"""Needs that a training shows by itself."""
PAST_WARMUP: dict[str, dict[str, Any]] = {
    "algorithms.cal": {"stage1": 2, "optimizer": "setting"},
    "algorithms.cc": {"warmup": 1, "discrepancy_steps": 2, "consistency": 0.1},
    "algorithms.cores2_star": {"warmup": 0, "ramp": 1, "phase1": 1, "optimizer": "setting"},
    "algorithms.disc": {"warmup": 1},
    "algorithms.divide_mix": {"warmup": 1},
    "algorithms.long_re_mix": {"warmup": 1, "stage1": 1},
    "algorithms.pes": {"warmup": 1, "refine": 1},
    "algorithms.pro_mix": {"warmup": 1, "ramp": 1},
    "algorithms.t_revision": {"stage1": 1, "stage2": 1},
    "algorithms.unicon": {"warmup": 1},
    "losses.peer": {"alpha": 1.0},
}


def several() -> list[Any]:
    """Methods that say that they need or cost more than cross entropy does."""
    host = Host()
    found = []
    for subject in subjects_of(host, ("loss", "algorithm"), PAST_WARMUP):
        described = subject.component.described
        ours = subject.component.owner.startswith("noisy-label-harness ")
        if ours and (SHOWN & set(host.registry.needs(subject.component)) or described.rows != Described().rows):
            found.append(pytest.param(subject, id=subject.label))
    return found


@pytest.mark.parametrize("subject", several())
def test_what_a_method_says_to_need_and_to_cost_is_what_a_small_training_does(subject: Any, tmp_path: Path) -> None:
    seen, (forward, trained) = observed(Bench(subject, tmp_path))
    assert seen == SHOWN & set(subject.host.registry.needs(subject.component))
    assert Described(rows=(forward, trained)).cost == pytest.approx(subject.component.described.cost, rel=0.2)


def test_every_method_that_says_nothing_has_the_rows_of_cross_entropy() -> None:
    assert Described().cost == 1.0
    assert Described(rows=(3.0, 2.0)).cost == pytest.approx(3.0)


def ours(kind: str) -> dict[str, tuple[str, ...]]:
    registry = Host().registry
    return {component.name: registry.needs(component) for component in registry.components(kind)}


def test_needs_follow_from_parameters_and_declarations() -> None:
    algorithms, losses = ours("algorithm"), ours("loss")
    by_need = {need: {name for name, needs in algorithms.items() if need in needs} for need in NEEDS}
    assert by_need["rate"] == {"cdr", "co_teaching", "co_teaching_plus", "jocor", "rrm", "sparse_recovery"}
    assert by_need["matrix"] == {"forward", "backward"}
    assert by_need["strong_view"] == {"cores2_star", "disc", "pro_mix", "sop_plus", "strong_augmentation", "unicon"}
    assert {name for name, needs in losses.items() if "strong_view" in needs} == {"gjs"}
    assert {"divide_mix", "t_revision", "cal", "co_teaching"} <= by_need["warmup"]
    assert not {"ema", "elr", "sop"} & by_need["warmup"]
    assert all("features" in needs for kind in ("estimator", "detector") for needs in ours(kind).values())


SUITE = """
[suite]
name = "needs"
seeds = [0]
[training]
epochs = 1
[[setting]]
dataset = "digits"
model = "linear"
noise = {noise}
[[method]]
name = "m"
algorithms = ["{algorithm}"]
"""


@pytest.mark.parametrize(
    ("need", "without"), [("rate", '"annotators"'), ("matrix", '{ name = "instance", rate = 0.4 }')]
)
def test_what_needs_a_rate_or_a_matrix_is_refused_where_the_noise_has_none_and_nothing_else_is(
    need: str, without: str, tmp_path: Path
) -> None:
    registry = Host().registry
    refused = set()
    for component in registry.components("algorithm"):
        facts = registry.facts(component)
        if "classification" not in facts.declares.tasks or any(p["required"] for p in facts.parameters):
            continue
        path = tmp_path / f"{component.name}.toml"
        path.write_text(SUITE.format(noise=without, algorithm=component.name))
        try:
            list(load_suite(path).entries())
        except HarnessError as error:
            refused |= (
                {component.name} if f"has no {need}".replace("matrix", "transition matrix") in str(error) else set()
            )
    said = {c.name for c in registry.components("algorithm") if need in registry.needs(c)}
    assert refused == {
        n for n in said if "classification" in registry.facts(registry.find("algorithm", n)[0]).declares.tasks
    }


def test_every_method_of_a_paper_has_a_family_and_a_year() -> None:
    registry = Host().registry
    for kind in COSTING:
        for component in registry.components(kind):
            described = component.described
            assert described.family in ("", *FAMILIES)
            assert not described.family or (described.year and described.paper), component.name


def test_words_may_be_given_one_by_one_or_together_and_unknown_ones_are_refused_with_all_there_are() -> None:
    assert asked(["rate,matrix", "features"], "--needs") == {"rate", "matrix", "features"}
    with pytest.raises(HarnessError, match="unknown need 'speed'") as told:
        asked(["speed"], "--needs")
    assert all(need in str(told.value) for need in NEEDS)


PLUGIN = '''
from harness import Declares, hookimpl


class Twice:
    """Two networks."""

    declares = Declares(own_step=True, descends=True, needs_per_sample=True)

    def setup(self, run):
        run.new_network("peer")

    def train_step(self, run, step):
        run.forward(step.inputs, run.of("peer").model)
        step.losses = run.stack.loss(run.forward(step.inputs), step.targets, step.index)
        run.descend(step)
        return True


@hookimpl
def harness_register_algorithms(register):
    register("twice", Twice{facts})
'''


def plugin(folder: Path, facts: str) -> Path:
    path = folder / "twice.py"
    path.write_text(PLUGIN.replace("{facts}", facts))
    return path


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("", "two_networks"),
        (', needs=["two_networks"]', "2.0 times cross entropy's"),
        (', needs=["two_networks"], rows=(0, 2), family="sample selection", year=2026, paper="Doe"', None),
    ],
)
def test_a_plugin_that_does_not_say_what_it_needs_or_costs_is_told(
    facts: str, words: str | None, tmp_path: Path
) -> None:
    (finding,) = [f for f in check_plugin(plugin(tmp_path, facts), only=["needs"]) if f.check == "needs"]
    assert finding.status == ("ok" if words is None else "fault")
    assert words is None or words in finding.message


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (', family="robust los"', "unknown family 'robust los' (did you mean 'robust loss'?)"),
        (', needs=["two_network"]', "unknown need 'two_network' (did you mean 'two_networks'?)"),
        (', needs="rate"', "needs is a list of words, got 'rate'"),
        (", rows=2", "rows is two numbers, (forward only, forward and back), got 2"),
        (", rows=(-1, 2)", "rows is two numbers"),
        (', year="2020"', "year is a whole number, got '2020'"),
        (", paper=3", "paper is a text, got 3"),
    ],
)
def test_wrong_facts_break_the_plugin_with_one_line(facts: str, words: str, tmp_path: Path) -> None:
    (broken,) = [p for p in Host([plugin(tmp_path, facts)]).plugins if p.name == "twice"]
    assert "algorithms.twice" in broken.error and words in broken.error
