"""What must hold when a search is over, whatever happened to it."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.study.plan import StartedStudy
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.study.trial_attributes import RESUMED_ATTR
from canopy_search.storage.workspace import Workspace
from tests.faults.searching import STUDY, Search
from tests.faults.sleeping_run import epochs_in, expected_values

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_STEPS = sqlalchemy.text("""
    SELECT number, array_agg(step ORDER BY trial_intermediate_value_id)
    FROM trial_intermediate_values JOIN trials USING (trial_id) GROUP BY number
""")
_TRAINED = sqlalchemy.text("SELECT count(*), coalesce(sum(times_trained), 0) FROM canopy_stage")
_HELD = sqlalchemy.text("SELECT count(*) FROM canopy_trial WHERE worker IS NOT NULL")
# One that was killed last may have nobody after it to declare it dead; its lease binds nobody.
_LEASES = sqlalchemy.text("""
    SELECT count(*) FROM canopy_stage_lease
    WHERE worker NOT IN (SELECT id FROM canopy_worker WHERE ended IS NULL)
""")
_EPOCHS = sqlalchemy.text("""
    SELECT number, array_agg(epoch ORDER BY epoch)
    FROM canopy_epoch JOIN trials USING (trial_id) GROUP BY number
""")


@dataclass(frozen=True)
class Outcome:
    """A search that is over.

    Attributes:
        trials: in the order of their numbers.
        stages: epochs that were trained and recorded, each counted once.
        repeated: recorded trainings beyond these.
        unrecorded: epochs that were trained to their end and not recorded; below zero if one was
            recorded twice.
        wasted: epochs that were begun beyond these, to their end or not.
    """

    trials: list[FrozenTrial]
    stages: int
    repeated: int
    unrecorded: int
    wasted: int

    def facts(self) -> list[tuple[Any, ...]]:
        """Returns what must not depend on what happened to the search."""
        return [
            (
                trial.number,
                trial.state.name,
                trial.params,
                trial.values,
                trial.intermediate_values,
                {name: a for name, a in trial.user_attrs.items() if name != RESUMED_ATTR},
                trial.system_attrs,
            )
            for trial in self.trials
        ]


def check(search: Search, begun: StartedStudy, *, failed: int = 0) -> Outcome:
    """Checks a search that is over.

    Args:
        search: that nobody works on any more.
        begun: its study.
        failed: trials that are meant to fail.
    """
    with closing(Workspace(search.home, search.url).open()) as database:
        store = StudyStore(database)
        trials = store.load_study(STUDY).get_trials(deepcopy=False)
        store.close()
        with database.engine.connect() as connection:
            steps = dict(map(tuple, connection.execute(_STEPS)))
            epochs = dict(map(tuple, connection.execute(_EPOCHS)))
            stages, trained = connection.execute(_TRAINED).one()
            held = connection.scalar(_HELD)
            leases = connection.scalar(_LEASES)
    states = Counter(trial.state for trial in trials)
    assert sum(states[state] for state in FINISHED) == search.n_trials, states
    assert states[TrialState.FAIL] == failed, reasons(trials)
    assert states.total() == search.n_trials + failed, states
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        if trial.state in FINISHED:
            _check_trial(trial, begun, steps.get(trial.number, []), epochs.get(trial.number, []))
    assert held == 0
    assert leases == 0
    begun_epochs = len(epochs_in(search.diary, "begins"))
    unrecorded = len(epochs_in(search.diary, "ends")) - int(trained)
    assert unrecorded >= 0
    return Outcome(trials, stages, int(trained) - stages, unrecorded, begun_epochs - stages)


def reasons(trials: Sequence[FrozenTrial]) -> list[tuple[int, Any]]:
    """Returns why trials failed."""
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    return [(trial.number, trial.user_attrs.get("reason")) for trial in failed]


def _check_trial(
    trial: FrozenTrial, begun: StartedStudy, steps: Sequence[int], epochs: Sequence[int]
) -> None:
    space, values = begun.plan.space, trial.intermediate_values
    settings = space.training_settings(space.canonical(trial.params))
    assert steps == list(range(1, len(values) + 1)), f"trial {trial.number}"
    assert epochs == steps, f"trial {trial.number}"
    assert values == expected_values(settings, len(values)), f"trial {trial.number}"
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    if trial.state == TrialState.COMPLETE:
        assert len(values) == settings.epochs
        assert trial.value == values[settings.epochs]
    else:  # Optuna gives it what it reported last
        assert trial.value == values.get(len(values))
