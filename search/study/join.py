"""``canopy worker``: what a machine needs to work on a study that was begun on another one."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.settings import DataSettings


def join_plan(
    settings: CanopyConfig,
    home: Path,
    store: StudyStore,
    study: str,
    *,
    retry_for_s: float,
    here: bool = True,
) -> SearchPlan:
    """Returns the plan of a study as it was begun, with this machine's paths.

    What is searched and how comes from the study itself, as it was launched last. Where images,
    labels and checkpoints lie comes from this machine's configuration, and where that does not
    say, from where they lay when the study began.

    Args:
        settings: this machine's configuration.
        home: the state folder.
        store: the studies of the database.
        study: name of the study.
        retry_for_s: how long to wait for a database that is away, in seconds.
        here: whether this machine trains, and so has to have the device.

    Raises:
        UnknownStudyError: there is no such study.
        StudyDiffersError: it was not begun by Canopy, or by one that this one cannot follow.
    """
    record = store.read_record(study)
    if record is None:
        raise StudyDiffersError(
            f"study {study!r} was not begun by Canopy, so a worker cannot know what to do"
        )
    try:
        begun = CanopyConfig.model_validate(
            {
                "data": record["config"]["data"],
                "training": record["config"]["training"],
                "search": store.launched(study) or record["config"]["search"],
            }
        )
    except (KeyError, ValidationError) as error:
        raise StudyDiffersError(
            f"study {study!r} was begun by another version of Canopy "
            f"({record.get('versions', {}).get('canopy-search', 'unknown')}); install that one here"
        ) from error
    config = settings.model_copy(
        update={
            "data": begun.data.model_copy(update=_places(settings.data)),
            "training": begun.training,
            "search": begun.search,
        }
    )
    n_trials = store.target(study) or begun.search.trials
    return plan_search(config, home, study, n_trials, retry_for_s=retry_for_s, here=here)


def _places(data: DataSettings) -> dict[str, Any]:
    """Returns what of the data settings is this machine's own."""
    places = {key: getattr(data, key) for key in ("labels", "images") if getattr(data, key)}
    return {**places, "allow_missing": data.allow_missing}
