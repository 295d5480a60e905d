"""Data of one's own: three commands from a folder to a board, and one call from arrays, a data frame or texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import harness
from harness import HarnessError
from harness.cli.main import main
from harness.suite.arrays import keep
from harness.suite.starting import start_suite


def points(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of points in the plane, a fifth of them with a wrong label."""
    rng = np.random.default_rng(0)
    truth = np.arange(count) % 3
    x = rng.normal(size=(count, 2)) + 4 * np.array([[0, 0], [1, 0], [0, 1]])[truth]
    return x, np.where(rng.random(count) < 0.2, (truth + 1) % 3, truth)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    results = tmp_path_factory.mktemp("own") / "results"
    x, y = points()
    return results, harness.compare(x, y, methods=["ce", "elr"], seeds=1, results=results)


def test_arrays_give_a_board_that_says_what_its_labels_are(compared: tuple[Path, Any]) -> None:
    results, board = compared
    assert sorted(board["method"]) == ["CE", "ELR"] and list(board["n"]) == [1, 1]
    assert (board["mean"] > 0.5).all() and not board["test_trusted"].any()
    assert "may be wrong" in board.attrs["caution"]
    with harness.open_store(results) as connection:
        (identity,) = connection.execute(
            "SELECT DISTINCT json_extract_string(identity, '$.noise.name') FROM trials"
        ).fetchall()
        assert identity == ("given",)
        (samples,) = connection.execute("SELECT DISTINCT test_samples FROM trials").fetchall()
        assert samples == (18,), "a stratified fifth"
    again = harness.board(results)
    assert again["mean"].tolist() == board["mean"].tolist()


def test_a_second_call_trains_what_is_missing(compared: tuple[Path, Any]) -> None:
    results, board = compared
    x, y = points()
    attempts = sorted(results.glob("trials/*/attempt-*"))
    more = harness.compare(
        torch.from_numpy(x), torch.from_numpy(y), methods=["ce", "elr", "sop"], seeds=1, results=results
    )
    assert len(more) == 3 and set(attempts) < set(results.glob("trials/*/attempt-*"))
    assert len(list(results.glob("trials/*/attempt-*"))) == 3
    assert more.set_index("method")["mean"]["CE"] == board.set_index("method")["mean"]["CE"]


def test_a_data_frame_names_its_labels_and_a_test_set_of_its_own_is_used(tmp_path: Path) -> None:
    x, y = points(60)
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "colour": ["red", "blue"] * 30, "answer": [f"k{k}" for k in y]})
    board = harness.compare(
        frame,
        "answer",
        methods=["ce"],
        seeds=1,
        test=(frame[:20], "answer"),
        trusted=True,
        results=tmp_path / "results",
    )
    assert board["test_trusted"].all()
    with harness.open_store(tmp_path / "results") as connection:
        assert connection.execute("SELECT test_samples FROM trials").fetchall() == [(20,)]


def test_texts_are_compared_without_a_tokenizer_at_hand(tmp_path: Path) -> None:
    texts = [f"{'good fine' if i % 2 else 'bad poor'} film number {i}" for i in range(40)]
    board = harness.compare(texts, [i % 2 for i in range(40)], methods=["ce"], seeds=1, results=tmp_path / "results")
    assert board["mean"][0] == 1.0


def test_the_same_data_are_one_file_and_other_data_another(tmp_path: Path) -> None:
    x, y = points(30)
    kind, first = keep(tmp_path, x, y)
    assert (kind, first) == keep(tmp_path, x.copy(), y.tolist())
    y[0] = (y[0] + 1) % 3
    assert keep(tmp_path, x, y)[1] != first


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((4, 2)), [0, 1, 0], "4 inputs but 3 labels"),
        (np.zeros(4), [0, 1, 0, 1], "X is float64 of shape (4,)"),
        (pd.DataFrame({"a": [1, 2]}), "b", "X has no column 'b'"),
        (pd.DataFrame({"split": [1, 2]}), [0, 1], "X has a column 'split'"),
    ],
)
def test_data_that_do_not_fit_are_told_in_one_line(tmp_path: Path, x: Any, y: Any, words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        keep(tmp_path, x, y)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_method_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"unknown loss or algorithm 'elrr'.*did you mean 'elr'"):
        harness.compare(*points(30), methods=["elrr"], results=tmp_path)


def photos(root: Path, side: int = 20) -> Path:
    """Grey photos of two classes, bright and dark, in a folder for each class."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = root / ("dark", "light")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 100, (side, side)) + 120 * (i % 2)
        Image.fromarray(image.astype(np.uint8)).save(path)
    return root


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command line in this process, in an empty folder: its exit status and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        shown = capfd.readouterr()
        return code, shown.out + shown.err

    return run


def test_init_looks_at_the_data_and_what_it_prints_can_be_typed(tmp_path: Path, call: Any) -> None:
    photos(tmp_path / "photos")
    code, said = call("init", "--images", "photos", "--seeds", "1", "--method", "ce")
    assert code == 0 and "32 training and 8 test samples of 2 classes, 1 channels" in said
    command = said.strip().splitlines()[-1].removeprefix("next: harness ").split()
    assert command == ["run", "photos.toml"]
    text = (tmp_path / "photos.toml").read_text()
    assert 'noise = { name = "given" }' in text and "size = 20, channels = 1, resident = true" in text
    code, shown = call(*command, "--set", "training.epochs=1", "--executor", "inline")
    assert code == 0 and "may be wrong" in " ".join(shown.split())
    code, refused = call("init", "--images", "photos")
    assert code == 2 and "photos.toml: is there already" in refused and len(refused.splitlines()) == 1


def test_init_takes_tables_and_texts_by_the_names_of_their_columns(tmp_path: Path, call: Any) -> None:
    x, y = points(60)
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": y}).to_csv(tmp_path / "points.csv", index=False)
    films = pd.DataFrame({"body": ["good film", "bad film"] * 20, "mark": [1, 0] * 20})
    films.to_csv(tmp_path / "films.csv", index=False)
    for command, model in (
        (["--table", "points.csv", "--label", "kind"], 'name = "mlp"'),
        (["--text", "films.csv", "--label", "mark", "--text-column", "body"], 'name = "text_cnn"'),
    ):
        code, said = call("init", *command)
        assert code == 0, said
        path = tmp_path / said.partition(":")[0]
        assert model in path.read_text()
        assert len(harness.plan(path, tmp_path / "results").trials) == 12
    assert call("init")[0] == 2 and call("init", "--table", "a", "--text", "b")[0] == 2


def test_a_bad_folder_is_told_by_init_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no folder for each class"):
        start_suite("images", {"root": str(tmp_path)}, "empty")
    with pytest.raises(HarnessError, match="unknown kind of data 'songs'"):
        start_suite("songs", {}, "songs")
    photos(tmp_path / "photos")
    (tmp_path / "photos" / "dark" / "0.png").write_bytes(b"no image")
    with pytest.raises(HarnessError, match=r"0\.png cannot be read as an image"):
        start_suite("images", {"root": str(tmp_path / "photos")}, "photos")
