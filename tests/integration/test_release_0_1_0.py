"""A study that release 0.1.0 began: it is shown, its epochs are reused, and it continues.

``release_0_1_0/study.sql.gz`` is the database as that release (commit e5dd6de) left it, made by
``pg_dump --no-owner --no-privileges --inserts`` from a search of ``release_0_1_0/canopy.yaml``.
"""

import gzip
import shutil
from pathlib import Path

import pytest

from canopy_search.dashboards.optuna_dashboard.app import Dashboard
from canopy_search.storage.workspace import Workspace
from tests.dashboards.optuna_dashboard.visitor import Visitor
from tests.integration.in_process import InProcess
from tests.reading_docs import ROOT
from tests.shared_servers import execute

RELEASE = ROOT / "tests" / "integration" / "release_0_1_0"
# What `canopy trials --json` of the release printed.
VAL_AP = [
    0.32351519556570013,
    0.258846982606762,
    0.2620145498651644,
    0.24925111129108846,
    0.24925111129108846,
    0.25041776824498996,
]
STATES = ["COMPLETE", *["PRUNED"] * 5]


@pytest.fixture
def user(tmp_path: Path, empty_database_url: str) -> InProcess:
    dump = gzip.decompress((RELEASE / "study.sql.gz").read_bytes()).decode()
    execute(empty_database_url, dump)
    shutil.copy(RELEASE / "canopy.yaml", tmp_path)
    return InProcess(tmp_path, empty_database_url)


def test_it_is_shown(user: InProcess) -> None:
    trials = user.json("trials")
    assert [trial["state"] for trial in trials] == STATES
    assert [trial["val_ap"] for trial in trials] == VAL_AP
    assert [trial["epochs_reported"] for trial in trials] == [4, 1, 1, 1, 1, 1]
    status = user.json("status")
    assert status["best"]["number"] == 0
    assert status["epochs"] == {"reported": 9, "trained": 7, "replayed": 2}
    user.run("report", "--output", "report.html")
    assert "tinycnn_8" in (user.folder / "report.html").read_text()


def test_the_same_search_trains_nothing_and_then_continues(user: InProcess) -> None:
    again = user.run("search", "--study", "again").stdout
    assert again.count("0 new") == 6, again
    trials = user.json("trials", "--study", "again")
    assert [trial["val_ap"] for trial in trials] == VAL_AP
    assert sum(trial["epochs_trained"] for trial in trials) == 0

    # The configuration names no pruner any more: the study keeps the release's default.
    config = (user.folder / "canopy.yaml").read_text()
    (user.folder / "canopy.yaml").write_text(config.replace("  pruner: {name: asha}\n", ""))
    user.run("search", "--trials", "8")
    continued = user.json("trials")
    assert [trial["val_ap"] for trial in continued[:6]] == VAL_AP
    assert len(continued) == 8
    paused_after = {trial["epochs_reported"] for trial in continued}
    assert paused_after <= {1, 4}  # the rungs of asha with factor 4; branches would pause after 2


def test_the_dashboard_shows_it_and_changes_nothing_that_others_read(user: InProcess) -> None:
    before = [user.json("trials"), user.json("status")["epochs"]]
    database = Workspace(user.folder, user.database_url).open_existing()
    visitor = Visitor(Dashboard(database, user.folder / "artifacts", lambda data: data.name))
    [study] = visitor.get("/api/studies").json()["study_summaries"]
    shown = visitor.open(study["study_id"])
    assert "1 complete, 5 pruned" in shown["note"]["body"]
    assert shown["plotly_graph_objects"]
    database.close()
    assert [user.json("trials"), user.json("status")["epochs"]] == before
