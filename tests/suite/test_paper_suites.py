"""The packaged suites: each loads at both scales, names methods as the papers' numbers do, and answers their columns."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache

import pytest

from harness import load_suite
from harness.printed import PublishedCell, load_published
from harness.suite.load import Suite, find_suite, packaged_suites
from harness.trial import canonical, digest

FIELD = {"field/mnist5k": 156, "field/cifar10": 390, "field/cifar10n": 315, "field/cifar10n-small": 24}
"""Suites that are no paper's table: the field's methods under one protocol."""
INGREDIENTS = {"CE", "CE + EMA", "CE + strong augmentation", "CE + EMA + strong augmentation", "MixUp"}
"""What many of the field's methods share, each by itself."""
TOGETHER = {"CE", "CE + EMA + strong augmentation"}
"""Those of them that the small suite has."""
OWN = defaultdict(
    lambda: ("batch_size",),
    {
        "LongReMix": ("batch_size", "schedule"),
        "ANL-CE": ("batch_size", "optimizer", "clip"),
        "JoCoR": ("batch_size", "optimizer"),
        "ProMix": ("batch_size", "optimizer"),
        "ProMix + RRM": ("batch_size", "optimizer"),
    },
)
"""What a method of the field has of its own in the budget; LongReMix's schedule is that of its second stage, ANL's L1 term
stands in place of weight decay, JoCoR's optimizer on `mnist5k` is that of its code, and ProMix has a lower rate there."""
WARM_UPS = ("warmup", "init_epoch", "sieve_after", "phase1", "stage1", "every")
"""Parameters that count epochs before a method does what is its own."""
TRIALS = {
    **FIELD,
    "cdr-aux/figure1": 6,
    "cdr-aux/figure2": 42,
    "cdr-aux/table1": 144,
    "kpd/figure1": 10,
    "kpd/table1": 135,
    "kpd/table2": 828,
    "kpd/table3": 9,
    "kpd/table4": 9,
    "rrm/table1": 100,
    "rrm/necrosis": 2,
    "rrm/table2": 18,
    "rrm/table3": 12,
    "rrm/table4": 90,
    "rrm/table5": 30,
    "rrm/table6": 1,
    "rrm/table7": 30,
    "rrm/table8": 72,
    "rrm/table10": 30,
    "rrm/table11": 36,
    "rrm/table12": 8,
    "sop/figure2": 1,
    "sop/figure3": 9,
    "sop/figure4": 196,
    "sop/table1": 240,
    "sop/table2": 120,
    "sop/table3": 54,
    "sop/table4": 240,
    "sop/table5": 6,
    "wrench/features": 90,
}
IDS = {
    "field/mnist5k": "6d25c93ea37c1e25",
    "field/cifar10": "bac225dff8ff8637",
    "field/cifar10n": "646981ad4193608a",
    "field/cifar10n-small": "af22d955e73e83b6",
    "cdr-aux/figure1": "0d4da024408992d3",
    "cdr-aux/figure2": "cc0ea117b47749f7",
    "cdr-aux/table1": "47f622d38fae74ce",
    "kpd/figure1": "2b9385622942df51",
    "kpd/table1": "77b842b8deb29858",
    "kpd/table2": "50f07326b8815a70",
    "kpd/table3": "919a19cf65af603f",
    "kpd/table4": "87776ae83a314ae7",
    "rrm/table1": "189af4c3411e01bf",
    "rrm/necrosis": "c0e91eb820af1c4e",
    "rrm/table2": "69bf4f559daa8dd4",
    "rrm/table3": "c8ad26836c6b9bc5",
    "rrm/table4": "816b5c68cc429c0d",
    "rrm/table5": "6a1155a06c4b404d",
    "rrm/table6": "e61987d269f567f0",
    "rrm/table7": "58e2b55ef9e88178",
    "rrm/table8": "3581ed7df9d0d387",
    "rrm/table10": "e37ed9bdc44492ec",
    "rrm/table11": "16610f45a22fe244",
    "rrm/table12": "2162ba09aa82f09e",
    "sop/figure2": "9dd97804afd728e7",
    "sop/figure3": "67c4c9d5030ae44e",
    "sop/figure4": "c05cba27324328cf",
    "sop/table1": "deb3678e967f2c2e",
    "sop/table2": "fc4fd2bb9a416eaa",
    "sop/table3": "6e2050cfae97dadd",
    "sop/table4": "95869ac76cebf46e",
    "sop/table5": "6e916ccc98ad53fc",
    "wrench/features": "a2d40ff319054fb3",
}
"""Digest of the sorted ids of each suite's trials: an id that changes makes every recorded result of it missing."""
EXTRA = {
    "kpd/table1": {f"{loss} + KPD, dense start" for loss in ("L1", "Huber", "Tukey")},
    "rrm/table1": {"CE", "CE + RRM"},
}
"""Methods of a suite that its table has not."""
UNANSWERED = {
    "kpd/table2": lambda cell: cell.dataset == "cifar100" and str(cell.method).startswith("DMI"),
}
"""Cells that the harness cannot run, by suite."""
NOT_OFFERED = {
    "rrm/table2": {"LRA-diffusion", "Knockoffs-SPR", "Meta-Weight-Net"},
    "rrm/table3": {"LRA-diffusion", "CleanNet"},
}
"""Methods whose numbers a table quotes, and which the harness has not."""
ANNOTATIONS = {"fine": "noisy"}
TABLES = [*sorted(name for name in TRIALS if "table" in name), "rrm/necrosis"]
READINGS = {"kpd/table1": 3}
"""How many settings answer each printed cell, where the paper leaves open in what they differ."""
MINUTES = 2_500_000
"""Samples seen in training that two cores manage in minutes with the small models of `--scale quick`."""


@cache
def suite_of(name: str, scale: str = "full") -> Suite:
    return load_suite(f"suite:{name}", scale=scale)


@cache
def printed(name: str) -> tuple[PublishedCell, ...]:
    return tuple(cell for cell in load_published() if f"{cell.paper}/{cell.table}" == name)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a trial of ours stands, in a printed cell's words."""

    method: str
    dataset: str
    noise: str
    rate: float | None
    model: str
    annotation: str | None
    tested: str | None
    epsilons: tuple[float, ...]

    def answers(self, cell: PublishedCell) -> bool:
        extra: Mapping[str, object] = json.loads(cell.extra)
        annotation = ANNOTATIONS.get(str(extra.get("annotation")), extra.get("annotation"))
        return (
            cell.method == self.method
            and cell.dataset in (None, self.dataset)
            and cell.noise in (None, self.noise)
            and cell.model in (None, self.model)
            and (cell.rate is None or cell.rate == (self.rate or 0.0))
            and annotation in (None, self.annotation)
            and extra.get("evaluated_on") in (None, self.tested)
            and (extra.get("epsilon") is None or extra["epsilon"] in self.epsilons)
        )


@cache
def places(name: str) -> tuple[Place, ...]:
    return tuple(
        Place(
            method.name,
            setting.dataset.name,
            setting.noise.name,
            setting.noise.params.get("rate"),
            setting.model.name,
            setting.noise.params.get("labels"),
            setting.dataset.params.get("test"),
            tuple(setting.evaluation.fgsm),
        )
        for method, setting in suite_of(name).pairs()
    )


def test_every_suite_of_the_papers_is_packaged_and_no_other() -> None:
    assert set(packaged_suites()) == {*TRIALS, "default", "multilabel", "field/tuned"}


def test_in_the_tuned_suite_every_method_has_eight_tries_with_four_learning_rates_or_more() -> None:
    suite, quick = suite_of("field/tuned"), suite_of("field/tuned", "quick")
    assert len(suite.methods) == 37 and suite.table.tuning_seeds and suite.table.search_over == "setting"
    for method in suite.methods:
        assert len(method.candidates) == 8, method.name
        assert len({values["optimizer.lr"] for values in method.candidates}) >= 4, method.name
    assert not set(suite.table.seeds) & set(suite.table.tuning_seeds)
    assert sum(1 for _ in suite.pairs()) == 37 * 5 == sum(1 for _ in quick.pairs())


@pytest.mark.parametrize("name", TRIALS)
def test_a_suite_has_its_trials_and_says_what_it_is_for(name: str) -> None:
    suite = suite_of(name)
    assert suite.name == name
    assert suite.table.description
    assert suite.comparable
    assert len(list(suite.entries())) == TRIALS[name]


@pytest.mark.parametrize("name", TRIALS)
def test_the_ids_of_a_suites_trials_change_only_on_purpose(name: str) -> None:
    assert digest(sorted(entry.trial.id for entry in suite_of(name).entries())) == IDS[name]


@pytest.mark.parametrize("name", TRIALS)
def test_quick_scale_is_marked_and_small(name: str) -> None:
    quick, full = suite_of(name, "quick"), suite_of(name)
    assert not quick.comparable
    entries = list(quick.entries())
    assert {entry.seed for entry in entries} == {full.table.seeds[0]}
    assert {entry.method for entry in entries} == {entry.method for entry in full.entries()}
    seen = sum(entry.trial.identity["training"]["epochs"] * (entry.trial.identity["subset"] or 0) for entry in entries)
    assert 0 < seen <= MINUTES
    heavy = {entry.trial.identity["model"]["name"] for entry in entries}
    assert not any("resnet" in model for model in heavy)


@pytest.mark.parametrize("name", TRIALS)
def test_a_suite_says_in_comments_what_the_paper_left_open(name: str) -> None:
    text = find_suite(f"suite:{name}").read_text()
    head = text[: text.index("[suite]")]
    assert head.startswith("# ")
    assert any(
        word in head for word in ("open", "does not say", "prints neither", "gives neither", "as table", "as there")
    )


@pytest.mark.parametrize("name", TABLES)
def test_methods_are_called_as_in_the_published_numbers(name: str) -> None:
    ours = {method.name for method in suite_of(name).methods}
    theirs = {cell.method for cell in printed(name)}
    assert ours - theirs == EXTRA.get(name, set())
    assert theirs - ours == NOT_OFFERED.get(name, set())


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_cell_that_can_run_is_answered_by_one_setting(name: str) -> None:
    unanswered = UNANSWERED.get(name, lambda cell: False)
    for cell in printed(name):
        if cell.method in NOT_OFFERED.get(name, ()):
            continue
        answers = [place for place in places(name) if place.answers(cell)]
        assert len(answers) == (0 if unanswered(cell) else READINGS.get(name, 1)), (
            f"{cell.method}, {cell.column}: {answers}"
        )


@pytest.mark.parametrize("name", FIELD)
def test_the_field_has_one_protocol_but_for_the_batch_and_its_ingredients_in_every_setting(name: str) -> None:
    entries = list(suite_of(name).entries())
    for setting in {entry.setting for entry in entries}:
        here = [entry for entry in entries if entry.setting == setting]
        ingredients = TOGETHER if name == "field/cifar10n-small" else INGREDIENTS
        assert {entry.method for entry in here} == {entry.method for entry in entries} >= ingredients
        identities = [entry.trial.identity for entry in here]
        alike = ("dataset", "noise", "model", "augment")
        assert len({canonical({key: identity[key] for key in alike}) for identity in identities}) == 1
        budgets = [
            {k: v for k, v in entry.trial.identity["training"].items() if k not in OWN[entry.method]} for entry in here
        ]
        assert len({canonical(budget) for budget in budgets}) == len({OWN[entry.method] for entry in here})


@pytest.mark.parametrize("name", FIELD)
def test_at_quick_scale_every_method_of_the_field_gets_past_its_warm_up(name: str) -> None:
    late = []
    for entry in suite_of(name, "quick").entries():
        epochs = entry.trial.identity["training"]["epochs"] // (2 if entry.method == "LongReMix" else 1)
        for part in entry.trial.identity["algorithms"]:
            counts = {key: part["params"].get(key) for key in WARM_UPS}
            late += [(entry.method, key, n) for key, n in counts.items() if type(n) is int and n >= epochs]
    assert not late


@pytest.mark.parametrize("name", ["field/cifar10", "field/cifar10n"])
def test_what_is_quoted_for_a_method_of_the_field_is_answered_where_network_and_labels_are_the_same(name: str) -> None:
    ours = {method.name for method in suite_of(name).methods}
    quoted = [cell for cell in printed(name) if cell.method in ours and cell.comparable]
    answers = {id(cell): [place for place in places(name) if place.answers(cell)] for cell in quoted}
    assert all(len(found) <= 1 for found in answers.values())
    assert "DivideMix" in {cell.method for cell in quoted if answers[id(cell)]}


@pytest.mark.parametrize("name", TABLES)
def test_every_setting_of_a_table_answers_a_printed_cell(name: str) -> None:
    answering = {dataclasses.replace(p, method="") for p in places(name) if any(p.answers(c) for c in printed(name))}
    assert {dataclasses.replace(place, method="") for place in places(name)} == answering


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_seeds_of_the_paper(name: str) -> None:
    said = {cell.n for cell in printed(name) if cell.n is not None}
    assert not said or len(suite_of(name).table.seeds) == max(said)


def test_learning_rates_on_the_batch_mean_are_the_rrm_papers_on_the_weighted_sum() -> None:
    """lr on `sum (1/N) J` is lr B / N on the mean of B losses, and weight decay keeps its step lr * wd."""
    for name, lr, samples in (("rrm/table4", 10.0, 50_000), ("rrm/table8", 0.1, 18_623), ("rrm/table5", 0.1, 48_000)):
        training = suite_of(name).training
        optimizer = training.optimizer
        assert isinstance(optimizer, dict)
        assert optimizer["lr"] == pytest.approx(lr * training.batch_size / samples, rel=1e-3)
        if name == "rrm/table4":
            assert optimizer["lr"] * optimizer["weight_decay"] == pytest.approx(lr * 1e-5, rel=2e-3)


def test_kpd_table1_factors_are_the_papers() -> None:
    from harness_plugins.transforms.kpd import factor_shapes

    assert factor_shapes(8, 1) == ((2, 1), (4, 1))
    assert factor_shapes(36, 36) == ((6, 6), (6, 6))
