"""The pages through Streamlit's own test harness: every page, every kind of results folder, state in the URL."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import streamlit as st
from harness_leaderboard import tables, views
from harness_leaderboard.main import PAGES
from made_results import HOSTILE, SETTINGS

pytestmark = pytest.mark.portable


def html_of(app) -> str:
    """All HTML that the page shows."""
    return "".join(json.loads(block.proto.json)["html"] for block in app.get("bidi_component"))


class Tags(HTMLParser):
    """The tags that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes |= {name for name, _ in attrs}


def words_of(html: str) -> str:
    """The text of the HTML."""
    parser = HTMLParser()
    parts: list[str] = []
    parser.handle_data = parts.append
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(parts))


@pytest.fixture
def packed(filled, tmp_path, monkeypatch):
    """The made results as reference results."""
    from harness.results.records import archive

    file = tmp_path / "made.parquet"
    archive.pack(filled.path, file)
    for module in ("harness_leaderboard.shell", "harness.results.records.archive"):
        monkeypatch.setattr(f"{module}.reference_files", lambda: [file])
    monkeypatch.setattr(archive, "_is_own", lambda text, trial: True)  # the made trials have made-up ids
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    st.cache_resource.clear()
    yield file
    st.cache_resource.clear()


def test_a_newcomer_sees_the_reference_results_first_and_why(app, empty, packed):
    page = app(empty.path)
    assert not page.exception
    assert [box.label for box in page.selectbox][:2] == ["Source", "Suite"]
    assert "these are the reference results" in html_of(page) and str(empty.path) in html_of(page)
    shown = page.selectbox(key="source").set_value("this folder").run()
    assert "There are no results in" in html_of(shown)


def test_own_results_come_first_and_the_reference_is_a_choice_in_the_url(app, filled, packed, empty):
    assert app(filled.path).selectbox(key="source").value == "this folder"
    page = app(filled.path, source="reference")
    assert not page.exception
    assert page.selectbox(key="source").value == "reference"
    assert "these are the reference results" not in html_of(page)
    for name in ("compare", "trial", "published", "cost", "progress", "export"):
        assert not app(filled.path, page=name, source="reference").exception, name


def test_an_empty_folder_explains_what_to_do(app, empty):
    page = app(empty.path)
    assert not page.exception
    assert "There are no results in" in html_of(page) and "harness run suite:default" in html_of(page)


def test_the_first_page_says_who_leads_and_whether_it_is_real(app, filled):
    page = app(filled.path)
    assert not page.exception
    said = words_of(html_of(page))
    assert "(n = 3, moderated block Tukey over 3 settings, 0.05)" in said
    assert "ELR" in said and "How is this computed?" in said and "reference" in said


def test_names_are_text_and_never_markup(app, filled):
    page = app(filled.path)
    tags = Tags(html_of(page))
    assert "script" not in tags.found and not any(name.startswith("on") for name in tags.attributes)
    assert HOSTILE in words_of(html_of(page)).replace("  ", " ")


def test_state_comes_from_the_url(app, filled):
    page = app(filled.path, dataset="fashion", metric="best")
    assert not page.exception
    assert page.selectbox(key="metric").value == "best"
    assert page.multiselect(key="dataset").value == ["fashion"]
    said = words_of(html_of(page))
    assert "1 setting" in said and "an oracle, not a result" in said


def test_nonsense_in_the_url_is_ignored(app, filled):
    page = app(filled.path, suite="../../etc/passwd", metric="'; DROP TABLE trials", dataset="<script>")
    assert not page.exception
    assert page.selectbox(key="suite").value == "made"


def test_a_metric_is_chosen_by_its_title_and_kept_in_the_url_by_its_word(app, filled):
    page = app(filled.path)
    box = page.selectbox(key="metric")
    assert "test accuracy, mean of the last 10 epochs" in box.options and "last10" not in box.options
    assert "metric" not in page.query_params
    page.selectbox(key="metric").set_value("last10").run()
    assert not page.exception
    assert page.query_params["metric"] in ("last10", ["last10"])
    assert "mean of the last 10 epochs (%)" in words_of(html_of(page))
    page.selectbox(key="metric").set_value("last").run()
    assert "metric" not in page.query_params


def test_a_filter_recomputes_tiers_and_sentence(app, filled):
    page = app(filled.path)
    page.multiselect(key="method").set_value(["CE", "ELR"]).run()
    assert not page.exception
    assert "ELR ° is alone at the top" in words_of(html_of(page))


def test_filters_that_nothing_passes_say_so(app, filled):
    page = app(filled.path)
    page.multiselect(key="dataset").set_value(["fashion"]).run()
    page.multiselect(key="noise").set_value(["pairflip"]).run()
    assert not page.exception
    assert "Nothing passes these filters" in html_of(page)


def test_failures_only_are_shown_with_their_errors_as_text(app, empty):
    for seed in range(2):
        empty.trial("CE", SETTINGS[0], seed, None, error=f"<b>boom</b> {HOSTILE}")
    empty.collect()
    page = app(empty.path)
    assert not page.exception
    html = html_of(page)
    assert "has failed (2)" in html and "&lt;b&gt;boom&lt;/b&gt;" in html and "script" not in Tags(html).found


def test_one_seed_shows_values_and_claims_nothing(app, empty):
    for method in ("CE", "ELR"):
        for place in SETTINGS:
            empty.trial(method, place, 0, 0.9 if method == "ELR" else 0.8)
    empty.collect()
    page = app(empty.path)
    assert not page.exception
    assert "One seed per cell says nothing about spread" in html_of(page)


def test_a_method_that_lacks_settings_is_marked_and_stands_last(app, empty):
    for seed in range(3):
        for position, place in enumerate(SETTINGS):
            empty.trial("CE", place, seed, 0.9 - 0.2 * position + 0.001 * seed)
        empty.trial("ELR", SETTINGS[0], seed, 0.95 + 0.002 * seed)
    empty.collect()
    said = words_of(html_of(app(empty.path)))
    assert "1/3" in said and "≈" not in said
    assert "Not ranked until their runs are there: ELR ° (no result in 2 of 3 settings)" in said
    assert "withheld: no result in 2 of 3 settings" in said


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("compare", "Chance to beat it"),
        ("trial", "Transition matrix of the training labels"),
        ("published", "these are the printed numbers"),
        ("cost", "On the Pareto front"),
        ("progress", "27 of 27 trials are done"),
    ],
)
def test_every_page_says_what_it_is_for(app, filled, page, said):
    shown = app(filled.path, page=page)
    assert not shown.exception
    assert said in html_of(shown)
    assert "script" not in Tags(html_of(shown)).found


@pytest.mark.parametrize("page", [path for _, path, _, _ in PAGES])
def test_every_page_explains_an_empty_folder(app, empty, page):
    shown = app(empty.path, page=page)
    assert not shown.exception
    assert "There are no results in" in html_of(shown)


def test_a_trial_shows_seeds_curves_origin_and_the_command(app, filled):
    shown = app(filled.path, page="trial", trial=f"{1:016x}")
    html = html_of(shown)
    said = words_of(html)
    for words in (
        "CE on mnist5k / lenet / symmetric 0.2, seed 0",
        "seed 1",
        "abc123",
        "torch 2.8",
        "norm",
        "score",
        "started",
    ):
        assert words in said, words
    assert f"--select id={1:016x}" in said and "harness run" in said
    assert html.count("<figure data-chart=") >= 5


def test_a_failed_trial_shows_its_error_as_text(app, empty):
    trial = empty.trial("CE", SETTINGS[0], 0, None, error=HOSTILE, log=HOSTILE)
    empty.collect()
    html = html_of(app(empty.path, page="trial", trial=trial))
    assert "script" not in Tags(html).found and words_of(html).count("alert('x')") >= 3


def test_a_trial_that_is_not_there_is_one_line(app, filled):
    html = html_of(app(filled.path, page="trial", trial="../../../etc/passwd"))
    assert "There is no trial ../../../etc/passwd in this snapshot" in html


def test_export_shows_the_filtered_board_as_latex(app, filled):
    shown = app(filled.path, page="export", dataset="fashion")
    assert not shown.exception
    table = shown.code[0].value
    assert r"\toprule" in table and "data set fashion" in table and r"\begin{tabular}{lr}" in table


@pytest.mark.parametrize("form", ["Markdown", "CSV", "JSON", "Parquet"])
def test_every_format_is_offered(app, filled, form):
    shown = app(filled.path, page="export", format=form)
    assert not shown.exception
    assert f"Download {form}" in str(shown.get("download_button")[0].proto)


def test_compare_takes_its_methods_from_the_url(app, filled):
    shown = app(filled.path, page="compare", **{"with": ["ELR", "CE"]})
    assert not shown.exception
    assert "against ELR °" in html_of(shown)


def test_columns_that_a_plugin_adds_are_shown(app, filled, monkeypatch):
    from harness_leaderboard.pages import board

    column = {"name": "memo", "title": "Memo <b>", "metric": "memorisation", "format": ".3f", "help": "help"}
    monkeypatch.setattr(board, "_declared", lambda: [column])
    board._html.clear()
    html = html_of(app(filled.path))
    board._html.clear()
    assert "Memo &lt;b&gt;" in html
    assert re.search(r">0\.1[0-9]{2}<", html)


def test_an_interval_of_zero_width_is_drawn():
    assert "<circle" in tables.charts.interval_mark(0.1, 0.1, 0.1, 1.0, "x")


def test_a_far_outlier_ends_at_the_edge_of_its_cell():
    assert "<circle" not in tables.charts.interval_mark(-90.0, -80.0, -70.0, 5.0, "x")


def test_filters_say_in_words_what_they_do():
    filters = views.Filters(datasets=("cifar10",), rates=(0.2, 0.4), common=True)
    assert filters.words() == ("data set cifar10", "rate 0.2, 0.4", "settings that every method has")
