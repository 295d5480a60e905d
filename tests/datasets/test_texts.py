"""Text data sets in their owners' layouts: what is read, how it is cut into tokens, and one line where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from harness_plugins.datasets.hate_speech import expanded_votes
from harness_plugins.datasets.tokens import padded
from harness_plugins.datasets.toxic_comments import KINDS

import harness
from harness import HarnessError

pytest.importorskip("tokenizers", reason="texts are cut by the package tokenizers (extra: text)")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "##s", "a"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a small word-piece vocabulary and word vectors."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({piece: k for k, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    (tmp_path / "pieces").mkdir()
    tokenizer.save(str(tmp_path / "pieces" / "tokenizer.json"))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "words.txt").write_text("good\nGood\nbad\nfilm\n")
    np.save(tmp_path / "words" / "rows.npy", np.array([0, 1, 2, 0], dtype=np.uint16))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))


ROWS = [("good film", "pos"), ("bad films", "neg"), ("a", "pos"), ("Bad", "neg"), ("a good a good", "pos"), ("", "neg")]


def test_a_csv_file_becomes_tokens_and_classes_in_the_order_of_their_names(data: Path) -> None:
    (data / "reviews.csv").write_text(
        "text,label,split\n" + "".join(f"{t},{y},{'test' if i > 3 else 'train'}\n" for i, (t, y) in enumerate(ROWS))
    )
    splits = harness.create("dataset", "text_csv", file="reviews.csv", tokenizer="pieces", length=5)
    assert splits.train.class_names == ("neg", "pos")
    assert splits.train.targets.tolist() == [1, 0, 1, 0]
    assert splits.train.inputs.tolist() == [[2, 4, 6, 3, 0], [2, 5, 6, 7, 3], [2, 8, 3, 0, 0], [2, 5, 3, 0, 0]]
    assert splits.test.inputs.tolist() == [[2, 8, 4, 8, 3], [2, 3, 0, 0, 0]], "cut to five tokens, the last one kept"
    assert splits.train.vocabulary == len(PIECES)


def test_words_have_the_rows_of_their_vectors_and_other_words_share_one_token(data: Path) -> None:
    write_csv(data / "reviews.csv", [*ROWS, ("Good FILM, bad", "pos"), ("", "neg"), ("", "neg"), ("x", "pos")])
    splits = harness.create("dataset", "text_csv", file="reviews.csv", tokenizer="words", length=4)
    rows = torch.cat([splits.train.inputs, splits.test.inputs]).tolist()
    assert sorted(rows) == sorted(
        [
            [2, 2, 0, 0],
            [4, 1, 0, 0],
            [1, 0, 0, 0],
            [4, 0, 0, 0],
            [1, 2, 1, 2],
            [1, 0, 0, 0],
            [3, 2, 1, 4],
            [1, 0, 0, 0],
            [1, 0, 0, 0],
            [1, 0, 0, 0],
        ]
    )
    assert splits.train.vocabulary == 5, "three rows, padding and the unknown word"


def test_without_a_column_of_splits_the_same_fifth_is_held_out_every_time(data: Path) -> None:
    write_csv(data / "reviews.csv", ROWS * 5)
    first, again = (harness.create("dataset", "text_csv", file="reviews.csv", tokenizer="pieces") for _ in range(2))
    assert (len(first.train), len(first.test)) == (24, 6)
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert torch.bincount(first.test.targets).tolist() == [3, 3]


def test_tokens_are_read_from_the_cache_until_texts_or_vocabulary_change(data: Path) -> None:
    path, options = data / "reviews.csv", {"file": "reviews.csv", "tokenizer": "pieces"}
    write_csv(path, ROWS)
    harness.create("dataset", "text_csv", **options)
    (kept,) = (data / "cache").glob("tokens-*.npz")
    with np.load(kept) as found:
        np.savez(kept, tokens=found["tokens"] * 0 + 7, vocabulary=found["vocabulary"])
    assert int(harness.create("dataset", "text_csv", **options).train.inputs.min()) == 7, "read from the cache"
    kept.write_bytes(kept.read_bytes()[:40])
    assert int(harness.create("dataset", "text_csv", **options).train.inputs.min()) == 0, "a damaged one is made anew"
    write_csv(path, [*ROWS, ("good good", "pos")])
    harness.create("dataset", "text_csv", **options)
    assert len(list((data / "cache").glob("tokens-*.npz"))) == 2


def test_folders_are_classes(data: Path) -> None:
    for part, label, text in [("train", "pos", "good"), ("train", "neg", "bad"), ("test", "neg", "film")]:
        folder = data / "mine" / part / label
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text(text)
    splits = harness.create("dataset", "text_folder", root="mine", tokenizer="pieces")
    assert splits.train.inputs.tolist() == [[2, 5, 3], [2, 4, 3]]
    assert (splits.train.targets.tolist(), splits.test.targets.tolist()) == ([0, 1], [0])


def test_jigsaw_s_comments_are_toxic_in_any_way_or_have_six_labels(data: Path) -> None:
    (data / "toxic-comments").mkdir()
    lines = [f'{i},"good, bad",{"1,0,1,0,0,0" if i % 5 == 0 else "0,0,0,0,0,0"}' for i in range(25)]
    (data / "toxic-comments" / "train.csv").write_text(
        "\n".join([f"id,comment_text,{','.join(KINDS)}", *lines, ""])
    )  # the header of Kaggle's train.csv
    splits = harness.create("dataset", "toxic_comments", tokenizer="words")
    assert (len(splits.train), len(splits.test)) == (20, 5)
    assert int(splits.train.targets.sum()) == 4
    six = harness.create("dataset", "toxic_comments", labels="six", tokenizer="words")
    assert six.task == "multilabel"
    assert six.train.targets.sum(0).tolist() == [4, 0, 4, 0, 0, 0]


def wrench_set(data: Path) -> None:
    folder = data / "wrench" / "mine"
    folder.mkdir(parents=True)
    (folder / "label.json").write_text('{"0": "HAM", "1": "SPAM"}')
    for part, votes in {"train": [[-1, 1], [-1, -1], [0, 0]], "test": [[-1, -1]]}.items():
        rows = {
            str(i): {"label": i % 2, "weak_labels": row, "data": {"text": "good film"}} for i, row in enumerate(votes)
        }
        (folder / f"{part}.json").write_text(json.dumps(rows))


def test_a_wrench_set_has_votes_and_trains_on_what_has_one(data: Path) -> None:
    wrench_set(data)
    splits = harness.create("dataset", "wrench:mine", tokenizer="pieces")
    assert splits.train.votes is not None
    assert splits.train.votes.tolist() == [[-1, 1], [0, 0]]
    assert splits.train.targets.tolist() == [0, 0]
    assert splits.train.class_names == ("HAM", "SPAM")
    assert len(splits.test) == 1, "test samples need no vote"
    assert len(harness.create("dataset", "wrench:mine", covered=False, tokenizer="pieces").train) == 3


def test_counts_of_votes_become_votes_in_an_order_that_says_nothing() -> None:
    counts = np.tile([[2, 0, 1]], (3000, 1))
    counts[0] = [0, 0, 5]
    votes = expanded_votes(counts)
    assert votes.shape == (3000, 5)
    assert all(torch.equal(votes.eq(k).sum(1), torch.from_numpy(counts[:, k])) for k in range(3))
    assert votes[0].tolist() == [2] * 5
    assert (votes[1:, 3:] == -1).all()
    assert votes[1:, :3].eq(2).double().mean(0) == pytest.approx([1 / 3] * 3, abs=0.04)


def test_rows_are_filled_up_at_the_end() -> None:
    assert padded([[5], [], [6, 7]], 0).tolist() == [[5, 0], [0, 0], [6, 7]]
    assert padded([], 0).shape == (0, 1)


def wrong(name: str, **options: object) -> str:
    with pytest.raises(HarnessError) as caught:
        harness.create("dataset", name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_one_line_that_names_it(data: Path) -> None:
    write_csv(data / "reviews.csv", ROWS)
    (data / "empty").mkdir()
    assert "has no column 'body', but text, label" in wrong("text_csv", file="reviews.csv", text="body")
    assert "there is no folder" in wrong("text_csv", file="reviews.csv", tokenizer="nowhere")
    assert "cannot be read" in wrong("text_csv", file="absent.csv")
    (data / "bad.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    assert "is no CSV file" in wrong("text_csv", file="bad.csv")
    (data / "lacking.csv").write_text("text,label\ngood,\n")
    assert "row 1" in wrong("text_csv", file="lacking.csv")
    assert "holds no CLASS/*.txt" in wrong("text_folder", root="pieces")
    assert "holds neither tokenizer.json nor" in wrong("text_csv", file="reviews.csv", tokenizer="empty")
    (data / "pieces" / "tokenizer.json").write_text("{")
    assert "tokenizer.json cannot be read" in wrong("text_csv", file="reviews.csv", tokenizer="pieces", length=7)
    np.save(data / "words" / "rows.npy", np.array([0], dtype=np.uint16))
    assert "4 words but 1 rows" in wrong("text_csv", file="reviews.csv", tokenizer="words", length=7)
    wrench_set(data)
    assert "choose mine" in wrong("wrench:other")
    (data / "wrench" / "mine" / "train.json").write_text('{"0": {"label": 1}}')
    assert "is no text of WRENCH" in wrong("wrench:mine", tokenizer="words")
    assert "harness data fetch imdb" in wrong("imdb")
