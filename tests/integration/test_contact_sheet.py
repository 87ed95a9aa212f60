"""The contact sheet of `canopy init` in a real browser."""

from pathlib import Path

from playwright.sync_api import Browser

from canopy_search.dashboards.contact_sheet.page import contact_sheet_html
from tests.dashboards.contact_sheet.test_page import EVIL, made
from tests.integration.test_report import Opened


def test_every_picture_is_shown_on_a_phone_too(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "contact_sheet.html"
    labels = ("road", "haze" * 100, EVIL)
    file.write_bytes(contact_sheet_html(*made(labels, 40), [EVIL]).encode())

    opened = Opened(browser, file)
    page = opened.drawn()
    page.set_viewport_size({"width": 390, "height": 844})

    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    page.eval_on_selector_all(".gallery img", "all => all.forEach(each => each.loading = 'eager')")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.gallery img')].every(each => each.complete)"
    )
    widths = page.eval_on_selector_all(".gallery img", "all => all.map(each => each.naturalWidth)")
    assert widths == [96] * len(widths)
    assert len(widths) > 3 * 8
    assert opened.complaints == []
    assert opened.requests == [file.as_uri()]
