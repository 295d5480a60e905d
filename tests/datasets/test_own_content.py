"""A trial on one's own data knows their content: where they lie is not in its id, and a corrected label makes other data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import harness
from harness import HarnessError, content
from harness.cli.data import app
from harness.testing.bench import CPU
from harness.training.prepare import corrupt, load_data, prepare

SUITE = """
[suite]
name = "own"
seeds = [0]
[training]
epochs = 1
batch_size = 16
validation = 0.2
optimizer = { name = "sgd", lr = 0.1 }
[execution]
device = "cpu"
[[setting]]
dataset = DATA
model = MODEL
noise = "given"
[[method]]
name = "CE"
"""


def table(path: Path) -> Path:
    """Sixty rows of two classes, the first of which has the wrong label."""
    rng = np.random.default_rng(0)
    lines = ["a,b,label"]
    for row in range(60):
        kind = row % 2
        a, b = rng.normal(size=2) + 2 * kind
        lines.append(f"{a:.3f},{b:.3f},{'no' if (kind == 0) != (row == 0) else 'yes'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def photos(root: Path) -> Path:
    for i in range(12):
        path = root / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return root


def suite_of(folder: Path, data: Path, model: str = '"linear"') -> harness.Suite:
    kind = "root" if data.is_dir() else "file"
    name = "image_folder" if data.is_dir() else "table"
    size = ", size = 8" if data.is_dir() else ""
    path = folder / "suite.toml"
    path.write_text(SUITE.replace("DATA", f'{{ name = "{name}", {kind} = "{data}"{size} }}').replace("MODEL", model))
    return harness.load_suite(path)


def identity(suite: harness.Suite) -> tuple[str, dict[str, object]]:
    (entry,) = suite.entries()
    return entry.trial.id, dict(entry.trial.identity["dataset"])


def test_the_id_holds_the_content_and_no_path(tmp_path: Path) -> None:
    first = suite_of(tmp_path, table(tmp_path / "a.csv"))
    id_, dataset = identity(first)
    assert "file" not in dataset["params"] and len(str(dataset["content"])) == 16  # type: ignore[operator]
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "a.csv", tmp_path / "moved" / "a.csv")
    assert identity(suite_of(tmp_path, tmp_path / "moved" / "a.csv"))[0] == id_
    assert [setting.name for setting in first.settings] == ["table a / linear / given"]
    words = (tmp_path / "a.csv").read_text().replace(",no\n", ",yes\n", 1)
    (tmp_path / "a.csv").write_text(words)
    assert identity(suite_of(tmp_path, tmp_path / "a.csv"))[0] != id_


def test_a_changed_picture_a_moved_one_and_a_new_one_make_other_data(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    found = [identity(suite_of(tmp_path, root))[0]]
    Image.new("RGB", (8, 8)).save(root / "cat" / "0.png")
    found.append(identity(suite_of(tmp_path, root))[0])
    (root / "cat" / "2.png").rename(root / "dog" / "2.png")
    found.append(identity(suite_of(tmp_path, root))[0])
    Image.new("RGB", (8, 8)).save(root / "cat" / "new.png")
    found.append(identity(suite_of(tmp_path, root))[0])
    assert len(set(found)) == 4


def test_find_correct_and_run_again_closes(tmp_path: Path) -> None:
    data, results = table(tmp_path / "a.csv"), tmp_path / "results"
    assert harness.run(suite_of(tmp_path, data), results).counts()["done"] == 1
    first = identity(suite_of(tmp_path, data))[1]["content"]
    words = data.read_text().splitlines()
    words[1] = words[1].replace("yes", "no")
    data.write_text("\n".join(words) + "\n")
    corrected = suite_of(tmp_path, data)
    plan = harness.plan(corrected, results)
    assert plan.counts()["missing"] == 1
    (note,) = plan.notes
    assert f"have changed: 1 result of their former content {first} stay" in note
    plan = harness.run(corrected, results)
    assert plan.counts()["done"] == 1 and len(plan.notes) == 1, "said as long as the former results are there"
    with harness.open_store(results) as connection:
        (shown,) = connection.execute("SELECT trial FROM compared").fetchone() or ("",)
    assert shown == identity(corrected)[0]


def test_where_the_data_are_not_a_suite_can_be_read_and_nothing_is_run(tmp_path: Path) -> None:
    loaded = suite_of(tmp_path, tmp_path / "absent.csv")
    (note,) = harness.plan(loaded, tmp_path / "results").notes
    assert "cannot be read here" in note
    with pytest.raises(HarnessError, match=r"there is no file .*absent\.csv"):
        harness.run(loaded, tmp_path / "results")
    assert not list((tmp_path / "results").glob("trials/*/attempt-*"))


def test_data_that_change_between_plan_and_trial_are_told_by_the_worker(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv")
    loaded = suite_of(tmp_path, data)
    (entry,) = loaded.entries()
    data.write_text(data.read_text().replace(",no\n", ",yes\n", 1))
    with pytest.raises(HarnessError, match="have changed since the trial was planned"):
        prepare(entry.trial, loaded.host, CPU)


def test_a_corrected_label_leaves_the_division_as_it_was(tmp_path: Path) -> None:
    """But for a sample or two, as a class has one more: what is drawn does not depend on the content."""
    data, held = table(tmp_path / "a.csv"), []
    lines = data.read_text().splitlines()
    divided = [f"{line},{'test' if i % 5 == 0 else 'train'}" for i, line in enumerate(lines[1:])]
    data.write_text("\n".join([f"{lines[0]},split", *divided]) + "\n")
    for corrected in (False, True):
        if corrected:
            data.write_text(data.read_text().replace("no,train", "yes,train", 1))
        loaded = suite_of(tmp_path, data)
        trial = next(iter(loaded.entries())).trial
        found = corrupt(trial, loaded.host, load_data(trial, loaded.host)).validation.positions
        held.append(set(found.tolist()) if found is not None else set())
    assert len(held[0]) == 10 and len(held[0] & held[1]) >= 8


def test_files_are_read_once_until_they_change_and_all_of_them_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = content._digest
    monkeypatch.setattr(content, "_digest", lambda root, name: read.append(name) or digest(root, name))
    for name in "ab":
        (tmp_path / name).write_text(name)
    first = content.content_of(tmp_path, ["a", "b"])
    assert content.content_of(tmp_path, ["b", "a"]) == first and read == ["a", "b"]
    before = (tmp_path / "a").stat()
    (tmp_path / "a").write_text("c")
    os.utime(tmp_path / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content.content_of(tmp_path, ["a", "b"]) == first, "neither size nor time has changed"
    exact = content.content_of(tmp_path, ["a", "b"], exact=True)
    assert exact != first and content.content_of(tmp_path, ["a", "b"]) == exact
    (tmp_path / "b").write_text("longer")
    read.clear()
    assert content.content_of(tmp_path, ["a", "b"]) != exact and read == ["b"]
    with pytest.raises(FileNotFoundError) as caught:
        content.content_of(tmp_path, ["a", "absent"])
    assert caught.value.filename == "absent"


def verify(root: Path) -> str:
    found = CliRunner().invoke(app, ["verify", "image_folder", "--set", f"root={root}", "--set", "size=8"])
    return found.output + (str(found.exception) if found.exception else "")


def test_verify_reads_every_file_and_finds_a_deleted_and_a_damaged_picture(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    assert "every file was read; their content is " in verify(root)
    middle = root / "cat" / "4.png"
    whole = middle.read_bytes()
    middle.write_bytes(whole[: len(whole) // 2])
    said = verify(root)
    assert f"{middle} cannot be read as an image" in said and "1 sample cannot be read" in said
    middle.write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    assert f"{middle} cannot be read as an image" in verify(root)
    middle.unlink()
    line = rows.index("cat/4.png,cat") + 2
    assert f"line {line} (cat/4.png): cat/4.png is not there" in verify(root)
