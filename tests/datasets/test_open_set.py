"""Open-set noise: images of no class lie among the training samples, are detected, and never count as of a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.datasets.open_set import with_outside
from harness_plugins.metrics import open_set_auroc, open_set_precision, open_set_recall
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.utils.data import Dataset

import harness
from harness import DataSplits, HarnessError, LabelledData
from harness.plugins import load_host
from harness.suite.load import load_suite
from harness.training.loop import Loop
from harness.training.prepare import prepare

Write = Callable[..., Path]


def rows(data: LabelledData) -> set[bytes]:
    assert isinstance(data.inputs, Tensor)
    return {image.numpy().tobytes() for image in data.inputs}


def made(**options: Any) -> DataSplits:
    splits: DataSplits = harness.create("dataset", "open_set", data="digits", **options)
    return splits


def test_left_out_classes_take_the_place_of_others_under_their_labels() -> None:
    whole = harness.create("dataset", "digits")
    found, again = (made(left_out=[3, 8], rate=0.2) for _ in range(2))
    train, test = found.train, found.test
    kept = ~torch.isin(whole.train.targets, torch.tensor([3, 8]))
    assert train.num_classes == test.num_classes == 8 and train.class_names == tuple("01245679")
    names = [int(train.class_names[k]) for k in train.targets.tolist()]
    assert names == whole.train.targets[kept].tolist(), "every label stays in its place"
    assert train.outside is not None and test.outside is None
    assert int(train.outside.sum()) == round(0.2 * len(train))
    outsiders = rows(whole.train.subset(torch.nonzero(~kept).squeeze(1)))
    assert rows(train.subset(torch.nonzero(train.outside).squeeze(1))) <= outsiders
    assert not rows(train.subset(torch.nonzero(~train.outside).squeeze(1))) & outsiders
    assert not rows(test) & outsiders and len(test) == int(
        (~torch.isin(whole.test.targets, torch.tensor([3, 8]))).sum()
    )
    assert torch.equal(train.inputs, again.train.inputs), "the same for every seed"  # type: ignore[arg-type]


def test_images_of_another_set_take_the_place_of_some() -> None:
    whole = harness.create("dataset", "digits").train
    pool = dataclasses.replace(whole, inputs=255 - whole.inputs)  # type: ignore[operator]
    found = with_outside(whole, pool, 0.1, np.random.default_rng(0))
    assert found.outside is not None and torch.equal(found.targets, whole.targets)
    assert torch.equal(found.inputs[~found.outside], whole.inputs[~found.outside])  # type: ignore[index]
    assert rows(found.subset(torch.nonzero(found.outside).squeeze(1))) <= rows(pool)


def test_no_image_is_used_twice() -> None:
    data = LabelledData(torch.arange(10.0)[:, None], torch.arange(10) % 2, 2)
    pool = LabelledData(-1 - torch.arange(5.0)[:, None], torch.arange(5) % 2, 2)
    found = with_outside(data, pool, 0.5, np.random.default_rng(0))
    assert sorted(found.inputs[found.outside].flatten().tolist()) == [-5, -4, -3, -2, -1]  # type: ignore[index]


class Streaming(Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(1, 8, 8, dtype=torch.uint8)


def test_bad_input_is_told_in_one_line() -> None:
    for options, words in (
        ({}, "give source or left_out"),
        ({"source": "digits", "left_out": [1]}, "give source or left_out"),
        ({"left_out": [10]}, r"cannot leave \[10\] out of 10 classes"),
        ({"left_out": list(range(9))}, "leave two or more of them"),
        ({"left_out": [0], "rate": 0.9}, "samples of no class are wanted of"),
        ({"source": "mnist5k"}, r"inputs are uint8 \(1, 8, 8\) and of no class uint8 \(1, 28, 28\)"),
    ):
        with pytest.raises(HarnessError, match=words) as caught:
            made(**options)
        assert "\n" not in str(caught.value)
    with pytest.raises(HarnessError, match="is for regression"):
        harness.create("dataset", "open_set", data="sparse_linear", left_out=[0])
    stream = LabelledData(Streaming(), torch.arange(10) % 2, 2)
    with pytest.raises(HarnessError, match="its samples stream"):
        with_outside(stream, stream, 0.1, np.random.default_rng(0))
    with pytest.raises(HarnessError, match=r"give \(N,\) bool"):
        LabelledData(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 2, outside=torch.zeros(2, dtype=torch.bool))


def test_the_highest_rate_that_a_refusal_names_works() -> None:
    with pytest.raises(HarnessError) as caught:
        made(left_out=[0], rate=0.9)
    found = made(left_out=[0], rate=float(str(caught.value).rsplit(" ", 1)[1])).train
    assert found.outside is not None and int(found.outside.sum()) > 100


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("open-set") / "suite.toml"
    path.write_text(
        """
[suite]
name = "open-set"
seeds = [0]
[training]
epochs = 3
[evaluation]
train_every = 1
metrics = ["open_set_auroc", "open_set_precision", "open_set_recall"]
[[setting]]
dataset = { name = "open_set", data = "digits", left_out = [8, 9], rate = 0.2 }
noise = { name = "symmetric", rate = 0.2 }
model = { name = "mlp", hidden = [32] }
[[method]]
name = "RRM and SOP"
algorithms = ["sop", { name = "rrm", every = 1, contamination = 0.4 }]
"""
    )
    prepared = prepare(next(iter(load_suite(path).entries())).trial, load_host(), torch.device("cpu"))
    return prepared, Loop(prepared.run, prepared.evaluator, _Silent()).fit()  # type: ignore[arg-type]


class _Silent:
    def epoch(self, *_: Any) -> None: ...

    def checkpoint(self, state: Any) -> None: ...

    def should_stop(self) -> bool:
        return False


def test_what_needs_a_true_label_is_measured_of_samples_that_have_one(measured: Any) -> None:
    prepared, history = measured
    run, clean, noisy = prepared.run, prepared.evaluator.train_clean, prepared.evaluator.train_noisy
    assert run.num_outputs == 8
    assert 0.15 < float((clean < 0).double().mean()) < 0.25
    with run.evaluating(), torch.no_grad():
        predicted = run.predict(run.source.gather(torch.arange(run.num_samples))).argmax(1)
    wrong, right = (clean >= 0) & (clean != noisy), clean == noisy
    assert history[-1]["memorisation"] == pytest.approx(float((predicted == noisy)[wrong].double().mean()))
    assert history[-1]["recovery"] == pytest.approx(float((predicted == clean)[wrong].double().mean()))
    assert history[-1]["clean_accuracy"] == pytest.approx(float((predicted == clean)[right].double().mean()))
    assert history[-1]["train_accuracy"] == pytest.approx(float((predicted == noisy).double().mean()))
    transitions = torch.tensor(prepared.evaluator.transitions(run))
    assert int(transitions.sum()) == int((clean >= 0).sum())
    assert int(transitions.diagonal().sum()) == int(right.sum())


def test_scores_are_judged_against_wrong_labels_of_both_kinds_and_against_samples_of_no_class(measured: Any) -> None:
    prepared, history = measured
    clean, noisy = prepared.evaluator.train_clean.numpy(), prepared.evaluator.train_noisy.numpy()
    scored = {name: s.double().numpy() for name, (s, detects) in prepared.run.sample_scores.items() if detects}
    assert len(scored) == 2
    for name, scores in scored.items():
        assert history[-1][f"detection_auroc@{name}"] == pytest.approx(roc_auc_score(clean != noisy, scores))
        assert history[-1][f"open_set_auroc@{name}"] == pytest.approx(roc_auc_score(clean < 0, scores))
    last = list(scored)[-1]
    for metric in ("open_set_auroc", "open_set_precision", "open_set_recall"):
        assert history[-1][metric] == history[-1][f"{metric}@{last}"]


def test_no_path_leads_to_which_samples_are_of_no_class(measured: Any) -> None:
    from harness.training.reach import find_labels

    prepared, _ = measured
    assert not find_labels(prepared.run, prepared.evaluator.train_clean)
    outside = (prepared.evaluator.train_clean < 0).to(torch.int64)
    assert not find_labels(prepared.run, outside)


def test_precision_and_recall_are_of_as_many_samples_as_have_a_wrong_label() -> None:
    clean = torch.tensor([-1, -1, 0, 1, 0, 1, 0, 1])
    noisy = torch.tensor([0, 1, 1, 1, 0, 1, 0, 1])  # three wrong labels, two of no class
    scores = torch.tensor([9.0, 1.0, 8.0, 7.0, 0.0, 0.0, 0.0, 0.0])
    assert float(open_set_precision(scores, noisy, clean)) == pytest.approx(1 / 3)
    assert float(open_set_recall(scores, noisy, clean)) == pytest.approx(1 / 2)
    tied = torch.tensor([9.0, 5.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0])  # two of the three ties are removed
    assert float(open_set_precision(tied, noisy, clean)) == pytest.approx((1 + 2 / 3) / 3)
    assert float(open_set_recall(tied, noisy, clean)) == pytest.approx((1 + 2 / 3) / 2)


def test_without_samples_of_no_class_there_is_no_number() -> None:
    clean, noisy, scores = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), torch.tensor([0.0, 2.0, 1.0])
    for value in (
        open_set_auroc(scores, clean),
        open_set_precision(scores, noisy, clean),
        open_set_recall(scores, noisy, clean),
        open_set_precision(scores, clean, clean),
    ):
        assert bool(value.isnan())
    assert bool(open_set_auroc(torch.tensor([0.0, torch.nan, 1.0]), torch.tensor([0, -1, 1])).isnan())


def test_features_keep_which_samples_are_of_no_class(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measured: Any
) -> None:
    from harness.training.embed import Recipe, embed
    from harness.training.embed import prepare as prepared_extraction

    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    dataset = {"name": "open_set", "params": {"data": "digits", "left_out": [8, 9], "rate": 0.2}}
    recipe = Recipe(dataset, {"name": "mlp", "params": {"hidden": [4]}}, {}, {}, None, 256, 0)
    job = prepared_extraction(load_host().registry, recipe, torch.device("cpu"), "of-digits")
    embed(job)
    kept = harness.create("dataset", "features:of-digits").train
    assert torch.equal(kept.outside, made(left_out=[8, 9], rate=0.2).train.outside)
    assert len(kept.outside) > 1000
