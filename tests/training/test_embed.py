"""`harness data embed` writes what a frozen model makes of a data set, and `features:NAME` is a data set like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import harness
from harness import HarnessError
from harness.cli.data import app
from harness.errors import SuiteError
from harness.plugins import load_host
from harness.training import embed as embedding
from harness.training.data import Standardiser

LENET = ("digits", "--model", "mlp", "--model-set", "hidden=[12]", "--batch", "50")


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """HARNESS_DATA with the features `tiny`: digits through a small network, two weak views and one strong one."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_DATA", str(data))
        said = call("embed", *LENET, "--name", "tiny", "--views", "weak:2,strong:1", "--augment", "crop=1")
        assert 'dataset = "features:tiny"' in said
        assert "forward passes" in said.splitlines()[0], "the cost is said first"
        yield data


def recipe(**changes: Any) -> embedding.Recipe:
    fields = {
        "dataset": {"name": "digits", "params": {}},
        "model": {"name": "mlp", "params": {"hidden": [12]}},
        "views": {"weak": 2, "strong": 1},
        "augment": {"crop": 1, "flip": False, "cutout": 0},
        "size": None,
        "batch": 50,
        "seed": 0,
    }
    return embedding.Recipe(**{**fields, **changes})


def job(name: str, **changes: Any) -> embedding.Extraction:
    return embedding.prepare(load_host().registry, recipe(**changes), torch.device("cpu"), name)


def stop_after(limit: int) -> Callable[[int], None]:
    """Ctrl-C once more than `limit` passes are done."""
    done = 0

    def stop(rows: int) -> None:
        nonlocal done
        done += rows
        if done > limit:
            raise KeyboardInterrupt

    return stop


def test_features_are_the_inputs_of_the_last_layer(folder: Path) -> None:
    images = harness.create("dataset", "digits")
    features = harness.create("dataset", "features:tiny")
    model = job("another").model
    standardiser = Standardiser.fit(images.train.inputs, "channel")
    assert standardiser is not None
    with torch.inference_mode():
        expected = model[:-1](standardiser(images.train.inputs[:30]))  # type: ignore[index]
    assert features.train.inputs.shape == (len(images.train), 12)
    assert features.train.inputs.dtype == torch.float16
    assert torch.allclose(features.train.inputs[:30].float(), expected, atol=2e-3)
    assert torch.equal(features.train.targets, images.train.targets)
    assert torch.equal(features.test.targets, images.test.targets)
    assert features.train.class_names == images.train.class_names
    assert {name: tuple(view.shape[1:]) for name, view in features.train.views.items()} == {
        "weak": (2, 12),
        "strong": (1, 12),
    }
    assert not torch.equal(features.train.views["weak"][:, 0], features.train.views["weak"][:, 1])


def test_a_stopped_extraction_goes_on_to_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "SAVED_S", 0.0)
    whole = job("tiny").passes
    for limit in (120, whole - 60):
        with pytest.raises(KeyboardInterrupt):
            embedding.embed(job("again"), stop_after(limit))
        with pytest.raises(HarnessError, match="its extraction was stopped"):
            harness.create("dataset", "features:again")
    told: list[int] = []
    embedding.embed(job("again"), told.append)
    assert sum(told) == whole and max(told) > 100, "what was done before is counted, not done again"
    for file in (folder / "features" / "tiny").glob("*.npy"):
        assert file.read_bytes() == (folder / "features" / "again" / file.name).read_bytes(), file.name


def test_what_was_begun_for_other_features_is_not_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "SAVED_S", 0.0)
    first = job("changed", views={})

    with pytest.raises(KeyboardInterrupt):
        embedding.embed(first, stop_after(0))
    embedding.embed(job("changed", views={}, seed=1))
    embedding.embed(job("fresh", views={}, seed=1))
    changed, fresh = (folder / "features" / name / "train.npy" for name in ("changed", "fresh"))
    assert changed.read_bytes() == fresh.read_bytes()


def test_a_name_without_a_choice_holds_the_digest_of_all_that_the_features_are_made_of(folder: Path) -> None:
    names = {job("", **changes).name for changes in ({}, {"seed": 1}, {"views": {}}, {"batch": 51})}
    names |= {job("", model={"name": "mlp", "params": {"hidden": [13]}}).name}
    assert len(names) == 5 and all(name.startswith("digits-mlp-") for name in names)
    manifest = json.loads((folder / "features" / "tiny" / "features.json").read_text())
    assert set(manifest["digests"]) == {"data", "weights", "dataset", "model"}
    assert job("", seed=1).manifest["digests"]["weights"] != manifest["digests"]["weights"]


def test_the_first_samples_alone_can_be_embedded(folder: Path) -> None:
    call("embed", *LENET, "--name", "first", "--samples", "70,30")
    whole, first = (harness.create("dataset", f"features:{name}") for name in ("tiny", "first"))
    for part, count in (("train", 70), ("test", 30)):
        few, all_ = getattr(first, part), getattr(whole, part)
        assert len(few) == count
        assert torch.equal(few.targets, all_.targets[:count])
        assert torch.allclose(few.inputs.float(), all_.inputs[:count].float(), atol=0.1)  # other means and deviations


def test_weights_are_told_apart_and_the_unused_classifier_is_not_looked_at(folder: Path) -> None:
    one = job("")
    before = embedding.weights_digest(one.model, one.layer)
    with torch.no_grad():
        one.layer.bias.add_(1)  # type: ignore[union-attr,operator]
        assert embedding.weights_digest(one.model, one.layer) == before
        next(one.model.parameters())[0, 0] += 1
    assert embedding.weights_digest(one.model, one.layer) != before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*LENET, "--name", "tiny"), "there are other features of this name"),
        ((*LENET, "--views", "weak:1"), "weak views need an augmentation; add --augment crop=4 --augment flip=true"),
        ((*LENET, "--views", "weak"), "'weak' is no view with a number"),
        ((*LENET, "--views", "feeble:1"), "unknown view 'feeble'"),
        ((*LENET, "--name", "../x"), "is no name of features"),
        (("california_housing", "--model", "mlp"), "is not under HARNESS_DATA"),
        (("sparse_linear", "--model", "mlp"), "is for regression"),
        (("digits", "--model", "mpl"), "unknown model 'mpl'"),
        ((*LENET, "--samples", "70"), "'70' is not two numbers; write --samples 10000,5000"),
        ((*LENET, "--samples", "70,30000"), "30000 samples of a part that has"),
        ((*LENET, "--samples", "0,30"), "0 samples of a part that has"),
    ],
)
def test_bad_input_is_told_in_one_line(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(HarnessError) as error:
        call("embed", *arguments)
    assert said in str(error.value)


def test_features_beyond_float16_are_refused(folder: Path) -> None:
    large = job("large", views={})
    with torch.no_grad():
        next(large.model.parameters()).mul_(1e6)
    with pytest.raises(HarnessError, match="no finite float16"):
        embedding.embed(large)


def test_damaged_features_are_named(folder: Path) -> None:
    embedding.embed(job("damaged", views={}))
    call("verify", "features:damaged")
    path = folder / "features" / "damaged" / "train.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(HarnessError, match=r"train\.npy has md5"):
        call("verify", "features:damaged")
    with pytest.raises(HarnessError, match=r"train\.npy is float16"):
        harness.create("dataset", "features:damaged")
    with pytest.raises(HarnessError, match="make it: harness data embed"):
        harness.create("dataset", "features:absent")


def test_a_method_whose_views_are_not_stored_is_refused_when_a_plan_is_made(
    folder: Path, write_suite: Callable[..., Path]
) -> None:
    embedding.embed(job("plain", views={}))
    methods = {
        "algorithm": '[[method]]\nname = "{0}"\nalgorithms = ["{0}"]',
        "loss": '[[method]]\nname = "{0}"\nloss = "{0}"',
    }
    for kind, name, view, data in (
        ("algorithm", "divide_mix", "weak", "plain"),
        ("algorithm", "cc", "weak", "plain"),
        ("algorithm", "t_revision", "weak", "plain"),
        ("algorithm", "sop_plus", "strong", "plain"),
        ("algorithm", "pro_mix", "promix", "tiny"),
        ("loss", "f_divergence", "weak", "plain"),
    ):
        path = write_suite(methods=methods[kind].format(name))
        path.write_text(path.read_text().replace('"digits"', f'"features:{data}"'))
        with pytest.raises(SuiteError, match=f"{kind} '{name}' asks for '{view}' views, and the data set stores none"):
            harness.plan(path)
    chosen = '[[method]]\nname = "S"\nalgorithms = [{{ name = "strong_augmentation", policy = "{0}" }}]'
    for policy, refused in (("strong", False), ("autoaugment", True)):
        path = write_suite(methods=chosen.format(policy))
        path.write_text(path.read_text().replace('"digits"', '"features:tiny"'))
        if refused:
            with pytest.raises(SuiteError, match="'autoaugment' views"):
                harness.plan(path)
        else:
            harness.plan(path)


def test_heads_train_on_features_with_stored_views_noise_and_validation(
    folder: Path, write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    methods = """
        [[method]]
        name = "CE"
        [[method]]
        name = "SOP+"
        algorithms = ["sop_plus"]
        [[method]]
        name = "DivideMix"
        algorithms = [{ name = "divide_mix", warmup = 2 }]
        """
    path = write_suite(methods=methods, epochs=4, noise='{ name = "symmetric", rate = 0.2 }')
    path.write_text(path.read_text().replace('"digits"', '"features:tiny"'))
    results = tmp_path / "results"
    harness.run(path, results)
    found = [json.loads(file.read_text()) for file in results.glob("trials/*/attempt-001/result.json")]
    assert len(found) == 3
    assert len({one["label_digest"] for one in found}) == 1, "all methods face the same labels"
    assert all(one["metrics"]["accuracy"]["last"] > 0.4 for one in found)


def test_a_stored_view_is_one_of_the_sample_s_own(folder: Path) -> None:
    from harness.training.augment import Augmentation
    from harness.training.data import make_source

    data = harness.create("dataset", "features:tiny").train
    part = data.subset(torch.arange(100, 160))
    assert torch.equal(part.views["weak"], data.views["weak"][100:160])
    standardiser = Standardiser.fit(data.inputs, "channel")
    source = make_source(part.inputs, standardiser, Augmentation(), torch.device("cpu"), part.views)
    assert source.views is not None and standardiser is not None
    assert torch.equal(source.gather(torch.tensor([3]))[0], standardiser(data.inputs[103]))


def test_human_labels_votes_and_super_classes_go_with_the_features(folder: Path, tmp_path: Path) -> None:
    import dataclasses

    votes = torch.tensor([[0, 1], [-1, 1]] * 20)
    first = job("labelled", views={})
    train = dataclasses.replace(
        first.splits.train.subset(torch.arange(40)),
        human={"crowd": torch.arange(40) % 10},
        votes=votes,
        superclasses=torch.arange(10) // 2,
    )
    embedding.embed(dataclasses.replace(first, splits=dataclasses.replace(first.splits, train=train)))
    kept = harness.create("dataset", "features:labelled").train
    assert torch.equal(kept.votes, votes)
    assert torch.equal(kept.human["crowd"], train.human["crowd"])
    assert torch.equal(kept.superclasses, train.superclasses)
