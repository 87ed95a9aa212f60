"""A stub that ClearML is configured for, a study that grows, and mirrors of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from canopy_search.dashboards.clearml import mirror
from canopy_search.storage.database import Database
from tests.clearml_stub.server import Stub
from tests.dashboards.clearml.growing_study import GrowingStudy
from tests.dashboards.clearml.mirror_here import MirrorHere

STUDY = "grown"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("CLEARML_CONFIG_FILE", "CLEARML_AUTH_TOKEN", "TRAINS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    stub = Stub().start()
    for name, value in stub.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mirror, "STUDY_EVERY_S", 0.3)
    yield stub
    stub.stop()
    # Whatever befell the mirror: it asked for nothing that a server would not understand.
    refused = {500, 400, 404}
    assert [each for each in stub.requests() if each.status in refused] == []


@pytest.fixture
def new_study(database: Database, tmp_path: Path) -> Iterator[Callable[[int], GrowingStudy]]:
    """Begins a study that wants so many trials."""
    studies = []

    def begin(target: int) -> GrowingStudy:
        studies.append(GrowingStudy(database, tmp_path / "home", STUDY, target))
        return studies[-1]

    yield begin
    for study in studies:
        study.close()


@pytest.fixture
def new_mirror(
    stub: Stub, database: Database, database_url: str, tmp_path: Path
) -> Iterator[Callable[..., MirrorHere]]:
    """Makes mirrors that follow the study on threads of their own."""
    mirrors = []

    def make(**options: bool) -> MirrorHere:
        mirrors.append(MirrorHere(tmp_path / "home", database_url, STUDY, **options))
        return mirrors[-1]

    yield make
    for made in mirrors:
        made.stop()
