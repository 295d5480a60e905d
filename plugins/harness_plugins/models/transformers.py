"""BERT and DistilBERT encoders in plain torch, which take Hugging Face's weights, with their classification heads.

Modules have the names that Hugging Face gives them, so that its safetensors are loaded as they are and transforms such as
`lora` find `query` or `q_lin`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import HarnessError
from harness.parameters import Count, Rate
from harness.paths import data_folder

PAD = 0
EPSILON = 1e-12
INITIAL_STD = 0.02
VOCABULARY = 30_522
"""Of BERT's uncased tokenizer, where the data do not say theirs."""
FILLED = 128
"""Embeddings of no token that weights may have, as where their number is filled up to a multiple of this; with more, the
tokens are those of another tokenizer."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What an encoder is built by."""

    vocabulary: int
    positions: int
    width: int
    heads: int
    inner: int
    layers: int
    dropout: float


class Embeddings(nn.Module):
    """Words and positions, and for BERT the one token type of a single text."""

    def __init__(self, sizes: Sizes, token_types: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        if token_types:
            self.token_type_embeddings = nn.Embedding(token_types, sizes.width)
        self.types = bool(token_types)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, d) of (B, L) tokens."""
        made = self.word_embeddings(tokens)
        if self.types:
            made = made + self.token_type_embeddings.weight[0]
        made = made + self.position_embeddings.weight[: tokens.shape[1]]
        normalised: Tensor = self.dropout(self.LayerNorm(made))
        return normalised


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, heads: int, dropout: float) -> Tensor:
    """Scaled dot-product attention of several heads.

    Args:
        query, key, value: (B, L, d).
        mask: (B, 1, 1, L) bool, true where there is a token.
        heads: each of d / heads numbers.
        dropout: of the attention weights.

    Returns:
        (B, L, d).
    """
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    made = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return made.transpose(1, 2).flatten(2)


class BertSelf(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)
        self.heads, self.rate = sizes.heads, sizes.dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rate = self.rate if self.training else 0.0
        return attend(self.query(x), self.key(x), self.value(x), mask, self.heads, rate)


class BertOutput(nn.Module):
    """A linear layer, dropout, and the norm of its sum with what came before."""

    def __init__(self, inner: int, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        made: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + before)
        return made


class BertAttention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.self = BertSelf(sizes)
        self.output = BertOutput(sizes.width, sizes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        made: Tensor = self.output(self.self(x, mask), x)
        return made


class BertIntermediate(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.width, sizes.inner)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.dense(x))


class BertLayer(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = BertAttention(sizes)
        self.intermediate = BertIntermediate(sizes)
        self.output = BertOutput(sizes.inner, sizes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention(x, mask)
        made: Tensor = self.output(self.intermediate(attended), attended)
        return made


class BertPooler(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))


class Layers(nn.Module):
    """Blocks one after the other, by the name `layer`."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(blocks)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.layer:
            x = block(x, mask)
        return x


class Bert(nn.Module):
    """Tokens to logits: embeddings, blocks, a text's vector by `pooling`, dropout, a linear layer."""

    def __init__(self, sizes: Sizes, num_outputs: int, pooling: str) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes, token_types=2)
        self.encoder = Layers([BertLayer(sizes) for _ in range(sizes.layers)])
        self.pooler = BertPooler(sizes) if pooling == "cls" else None
        self.dropout = nn.Dropout(sizes.dropout)
        self.classifier = nn.Linear(sizes.width, num_outputs)

    def encode(self, tokens: Tensor) -> Tensor:
        """(B, L, d) of (B, L) tokens."""
        made: Tensor = self.encoder(self.embeddings(tokens), (tokens != PAD)[:, None, None, :])
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K) logits."""
        states = self.encode(tokens)
        if self.pooler is not None:
            pooled = self.pooler(states[:, 0])
        else:
            shown = (tokens != PAD).unsqueeze(2).to(states.dtype)
            pooled = (states * shown).sum(1) / shown.sum(1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class DistilAttention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.q_lin = nn.Linear(sizes.width, sizes.width)
        self.k_lin = nn.Linear(sizes.width, sizes.width)
        self.v_lin = nn.Linear(sizes.width, sizes.width)
        self.out_lin = nn.Linear(sizes.width, sizes.width)
        self.heads, self.rate = sizes.heads, sizes.dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rate = self.rate if self.training else 0.0
        made: Tensor = self.out_lin(attend(self.q_lin(x), self.k_lin(x), self.v_lin(x), mask, self.heads, rate))
        return made


class DistilFeedForward(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.lin1 = nn.Linear(sizes.width, sizes.inner)
        self.lin2 = nn.Linear(sizes.inner, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.dropout(self.lin2(functional.gelu(self.lin1(x))))
        return made


class DistilBlock(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = DistilAttention(sizes)
        self.sa_layer_norm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.ffn = DistilFeedForward(sizes)
        self.output_layer_norm = nn.LayerNorm(sizes.width, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = self.sa_layer_norm(self.attention(x, mask) + x)
        made: Tensor = self.output_layer_norm(self.ffn(attended) + attended)
        return made


class DistilBert(nn.Module):
    """Tokens to logits by the first token's vector: a linear layer, ReLU, dropout, a linear layer."""

    def __init__(self, sizes: Sizes, num_outputs: int, head_dropout: float) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes, token_types=0)
        self.transformer = Layers([DistilBlock(sizes) for _ in range(sizes.layers)])
        self.pre_classifier = nn.Linear(sizes.width, sizes.width)
        self.dropout = nn.Dropout(head_dropout)
        self.classifier = nn.Linear(sizes.width, num_outputs)

    def encode(self, tokens: Tensor) -> Tensor:
        """(B, L, d) of (B, L) tokens."""
        made: Tensor = self.transformer(self.embeddings(tokens), (tokens != PAD)[:, None, None, :])
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K) logits."""
        pooled = functional.relu(self.pre_classifier(self.encode(tokens)[:, 0]))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def bert(
    input_shape: tuple[int, ...],
    num_outputs: int,
    vocabulary: int | None = None,
    weights: str = "models/all-MiniLM-L6-v2",
    pooling: Literal["cls", "mean"] = "cls",
    dropout: Rate = 0.1,
    layers: Count = 12,
    width: Count = 768,
    heads: Count = 12,
    inner: Count = 3072,
    positions: Count = 512,
) -> nn.Module:
    """BERT (Devlin et al., 2019) with a linear classifier, pretrained or not; MiniLM-L6 is one of 6 layers, 384 wide.

    The architecture of Hugging Face's `BertForSequenceClassification`; a text is its only segment.

    Args:
        weights: a folder under `HARNESS_DATA` in Hugging Face's layout (`config.json`, `model.safetensors`), which then
            says the sizes; `""`: random weights, `N(0, 0.02^2)`.
        pooling: a text's vector: `cls`: BERT's pooler of the first token; `mean` over its tokens, as sentence-transformers
            has it for MiniLM, without the pooler.
        dropout: of embeddings, attention, blocks and head.
        layers, width, heads, inner, positions: sizes without weights; those of BERT-base.
    """
    where = "models.bert"
    sizes, folder = _sizes(
        weights, "bert", vocabulary, Sizes(0, positions, width, heads, inner, layers, dropout), where
    )
    _check_inputs(input_shape, sizes, vocabulary, where, pretrained=folder is not None)
    model = Bert(sizes, num_outputs, pooling)
    left = () if pooling == "cls" else ("pooler.",)
    return _initialised(model, folder, "bert.", ("cls.", *left), where)


def distilbert(
    input_shape: tuple[int, ...],
    num_outputs: int,
    vocabulary: int | None = None,
    weights: str = "models/distilbert-base-uncased",
    dropout: Rate = 0.1,
    head_dropout: Rate = 0.2,
    layers: Count = 6,
    width: Count = 768,
    heads: Count = 12,
    inner: Count = 3072,
    positions: Count = 512,
) -> nn.Module:
    """DistilBERT (Sanh et al., 2020) with its classification head, pretrained or not (RRM paper, table 12).

    The architecture of Hugging Face's `DistilBertForSequenceClassification`: 66,955,010 parameters with two classes.

    Args:
        weights: a folder under `HARNESS_DATA` in Hugging Face's layout (`config.json`, `model.safetensors`), which then
            says the sizes; `""`: random weights, `N(0, 0.02^2)`.
        dropout: of embeddings, attention and blocks.
        head_dropout: between the head's two layers.
        layers, width, heads, inner, positions: sizes without weights; those of DistilBERT-base.
    """
    where = "models.distilbert"
    given = Sizes(0, positions, width, heads, inner, layers, dropout)
    sizes, folder = _sizes(weights, "distilbert", vocabulary, given, where)
    _check_inputs(input_shape, sizes, vocabulary, where, pretrained=folder is not None)
    return _initialised(DistilBert(sizes, num_outputs, head_dropout), folder, "distilbert.", ("vocab_",), where)


NAMES = {
    "bert": (
        "vocab_size",
        "max_position_embeddings",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "num_hidden_layers",
    ),
    "distilbert": ("vocab_size", "max_position_embeddings", "dim", "n_heads", "hidden_dim", "n_layers"),
}
"""What `config.json` calls vocabulary, positions, width, heads, inner and layers."""


def _sizes(weights: str, kind: str, vocabulary: int | None, given: Sizes, where: str) -> tuple[Sizes, Path | None]:
    """Sizes of a model, and the folder of its weights."""
    if not weights:
        if given.width % given.heads:
            raise HarnessError(f"{given.width} numbers cannot be divided among {given.heads} heads", f"{where}.heads")
        return dataclasses.replace(given, vocabulary=vocabulary or VOCABULARY), None
    folder = data_folder() / Path(weights).expanduser()
    try:
        config = json.loads((folder / "config.json").read_bytes())
        if config["model_type"] != kind:
            raise HarnessError(f"{folder} holds a {config['model_type']}, not a {kind}", f"{where}.weights")
        activation = config.get("hidden_act", config.get("activation", "gelu"))
        if activation != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
            raise HarnessError(f"{folder} has another activation or positions than {kind}", f"{where}.weights")
        vocab, positions, width, heads, inner, layers = (int(config[name]) for name in NAMES[kind])
    except OSError as error:
        raise HarnessError(
            f"{folder.absolute() / 'config.json'} cannot be read: {error.strerror}",
            f"{where}.weights",
            'name a folder of Hugging Face\'s layout under HARNESS_DATA, or weights = "" for random ones',
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{folder / 'config.json'} lacks or has a wrong {error}", f"{where}.weights") from None
    return Sizes(vocab, positions, width, heads, inner, layers, given.dropout), folder


def _check_inputs(
    input_shape: tuple[int, ...], sizes: Sizes, vocabulary: int | None, where: str, *, pretrained: bool
) -> None:
    if len(input_shape) != 1 or vocabulary is None:
        raise HarnessError(f"needs texts, got inputs of shape {tuple(input_shape)}", where, "choose mlp or lenet")
    if input_shape[0] > sizes.positions:
        raise HarnessError(
            f"texts of {input_shape[0]} tokens are longer than the model's {sizes.positions} positions",
            where,
            f"set length = {sizes.positions} in the data set",
        )
    if vocabulary > sizes.vocabulary or (pretrained and vocabulary <= sizes.vocabulary - FILLED):
        raise HarnessError(
            f"the data's {vocabulary} tokens do not fit the weights' {sizes.vocabulary}",
            f"{where}.weights",
            "set the data set's tokenizer to the weights' folder",
        )


def _initialised(model: nn.Module, folder: Path | None, prefix: str, left: tuple[str, ...], where: str) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    if folder is not None:
        load_weights(model, folder / "model.safetensors", prefix, left, f"{where}.weights")
    return model


def load_weights(model: nn.Module, path: Path, prefix: str, left: tuple[str, ...], where: str) -> None:
    """Put Hugging Face's weights into a model, strictly: every tensor of one has its place in the other.

    Args:
        model: with Hugging Face's names.
        path: `model.safetensors`. Its classifier may be lacking, as in weights that were not fine-tuned.
        prefix: that names of the encoder may have there.
        left: beginnings of names of heads that the model has not, which are passed over.
        where: for errors.

    Raises:
        HarnessError: for a file that is none, or in which a tensor is missing, left over or of another shape.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise HarnessError(
            "needs the package safetensors", where, "install it: uv pip install 'noisy-label-harness[text]'"
        ) from None
    try:
        found: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise HarnessError(f"{path.absolute()} cannot be read: {error}", where, "copy the weights anew") from None
    given: dict[str, Tensor] = {}
    for name, tensor in found.items():
        name = name.removeprefix(prefix).replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if not name.startswith(left) and name != "embeddings.position_ids":
            given[name] = tensor.float()
    own = model.state_dict()
    head = {name for name in own if name.startswith(("classifier.", "pre_classifier."))}
    if lacking := [name for name in own if name not in given and name not in head]:
        raise HarnessError(f"{path} lacks {lacking[0]!r}", where, "take weights of the same architecture")
    if further := [name for name in given if name not in own]:
        raise HarnessError(
            f"{path} has {further[0]!r}, which the model has not", where, "take weights of another model"
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            raise HarnessError(
                f"{path} has {name!r} of shape {tuple(tensor.shape)}, the model of {tuple(own[name].shape)}",
                where,
                "take weights for as many classes, or without a head" if name in head else "mend config.json",
            )
    model.load_state_dict({**own, **given})
