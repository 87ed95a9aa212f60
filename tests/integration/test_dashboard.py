"""`canopy dashboard` in a real browser, beside a study that grows."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.dashboards.optuna_dashboard.note import MARK
from canopy_search.dashboards.optuna_dashboard.serve import is_desktop, open_server
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from tests.dashboards.clearml.growing_study import GrowingStudy
from tests.integration.plain_optuna import make_plain_study

LIMIT_MS = 240_000  # against hangs alone
expect.set_options(timeout=LIMIT_MS)
WORDS = "Raise the rate next time."
# A figure of optuna-dashboard's own that has one trial to rank draws nothing, and says so.
KNOWN = ("Failed to calculate parameter importances", "400 (Bad Request)")
ALL_PLOTTED = """() => {
    const figures = [...document.querySelectorAll('[id^="user-defined-plot:"]')];
    return figures.length > 5 && figures.every(figure => figure.querySelector('.gtitle'));
}"""
# How many marks, bars, lines and cells of data a figure shows.
DRAWN = """figures => figures.map(figure => figure.querySelectorAll(
    '.scatterlayer path, .barlayer path, .heatmaplayer image, .shapelayer path').length)"""


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    """Of the dashboard; it answers until the test is over."""
    app = Dashboard(database, tmp_path / "uploads", lambda data: data.name)
    server = open_server(app, "127.0.0.1", None)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/dashboard/studies"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def study(database: Database, tmp_path: Path) -> Iterator[GrowingStudy]:
    grown = GrowingStudy(database, tmp_path / "home", "planet", target=10)
    grown.run()
    grown.run()
    grown.run(1, TrialState.PRUNED)
    grown.report(grown.begin(), 1)
    yield grown
    grown.close()


@contextmanager
def opened(browser: Browser) -> Iterator[Page]:
    """Yields a page that must have complained of nothing in the end."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="dark")
    context.set_default_timeout(LIMIT_MS)
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(known in message.text for known in KNOWN):
            complaints.append(message.text)

    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def test_figures_note_and_live_report_are_shown(
    browser: Browser, address: str, study: GrowingStudy
) -> None:
    with opened(browser) as page:
        page.goto(f"{address}/{study.study_id}")
        figures = page.locator('[id^="user-defined-plot:"]')
        page.wait_for_function(ALL_PLOTTED)
        titles = figures.locator(".gtitle").all_text_contents()
        assert "Learning curves" in "".join(titles)
        assert len(titles) == len(set(titles)) == figures.count()
        assert all(count > 0 for count in figures.evaluate_all(DRAWN)), titles

        page.goto(f"{address}/{study.study_id}/note")
        note = page.locator(".MuiCardContent-root")
        expect(note.get_by_role("heading", level=2)).to_have_count(1)
        expect(note.get_by_role("heading", level=2)).to_contain_text("AP .60")
        expect(note.get_by_role("cell", name="Best setting")).to_be_visible()
        study.run()
        with page.context.expect_page() as other:
            note.get_by_role("link", name="Live report").click(modifiers=["Control"])
        expect(other.value.get_by_role("heading", level=1)).to_contain_text("AP .60")
        expect(other.value.get_by_role("rowheader", name="4", exact=True)).to_be_visible()
        with page.expect_download() as download:
            note.get_by_role("link", name="best.yaml").click()
        assert download.value.suggested_filename == "best.yaml"
        assert download.value.path().read_text() == "planet"


@pytest.mark.exhaustive
def test_an_open_page_shows_new_trials(browser: Browser, address: str, study: GrowingStudy) -> None:
    with opened(browser) as page:
        page.goto(f"{address}/{study.study_id}/trials?numbers=3")
        expect(page.get_by_text("Trial 3", exact=True).first).to_be_visible()
        study.end(3, TrialState.PRUNED, "below the median")
        study.begin()
        expect(page.get_by_text("Trial 4", exact=True)).to_be_visible()


@pytest.mark.exhaustive
def test_a_person_writes_below_what_is_ours(
    browser: Browser, address: str, study: GrowingStudy
) -> None:
    with opened(browser) as page:
        page.goto(f"{address}/{study.study_id}/note")
        page.locator(".MuiCardContent-root button").click()
        editor = page.locator("textarea:visible")
        editor.press("Control+End")
        editor.press_sequentially(WORDS)
        study.run()
        with page.expect_response(f"**/api/studies/{study.study_id}?*"):
            pass  # the page asks again while the editor is open
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Success to save the note")).to_be_visible()
        expect(page.locator("textarea:visible")).to_have_count(0)
        expect(page.get_by_text("2 complete, 1 pruned")).to_be_visible()
        page.reload()
        expect(page.get_by_text("3 complete, 1 pruned")).to_be_visible()
        expect(page.get_by_text(WORDS)).to_have_count(1)
        expect(page.get_by_text(MARK.strip("*"))).to_have_count(1)


def test_names_of_plain_optuna_are_shown_as_they_are(
    browser: Browser, address: str, database: Database
) -> None:
    store = StudyStore(database)
    study_id = store.study_id(make_plain_study(store).study_name)
    store.close()
    with opened(browser) as page:
        page.goto(f"{address.replace('dashboard', 'canopy')}/{study_id}")
        expect(page.get_by_role("heading", level=1)).to_contain_text("value 1.25")
        assert page.locator("h1 b, h1 i").count() == 0


def test_a_browser_is_opened_only_where_somebody_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("SSH_CONNECTION", "SSH_TTY", "CI", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not is_desktop()
    monkeypatch.setenv("DISPLAY", ":0")
    assert is_desktop()
    monkeypatch.setenv("SSH_CONNECTION", "there here")
    assert not is_desktop()
    monkeypatch.delenv("SSH_CONNECTION")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert not is_desktop()
