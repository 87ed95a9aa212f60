"""Checks of Python and of the packages that Canopy stands on."""

import platform
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from canopy_search.search.doctor.finding import Finding, error, ok, warning

DISTRIBUTION = "canopy-search"

_NAMED = ("torch", "torchvision", "optuna")
_INSTALL = "install it with: make install, or pip install canopy-search"


def check_python() -> Iterator[Finding]:
    """Compares the running Python with what the distribution requires."""
    running = f"{platform.python_version()}, {sys.executable}"
    try:
        required = SpecifierSet(str(metadata(DISTRIBUTION).json.get("requires_python", "")))
    except PackageNotFoundError:
        # The check of packages says so.
        required = SpecifierSet()
    if required.contains(platform.python_version(), prereleases=True):
        yield ok("python", running)
    else:
        yield error(
            "python",
            f"{running}; {DISTRIBUTION} needs {required}",
            "install such a Python, and make the environment again: make clean install PYTHON=...",
        )


def check_packages() -> Iterator[Finding]:
    """Compares what is installed with what the distribution requires, without its extras."""
    try:
        own_version = version(DISTRIBUTION)
    except PackageNotFoundError:
        yield error("packages", f"{DISTRIBUTION} is not installed here", _INSTALL)
        return
    needed = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    needed = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    installed = {each.name: _installed(each.name) for each in needed}
    missing = [each for each in needed if installed[each.name] is None]
    wrong = [
        each
        for each in needed
        if each not in missing
        and not each.specifier.contains(installed[each.name] or "", prereleases=True)
    ]
    named = ", ".join(f"{name} {installed[name]}" for name in _NAMED if installed.get(name))
    found = f"{DISTRIBUTION} {own_version}, all {len(needed)} that it needs; {named}"
    if missing:
        names = ", ".join(each.name for each in missing)
        yield error("packages", f"not installed: {names}", _pip_install(missing))
    if wrong:
        versions = ", ".join(
            f"{each.name} {installed[each.name]} (needed {each.specifier})" for each in wrong
        )
        yield warning("packages", f"untested: {versions}", _pip_install(wrong))
    if not missing and not wrong:
        yield ok("packages", found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _pip_install(requirements: list[Requirement]) -> str:
    wanted = [f"{each.name}{each.specifier}" for each in requirements]
    return shlex.join([sys.executable, "-m", "pip", "install", *wanted])
