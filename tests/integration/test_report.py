"""`canopy report` on a real database, and what it writes in a real browser."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize, expect

from canopy_search.dashboards.report.page import report_html
from canopy_search.storage.database import Database
from canopy_search.storage.study.epochs import add_trained
from canopy_search.storage.study.predictions import ValidationSet, predicting
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.report.test_page import EVIL, STUDIES, predicted
from tests.dashboards.studies import RECORD, searched
from tests.databases import stored_trial_id
from tests.integration.in_process import InProcess
from tests.integration.plain_optuna import NAME, make_plain_study

LIMIT_MS = 240_000  # against hangs alone
expect.set_options(timeout=LIMIT_MS)
LIGHT_PAGE_TEXT = "rgb(89, 95, 102)"
SIZE: ViewportSize = {"width": 1200, "height": 900}
FIGURES = 12  # eleven charts, one of them with a panel for each of two losses


class Opened:
    """A report in a browser, and what it complained of and asked for."""

    def __init__(self, browser: Browser, file: Path) -> None:
        context = browser.new_context(viewport=SIZE, color_scheme="light")
        context.set_default_timeout(LIMIT_MS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._count)
        self.page.goto(file.as_uri())

    def drawn(self) -> Page:
        self.page.wait_for_selector("html[data-drawn=all]")
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _count(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.requests.append(request.url)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(report_html(predicted(searched(40))), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Opened:
    """The report with every figure drawn, on a light page."""
    opened = Opened(browser, report)
    opened.drawn()
    return opened


def test_every_figure_is_drawn_and_nothing_is_asked_for(opened: Opened, report: Path) -> None:
    marks = opened.page.eval_on_selector_all(
        ".plot",
        """plots => plots.map(plot => plot.querySelectorAll(
            '.scatterlayer path, .barlayer path, .heatmaplayer image').length)""",
    )
    assert len(marks) == FIGURES
    assert min(marks) > 0, marks
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]


def test_a_screen_reader_finds_its_way(opened: Opened) -> None:
    page = opened.page
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Contents").count() == 1
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    says = page.eval_on_selector_all(
        ".plot",
        "all => all.map(e => document.getElementById(e.ariaDescribedByElements[0].id).innerText)",
    )
    assert all(sentence.endswith(".") for sentence in says)


def test_the_table_sorts_and_filters_by_keyboard(opened: Opened) -> None:
    page = opened.page
    heading = page.locator("#trials thead th", has_text="AP")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    column = heading.evaluate("cell => cell.cellIndex")
    values = page.eval_on_selector_all(
        "#trials tbody tr", f"rows => rows.map(row => Number(row.cells[{column}].dataset.value))"
    )
    assert values == sorted(values, reverse=True)
    assert len(values) == 40
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"

    page.locator("#trials input[type=search]").focus()
    page.keyboard.type("resnet18 complete")
    shown = page.eval_on_selector_all(
        "#trials tbody tr", "rows => rows.filter(row => !row.hidden).map(row => row.innerText)"
    )
    assert 0 < len(shown) < 40
    assert all("resnet18" in row and "complete" in row for row in shown)
    assert page.locator("#trials output").inner_text() == f"{len(shown)} of 40"
    page.keyboard.press("Tab")
    page.keyboard.type("tinycnn_8")  # chosen beside the word resnet18, which no such row has
    assert page.locator("#trials output").inner_text() == "0 of 40"


def test_it_is_dark_where_the_system_is_or_the_reader_wants_it(opened: Opened) -> None:
    page = opened.page

    tick = page.locator(".xtick text").first
    background = "() => getComputedStyle(document.body).backgroundColor"
    fill = "text => getComputedStyle(text).fill"
    light, light_text = page.evaluate(background), tick.evaluate(fill)
    page.emulate_media(color_scheme="dark")
    expect(tick).not_to_have_css("fill", light_text)  # figures are drawn anew a moment later
    dark, dark_text = page.evaluate(background), tick.evaluate(fill)
    assert dark != light
    page.get_by_role("button", name="Light").click()
    expect(tick).to_have_css("fill", light_text)
    assert page.evaluate(background) == light
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Dark").click()
    expect(tick).to_have_css("fill", dark_text)
    assert page.evaluate(background) == dark


def test_a_printed_page_is_as_wide_as_paper(opened: Opened) -> None:
    opened.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    widths = opened.page.eval_on_selector_all(
        ".plot .main-svg", "all => all.map(each => each.getBoundingClientRect().width)"
    )
    assert max(widths) <= 660
    tick = opened.page.locator(".xtick text").first
    assert tick.evaluate("text => getComputedStyle(text).fill") == LIGHT_PAGE_TEXT  # it was dark
    opened.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert opened.complaints == []


def test_nothing_leaves_the_page_even_if_it_tried(opened: Opened) -> None:
    refused = opened.page.evaluate(
        "() => fetch('https://example.org/').then(() => 'sent', error => 'refused')"
    )
    assert refused == "refused"


def test_a_phone_shows_it_without_scrolling_sideways(opened: Opened) -> None:
    for width in (390, 320):
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.page.wait_for_function(f"document.documentElement.scrollWidth === {width}")
    opened.page.set_viewport_size(SIZE)


@pytest.mark.parametrize(
    "kind",
    ["empty", pytest.param("plain Optuna", marks=pytest.mark.exhaustive), "hostile names"],
)
def test_odd_studies_open_without_complaint(browser: Browser, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_html(STUDIES[kind]()), encoding="utf-8")
    opened = Opened(browser, file)
    page = opened.drawn() if kind != "empty" else opened.page
    assert page.locator("h1").inner_text()
    assert page.locator("img").count() == 0
    if kind == "hostile names":
        assert EVIL in page.inner_text("#trials")
    assert opened.complaints == []


# The command


@pytest.fixture
def user(tmp_path: Path, database_url: str) -> InProcess:
    return InProcess(tmp_path, database_url)


@pytest.fixture
def store(database: Database) -> Iterator[StudyStore]:
    store = StudyStore(database)
    yield store
    store.close()


def test_the_command_writes_a_study_with_its_predictions(
    store: StudyStore, database: Database, user: InProcess
) -> None:
    study = store.open_study("planet")
    store.write_record("planet", RECORD)
    dice = np.random.default_rng(0)
    targets = (dice.random((60, 2)) < 0.4).astype(np.uint8)
    images = ValidationSet("images", ("road", "water"), targets)
    for number in range(3):
        asked = study.ask()
        asked.suggest_categorical("backbone", ["tinycnn_8", "resnet18"])
        asked.suggest_float("gamma", 0.8, 1.0)
        trial_id = stored_trial_id(store, "planet", number)
        metrics = {"val_ap": 0.4 + number / 10, "train_s": 2.0, "val_s": 1.0}
        metrics |= {"val_ap_per_label": {"road": 0.5, "water": None}}
        asked.report(metrics["val_ap"], 1)
        logits = (targets + dice.normal(size=targets.shape)).astype(np.float32)
        with database.engine.begin() as connection:
            add_trained(connection, trial_id, 1, metrics, f"key {number}")
            predicting(f"key {number}", images, logits)(connection)
        study.tell(asked, metrics["val_ap"])

    said = user.run("report", "--study", "planet", "--output", "found.html").stdout

    assert said.split()[:2] == ["wrote", "found.html"]
    assert said.count("\n") == 1
    written = (user.folder / "found.html").read_text(encoding="utf-8")
    assert "AP .6000</h1>" in written
    assert "over 60 validation images" in written
    assert 'id="confusion"' in written


def test_a_study_of_plain_optuna_has_a_report(store: StudyStore, user: InProcess) -> None:
    make_plain_study(store)
    user.run("report", "--study", NAME)
    written = (user.folder / "report.html").read_text(encoding="utf-8")
    assert "value 1.25</h1>" in written
    assert NAME not in written


def test_an_unknown_study_and_a_folder_are_refused(store: StudyStore, user: InProcess) -> None:
    store.open_study("planet")
    assert "'plant'" in user.run("report", "--study", "plant", status=2).stderr
    refused = user.run("report", "--study", "planet", "--output", ".", status=1)
    assert "directory" in refused.stderr
    assert not (user.folder / "report.html").exists()
