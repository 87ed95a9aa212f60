"""Trials that other programs may leave in a study of Canopy, and that it cannot use."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from canopy_search.storage.database import Database

_EDITS = (
    "DELETE FROM trial_values WHERE trial_id = %(id)s",
    "UPDATE trial_values SET value = 'NaN' WHERE trial_id = %(id)s",
    "UPDATE trial_values SET value = NULL WHERE trial_id = %(id)s",
    "UPDATE trial_values SET objective = 1 WHERE trial_id = %(id)s",
    "UPDATE trial_params SET param_value = 'NaN' WHERE trial_id = %(id)s",
    "UPDATE trial_params SET param_value = 7 WHERE trial_id = %(id)s AND param_name = 'loss'",
    "UPDATE trial_params SET distribution_json = '{' WHERE trial_id = %(id)s",
    """UPDATE trial_params SET param_value = 0, distribution_json =
        '{"name": "CategoricalDistribution", "attributes": {"choices": [0.8, 0.9]}}'
        WHERE trial_id = %(id)s AND param_name = 'gamma'""",
    """INSERT INTO trial_user_attributes (trial_id, key, value_json)
        VALUES (%(id)s, 'note', 'no JSON')""",
)


def add_odd_trials(
    database: Database, study: optuna.Study, space: Mapping[str, BaseDistribution]
) -> int:
    """Adds one trial of each kind to a study of Canopy; returns how many.

    Args:
        database: an open one.
        study: opened with Optuna's own storage.
        space: the search space; with ``gamma`` and ``loss``.
    """
    before = len(study.get_trials(deepcopy=False))
    params: dict[str, Any] = {"gamma": 0.9, "loss": "bce"}
    domains = dict(space)

    def add(**changes: Any) -> None:
        whole = {"params": params, "distributions": domains, "value": 0.99, **changes}
        study.add_trial(optuna.trial.create_trial(**whole))

    for value in (math.inf, -math.inf, 1.5, -0.1):
        add(value=value)
    for reports in ({0: 0.9}, {-1: 0.9}, {1: math.inf}, {1: 7.0}):
        add(intermediate_values=reports)
    add(params={}, distributions={})
    add(params={"gamma": 0.9}, distributions={"gamma": domains["gamma"]})
    add(params={**params, "x": 1.0}, distributions={**domains, "x": FloatDistribution(0.0, 1.0)})
    add(distributions={**domains, "gamma": FloatDistribution(0.0, 5.0)})
    rung = {"rung": {"to_epoch": 1, "paused": True}}
    add(state=TrialState.RUNNING, value=None, user_attrs=rung)
    study.ask()
    for edit in _EDITS:
        add()
        [*_, last] = study.get_trials(deepcopy=False)
        with database.engine.begin() as connection:
            connection.exec_driver_sql(edit, {"id": last._trial_id})
    return before + 14 + len(_EDITS)
