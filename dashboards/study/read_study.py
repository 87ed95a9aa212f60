"""Reads a study with everything that pages show of it."""

from dataclasses import replace
from datetime import datetime

from canopy_search.dashboards.study.confirmation import last_confirmation
from canopy_search.dashboards.study.model import StudyData
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.storage.database import Database
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore


def read_study(
    store: StudyStore,
    database: Database,
    name: str,
    read: datetime,
    reader: StudyReader | None = None,
) -> StudyData:
    """Reads a study, with the predictions of the trials that pages show in detail.

    Args:
        store: the studies of the database.
        database: an open one.
        name: the study's name.
        read: the time now, in local time.
        reader: an existing reader of the study, if it is read repeatedly.

    Raises:
        UnknownStudyError: no study has that name.
    """
    data = replace((reader or StudyReader(store, name)).read(), read=read)
    if data.record is None:
        return data
    numbers = [t.number for t in (data.best, data.runner_up, data.baseline) if t is not None]
    confirmation = None
    if "config" in data.record:
        confirmation = last_confirmation(database, data, data.record)
    predictions = trial_predictions(database, name, numbers)
    return replace(data, predictions=predictions, confirmation=confirmation)
