"""The app and the static site in a real Chromium."""

from __future__ import annotations

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import latex
import pytest
from harness_leaderboard import charts
from harness_leaderboard.charts import Point, Series
from harness_leaderboard.cli import start, wait
from harness_leaderboard.site import publish
from made_results import HOSTILE, SETTINGS, Folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 30_000
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that keeps what it requested in ``requested`` and fails on a dialog or a script error."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, accept_downloads=True)
    found = context.new_page()
    found.set_default_timeout(PATIENCE)
    found.requested, found.faults = [], []
    found.on("request", lambda request: found.requested.append(request.url))
    found.on("pageerror", lambda error: found.faults.append(str(error)))
    found.on("console", lambda said: "Content Security" in said.text and found.faults.append(said.text))
    found.on("dialog", lambda dialog: (found.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield found
    context.close()
    assert found.faults == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """The app on a results folder."""

    def __init__(self, folder: Folder) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = start(folder.path, "127.0.0.1", port)
        wait(self.process, self.url)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def server(filled: Folder) -> Iterator[Served]:
    served = Served(filled)
    yield served
    served.stop()


def test_the_leaderboard_loads_and_asks_nobody_else(page, server):
    page.goto(server.url)
    page.get_by_text("are equal at the top").wait_for()
    page.wait_for_timeout(1500)
    assert page.get_by_role("link", name=re.compile("script")).first.inner_text() == HOSTILE
    elsewhere = [url for url in page.requested if not url.startswith((server.url, "data:", "blob:"))]
    assert elsewhere == []


def test_the_first_page_also_answers_to_its_name(page, server):
    page.goto(f"{server.url}/leaderboard?dataset=fashion")
    page.get_by_text("1 setting").first.wait_for()
    page.wait_for_timeout(1000)
    assert page.get_by_text("Page not found").count() == 0
    assert page.get_by_role("link", name="Leaderboard").count() == 1  # once in the menu
    page.get_by_role("row", name=re.compile("^CE")).locator("td.cell a").first.click()
    page.get_by_text("Transition matrix").first.wait_for(state="attached")
    page.go_back()
    page.get_by_text("1 setting").first.wait_for()


def test_a_filter_changes_the_table_and_the_url_and_the_url_brings_it_back(page, server):
    page.goto(server.url)
    page.get_by_text("3 settings").first.wait_for()
    page.get_by_label("Data set").first.click()
    page.get_by_role("option", name="fashion").click()
    page.get_by_text("1 setting").first.wait_for()
    page.wait_for_url("**dataset=fashion**")
    shared = page.url
    other = page.context.new_page()
    other.goto(shared)
    other.get_by_text("1 setting").first.wait_for(timeout=PATIENCE)
    other.close()


def test_a_cell_leads_to_its_trial_within_the_session_and_back(page, server):
    page.goto(server.url)
    row = page.get_by_role("row", name=re.compile("^CE"))
    row.locator("td.cell a").nth(1).click()
    page.get_by_text("Transition matrix").first.wait_for(state="attached")
    assert "pairflip 0.4" in page.locator(".lead").first.inner_text()
    assert "trial=" in page.url
    sockets = [url for url in page.requested if url.rstrip("/") == server.url]
    assert len(sockets) == 1  # no page load in between
    page.reload()
    page.get_by_text("CE on mnist5k / lenet / pairflip 0.4, seed 0").wait_for()
    page.go_back()
    page.get_by_text("are equal at the top").wait_for()


def test_everything_is_reached_by_keyboard(page, server):
    page.goto(server.url)
    cell = page.get_by_role("row", name=re.compile("^CE")).locator("td.cell a").first
    cell.wait_for()
    cell.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**trial=**")
    page.get_by_text("seed 1").first.wait_for()


def test_a_column_sorts(page, server):
    page.goto(server.url)
    page.get_by_role("button", name="Method", exact=True).click()
    names = page.locator("table tbody th a").all_inner_texts()
    assert names == sorted(names, key=str.lower)
    assert page.locator("thead th[aria-sort=ascending]").inner_text().startswith("Method")


@pytest.mark.skipif(bool(latex.missing()), reason=latex.missing())
def test_the_exported_latex_compiles(page, server, tmp_path):
    page.goto(f"{server.url}/export?dataset=fashion")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download LaTeX").click()
    source = waiting.value.path().read_text(encoding="utf-8")
    assert "data set fashion" in source
    latex.compile_table(source, tmp_path)


def test_a_run_that_finishes_while_the_page_is_open_is_shown(page, empty):
    for seed in range(2):
        empty.trial("CE", SETTINGS[0], seed, 0.5 + 0.01 * seed)
    empty.trial("ELR", SETTINGS[0], 0, None)
    empty.collect()
    served = Served(empty)
    try:
        page.goto(served.url)
        page.get_by_role("link", name="51").or_(page.get_by_text("50.50")).first.wait_for()
        assert page.get_by_text("77.00").count() == 0
        del empty.lines["made"][-1]
        empty.trial("ELR", SETTINGS[0], 0, 0.77)
        empty.trial("ELR", SETTINGS[0], 1, 0.77)
        empty.collect()
        page.get_by_text("77.00").first.wait_for()
        page.goto(f"{served.url}/progress")
        page.get_by_text("4 of 4 trials are done").wait_for()
    finally:
        served.stop()


@pytest.mark.parametrize("path", ["", "compare", "trial", "published", "cost", "progress", "suspects", "export"])
def test_nothing_is_wider_than_a_phone(page, server, path):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{server.url}/{path}")
    page.locator(".nh p, .nh table, .stCode").first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".stMain").evaluate("e => e.scrollWidth") <= 390


# --- charts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sheet(page: Any) -> Any:
    """An empty page with the script that draws charts."""
    page.set_content("<main></main>")
    page.add_script_tag(content=(files("harness_leaderboard") / "assets" / "charts.js").read_text())
    return page


def drawn(sheet: Any, html: str) -> Any:
    """The figure that the script makes of a chart."""
    sheet.evaluate("html => { document.body.innerHTML = html; draw_charts(document); }", str(html))
    return sheet.locator("figure")


MANY = [float(i) for i in range(1, 21)]


def markers(figure: Any, number: int) -> int:
    """Markers of a series in the chart; its sample in the legend is not one."""
    return int(figure.locator(f".chart .s{number}").count())


def test_a_short_curve_has_markers_and_a_long_one_only_between_gaps(sheet):
    series = [Series("test", MANY, MANY), Series("train", MANY[-1:], [3.0]), Series("other", MANY[::5], MANY[::5])]
    figure = drawn(sheet, charts.lines(series, "Accuracy", "epoch", "%"))
    assert [markers(figure, i) for i in range(3)] == [0, 1, 4]
    assert [figure.locator(f".legend .s{i}").count() for i in range(3)] == [0, 1, 1]
    assert figure.locator(".chart").get_attribute("aria-label") == "Accuracy"
    gap = [MANY[0], None, *MANY[2:]]
    assert markers(drawn(sheet, charts.lines([Series("test", MANY, gap)], "Accuracy", "epoch", "%")), 0) == 1


def test_a_curve_goes_where_its_values_are(sheet):
    figure = drawn(sheet, charts.lines([Series("a", [1.0, 3.0, 5.0], [0.0, 10.0, 5.0])], "Loss", "epoch", ""))
    path = figure.locator("path.line").get_attribute("d")
    (x0, y0), (x1, y1), (x2, y2) = [[float(v) for v in place.split()] for place in re.findall(r"[ML]([^ML]+)", path)]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y2 == pytest.approx((y0 + y1) / 2, abs=0.2) and y1 < y2 < y0
    ticks = figure.locator("text.tick").all_text_contents()
    assert ticks == ["0", "2", "4", "6", "8", "10", "1", "2", "3", "4", "5"]


def test_a_whisker_ends_inside_the_chart_and_an_outlier_at_its_edge(sheet):
    points = [Point(1.0 + i, 5.0 + i, "a", "near", y_span=(-900.0, 900.0), x_span=(-1.0, 1e9)) for i in range(6)]
    far = Point(2.0, -9000.0, HOSTILE, "<b>")
    figure = drawn(sheet, charts.scatter([*points, far], "name", "x", "y", log_x=True))
    whiskers = figure.locator("path.whisker").evaluate_all("all => all.map(p => p.getAttribute('d'))")
    ends = [float(v) for path in whiskers for v in re.findall(r"[-\d.]+", path)]
    assert len(whiskers) == 12 and all(0 <= end <= 400 for end in ends)
    assert "<b> -9000 ↓" in figure.locator("text.label").all_text_contents()
    assert HOSTILE in figure.locator("title").all_text_contents()


def test_dots_do_not_cover_each_other_and_lead_to_their_trials(sheet):
    points = [Point(1.0, 0.0, f"seed {i}", str(i), f"trial?trial={i}", front=i == 1) for i in range(4)]
    figure = drawn(sheet, charts.dots(points, "Seeds", "accuracy", (0.5, 1.5), 1.0))
    assert (
        len(set(figure.locator("text.tick[x]").evaluate_all("all => all.slice(-4).map(t => t.getAttribute('y'))"))) == 4
    )
    links = figure.locator("a[data-go]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert links == [f"trial?trial={i}" for i in range(4)]
    assert figure.locator("path.mean").count() == figure.locator("path.interval").count() == 1


def test_a_matrix_of_many_classes_draws_what_is_there(sheet):
    few = drawn(sheet, charts.heatmap([[0.75, 0.25], [0.0, 1.0]], "T", "clean class", "given class"))
    assert few.locator("rect.heat").count() == 4
    assert few.locator("text.number").all_text_contents() == ["75", "25", "100"]
    assert few.locator("rect title").nth(1).text_content() == "clean class 0, given class 1: 25.0 %"
    many = [[float(i == j) for j in range(30)] for i in range(30)]
    assert drawn(sheet, charts.heatmap(many, "T", "clean", "given")).locator("rect.heat").count() == 30


# --- the static site --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(filled: Folder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("site") / "site"
    publish(filled.path, folder)
    return folder


def walk(page: Any, base: str) -> None:
    """From the first page to a trial: what a reader does."""
    page.goto(f"{base}/index.html")
    assert "are equal at the top" in page.inner_text("main")
    page.get_by_role("link", name="made", exact=True).click()
    rows = page.locator("main table").first.locator("tbody tr")
    assert rows.count() == 3
    page.get_by_label("Show methods with").fill("elr")
    assert page.locator("main table").first.locator("tbody tr:visible").count() == 1
    page.get_by_label("Show methods with").fill("")
    page.get_by_role("button", name="Method", exact=True).first.click()
    assert rows.nth(1).locator("th").inner_text().startswith("CE")  # after the one that starts with <
    page.get_by_role("row", name=re.compile("script")).locator("td.cell a").first.click()
    page.locator("#trial svg.chart").first.wait_for()
    assert HOSTILE in page.inner_text("#trial")
    assert "symmetric 0.2, seed 0" in page.inner_text("#trial")
    assert page.locator("#trial svg.chart").count() >= 4


def test_the_site_opens_from_disk(page, site):
    walk(page, site.as_uri())
    assert all(url.startswith(("file:", "data:")) for url in page.requested)


def test_the_site_opens_from_any_host(page, site):
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{host.server_address[1]}"
        walk(page, base)
        assert all(url.startswith((base, "data:")) for url in page.requested)
        host.shutdown()


def test_a_trial_that_the_site_lacks_is_one_line(page, site):
    for fragment in ("0000000000009999", "../../etc/passwd", "<img src=x onerror=alert(1)>"):
        page.goto(f"{site.as_uri()}/trial.html#{fragment}")
        page.reload()
        page.locator("#trial .lead").wait_for()
        assert re.search("There is no trial|Follow a cell", page.inner_text("#trial"))


def test_the_site_fits_a_phone(page, site):
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("index.html", "made.html", "published.html", "trial.html#0000000000000001"):
        page.goto(f"{site.as_uri()}/{name}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
