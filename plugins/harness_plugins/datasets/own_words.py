"""Texts as rows of their own words: for people who have neither word vectors nor a tokenizer at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from harness_plugins.datasets.tokens import FIRST_ROW, PAD, UNKNOWN, WORDS, padded

MOST_WORDS = 20_000
LEAST_TIMES = 2


def own_words(texts: Sequence[str], length: int) -> tuple[Tensor, int]:
    """(N, L) int64 tokens of texts, and the size of the vocabulary: their words in lower case that occur twice or more, the
    20,000 most frequent, ties in order of the alphabet. Other words are one unknown word.

    Args:
        texts: N texts; no label is looked at.
        length: most words of a text; what comes after is cut off.
    """
    rows = [WORDS.findall(text.lower())[:length] for text in texts]
    counts = Counter(word for row in rows for word in row)
    kept = sorted((word for word, times in counts.items() if times >= LEAST_TIMES), key=lambda w: (-counts[w], w))
    number = {word: FIRST_ROW + place for place, word in enumerate(kept[:MOST_WORDS])}
    tokens = padded([[number.get(word, UNKNOWN) for word in row] or [UNKNOWN] for row in rows], PAD)
    return tokens, FIRST_ROW + len(number)
