"""``canopy worker``: the plan of a study that was started on another machine."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import StudyDiffersError
from canopy_search.search.study.configuration import checked
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.study.studies import StudyStore
from canopy_search.training.settings import DataSettings


def join_plan(request: StudyRequest, store: StudyStore, *, is_local: bool = True) -> SearchPlan:
    """Returns the plan that a study was started with, with this machine's paths.

    The search settings come from the study's latest launch. The paths of images, labels and
    checkpoints come from this machine's configuration; if it does not set one, the path from the
    study's first start is used.

    Args:
        request: the study, this machine's configuration and the workspace.
        store: the studies of the database.
        is_local: whether this machine trains, and so needs the device.

    Raises:
        UnknownStudyError: there is no such study.
        StudyDiffersError: it was not started by Canopy, or by an incompatible version of it.
    """
    study, settings = request.study, request.configuration.settings
    record = store.read_record(study)
    if record is None:
        raise StudyDiffersError(
            f"study {study!r} was not started by Canopy, so a worker cannot know its settings"
        )
    try:
        original = CanopyConfig.model_validate(
            {
                "data": record["config"]["data"],
                "training": record["config"]["training"],
                "search": store.launched(study) or record["config"]["search"],
            }
        )
    except (KeyError, ValidationError) as error:
        raise StudyDiffersError(
            f"study {study!r} was started by another version of Canopy "
            f"({record.get('versions', {}).get('canopy-search', 'unknown')}); "
            "install that version here"
        ) from error
    config = settings.model_copy(
        update={
            "data": original.data.model_copy(update=_local_paths(settings.data)),
            "training": original.training,
            "search": original.search,
        }
    )
    n_trials = store.target(study) or original.search.trials
    as_launched = replace(request, configuration=checked(config))
    return plan_search(as_launched, n_trials, is_local=is_local)


def _local_paths(data: DataSettings) -> dict[str, Any]:
    """Returns the data settings that belong to this machine."""
    paths = {key: getattr(data, key) for key in ("labels", "images") if getattr(data, key)}
    switches = {key: getattr(data, key) for key in ("allow_missing", "follow_links")}
    return paths | switches
