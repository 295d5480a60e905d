"""Texts as rows of tokens: what a folder's vocabulary makes of them, kept on disk by content.

A folder under `HARNESS_DATA` says how: Hugging Face's `tokenizer.json` (word pieces, by the package `tokenizers`), or word
vectors, `words.txt` with a word a line and `rows.npy` with each word's row of `vectors.npy`. Token 0 pads at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness import LabelledData
from harness.errors import DataError
from harness.files import write_bytes
from harness.paths import cache_folder, data_folder

WORD_PIECES = "models/all-MiniLM-L6-v2"
"""The folder of BERT's tokenizer, uncased, which DistilBERT and MiniLM have too."""
PAD, UNKNOWN, FIRST_ROW = 0, 1, 2
"""Tokens of word vectors: padding, any word without a vector, and the first row of the vectors."""
WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
RULE = "1"
"""Part of a cached file's name; another one where texts are cut otherwise."""

Encode = Callable[[Sequence[str]], list[list[int]]]


def text_data(
    texts: Sequence[str], targets: Tensor, classes: Sequence[str], tokenizer: str, length: int, where: str
) -> LabelledData:
    """Texts as labelled data: (N, L) int64 tokens, `L` the longest of them or `length`.

    Args:
        texts: N texts; one without a word is a single unknown one.
        targets: (N,) int64 classes, or (N, K) labels.
        classes: their K names.
        tokenizer: the folder, under `HARNESS_DATA` or absolute.
        length: most tokens of a text; what comes after is cut off.
        where: the data set, for errors.

    Raises:
        DataError: when the folder holds no vocabulary, or one that pads with another token than 0.
    """
    folder = tokenizer_folder(tokenizer, where)
    tokens, vocabulary = tokenise(texts, folder, length, f"{where}.tokenizer")
    return LabelledData(tokens, targets, len(classes), tuple(classes), vocabulary=vocabulary)


def tokenizer_folder(tokenizer: str, where: str) -> Path:
    """The folder of a tokenizer.

    Raises:
        DataError: when there is none.
    """
    folder = data_folder() / Path(tokenizer).expanduser()
    if folder.is_dir():
        return folder
    raise DataError(
        f"there is no folder {folder.absolute()}",
        f"{where}.tokenizer",
        "give a folder with tokenizer.json, or with words.txt and rows.npy, under HARNESS_DATA",
    )


def tokenise(texts: Sequence[str], folder: Path, length: int, where: str) -> tuple[Tensor, int]:
    """(N, L) int64 tokens of texts, and the size of the vocabulary; kept in the cache folder under a digest of both."""
    word_pieces = (folder / "tokenizer.json").is_file()
    files = ("tokenizer.json",) if word_pieces else ("words.txt", "rows.npy")
    for name in files:
        if not (folder / name).is_file():
            raise DataError(
                f"{folder.absolute()} holds neither tokenizer.json nor {name}", where, "name another folder"
            )
    content = hashlib.sha256(f"{RULE} {length}".encode())
    for name in files:
        content.update(hashlib.sha256((folder / name).read_bytes()).digest())
    for text in texts:
        content.update(hashlib.sha256(text.encode(errors="surrogatepass")).digest())
    kept = cache_folder() / f"tokens-{content.hexdigest()[:32]}.npz"
    with contextlib.suppress(
        OSError, ValueError, KeyError, zipfile.BadZipFile
    ):  # absent or damaged: cut the texts anew
        found = np.load(io.BytesIO(kept.read_bytes()), allow_pickle=False)
        return torch.from_numpy(found["tokens"].astype(np.int64)), int(found["vocabulary"])
    encode, vocabulary = _word_pieces(folder, length, where) if word_pieces else _words(folder, length, where)
    tokens = padded(encode(texts), PAD)
    buffer = io.BytesIO()
    np.savez(buffer, tokens=tokens.numpy().astype(np.int32), vocabulary=np.int64(vocabulary))
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, buffer.getvalue())
    return tokens, vocabulary


def padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """(N, longest) int64 rows, filled up at the end; at least one column wide."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    table = np.full((len(rows), max(1, int(lengths.max(initial=0)))), pad, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.fromiter((t for row in rows for t in row), dtype=np.int64)
    return torch.from_numpy(table)


def _word_pieces(folder: Path, length: int, where: str) -> tuple[Encode, int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataError(
            "needs the package tokenizers", where, "install it: uv pip install 'noisy-label-harness[text]'"
        ) from None
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises plain Exception for a file that is none of its own
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}", where) from None
    pad = (tokenizer.padding or {}).get("pad_id", tokenizer.token_to_id("[PAD]"))
    if pad != PAD:
        raise DataError(f"{path} pads with token {pad}, not with {PAD}", where, "choose BERT's or DistilBERT's")
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=length)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in tokenizer.encode_batch(list(texts))]

    return encode, int(tokenizer.get_vocab_size())


def _words(folder: Path, length: int, where: str) -> tuple[Encode, int]:
    try:
        rows = np.load(folder / "rows.npy", allow_pickle=False)
        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")[:-1]
    except ValueError as error:
        raise DataError(f"{folder} holds no word vectors: {error}", where, "make words.txt and rows.npy anew") from None
    if len(words) != len(rows):
        raise DataError(f"{folder} has {len(words)} words but {len(rows)} rows", where, "make both files anew")
    known = dict(zip(words, (rows.astype(np.int64) + FIRST_ROW).tolist(), strict=True))

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [_row(WORDS.findall(text)[:length], known) for text in texts]

    return encode, int(rows.max(initial=0)) + 1 + FIRST_ROW


def _row(words: Sequence[str], known: dict[str, int]) -> list[int]:
    """Tokens of words: as they are written, else in lower case, else unknown."""
    return [known.get(word) or known.get(word.lower(), UNKNOWN) for word in words] or [UNKNOWN]
