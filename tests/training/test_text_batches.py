"""Batches of texts are cut to their longest sample, may hold samples of about the same length, and a trial goes on bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from harness import LabelledData
from harness.errors import DataError, HarnessError
from harness.plugins import load_host
from harness.results.records import claim, read_json, read_lines, submit_trials
from harness.suite.load import load_suite
from harness.training.prepare import prepare
from harness.training.text import PaddedSource, by_length
from harness.training.trial import run_trial

LENGTHS = torch.tensor([3, 1, 5, 2, 2, 4, 1])


def texts() -> torch.Tensor:
    return torch.where(torch.arange(6) < LENGTHS[:, None], torch.arange(1, 8)[:, None], 0)


def test_a_batch_is_as_long_as_its_longest_text() -> None:
    source = PaddedSource(texts(), torch.device("cpu"))
    assert source.lengths.tolist() == LENGTHS.tolist()
    order = torch.tensor([1, 6, 3, 2, 0, 4, 5])
    shapes = []
    for index, inputs in source.shuffled(order, 3, 0, torch.Generator()):
        shapes.append((index.tolist(), tuple(inputs.shape)))
        assert torch.equal(inputs, texts()[index, : inputs.shape[1]])
        assert not texts()[index, inputs.shape[1] :].any()
    assert shapes == [([1, 6, 3], (3, 2)), ([2, 0, 4], (3, 5)), ([5], (1, 4))]
    rest = [index.tolist() for index, _ in source.shuffled(order, 3, 1, torch.Generator())]
    assert rest == [[2, 0, 4], [5]]
    assert source.gather(torch.tensor([1, 6])).shape == (2, 1)
    assert source.gather(torch.tensor([], dtype=torch.int64)).shape[0] == 0
    assert [tuple(inputs.shape) for _, inputs in source.ordered(4)] == [(4, 5), (3, 4)]
    assert list(source.ordered(4, torch.tensor([], dtype=torch.int64))) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_sorting_by_length_keeps_every_sample_once_and_the_short_batch_last(
    size: int, batch: int, window: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(size, generator=generator)
    lengths = torch.randint(1, 50, (size,), generator=generator)
    made = by_length(order, lengths, batch, window)
    assert made.sort().values.tolist() == list(range(size))
    for before, after in zip(order.split(batch * window), made.split(batch * window), strict=True):
        assert before.sort().values.tolist() == after.sort().values.tolist()
        inside = [lengths[part].sort().values for part in after.split(batch) if len(part) == batch or window > 1]
        inside.sort(key=lambda one: (int(one[0]), int(one[-1])))
        if window > 1:
            assert torch.equal(torch.cat(inside), lengths[before].sort().values), "batches hold neighbours by length"


def test_batches_of_a_window_stand_in_an_order_of_chance() -> None:
    lengths = torch.arange(64)
    firsts = [
        int(by_length(torch.randperm(64, generator=torch.Generator().manual_seed(s)), lengths, 8, 8)[0])
        for s in range(200)
    ]
    assert set(firsts) == set(range(0, 64, 8))
    assert torch.bincount(torch.tensor(firsts))[::8].min() > 8


def test_texts_must_be_tokens_of_the_vocabulary() -> None:
    labels = torch.zeros(7, dtype=torch.int64)
    assert LabelledData(texts(), labels, 2, vocabulary=8).subset(torch.tensor([1])).vocabulary == 8
    with pytest.raises(DataError, match=r"outside \[0, 7\)"):
        LabelledData(texts(), labels, 2, vocabulary=7)
    with pytest.raises(DataError, match="texts are not"):
        LabelledData(texts().float(), labels, 2, vocabulary=8)


SUITE = """
[suite]
name = "texts"
seeds = [0]
[execution]
device = "cpu"
[training]
epochs = 3
batch_size = 8
optimizer = {{ name = "adam", lr = 0.01 }}
{training}
[[setting]]
dataset = {{ name = "text_csv", file = "texts.csv", tokenizer = "words", length = 12 }}
noise = {{ name = "symmetric", rate = 0.2 }}
model = {model}
[[method]]
name = "m"
{method}
"""
BERT = '{ name = "bert", weights = "", layers = 1, width = 16, heads = 2, inner = 16, positions = 12 }'


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A suite of 90 texts whose class is a word of theirs."""
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in range(12)]
    rows = [" ".join([*rng.choice(words[2:], rng.integers(0, 11)).tolist(), words[k % 2]]) for k in range(90)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{row},{k % 2}\n" for k, row in enumerate(rows)))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "words.txt").write_text("".join(f"{word}\n" for word in words))
    np.save(tmp_path / "words" / "rows.npy", np.arange(12, dtype=np.uint16))
    np.save(tmp_path / "words" / "vectors.npy", rng.normal(size=(12, 4)).astype(np.float32))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))

    def write(method: str = "", training: str = "", model: str = BERT) -> Path:
        path = tmp_path / "suite.toml"
        path.write_text(SUITE.format(method=method, training=training, model=model))
        return path

    return write


TUNED = 'transforms = [{ name = "freeze", except = ["classifier"] }, { name = "lora", rank = 2, targets = ["query"] }]'
METHODS = {
    "LoRA under dropout": (TUNED, "length_window = 3", BERT),
    "RRM": ('algorithms = [{ name = "rrm" }]', "length_window = 2", BERT),
    "co-teaching": ('algorithms = ["co_teaching"]', "precision = 'bfloat16'", BERT),
    "an average of LoRA": (f'algorithms = ["ema"]\n{TUNED}', "", BERT),
    "frozen word vectors": ("", "", '{ name = "text_cnn", vectors = "words", filters = 6, hidden = 5 }'),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_trial_on_texts_that_was_stopped_ends_as_an_undisturbed_one(
    suite: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    method, training, model = METHODS[name]
    trial, host = next(iter(load_suite(suite(method, training, model)).entries())).trial, load_host()
    outcomes: list[Any] = []
    for folder, stop in ((tmp_path / "whole", 10**6), (tmp_path / "broken", 14)):
        submit_trials(folder, [trial])
        for after in dict.fromkeys((stop, 10**6)):
            count = itertools.count(1)
            attempt = claim(folder, trial.id)
            assert attempt is not None
            result = run_trial(trial, attempt, host, should_stop=lambda c=count, a=after: next(c) >= a)
        outcomes.append((read_lines(attempt.path / "epochs.jsonl"), read_json(attempt.path / "result.json")))
        assert result is not None and result["status"] == "done", result
    assert outcomes[0] == outcomes[1]


def test_a_checkpoint_holds_what_is_trained_and_goes_into_a_fresh_run(suite: Callable[..., Path]) -> None:
    trial, host = next(iter(load_suite(suite(TUNED)).entries())).trial, load_host()
    first, second = (prepare(trial, host, torch.device("cpu")).run for _ in range(2))
    trained = {name for name, p in first.model.named_parameters() if p.requires_grad}
    assert trained == {"classifier.weight", "classifier.bias"} | {
        f"encoder.layer.0.attention.self.query.parametrizations.weight.0.{part}" for part in "ab"
    }
    with torch.no_grad():
        for p in first.network.parameters:
            p.add_(1.0)
    for state in (first.state_dict()["network"]["model"], first.prediction_state()["network"]):
        assert set(state) == trained
    second.load_state_dict(first.state_dict())
    for (name, one), other in zip(first.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    whole = first.state_dict()
    whole["network"]["model"] = {n: t + 1 for n, t in first.model.state_dict().items()}
    second.load_state_dict(whole)
    assert torch.equal(
        second.model.get_parameter("embeddings.LayerNorm.weight"),
        first.model.get_parameter("embeddings.LayerNorm.weight") + 1,
    ), "a state that holds everything, as checkpoints of before do, is taken whole"
    del whole["network"]["model"]["classifier.bias"]
    with pytest.raises(RuntimeError, match=r"classifier\.bias"):
        second.load_state_dict(whole)


def test_what_does_not_fit_texts_is_one_line(suite: Callable[..., Path]) -> None:
    host = load_host()

    def said(*parts: str) -> str:
        with pytest.raises(HarnessError) as caught:
            prepare(next(iter(load_suite(suite(*parts)).entries())).trial, host, torch.device("cpu"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "longer than the model's 5 positions" in said("", "", BERT.replace("positions = 12", "positions = 5"))
    assert "needs images" in said("", "", '{ name = "lenet" }')


def test_the_option_is_in_the_id_only_where_it_is_used(suite: Callable[..., Path]) -> None:
    plain, sorted_ = (next(iter(load_suite(suite("", words)).entries())).trial for words in ("", "length_window = 3"))
    assert "length_window" not in plain.identity["training"]
    assert sorted_.identity["training"]["length_window"] == 3
