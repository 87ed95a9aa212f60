"""Checks of Python and of Canopy's dependencies."""

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
        # The check of packages reports it.
        required = SpecifierSet()
    if required.contains(platform.python_version(), prereleases=True):
        yield ok("python", running)
    else:
        yield error(
            "python",
            f"{running}; {DISTRIBUTION} needs {required}",
            "install that version, and recreate the environment: make clean install PYTHON=...",
        )


def check_packages() -> Iterator[Finding]:
    """Compares installed packages with the distribution's requirements, without extras."""
    try:
        own_version = version(DISTRIBUTION)
    except PackageNotFoundError:
        yield error("packages", f"{DISTRIBUTION} is not installed here", _INSTALL)
        return
    needed = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    needed = [need for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    installed = {need.name: _installed(need.name) for need in needed}
    missing = [need for need in needed if installed[need.name] is None]
    wrong = [
        need
        for need in needed
        if need not in missing
        and not need.specifier.contains(installed[need.name] or "", prereleases=True)
    ]
    named = ", ".join(f"{name} {installed[name]}" for name in _NAMED if installed.get(name))
    found = f"{DISTRIBUTION} {own_version}, all {len(needed)} dependencies; {named}"
    if missing:
        names = ", ".join(need.name for need in missing)
        yield error("packages", f"not installed: {names}", _pip_install(missing))
    if wrong:
        versions = ", ".join(
            f"{need.name} {installed[need.name]} (required: {need.specifier})" for need in wrong
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
    specified = [f"{need.name}{need.specifier}" for need in requirements]
    return shlex.join([sys.executable, "-m", "pip", "install", *specified])
