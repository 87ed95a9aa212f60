"""The plan of a search, as a command makes it."""

from pathlib import Path

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.study.configuration import checked
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.workspace import Workspace


def requested(
    config: CanopyConfig, home: Path, study: str, url: str | None = None, retry_for_s: float = 60
) -> StudyRequest:
    """What a command asks for."""
    return StudyRequest(Workspace(home, url, RetryPolicy(retry_for_s)), checked(config), study)


def planned(config: CanopyConfig, home: Path, study: str, n_trials: int) -> SearchPlan:
    """The plan of a search."""
    return plan_search(requested(config, home, study), n_trials)
