"""Opens pages in a real browser; one that is not there is a failure with its remedy.

``python -m tests.chromium`` gets one where there is none: Debian's for root, else playwright's into
the virtual environment.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "there is no Chromium, in which pages are tested: make install gets one; or install it by "
    "hand, on Debian and Ubuntu with: apt-get install chromium"
)
START_LIMIT_S = 240.0

_ARGUMENTS = (
    "--headless",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "about:blank",
)
_PACKAGES = ("chromium", "fonts-dejavu-core")
_OWN = Path(sys.prefix) / "browsers"


def start_chromium(folder: Path) -> tuple[Popen[bytes], dict[str, Any]]:
    """Starts a browser without windows, in a process group of its own.

    Args:
        folder: for its profile and log.

    Returns:
        Its process, and the ``url`` where it listens for commands.

    Raises:
        FileNotFoundError: there is none.
    """
    path = chromium_path()
    if path is None:
        raise FileNotFoundError(MISSING)
    profile, log = folder / "chromium", folder / "chromium.log"
    # A browser that root starts has no sandbox; it opens our own files alone.
    own = ["--no-sandbox"] if os.geteuid() == 0 else []
    with log.open("wb") as written:
        process = Popen(
            [path, *_ARGUMENTS, *own, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    listens = profile / "DevToolsActivePort"
    deadline_s = time.monotonic() + START_LIMIT_S
    while not (listens.exists() and (lines := listens.read_text().split())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    return process, {"url": f"http://127.0.0.1:{lines[0]}"}


@contextmanager
def connected(url: str) -> Iterator[Browser]:
    """Yields the running browser that listens at a URL; its own pages are the caller's to close."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.connect_over_cdp(url)
        yield browser
        for context in browser.contexts:
            context.close()


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
