"""BERT and DistilBERT: the numbers of Hugging Face's own models, their weights strictly, and one line for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness import HarnessError

save_file = pytest.importorskip("safetensors.torch", reason="weights need safetensors (extra: text)").save_file

SMALL = {"layers": 2, "width": 16, "heads": 4, "inner": 24, "positions": 12}
CONFIGS = {
    "bert": {
        "model_type": "bert",
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 12,
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 40,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 24,
        "max_position_embeddings": 12,
    },
}


def model(kind: str, length: int = 10, classes: int = 3, vocabulary: int = 40, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    made: torch.nn.Module = harness.create(
        "model", kind, input_shape=(length,), num_outputs=classes, vocabulary=vocabulary, **options
    )
    return made.eval()


def tokens() -> torch.Tensor:
    """(3, 10) tokens of texts of 10, 7 and 2."""
    drawn = torch.randint(1, 40, (3, 10), generator=torch.Generator().manual_seed(1))
    return drawn * (torch.arange(10) < torch.tensor([[10], [7], [2]]))


def write(folder: Path, kind: str, state: dict[str, torch.Tensor], **changes: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[kind], **changes}))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_are_bit_for_bit_those_of_hugging_face(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed here")
    names = {"bert": ("BertConfig", "BertForSequenceClassification")}
    config, classifier = names.get(kind, ("DistilBertConfig", "DistilBertForSequenceClassification"))
    facts = {key: value for key, value in CONFIGS[kind].items() if key != "model_type"}
    torch.manual_seed(3)
    theirs = getattr(transformers, classifier)(getattr(transformers, config)(**facts, num_labels=3)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # also those that start at 0 or 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "hub")
    ours = model(kind, weights=str(tmp_path / "hub"))
    inputs = tokens()
    with torch.no_grad():
        expected = theirs(input_ids=inputs, attention_mask=(inputs != 0).long()).logits
        assert torch.equal(ours(inputs), expected)
        assert torch.equal(ours(inputs[:1]), theirs(input_ids=inputs[:1]).logits)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("options", [{}, {"pooling": "mean"}])
def test_padding_changes_nothing(kind: str, options: dict[str, Any]) -> None:
    if kind == "distilbert" and options:
        options = {"head_dropout": 0.0}
    net = model(kind, weights="", **SMALL, **options)
    torch.nn.init.normal_(net.get_submodule("embeddings").word_embeddings.weight)  # type: ignore[union-attr, arg-type]
    inputs = tokens()
    for row, length in enumerate((10, 7, 2)):
        assert torch.allclose(net(inputs)[row], net(inputs[row : row + 1, :length])[0], atol=1e-6)


def test_mean_pooling_is_the_mean_over_the_tokens_of_a_text() -> None:
    net = model("bert", weights="", pooling="mean", **SMALL)
    inputs = tokens()
    states = net.encode(inputs)  # type: ignore[operator]
    pooled = torch.stack([states[0].mean(0), states[1, :7].mean(0), states[2, :2].mean(0)])
    assert torch.allclose(net(inputs), net.get_submodule("classifier")(pooled), atol=1e-6)


@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_without_a_head_leave_the_classifier_to_chance_and_all_else_is_theirs(
    kind: str, tmp_path: Path
) -> None:
    source = model(kind, weights="", **SMALL)
    encoder = {f"{kind}.{n}": t + 1 for n, t in source.state_dict().items() if "classifier" not in n}
    further = {"cls.predictions.bias" if kind == "bert" else "vocab_layer_norm.bias": torch.zeros(3)}
    loaded = model(kind, weights=write(tmp_path / "w", kind, {**encoder, **further}))
    for name, tensor in loaded.state_dict().items():
        if "classifier" not in name:
            assert torch.equal(tensor, encoder[f"{kind}.{name}"]), name
    assert loaded.state_dict()["classifier.weight"].std() > 0


def test_distilbert_has_the_parameters_that_table_12_reports_once_peft_s_copy_of_the_head_is_counted() -> None:
    with torch.device("meta"):
        net = harness.create("model", "distilbert", input_shape=(512,), num_outputs=2, vocabulary=30_522, weights="")
    count = sum(p.numel() for p in net.parameters())
    assert count == 66_955_010
    assert count + 628_994 == 67_584_004


def refused(kind: str, **options: Any) -> str:
    with pytest.raises(HarnessError) as caught:
        model(kind, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path) -> None:
    state = dict(model("bert", weights="", **SMALL).state_dict())
    folder = write(tmp_path / "w", "bert", state)
    assert "texts of 13 tokens are longer than the model's 12 positions" in refused("bert", weights=folder, length=13)
    assert "the data's 41 tokens do not fit the weights' 40" in refused("bert", weights=folder, vocabulary=41)
    words = {"embeddings.word_embeddings.weight": torch.zeros(200, 16)}
    filled = write(tmp_path / "large", "bert", {**state, **words}, vocab_size=200)
    assert "the data's 40 tokens do not fit the weights' 200" in refused("bert", weights=filled)
    assert model("bert", weights=filled, vocabulary=180)(tokens()).isfinite().all(), "some embeddings are of no token"
    assert "for as many classes" in refused("bert", weights=folder, classes=4)
    assert "holds a bert, not a distilbert" in refused("distilbert", weights=folder)
    assert "cannot be read" in refused("bert", weights=str(tmp_path / "absent"))
    assert "needs texts" in refused("bert", weights=folder, vocabulary=None)  # type: ignore[arg-type]
    key = "encoder.layer.1.output.dense.weight"
    write(tmp_path / "lacking", "bert", {n: t for n, t in state.items() if n != key})
    assert f"lacks '{key}'" in refused("bert", weights=str(tmp_path / "lacking"))
    write(tmp_path / "more", "bert", {**state, "encoder.layer.2.output.dense.weight": torch.zeros(1)})
    assert "has 'encoder.layer.2" in refused("bert", weights=str(tmp_path / "more"))
    write(tmp_path / "relu", "bert", state, hidden_act="relu")
    assert "another activation" in refused("bert", weights=str(tmp_path / "relu"))
    (Path(folder) / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be read" in refused("bert", weights=folder)
