"""Opens pages in a real browser; one that is not there is a failure with its remedy."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium is on PATH, and pages are tested in one; on Debian and Ubuntu: "
    "apt-get install chromium"
)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Yields a running browser without windows.

    Raises:
        FileNotFoundError: there is none.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise FileNotFoundError(MISSING)
    # A browser that root starts has no sandbox; it opens our own files alone.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
