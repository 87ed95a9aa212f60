from dataclasses import dataclass, field

import pytest
import sqlalchemy
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.cli import db
from canopy_search.search.errors import SearchError
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.session import WorkerSession


@dataclass
class Embedded:
    """An embedded server that runs until it is stopped."""

    stops: list[bool] = field(default_factory=list)

    def is_running(self) -> bool:
        return not self.stops

    def stop(self) -> bool:
        self.stops.append(True)
        return True


@dataclass
class Home:
    """A workspace whose embedded server is the tests' one."""

    url: sqlalchemy.URL
    embedded: Embedded = field(default_factory=Embedded)

    def start(self) -> sqlalchemy.URL:
        return self.url


def test_a_server_that_a_worker_would_start_again_is_not_stopped(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    words: SnapshotAssertion,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = Home(sqlalchemy.make_url(database.url))
    monkeypatch.setattr(db, "workspace", lambda: home)
    store = StudyStore(database)
    store.open_study("planet")
    session = WorkerSession(database.url, study_id=store.study_id("planet"), slot="cpu")
    session.register()
    with pytest.raises(SearchError) as refused:
        db.stop()
    assert str(refused.value) == words
    assert home.embedded.is_running()
    session.close()
    db.stop()
    assert not home.embedded.is_running()
    assert capsys.readouterr().out == "stopped\n"
