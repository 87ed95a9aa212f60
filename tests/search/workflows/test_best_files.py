"""Which files belong to the best trial of a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from canopy_search.dashboards.clearml.attachments import Attachment
from canopy_search.dashboards.study.model import StudyData
from canopy_search.search.config.space import with_params
from canopy_search.search.study.configuration import load_config
from canopy_search.search.workflows.best_files import best_files
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import STUDY_TASK
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.network.model_file import TrainedModel, save_model
from tests.dashboards.summaries import study, trial

LABELS = ("one", "two")
PARAMS = {"backbone": "tinycnn_8", "gamma": 0.9}


@pytest.fixture(autouse=True)
def store(database: Database) -> StudyStore:
    config = load_config(None).settings
    store = StudyStore(database)
    store.open_study("planet")
    training = config.training.model_copy(update={"device": "cpu", "threads": 2})
    store.write_record(
        "planet",
        {
            "data": {"fingerprint": "f", "labels": list(LABELS)},
            "training": training.model_dump(mode="json"),
            "space": {},
            "config": config.model_dump(mode="json", exclude={"clearml"}),
            "versions": {},
            "git": None,
        },
    )
    return store


def keep_model(path: Path, without: Sequence[str] = (), **params: Any) -> None:
    """Writes what `canopy train` would of the demo with these settings, on another device."""
    config = load_config(None).settings
    path.parent.mkdir(exist_ok=True, parents=True)
    training = with_params(config.training, PARAMS | params)
    network = build_backbone("tinycnn_8", labels=2, image_px=32, weights="none", seed=0)
    settings = {
        "data": config.data.model_dump(mode="json"),
        "training": training.model_dump(mode="json") | {"device": "cuda:1", "threads": 9},
    }
    for name in without:
        del settings["training"][name]
    save_model(path, TrainedModel(network, LABELS, 32, settings, {}))


def summary(**changes: Any) -> StudyData:
    best = trial(2, "COMPLETE", epochs=2, params=PARAMS)
    return study([trial(1, "PRUNED", epochs=1), best], [], **changes)


def files(database: Database, home: Path, of: StudyData) -> list[Attachment]:
    return list(best_files(database, home, None)(of))


def test_the_best_setting_belongs_to_its_trial_and_to_the_study(
    database: Database, tmp_path: Path
) -> None:
    found = files(database, tmp_path, summary())
    assert [(each.number, each.name) for each in found] == [
        (STUDY_TASK, "best.yaml"),
        (2, "best.yaml"),
    ]
    text = found[0].read().decode()
    assert "gamma: 0.9 # searched" in text
    assert "trial: 2" in text


def test_it_is_another_version_when_another_trial_is_best_or_the_study_is_over(
    database: Database, tmp_path: Path
) -> None:
    versions = [
        files(database, tmp_path, of)[0].version
        for of in (summary(), summary(), summary(target=2), study([trial(3, "COMPLETE", 1)], []))
    ]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_a_model_of_the_best_settings_belongs_to_its_trial(
    database: Database, tmp_path: Path
) -> None:
    keep_model(tmp_path / "models" / "best.pt")
    keep_model(tmp_path / "models" / "other.pt", gamma=0.8)
    (tmp_path / "models" / "broken.pt").write_bytes(b"no model")
    *_, model = files(database, tmp_path, summary())
    assert (model.number, model.kind, model.name) == (2, "model", "best.pt")
    assert model.labels == LABELS
    assert model.read() == (tmp_path / "models" / "best.pt").read_bytes()


def test_a_model_of_an_earlier_release_belongs_to_its_trial_too(
    database: Database, tmp_path: Path
) -> None:
    keep_model(tmp_path / "models" / "best.pt", without=("schedule", "ema", "accumulation"))
    *_, model = files(database, tmp_path, summary())
    assert model.name == "best.pt"


def test_nothing_belongs_to_a_study_without_a_complete_trial(
    database: Database, tmp_path: Path
) -> None:
    assert files(database, tmp_path, study([trial(0, "PRUNED", 1)], [])) == []
