"""Suspects: every sample judged by networks that have not seen it; corrections make another data set."""

from __future__ import annotations

import csv
import io
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
from harness.execution import suspects as module
from harness.execution.showing import LONGEST_TEXT, showing
from harness.execution.suspects import calibrated, find_suspects
from harness.results.suspects import COLUMNS, About, Showing, list_file, read_corrections, read_list, to_csv
from harness.suite.grid import Choice
from harness.suite.load import Suite
from harness.testing.bench import CPU
from harness.training.data import LabelledData
from harness.training.prepare import corrupt, in_fold, load_data, prepare

SUITE = """
[suite]
name = "own"
seeds = [0, 1]
[training]
epochs = 8
batch_size = 16
optimizer = { name = "sgd", lr = 0.1 }
[execution]
device = "cpu"
[[setting]]
dataset = { name = "table", file = "FILE" }
model = "linear"
noise = "given"
[[method]]
name = "CE"
[[method]]
name = "ELR"
algorithms = ["elr"]
"""
WRONG = (3, 10, 25, 41, 58)


def table(path: Path, known: int = 0) -> Path:
    """Sixty rows of two classes far apart; five have the wrong label."""
    rng = np.random.default_rng(0)
    lines = ["a,b,label,clean" if known else "a,b,label"]
    for row in range(60):
        kind = row % 2
        a, b = rng.normal(size=2) + 4 * kind
        given = 1 - kind if row in WRONG else kind
        truth = f",{'cd'[kind] if row < known else ''}" if known else ""
        lines.append(f"{a:.3f},{b:.3f},{'cd'[given]}{truth}")
    path.write_text("\n".join(lines) + "\n")
    return path


def suite_of(folder: Path, data: Path) -> Suite:
    (folder / "own.toml").write_text(SUITE.replace("FILE", str(data)))
    return harness.load_suite(folder / "own.toml")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Suite, list[module.Suspect]]:
    folder = tmp_path_factory.mktemp("suspects")
    suite = suite_of(folder, table(folder / "own.csv"))
    return folder, suite, find_suspects(suite, folder / "results", folds=3)


def test_the_wrong_labels_come_first_and_every_sample_is_there_once(found: Any) -> None:
    _, _, suspects = found
    assert {int(one.id) - 1 for one in suspects[:5]} == set(WRONG)
    assert sorted(int(one.id) for one in suspects) == list(range(1, 61)), "test samples too, whose labels nobody trusts"
    first = suspects[0]
    assert first.given != first.suggested and (first.seeds, first.methods) == (2, 2) and first.p_wrong is None
    assert [one.score for one in suspects] == sorted((one.score for one in suspects), reverse=True)
    assert all(one.seeds == one.methods == 0 for one in suspects[-20:])


def test_answers_of_folds_are_kept_and_a_damaged_one_is_made_anew(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, suite, suspects = found
    kept = sorted((folder / "results" / "suspects").glob("*.npz"))
    assert len(kept) == 2 * 2 * 3
    trained: list[int] = []
    judge = module.judge_fold
    monkeypatch.setattr(module, "judge_fold", lambda t, h, f, *rest: trained.append(f) or judge(t, h, f, *rest))
    assert find_suspects(suite, folder / "results", folds=3) == suspects and trained == []
    next(path for path in kept if path.name.endswith("2of3.npz")).write_bytes(b"none")
    assert find_suspects(suite, folder / "results", folds=3) == suspects and trained == [1]


def test_no_network_has_seen_the_samples_that_it_judges(found: Any) -> None:
    _, suite, _ = found
    trial = next(iter(suite.entries())).trial
    splits = load_data(trial, suite.host)
    labels = corrupt(trial, suite.host, splits)
    held = []
    for fold in range(3):
        part = in_fold(trial, splits, labels, fold, 3)
        train, out = (set(data.positions.tolist()) for data in (part.train, part.validation))  # type: ignore[union-attr]
        assert not train & out and train | out == set(range(len(splits.train)))
        held.append(out)
        counts = torch.bincount(part.validation_noisy)
        assert abs(int(counts[0]) - int(counts[1])) <= 4, "stratified"
        prepared = prepare(trial, suite.host, CPU, fold=(fold, 3))
        assert prepared.run.num_samples == len(train) and set(prepared.held.tolist()) == out  # type: ignore[union-attr]
    assert set.union(*held) == set(range(len(splits.train))) and sum(map(len, held)) == len(splits.train)


def test_the_chance_of_being_wrong_is_calibrated_where_the_truth_is_known() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(4000)
    wrong = rng.random(4000) < score**2
    clean = np.where(np.arange(4000) < 2000, np.where(wrong, 1, 0), -1)
    found = calibrated(score, np.zeros(4000, dtype=np.int64), clean)
    assert found is not None
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (score >= low) & (score < low + 0.25) & (clean < 0)
        assert found[inside].mean() == pytest.approx(wrong[inside].mean(), abs=0.06)
    assert calibrated(score[:10], np.zeros(10, dtype=np.int64), clean[:10]) is None
    assert calibrated(score, np.zeros(4000, dtype=np.int64), np.full(4000, -1)) is None


def test_the_list_is_a_csv_file(found: Any) -> None:
    text = to_csv(found[2])
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["id", "given", "suggested", "score", "p_wrong", "seeds", "methods"]
    assert len(rows) == 60 and rows[0]["p_wrong"] == "" and 0.5 < float(rows[0]["score"]) <= 1


def test_corrections_make_another_data_set(found: Any) -> None:
    folder, suite, suspects = found
    lines = [f"{one.id},{one.given},{one.suggested},confirm" for one in suspects[:5]]
    (folder / "corrections.csv").write_text("\n".join(["id,given,label,mark", *lines, "1,c,d,keep"]) + "\n")
    corrections = read_corrections(folder / "corrections.csv")
    (setting,) = suite.settings
    values = {**setting.dataset.params, **setting.dataset.places}
    suite.host.registry.corrected("table", values, corrections, folder / "fixed")
    labels = [line.split(",")[2] for line in (folder / "fixed" / "own.csv").read_text().splitlines()[1:]]
    assert labels == ["cd"[row % 2] for row in range(60)]
    other = suite_of(folder, folder / "fixed" / "own.csv")
    assert other.settings[0].dataset.content != setting.dataset.content
    for line, words in (("1,d,c,confirm", "row|1 has the label 'c'"), ("99,c,d,confirm", "there is no sample '99'")):
        (folder / "wrong.csv").write_text(f"id,given,label,mark\n{line}\n")
        with pytest.raises(HarnessError, match=words):
            suite.host.registry.corrected("table", values, read_corrections(folder / "wrong.csv"), folder / "no")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,given,label\n1,c,d\n", "has no column 'mark'"),
        ("id,given,label,mark\n1,c,d,maybe\n", "line 2: mark 'maybe'"),
        ("id,given,label,mark\n1,c,d,confirm\n1,c,d,keep\n", "line 3: 1 is there twice"),
        ("id,given,label,mark\n1,c,,relabel\n", "line 2 lacks a label"),
    ],
)
def test_a_bad_file_of_corrections_is_told_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(HarnessError) as caught:
        read_corrections(tmp_path / "a.csv")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_have_suspects_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)) + 4 * (np.arange(60) % 2)[:, None], np.arange(60) % 2
    y[list(WRONG)] = 1 - y[list(WRONG)]
    found = harness.suspects(
        x, y, methods=["ce"], folds=2, clean=[k % 2 if k < 40 else None for k in range(60)], results=tmp_path
    )
    assert set(found["id"][:5].astype(int) - 1) == set(WRONG)
    assert found["p_wrong"][0] > 0.8 > 0.2 > found["p_wrong"].iloc[-1]


def test_what_cannot_be_is_told(found: Any, tmp_path: Path) -> None:
    _, suite, _ = found
    with pytest.raises(HarnessError, match="unknown method 'SOP'"):
        find_suspects(suite, tmp_path, ["SOP"])
    with pytest.raises(HarnessError, match="make no 100 folds"):
        find_suspects(suite, tmp_path, ["CE"], folds=100)


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The command line in this process: its exit status and what it said."""
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capfd.readouterr()
    return code, shown.out + shown.err


def test_the_command_lists_suspects_and_writes_corrected_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite_of(tmp_path, table(tmp_path / "own.csv"))
    code, said = call(monkeypatch, capfd, "suspects", "own.toml", "--method", "CE", "--folds", "2", "-o", "list.csv")
    assert code == 0 and "list.csv: 60 samples, of which" in said and "CE, seed 0: fold 2 of 2" in said
    assert "seed 1" not in said and "harness leaderboard --results results\n" in said
    rows = list(csv.DictReader((tmp_path / "list.csv").read_text().splitlines()))
    assert {int(row["id"]) - 1 for row in rows[:5]} == set(WRONG)
    marks = [f"{row['id']},{row['given']},{row['suggested']},relabel" for row in rows[:5]]
    (tmp_path / "right.csv").write_text("\n".join(["id,given,label,mark", *marks]) + "\n")
    code, said = call(monkeypatch, capfd, "suspects", "own.toml", "--apply", "right.csv", "--to", "fixed")
    assert code == 0 and "5 labels corrected" in said and (tmp_path / "fixed" / "own.csv").is_file()
    code, said = call(monkeypatch, capfd, "suspects", "own.toml", "--apply", "right.csv")
    assert code == 2 and "--apply and --to stand together" in said and len(said.splitlines()) == 1


def test_corrected_images_keep_their_files(tmp_path: Path) -> None:
    from harness_plugins.datasets.label_files import correct_images

    for i in range(6):
        path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(path)
    values = {"root": str(tmp_path / "photos"), "csv": None}
    correct_images(values, {"cat/2.png": ("cat", "dog")}, tmp_path / "fixed")
    lines = (tmp_path / "fixed" / "labels.csv").read_text().splitlines()
    assert "cat/2.png,dog" in lines and "cat/0.png,cat" in lines and len(lines) == 7
    splits = harness.create("dataset", "image_folder", root=str(tmp_path / "fixed"), size=4)
    assert len(splits.train) + len(splits.test) == 6
    with pytest.raises(HarnessError, match=r"there is no sample 'cat/9\.png'"):
        correct_images(values, {"cat/9.png": ("cat", "dog")}, tmp_path / "no")


def test_the_list_is_kept_with_the_rows_that_a_person_looks_at(found: Any) -> None:
    folder, suite, suspects = found
    kept = read_list(list_file(folder / "results", "own"))
    assert kept.about == About("own", str(suite.path), ("c", "d"), "", True)
    rows = kept.table.to_pylist()
    assert [module.Suspect(*(row[name] for name in COLUMNS)) for row in rows] == suspects
    lines = (folder / "own.csv").read_text().splitlines()[1:]
    for row in rows:
        a, b, _ = lines[int(row["id"]) - 1].split(",")
        assert row["words"] == f"a: {a}\nb: {b}" and row["picture"] is None


def samples(count: int, **more: Any) -> LabelledData:
    inputs = more.pop("inputs", torch.zeros(count, 2))
    return LabelledData(inputs, torch.arange(count) % 2, 2, ("c", "d"), **more)


def of(place: str, value: Path, **params: Any) -> Choice:
    return Choice("own", "1", {}, params, places={place: str(value)})


def test_files_are_shown_from_their_folder_and_texts_by_their_rows(tmp_path: Path) -> None:
    files = ["a.png", "b.png"]
    origin = torch.tensor([2, 0])
    parts = [samples(2, origin=origin, files=files)]
    assert showing(of("root", tmp_path), parts, [1, 0]) == Showing(folder=str(tmp_path))
    path = tmp_path / "own.csv"
    path.write_text('\ufefftext,kind\n"first,\nof two lines",c\n\nsecond,d\nthird,c\n', encoding="utf-8")
    texts = [samples(2, origin=origin), samples(1, origin=torch.tensor([1]))]
    found = showing(of("file", path, label="kind"), texts, [0, 2, 1])
    assert list(found.words) == ["third", "second", "first,\nof two lines"]
    pd.DataFrame({"n": [1, 2, 3], "label": ["c", "d", "c"], "w": ["x", "y", "z"]}).to_parquet(tmp_path / "own.parquet")
    found = showing(of("file", tmp_path / "own.parquet"), texts, [0, 2, 1])
    assert list(found.words) == ["n: 3\nw: z", "n: 2\nw: y", "n: 1\nw: x"]
    long = tmp_path / "long.csv"
    long.write_text("text,label\n" + "".join(f"{'a' * 5000},{k}\n" for k in "cd"))
    assert len(showing(of("file", long), [samples(2, origin=torch.arange(2))], [0]).words[0]) == LONGEST_TEXT


def test_images_in_memory_are_kept_small(tmp_path: Path) -> None:
    grey = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 1, 8, 8) * 100
    colour = torch.full((1, 1, 400, 200), 50, dtype=torch.uint8)
    found = showing(of("file", tmp_path), [samples(3, inputs=grey.contiguous()), samples(1, inputs=colour)], [2, 3])
    sizes, values = [], []
    for content in found.pictures:
        with Image.open(io.BytesIO(content)) as image:
            sizes.append(image.size)
            values.append(image.getpixel((1, 1)))
    assert sizes == [(8, 8), (48, 96)] and values == pytest.approx([200, 50], abs=2)
    assert showing(of("root", tmp_path / "none"), [samples(2)], [0, 1]) == Showing()
