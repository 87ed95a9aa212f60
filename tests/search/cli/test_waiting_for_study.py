from pathlib import Path

import pytest

from canopy_search.dashboards.optuna_dashboard import serve
from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.search.cli import options as command_line
from canopy_search.search.cli.dashboard import dashboard
from canopy_search.search.cli.options import wait_for_study
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace


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


def test_a_dashboard_waits_for_the_first_search(
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    monkeypatch.setenv("CANOPY_HOME", str(tmp_path))
    searches = iter([Workspace(tmp_path, empty_database_url).open])
    monkeypatch.setattr(command_line.time, "sleep", lambda _seconds: next(searches)().close())
    served: list[Dashboard] = []
    monkeypatch.setattr(serve, "open_server", lambda app, _host, _port: served.append(app))
    monkeypatch.setattr(serve, "serve", lambda *_arguments, **_options: None)

    dashboard(no_open=True, wait=True)

    assert len(served) == 1
    assert next(searches, None) is None
    assert capsys.readouterr().err.count("nothing is stored in the database yet; waiting") == 1
