import importlib.metadata
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor import packages
from canopy_search.search.doctor.finding import Finding
from canopy_search.search.doctor.packages import check_packages, check_python

Require = Callable[..., None]


@pytest.fixture
def require(monkeypatch: pytest.MonkeyPatch) -> Require:
    """Lets the distribution require what a test says."""

    def set_requirements(*lines: str) -> None:
        monkeypatch.setattr(packages, "requires", lambda _name: list(lines))

    return set_requirements


def only(findings: object) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


def test_this_environment_is_well() -> None:
    assert only(check_python()).status == "ok"
    finding = only(check_packages())
    assert finding.status == "ok"
    assert f"torch {importlib.metadata.version('torch')}" in finding.found


def test_an_older_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.4")
    finding = only(check_python())
    assert finding.status == "error"
    assert finding.found == f"3.10.4, {sys.executable}; canopy-search needs >=3.11"


def test_a_missing_package(require: Require, words: SnapshotAssertion) -> None:
    require("optuna", "no-such-package>=2,<3")
    finding = only(check_packages())
    assert finding.status == "error"
    assert finding.found == words
    assert finding.remedy is not None
    command = shlex.split(finding.remedy)
    assert command == [sys.executable, "-m", "pip", "install", "no-such-package<3,>=2"]


def test_a_package_of_another_version(require: Require) -> None:
    require("optuna<1")
    finding = only(check_packages())
    assert finding.status == "warning"
    assert (
        finding.found == f"untested: optuna {importlib.metadata.version('optuna')} (required: <1)"
    )


def test_missing_and_wrong_packages_are_two_findings(require: Require) -> None:
    require("optuna<1", "no-such-package")
    assert [finding.status for finding in check_packages()] == ["error", "warning"]


def test_extras_and_other_systems_count_for_nothing(require: Require) -> None:
    require("no-such-package; extra == 'dev'", "nor-this; sys_platform == 'plan9'")
    assert only(check_packages()).status == "ok"


def test_builds_are_no_other_versions(require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    require("torch>=2.14.1,<2.14.2")
    monkeypatch.setattr(packages, "version", lambda _name: "2.14.1+cu130")
    assert only(check_packages()).status == "ok"


def test_a_checkout_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> str:
        raise PackageNotFoundError(name)

    for name in ("metadata", "version", "requires"):
        monkeypatch.setattr(packages, name, not_there)
    assert only(check_python()).status == "ok"
    finding = only(check_packages())
    assert finding.status == "error"
    assert "not installed here" in finding.found
    assert "make install" in (finding.remedy or "")
