"""The static site as files, and the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness_leaderboard.cli import check_port
from harness_leaderboard.site import MARK, publish
from made_results import HOSTILE, SETTINGS

from harness.errors import HarnessError, ResultsError

pytestmark = pytest.mark.portable


def test_the_site_has_a_page_per_suite_and_metric_and_the_data(filled, tmp_path):
    written = publish(filled.path, tmp_path / "site")
    assert (written.suites, written.trials) == (1, 27)
    names = {
        path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
    }
    assert {"index.html", "made.html", "made--best.html", "trial.html", "assets/style.css", "assets/site.js"} <= names
    assert {f"data/made.{suffix}" for suffix in ("csv", "json", "md", "tex", "parquet")} <= names


def test_the_site_names_no_other_host_and_holds_no_markup_of_users(filled, tmp_path):
    publish(filled.path, tmp_path / "site")
    for path in (tmp_path / "site").rglob("*.html"):
        html = path.read_text()
        assert "<script>" not in html and "alert('x')" not in html
        assert not re.search(r"(src|href)=\"(https?:)?//", html)


def test_every_trial_is_in_the_data(filled, tmp_path):
    publish(filled.path, tmp_path / "site")
    found = {}
    for path in (tmp_path / "site" / "data" / "trials").glob("*.js"):
        text = path.read_text()
        found |= json.loads(text[len("trials(") : text.rindex(")")])
    assert len(found) == 27
    first = found[f"{1:016x}"]
    assert first["places"] == [["made", "CE", "mnist5k / lenet / symmetric 0.2", "0"]]
    assert len(first["curves"]["test_accuracy"]["y"]) == 3 and first["curves"]["mae"]["y"] is None
    assert first["log"] == "started\n"


def test_a_site_is_replaced_and_nothing_else_is(filled, tmp_path):
    folder = tmp_path / "site"
    publish(filled.path, folder)
    (folder / "stale.html").write_text("old")
    publish(filled.path, folder)
    assert not (folder / "stale.html").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultsError, match="neither empty nor an earlier site"):
        publish(filled.path, other)
    assert (other / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_cannot_be_published(empty, tmp_path):
    with pytest.raises(ResultsError, match="nothing has been collected here"):
        publish(empty.path, tmp_path / "site")


def test_failures_and_suites_with_like_names_are_published(empty, tmp_path):
    for suite in ("a/b", "a b", "index"):
        empty.trial("CE", SETTINGS[0], 0, None, error=HOSTILE, suite=suite)
    empty.collect()
    assert publish(empty.path, tmp_path / "site").suites == 3
    pages = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {"a-b.html", "a-b-2.html", "suite-index.html"} <= pages
    assert MARK in (tmp_path / "site" / "index.html").read_text()


def test_names_of_any_length_and_signs_have_pages_of_their_own(empty, tmp_path):
    names = ["s" * 250, "s" * 251, "é" * 120, "/", "index"]
    signs = {"memorisation@+1": {"last": 0.1}, "memorisation@-1": {"last": 0.2}, "memorisation@~": {"last": 0.3}}
    for suite in names:
        empty.trial("CE", SETTINGS[0], 0, 0.5, suite=suite, metrics=signs if suite == "/" else None)
    empty.collect()
    site = tmp_path / "site"
    assert publish(empty.path, site).suites == len(names)
    index = (site / "index.html").read_text()
    pages = re.findall(r'<h2><a href="([^"]+)">', index)
    assert len(set(pages)) == len(names)
    links = {link for page in pages for link in re.findall(r'<li><a href="([^"]+)"', (site / page).read_text())}
    assert all((site / link).is_file() for link in links)
    metrics = list(site.glob("unnamed--memorisation*.html"))
    shown = {re.search(r'aria-current="page">([^<]+)</a></li>', path.read_text())[1] for path in metrics}
    assert {"+1", "-1", "~"} <= {words.split()[-1] for words in shown}


def test_a_port_that_is_taken_is_one_line():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HarnessError, match="cannot be used"):
            check_port("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, "a..b"])
def test_a_host_that_is_no_address_is_told_as_such(host):
    with pytest.raises(HarnessError, match=r"^--host: .* is no address"):
        check_port(host, 8501)


def test_the_commands_import_no_streamlit():
    code = "import harness_leaderboard.cli, sys; assert not {'streamlit', 'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
