"""The RRM paper's network for comments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness import HarnessError


@pytest.fixture(autouse=True)
def vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    (tmp_path / "word-vectors").mkdir()
    np.save(tmp_path / "word-vectors" / "vectors.npy", rows)
    return rows


def make(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return harness.create("model", "text_cnn", **{"input_shape": (6,), "num_outputs": 2, "vocabulary": 9, **options})


def test_it_is_a_convolution_of_two_words_its_maximum_and_two_layers(vectors: np.ndarray) -> None:
    net = make(filters=4, hidden=3)
    weights = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    words = np.concatenate([np.zeros((2, 5)), vectors]).astype(np.float64)
    for row in ([3, 1, 8, 2], [4], [5, 5, 5, 6, 7, 8]):
        x = words[row] if len(row) > 1 else np.concatenate([words[row], np.zeros((1, 5))])
        ends = [x, np.zeros((1, 5))] if len(row) > 1 else [x]
        kernel = weights["convolution.weight"]
        made = [
            kernel[:, :, 0] @ a + kernel[:, :, 1] @ b + weights["convolution.bias"]
            for a, b in zip(x, np.concatenate(ends)[1:], strict=False)
        ][: max(1, len(row) - 1)]
        found = np.maximum(np.array(made), 0).max(0)
        hidden = np.maximum(weights["hidden.weight"] @ found + weights["hidden.bias"], 0)
        expected = weights["classifier.weight"] @ hidden + weights["classifier.bias"]
        tokens = torch.zeros(1, 6, dtype=torch.int64)
        tokens[0, : len(row)] = torch.tensor(row)
        assert net(tokens)[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert net(tokens[:, : len(row)])[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_vectors_are_trained_only_where_a_suite_says_so() -> None:
    assert not make().get_parameter("vectors.weight").requires_grad
    assert make(train_vectors=True).get_parameter("vectors.weight").requires_grad
    assert make(vectors="").get_parameter("vectors.weight").shape == (9, 300)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocabulary": 10}, "the data's 10 tokens do not fit vectors of shape"),
        ({"vectors": "absent"}, "cannot be read"),
        ({"vocabulary": None, "input_shape": (3, 8, 8)}, "needs texts"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        make(**options)
