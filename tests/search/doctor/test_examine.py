"""The whole examination: every check has its turn, whatever the ones before it met."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor import database as server
from canopy_search.search.doctor import device, networks, state_folder
from canopy_search.search.doctor.examine import examine
from canopy_search.search.doctor.finding import Finding, error, exit_status, failure, ok, warning
from canopy_search.search.study import preflight
from canopy_search.storage.workspace import Workspace
from tests.integration.in_process import InProcess
from tests.storage.other_servers import postgres_of_version, serving

CHECKS = [
    "python",
    "packages",
    "configuration",
    "data",
    "device",
    "networks",
    "memory",
    "state folder",
    "disk",
    "database",
    "dashboard",
    "ClearML",
]
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # A card that torch cannot use is a warning, wherever there is one.
    monkeypatch.setattr(device, "find_cards", list)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))


@pytest.fixture(autouse=True, scope="module")
def demo_measured_once() -> Iterator[None]:
    """Every examination measures the networks of the demo, which takes longer than all the rest."""

    def once(measure: Callable[..., Any]) -> Callable[..., Any]:
        known: dict[str, Any] = {}

        def measured(*arguments: Any, **options: Any) -> Any:
            key = repr((arguments, sorted(options.items())))
            if key not in known:
                known[key] = measure(*arguments, **options)
            return known[key]

        return measured

    with pytest.MonkeyPatch.context() as patch:
        for name in ("step_memory", "check_backbone_fits"):
            patch.setattr(preflight, name, once(getattr(preflight, name)))
        patch.setattr(networks, "check_backbone_fits", preflight.check_backbone_fits)
        yield


def look(url: str | None = None, config: str | None = None) -> dict[str, Finding]:
    file = Path("canopy.yaml")
    if config is not None:
        file.write_text(config)
    findings = examine(
        Workspace(Path(".canopy").absolute(), url), file if config is not None else None
    )
    return {finding.check: finding for finding in findings}


def without(*names: str) -> list[str]:
    return [name for name in CHECKS if name not in names]


def test_a_new_user_is_well_and_nothing_is_made(tmp_path: Path, words: SnapshotAssertion) -> None:
    findings = look()
    assert list(findings) == CHECKS
    assert {finding.status for finding in findings.values()} == {"ok"}
    assert findings["configuration"].found == words
    assert list(tmp_path.iterdir()) == []


def test_a_broken_configuration_leaves_the_other_checks(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    findings = look(config="data: {demo: digits}\ntraining: {epochs: many}\nserach: {}\n")
    assert list(findings) == without("data", "networks", "memory")
    finding = findings["configuration"]
    assert finding.status == "error"
    assert len(finding.found.splitlines()) == 2
    assert finding.remedy == words
    assert exit_status(findings.values()) == 2


def test_a_network_that_does_not_exist_is_a_broken_configuration() -> None:
    findings = look(config="data: {demo: digits}\nsearch: {space: {backbone: [resnet19]}}\n")
    assert findings["configuration"].status == "error"
    assert "resnet19" in findings["configuration"].found
    assert "did you mean" in (findings["configuration"].remedy or "")


def test_missing_data_leave_the_other_checks() -> None:
    findings = look(config="data: {labels: no.csv, images: no}\n")
    assert list(findings) == without("networks", "memory")
    assert findings["data"].status == "error"
    assert findings["data"].found.endswith("no.csv: no such label file")
    assert findings["data"].remedy == "check data.labels"


@pytest.mark.parametrize(
    ("url", "found", "remedy"),
    [
        (f"postgresql://ann:{SECRET}@127.0.0.1:9/x", "refused", "host and port"),
        (f"mysql://ann:{SECRET}@db/x", "mysql://", "DATABASE_URL"),
        (SECRET, "is not a URL", "DATABASE_URL"),
    ],
    ids=["away", "MySQL", "no URL"],
)
def test_a_database_that_is_not_there(url: str, found: str, remedy: str) -> None:
    findings = look(url)
    assert list(findings) == CHECKS
    finding = findings["database"]
    assert finding.status == "error"
    assert finding.found.endswith(found)
    assert (finding.remedy or "").endswith(remedy)
    assert SECRET not in str(findings)


def test_an_old_server(words: SnapshotAssertion) -> None:
    with serving(postgres_of_version("9.6.24")) as port:
        finding = look(f"postgresql://ann:{SECRET}@127.0.0.1:{port}/canopy")["database"]
    assert finding.status == "error"
    assert "9.6.24" in finding.found
    assert [finding.found.replace(str(port), "PORT"), finding.remedy] == words
    assert SECRET not in str(finding)


def test_a_folder_that_cannot_be_made_has_no_disk() -> None:
    Path(".canopy").touch()
    findings = look()
    assert list(findings) == without("disk")
    assert findings["state folder"].status == "error"


@pytest.mark.parametrize(
    "problem",
    [
        ImportError("libcudart.so.13: cannot open shared object file"),
        OSError(13, "Permission denied", "/dev/nvidia0"),
    ],
)
def test_what_a_check_trips_over_is_its_finding(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(*_arguments: object) -> None:
        raise problem

    for module, name in (
        (device, "check_device"),
        (server, "check_database"),
        (state_folder, "check_disk"),
    ):
        monkeypatch.setattr(module, name, fail)
    findings = look()
    assert list(findings) == CHECKS
    for name in ("device", "database", "disk"):
        assert findings[name].status == "error"
        assert (problem.strerror if isinstance(problem, OSError) else str(problem)) in findings[
            name
        ].found
        assert findings[name].remedy
        assert ("reinstall" in (findings[name].remedy or "")) == isinstance(problem, ImportError)


def test_the_worst_finding_is_the_exit_status() -> None:
    assert exit_status([]) == 0
    assert exit_status([ok("a", "well")]) == 0
    assert exit_status([ok("a", "well"), warning("b", "odd", "look")]) == 1
    assert exit_status([error("a", "bad", "mend"), warning("b", "odd", "look")]) == 2


def test_the_last_part_of_a_message_is_the_remedy() -> None:
    assert failure("a", "x: is odd; very; mend it", "?") == error("a", "x: is odd; very", "mend it")
    assert failure("a", "x is odd", "mend it") == error("a", "x is odd", "mend it")
    assert failure("a", "one; two\nthree; four", "mend") == error(
        "a", "one; two\nthree; four", "mend"
    )


def test_json_is_a_list_of_findings(tmp_path: Path) -> None:
    user = InProcess(tmp_path, variables={"HOME": str(tmp_path)})
    findings = user.json("doctor")
    assert list(dict.fromkeys(finding["check"] for finding in findings)) == CHECKS
    assert all(set(each) == {"check", "status", "found", "remedy"} for each in findings)
    assert all(finding["remedy"] is None for finding in findings)
