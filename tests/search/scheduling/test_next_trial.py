"""Why a search is over."""

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.config.settings import SearchSettings
from canopy_search.search.scheduling.fixed_list_sampler import LISTED
from canopy_search.search.scheduling.next_trial import SearchEnd, Wanted, search_end
from canopy_search.storage.workers.control import RUN, STOP_FINISHING, STOP_PRUNING

_PLATEAU = {"stop_when": {"no_improvement_trials": 1}}


def trials(count: int) -> list[FrozenTrial]:
    """Returns finished trials, each with a lower AP than the one before."""
    made = []
    for number in range(count):
        trial = create_trial(state=TrialState.COMPLETE, value=0.9 - number / 100)
        trial.number = number
        made.append(trial)
    return made


@pytest.mark.parametrize(
    ("wanted", "search", "end"),
    [
        (Wanted(3, 3, RUN), {}, SearchEnd.COMPLETE),
        (Wanted(3, 9, RUN), {}, SearchEnd.COMPLETE),
        (Wanted(3, None, STOP_PRUNING), {}, SearchEnd.COMPLETE),
        (Wanted(9, 2, RUN), {}, SearchEnd.LOWERED),
        (Wanted(9, 3, RUN), {"sampler": {"name": "grid"}}, SearchEnd.LOWERED),
        (Wanted(9, 9, STOP_FINISHING), {}, SearchEnd.STOPPED),
        (Wanted(9, 9, STOP_PRUNING), _PLATEAU, SearchEnd.STOPPED),
        (Wanted(9, 9, RUN), _PLATEAU, SearchEnd.PLATEAU),
        (Wanted(9, 9, RUN), {"sampler": {"name": "grid"}}, SearchEnd.EXHAUSTED),
        (Wanted(9, None, RUN), {"sampler": {"name": LISTED}}, SearchEnd.LISTED),
        (Wanted(9, 9, RUN), {}, SearchEnd.NOTHING_LEFT),
    ],
)
def test_the_reason_is_the_one_that_applies(
    wanted: Wanted, search: dict[str, Any], end: SearchEnd
) -> None:
    assert search_end(trials(3), wanted, SearchSettings.model_validate(search)) is end
