"""A study that plain Optuna made in the same database, with parameters and names of its own."""

import optuna
from optuna.trial import TrialState

from canopy_search.storage.study.studies import StudyStore

NAME = "=cmd|'<b>plain</b>"
"""Harms whoever takes a name for a formula or for markup."""


def make_plain_study(store: StudyStore, name: str = NAME) -> optuna.Study:
    """Has a complete, a pruned, a failed and a running trial, and one without a report."""
    study = optuna.create_study(storage=store.optuna_storage, study_name=name, direction="minimize")
    for number in range(5):
        trial = study.ask()
        trial.suggest_float("rate [1/s]", 1e-3, 1.0, log=True)
        trial.suggest_categorical("kind", ["=1+1", "<i>b</i>", "[red]c"])
        for step in range(0, 2 * number, 2):  # plain Optuna's steps begin where they like
            trial.report(2.0 - number / 10 - step / 100, step)
        if number == 0:
            study.tell(trial, 3.5)
        elif number == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number == 2:
            study.tell(trial, state=TrialState.FAIL)
        elif number == 3:
            study.tell(trial, 1.25)
    return study
