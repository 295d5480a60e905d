"""The page Suspects: what is shown of samples, filters, marks, and that their file makes the corrected data."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from harness_leaderboard import thumbnails
from harness_leaderboard.pages import suspects as page_module
from harness_leaderboard.thumbnails import NoThumbnail, image_file, thumbnail
from made_results import HOSTILE, SETTINGS, Folder
from PIL import Image
from test_pages import Tags, html_of, packed, words_of  # noqa: F401 -- packed is a fixture

from harness import HarnessError
from harness.results.suspects import (
    About,
    Correction,
    Showing,
    Suspect,
    corrections_csv,
    list_file,
    read_corrections,
    read_list,
    write_list,
)

CLASSES = ("cat", "dog", "owl")


def colour(number: int) -> tuple[int, int, int]:
    return (80 * number % 256, 40, 200)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six tiny images in a folder for each of three classes."""
    root = tmp_path / "photos"
    for number in range(6):
        path = root / CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), colour(number)).save(path)
    return root


def found(*rows: tuple[str, str, str, float]) -> list[Suspect]:
    return [Suspect(*row, p_wrong=None, seeds=1, methods=2) for row in rows]


SIX = found(
    ("dog/1.png", "dog", "cat", 0.97),
    ("cat/0.png", "cat", "owl", 0.9),
    ("owl/2.png", "owl", "cat", 0.6),
    ("cat/3.png", "cat", "cat", 0.3),
    ("dog/4.png", "dog", "dog", 0.2),
    ("owl/5.png", "owl", "owl", 0.1),
)


@pytest.fixture
def listed(empty: Folder, photos: Path) -> Folder:
    """A results folder with a list of the images, before anything is collected."""
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES, str(photos), True), SIX, Showing(str(photos)))
    return empty


def cards(app: Any) -> list[str]:
    """The HTML of each sample that is shown."""
    blocks = [json.loads(block.proto.json)["html"] for block in app.get("bidi_component")]
    return [html for html in blocks if 'class="named"' in html]


def samples(app: Any) -> list[str]:
    """The ids of the samples that are shown, in order."""
    return [one.id for html in cards(app) for one in SIX if one.id in html]


def pictures(html: str) -> list[Image.Image]:
    """The images in some HTML."""
    data = [part.split('"')[0] for part in html.split("data:image/jpeg;base64,")[1:]]
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in data]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that the page has offered, the newest last."""
    offered: list[str] = []

    def kept(rows: Any) -> str:
        offered.append(corrections_csv(rows))
        return offered[-1]

    monkeypatch.setattr(page_module, "corrections_csv", kept)
    return offered


def mark(app: Any, number: int, said: str | None) -> Any:
    """Mark the sample of a place on the page."""
    return app.segmented_control[number].set_value(said).run()


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_the_most_suspicious_come_first_with_thumbnails(app, listed):
    page = app(listed.path, page="suspects")
    assert not page.exception
    assert samples(page) == ["dog/1.png", "cat/0.png", "owl/2.png"], "only those of another suggested class"
    (image,) = pictures(cards(page)[0])
    assert image.size == (4, 4)
    assert image.getpixel((1, 1)) == pytest.approx(colour(1), abs=12)
    said = words_of(html_of(page))
    assert "pets: of 6 samples 3 are expected to be of another class" in said
    assert "dog , rather cat" in said and "score 0.970" in said and "2 methods and 1 seed disagree" in said


def test_a_folder_with_nothing_but_suspects_comes_before_the_reference_results(app, listed, packed):  # noqa: F811
    page = app(listed.path, page="suspects")
    assert page.selectbox(key="source").value == "this folder" and len(cards(page)) == 3


def test_filters_choose_by_class_and_score(app, listed):
    page = app(listed.path, page="suspects", differs="false")
    assert samples(page) == [one.id for one in SIX]
    page.multiselect(key="given").set_value(["cat", "owl"]).run()
    assert samples(page) == ["cat/0.png", "owl/2.png", "cat/3.png", "owl/5.png"]
    page.multiselect(key="suggested").set_value(["cat"]).run()
    assert samples(page) == ["owl/2.png", "cat/3.png"]
    page.number_input(key="least").set_value(0.5).run()
    assert samples(page) == ["owl/2.png"] and "1 pass" in words_of(html_of(page))
    assert not page.exception


def test_filters_come_from_the_url(app, listed):
    page = app(listed.path, page="suspects", given="dog", least="0.95")
    assert samples(page) == ["dog/1.png"]
    page = app(listed.path, page="suspects", given="<script>", least="cat")
    assert not page.exception and len(samples(page)) == 3


def test_where_the_chance_is_calibrated_it_is_what_the_filter_asks_for(app, empty):
    chances = [Suspect(str(row), "cat", "dog", 0.9, chance, 1, 1) for row, chance in ((1, 0.8), (2, 0.4))]
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES), chances, Showing(words=["one", "two"]))
    page = app(empty.path, page="suspects", least="0.5")
    assert page.number_input(key="least").label == "Least probability of being wrong"
    assert len(cards(page)) == 1 and "wrong with probability 0.80" in words_of(html_of(page))


def test_48_are_shown_at_a_time(app, empty):
    many = [Suspect(str(row), "cat", "dog", 1 - row / 1000, None, 1, 1) for row in range(1, 101)]
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES), many, Showing())
    page = app(empty.path, page="suspects")
    assert len(cards(page)) == 48 and "row 1" in words_of(cards(page)[0])
    page.number_input(key="page").set_value(3).run()
    assert not page.exception
    assert len(cards(page)) == 4 and "row 97" in words_of(cards(page)[0])
    page.number_input(key="least").set_value(0.99).run()
    assert not page.exception and len(cards(page)) == 10, "a page that is no longer there is the first"


def test_texts_are_shown_and_images_that_were_kept_with_the_list(app, empty):
    rows = found(("1", "cat", "dog", 0.9), ("2", "dog", "cat", 0.8))
    out = io.BytesIO()
    Image.new("L", (4, 4), 200).save(out, "JPEG")
    shown = Showing(words=["a good film"], pictures=[b"", out.getvalue()])
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES), rows, Showing(words=shown.words))
    assert "a good film" in words_of(cards(app(empty.path, page="suspects"))[0])
    write_list(empty.path, About("drawn", "/x/pets.toml", CLASSES), rows[:1], Showing(pictures=shown.pictures[1:]))
    (image,) = pictures(html_of(app(empty.path, page="suspects", list="drawn")))
    assert image.getpixel((0, 0)) == pytest.approx(200, abs=3)


def test_names_and_texts_are_text_and_never_markup(app, empty):
    rows = [Suspect(HOSTILE, HOSTILE, f"{HOSTILE}2", 0.9, None, 1, 1)]
    about = About(HOSTILE, HOSTILE, (HOSTILE, f"{HOSTILE}2"), "", True)
    write_list(empty.path, about, rows, Showing(words=[HOSTILE]))
    page = app(empty.path, page="suspects")
    assert not page.exception
    tags = Tags(html_of(page))
    assert "script" not in tags.found and not any(name.startswith("on") for name in tags.attributes)
    assert words_of(html_of(page)).count("alert('x')") >= 5
    assert not mark(page, 0, "relabel").exception


# --- files ------------------------------------------------------------------------------------------------------------


def test_nothing_outside_the_folder_is_read(app, empty, photos, tmp_path, monkeypatch):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4), (255, 0, 0)).save(secret)
    (photos / "link.png").symlink_to(secret)
    (photos / "up").symlink_to(tmp_path)
    (photos / "round.png").symlink_to(photos / "round.png")
    names = ["../secret.png", str(secret), "link.png", "up/secret.png", "round.png", "no.png", "a\0b", ".", "cat"]
    read: list[str] = []
    monkeypatch.setattr(page_module, "thumbnail", lambda path: read.append(path.name) or thumbnail(path))
    rows = found(*((name, "cat", "dog", 0.9) for name in names))
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES, str(photos)), rows, Showing(str(photos)))
    page = app(empty.path, page="suspects")
    assert not page.exception
    assert pictures(html_of(page)) == [] and read == ["cat"], "a folder is no image"
    said = words_of(html_of(page))
    assert said.count("lies outside the data's folder") == 5 and said.count("is not there") == 3
    for name in names[:4]:
        with pytest.raises(NoThumbnail, match="outside"):
            image_file(str(photos), name)
    assert image_file(str(photos), "cat/0.png") == photos / "cat" / "0.png"


def test_a_file_that_is_no_image_says_so(tmp_path):
    for name, content in (
        ("a.png", b"none"),
        ("b.png", b""),
        ("c.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NoThumbnail, match="cannot be read as an image"):
            thumbnail(tmp_path / name)


@pytest.mark.parametrize(
    ("mode", "form"), [("RGBA", "PNG"), ("L", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("1", "TIFF")]
)
def test_every_kind_of_image_becomes_a_small_jpeg(tmp_path, mode, form):
    Image.new(mode, (700, 350)).save(tmp_path / "image", form)
    with Image.open(io.BytesIO(thumbnail(tmp_path / "image"))) as small:
        assert small.format == "JPEG" and small.size == (thumbnails.SIDE, thumbnails.SIDE // 2)


# --- marks ------------------------------------------------------------------------------------------------------------


def test_marks_make_a_file_of_corrections_and_this_the_corrected_data(app, listed, photos, exported, tmp_path):
    from harness_plugins.datasets.label_files import correct_images

    page = app(listed.path, page="suspects")
    assert exported[-1] == "id,given,label,mark\n" and "0 samples marked" in words_of(html_of(page))
    mark(page, 0, "confirm")
    mark(page, 1, "keep")
    mark(page, 2, "relabel")
    assert not page.exception
    assert "2 samples marked. 1 to relabel lacks the right class" in words_of(html_of(page))
    right = next(box for box in page.selectbox if box.label == "Class of sample 3")
    assert right.options == ["cat", "dog"]
    right.set_value("dog").run()
    assert exported[-1].splitlines()[1:] == [
        "dog/1.png,dog,cat,confirm",
        "cat/0.png,cat,cat,keep",
        "owl/2.png,owl,dog,relabel",
    ]
    assert "harness suspects /x/pets.toml --apply corrections.csv --to pets-corrected" in words_of(html_of(page))
    (tmp_path / "corrections.csv").write_text(exported[-1])
    corrections = read_corrections(tmp_path / "corrections.csv")
    correct_images({"root": str(photos), "csv": None}, corrections, tmp_path / "fixed")
    lines = (tmp_path / "fixed" / "labels.csv").read_text().splitlines()
    assert {"dog/1.png,cat", "cat/0.png,cat", "owl/2.png,dog", "cat/3.png,cat"} <= set(lines)


def test_a_mark_stays_while_other_samples_are_shown_and_goes_when_it_is_taken_back(app, listed, exported):
    page = mark(app(listed.path, page="suspects"), 0, "confirm")
    page.multiselect(key="given").set_value(["owl"]).run()
    assert samples(page) == ["owl/2.png"] and "dog/1.png,dog,cat,confirm" in exported[-1]
    page.multiselect(key="given").set_value([]).run()
    assert page.segmented_control[0].value == "confirm"
    mark(page, 0, None)
    assert exported[-1] == "id,given,label,mark\n"


def test_what_is_as_suggested_has_nothing_to_confirm(app, listed):
    page = app(listed.path, page="suspects", differs="false")
    assert page.segmented_control[2].options == ["confirm", "keep", "relabel"]
    assert page.segmented_control[3].options == ["keep", "relabel"]


def test_a_mark_of_a_label_that_has_been_corrected_since_is_left_out(app, listed, photos, exported):
    page = mark(app(listed.path, page="suspects"), 0, "confirm")
    page = mark(page, 1, "confirm")
    rest = [Suspect("dog/1.png", "cat", "owl", 0.9, None, 1, 1), *SIX[1:]]
    write_list(listed.path, About("pets", "/x/pets.toml", CLASSES, str(photos), True), rest, Showing(str(photos)))
    page.run()
    assert not page.exception
    assert exported[-1].splitlines()[1:] == ["cat/0.png,cat,owl,confirm"]
    assert page.segmented_control[0].value is None and page.segmented_control[1].value == "confirm"


def test_labels_that_a_spreadsheet_would_run_come_back_as_they_were(tmp_path):
    rows = [Correction("=a.png", "-1", "+1", "confirm"), Correction("@b", "+1", "-1", "relabel")]
    (tmp_path / "a.csv").write_text(corrections_csv(rows))
    assert "'=a.png,'-1,'+1,confirm" in (tmp_path / "a.csv").read_text()
    assert read_corrections(tmp_path / "a.csv") == {"=a.png": ("-1", "+1"), "@b": ("+1", "-1")}


def test_data_that_cannot_be_written_anew_are_not_promised(app, empty):
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES), SIX, Showing())
    said = words_of(html_of(app(empty.path, page="suspects")))
    assert "--apply" not in said and "correct its files by the downloaded list" in said


# --- where there is no list -------------------------------------------------------------------------------------------


def test_an_empty_folder_says_what_finds_suspects_of_own_data(app, empty):
    said = words_of(html_of(app(empty.path, page="suspects")))
    assert "There are no results in" in said
    assert f"harness init --images DIR harness suspects DIR.toml --results {empty.path}" in said


def test_a_suite_of_one_setting_gets_the_command_that_finds_its_suspects(app, empty):
    empty.trial("CE", SETTINGS[0], 0, 0.9)
    empty.collect()
    (manifest,) = (empty.path / "suites").glob("*/*.json")
    manifest.write_text(
        json.dumps({**json.loads(manifest.read_text()), "arguments": ["made.toml", "--scale", "quick"]})
    )
    page = app(empty.path, page="suspects")
    assert f"harness suspects made.toml --results {empty.path}" in words_of(html_of(page))
    assert not page.exception


def test_a_suite_of_several_settings_says_why_it_has_none(app, filled):
    assert "made has 3 settings." in words_of(html_of(app(filled.path, page="suspects")))


def test_the_list_of_another_suite_can_be_chosen(app, empty, photos):
    empty.trial("CE", SETTINGS[0], 0, 0.9)
    empty.collect()
    write_list(empty.path, About("pets", "/x/pets.toml", CLASSES, str(photos)), SIX, Showing(str(photos)))
    page = app(empty.path, page="suspects")
    assert cards(page) == []
    page.selectbox(key="list").set_value("pets").run()
    assert not page.exception and len(cards(page)) == 3


# --- the kept list ----------------------------------------------------------------------------------------------------


def test_a_list_comes_back_as_it_was_kept(tmp_path):
    about = About("a/b", "suite:own", CLASSES, "/photos", True)
    path = write_list(tmp_path, about, SIX, Showing(words=["one", "two"]))
    kept = read_list(path)
    assert kept.about == about and path == list_file(tmp_path, "a/b") != list_file(tmp_path, "a-b")
    rows = kept.table.to_pylist()
    assert [row["words"] for row in rows] == ["one", "two", None, None, None, None]
    assert [Suspect(*list(row.values())[:7]) for row in rows] == SIX


@pytest.mark.parametrize("content", [b"", b"PAR1 none PAR1", b"\0" * 100])
def test_a_damaged_list_is_told_in_one_line(app, empty, content):
    empty.trial("CE", SETTINGS[0], 0, 0.9)
    empty.collect()
    path = list_file(empty.path, "made")
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(HarnessError, match="cannot be read as a list of suspects"):
        read_list(path)
    page = app(empty.path, page="suspects")
    assert not page.exception and "run `harness suspects` again" in words_of(html_of(page))


def test_another_parquet_file_is_no_list(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.results.suspects import ABOUT, kept_suites

    path = list_file(tmp_path, "pets")
    path.parent.mkdir(parents=True)
    said = {"suite": "pets", "file": "a", "classes": ["x"]}
    for about in (None, b"[]", b"{}", json.dumps({**said, "folder": 3}).encode(), json.dumps(said).encode()):
        table = pa.table({"id": ["1"]}).replace_schema_metadata({ABOUT: about} if about is not None else None)
        pq.write_table(table, path)
        with pytest.raises(HarnessError, match="cannot be read as a list of suspects"):
            read_list(path)
    write_list(tmp_path, About("pets", "a", ("x",)), SIX, Showing())
    (path.parent / "other.parquet").write_bytes(path.read_bytes())
    assert kept_suites(tmp_path) == ["pets"]


def test_the_page_loads_no_torch():
    import subprocess
    import sys

    code = "import harness_leaderboard.thumbnails, harness.results.suspects, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
