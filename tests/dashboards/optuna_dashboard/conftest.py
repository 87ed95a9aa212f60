"""What the tests of the dashboard share: a study that grows, and one who looks at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from canopy_search.dashboards.charts import study_charts
from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.storage.database import Database
from tests.dashboards.clearml.growing_study import GrowingStudy
from tests.dashboards.optuna_dashboard.visitor import Visitor


@pytest.fixture
def study(database: Database, tmp_path: Path) -> Iterator[GrowingStudy]:
    """A complete, a pruned, a failed and a running trial, of ten that are wanted."""
    grown = GrowingStudy(database, tmp_path / "home", "planet", target=10)
    grown.run()
    grown.run(1, TrialState.PRUNED)
    grown.run(0, TrialState.FAIL)
    grown.report(grown.begin(), 1)
    yield grown
    grown.close()


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out figures that take longer than the rest of a test."""
    for kind in ("curves", "cost", "space", "importance", "label", "confusion", "timeline"):
        monkeypatch.setattr(study_charts, f"{kind}_charts", lambda _data: [])


@pytest.fixture
def visitor(database: Database, tmp_path: Path) -> Visitor:
    """One who looks at the studies of `database`."""
    return Visitor(Dashboard(database, tmp_path / "uploads", lambda data: data.name))
