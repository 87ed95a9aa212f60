"""Every setting of a list once to its end, whatever happens to trials on the way."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import NamedSettings, SearchSettings
from canopy_search.search.config.space import SearchSpace, parse_space
from canopy_search.search.errors import SamplerError, SearchSpaceError
from canopy_search.search.scheduling.factory import build_sampler
from canopy_search.search.scheduling.fixed_list_sampler import LISTED, FixedListSampler
from canopy_search.storage.study.trial_attributes import DIVERGED, REASON_ATTR, STOPPED
from canopy_search.training.settings import TrainingSettings

LIST = [
    {"loss": "bce", "optimizer.lr": 0.0123456789, "seed": 1},
    {"loss": "focal", "optimizer.lr": 0.001, "seed": 1},
    {"loss": "focal", "optimizer.lr": 0.001, "seed": 2},
]


def space() -> SearchSpace:
    settings = SearchSettings.model_validate(
        {
            "space": {
                "loss": ["bce", "focal"],
                "optimizer.lr": {"low": 0.0001, "high": 1.0},
                "seed": {"low": 1, "high": 100},
            }
        }
    )
    return parse_space(settings, TrainingSettings())


def ask(study: optuna.Study) -> tuple[optuna.trial.Trial, dict[str, Any]]:
    study.sampler = build_sampler(NamedSettings(name=LISTED, settings=LIST), space(), 0, 0)
    trial = study.ask()
    return trial, space().suggest(trial)


def end(study: optuna.Study, trial: optuna.trial.Trial, state: TrialState, reason: str) -> None:
    trial.set_user_attr(REASON_ATTR, reason)
    study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)


def test_all_settings_come_in_their_order_and_no_other(words: SnapshotAssertion) -> None:
    study = optuna.create_study()
    assert [ask(study)[1] for _ in LIST] == LIST
    sampler = FixedListSampler(LIST, space())
    assert sampler.is_exhausted(study)
    with pytest.raises(SamplerError) as error:
        ask(study)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("state", "reason", "again"),
    [
        (TrialState.COMPLETE, "", False),
        (TrialState.PRUNED, f"{DIVERGED}: the loss is nan", False),
        (TrialState.PRUNED, STOPPED, True),
        (TrialState.FAIL, "OSError: the disk is full", True),
    ],
)
def test_what_came_to_no_end_is_tried_again(state: TrialState, reason: str, again: bool) -> None:
    study = optuna.create_study()
    trial, params = ask(study)
    end(study, trial, state, reason)
    assert ask(study)[1] == (params if again else LIST[1])
    assert ask(study)[1] == LIST[1 if again else 2]


def test_a_list_must_lie_in_the_space(words: SnapshotAssertion) -> None:
    with pytest.raises(SearchSpaceError) as outside:
        FixedListSampler([LIST[0] | {"seed": 0}], space())
    with pytest.raises(SamplerError) as missing:
        FixedListSampler([LIST[0], {"loss": "bce", "optimizer.lr": 0.1}], space())
    assert [str(outside.value), str(missing.value)] == words
