"""The RRM paper's network for comments: one convolution over word vectors (appendix E.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import HarnessError
from harness.parameters import Count
from harness.paths import data_folder

PAD, FIRST_ROW = 0, 2
WHERE = "models.text_cnn"


class TextCNN(nn.Module):
    """Word vectors, a convolution of two words, ReLU, its maximum over the text, a hidden layer, a linear layer."""

    def __init__(self, vectors: Tensor, num_outputs: int, filters: int, hidden: int, train_vectors: bool) -> None:
        super().__init__()
        self.vectors = nn.Embedding.from_pretrained(vectors, freeze=not train_vectors, padding_idx=PAD)
        self.convolution = nn.Conv1d(vectors.shape[1], filters, 2)
        self.hidden = nn.Linear(filters, hidden)
        self.classifier = nn.Linear(hidden, num_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, K) logits of (B, L) tokens. Padding does not count; a text of one word is followed by one zero vector."""
        tokens = functional.pad(tokens, (0, 1), value=PAD)
        windows = functional.relu(self.convolution(self.vectors(tokens).transpose(1, 2)))
        inside = tokens[:, 1:] != PAD
        inside[:, 0] = True
        found = (windows * inside.unsqueeze(1)).amax(2)  # after ReLU nothing is below the zeros of what is outside
        logits: Tensor = self.classifier(functional.relu(self.hidden(found)))
        return logits


def text_cnn(
    input_shape: tuple[int, ...],
    num_outputs: int,
    vocabulary: int | None = None,
    vectors: str = "word-vectors",
    filters: Count = 128,
    hidden: Count = 36,
    train_vectors: bool = False,
) -> nn.Module:
    """One convolution over word vectors: 300 numbers a word, kernel 2, ReLU, maximum, 36 units, outputs (RRM paper, E.1).

    The paper gives neither the number of filters nor the hidden layer's activation; here 128 and ReLU. Its vectors are
    FastText's and nothing says that they are trained.

    Args:
        vectors: a folder under `HARNESS_DATA` with `vectors.npy`, (rows, numbers) float32, the data set's tokenizer; `""`:
            random vectors of 300 numbers, `N(0, 1/300)`, for any tokens.
        filters: of the convolution.
        hidden: units of the hidden layer.
        train_vectors: whether the vectors are trained too.
    """
    if len(input_shape) != 1 or vocabulary is None:
        raise HarnessError(f"needs texts, got inputs of shape {tuple(input_shape)}", WHERE, "choose mlp or lenet")
    if not vectors:
        table = torch.randn(vocabulary, 300) / 300**0.5
        table[PAD] = 0
        return TextCNN(table, num_outputs, filters, hidden, train_vectors)
    path = data_folder() / Path(vectors).expanduser() / "vectors.npy"
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"{path.absolute()} cannot be read: {error}", f"{WHERE}.vectors", 'or set vectors = ""'
        ) from None
    if rows.ndim != 2 or vocabulary != len(rows) + FIRST_ROW:
        raise HarnessError(
            f"the data's {vocabulary} tokens do not fit vectors of shape {rows.shape}",
            f"{WHERE}.vectors",
            f'set tokenizer = "{vectors}" in the data set',
        )
    table = torch.cat([torch.zeros(FIRST_ROW, rows.shape[1]), torch.from_numpy(rows.astype(np.float32))])
    return TextCNN(table, num_outputs, filters, hidden, train_vectors)
