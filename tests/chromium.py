"""Opens pages in a real browser; one that is not there is a failure with its remedy.

``python -m tests.chromium`` gets one where there is none: Debian's for root, else playwright's into
the virtual environment.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "there is no Chromium, in which pages are tested: make install gets one; or install it by "
    "hand, on Debian and Ubuntu with: apt-get install chromium"
)
_PACKAGES = ("chromium", "fonts-dejavu-core")
_OWN = Path(sys.prefix) / "browsers"


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Yields a running browser without windows.

    Raises:
        FileNotFoundError: there is none.
    """
    path = chromium_path()
    if path is None:
        raise FileNotFoundError(MISSING)
    # A browser that root starts has no sandbox; it opens our own files alone.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def chromium_path() -> str | None:
    """Returns where the browser is, None if there is none."""
    own = sorted(_OWN.glob("chromium-*/chrome-*/chrome"))
    return next(filter(None, map(shutil.which, [*NAMES, *map(str, own)])), None)


def install() -> None:
    """Gets a browser, if there is none."""
    if chromium_path() is not None:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *_PACKAGES]):
            subprocess.run(
                ["apt-get", "--quiet=2", *words], env=quiet, stdout=subprocess.DEVNULL, check=True
            )
        return
    own = os.environ | {"PLAYWRIGHT_BROWSERS_PATH": str(_OWN)}
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], env=own, check=True)


if __name__ == "__main__":
    install()
