import pytest

from canopy_search.search.cli import options as command_line
from canopy_search.search.cli.options import wait_for_study
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore


def test_who_waits_goes_on_when_the_study_has_its_record(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StudyStore(database)
    steps = iter(
        [
            lambda: store.open_study("planet"),
            lambda: store.write_record("planet", {"config": {}}),
        ]
    )
    monkeypatch.setattr(command_line.time, "sleep", lambda _seconds: next(steps)())
    wait_for_study(store, "planet")
    assert store.is_started("planet")
    assert next(steps, None) is None
    assert capsys.readouterr().err.count("has not started yet") == 1
    store.close()
