"""Trials as Optuna's tables hold them → Optuna's FrozenTrial, many at once."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from storage.errors import DatabaseSchemaError

OPTUNA_REVISION = "v3.2.0.a"
"""The revision of Optuna's tables that is read here and written in `storage.trial_changes`."""

_REVISION = sqlalchemy.text("SELECT version_num FROM alembic_version")
_CHANGED = sqlalchemy.text("""
    SELECT trials.trial_id FROM trials LEFT JOIN canopy_trial AS lease USING (trial_id)
    WHERE study_id = :study_id
      AND (lease.changed >= :since OR trials.trial_id > :last_id OR state = 'WAITING')
""")
_HORIZON = sqlalchemy.text(
    "SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
)
_COUNTS = sqlalchemy.text(
    "SELECT state, count(*) FROM trials WHERE study_id = :study_id GROUP BY state"
)
_TRIALS = sqlalchemy.text("""
    SELECT trial_id, number, state, datetime_start, datetime_complete
    FROM trials WHERE trial_id = ANY(:ids)
""")
_VALUES = sqlalchemy.text("""
    SELECT trial_id, CASE value_type WHEN 'FINITE' THEN value
        WHEN 'INF_POS' THEN 'infinity' ELSE '-infinity' END
    FROM trial_values WHERE trial_id = ANY(:ids) AND objective = 0
""")
_REPORTS = sqlalchemy.text("""
    SELECT trial_id, step, CASE intermediate_value_type WHEN 'FINITE' THEN intermediate_value
        WHEN 'INF_POS' THEN 'infinity' WHEN 'INF_NEG' THEN '-infinity' ELSE 'nan' END
    FROM trial_intermediate_values WHERE trial_id = ANY(:ids) ORDER BY trial_id, step
""")
_PARAMS = sqlalchemy.text("""
    SELECT trial_id, param_name, param_value, distribution_json
    FROM trial_params WHERE trial_id = ANY(:ids) ORDER BY param_id
""")
_USER_ATTRIBUTES, _SYSTEM_ATTRIBUTES = (
    sqlalchemy.text(f"""
        SELECT trial_id, key, value_json FROM trial_{whose}_attributes WHERE trial_id = ANY(:ids)
        ORDER BY trial_{whose}_attribute_id
    """)  # noqa: S608 - our own text
    for whose in ("user", "system")
)


def check_optuna_tables(connection: sqlalchemy.Connection) -> None:
    """Raises DatabaseSchemaError if Optuna's tables are not those that we know."""
    revision = connection.scalar(_REVISION)
    if revision != OPTUNA_REVISION:
        raise DatabaseSchemaError(
            f"Optuna's tables are of revision {revision} and {OPTUNA_REVISION} is needed: another "
            "Optuna than this one's made them; update canopy-search"
        )


def changed_trials(
    connection: sqlalchemy.Connection, study_id: int, since: int, last_id: int
) -> list[int]:
    """Returns the ids of the trials that may have changed.

    Args:
        connection: in a transaction.
        study_id: the database's id of the study.
        since: the horizon of the last look; see `horizon`.
        last_id: the highest id of a trial that is known.
    """
    values = {"study_id": study_id, "since": since, "last_id": last_id}
    return list(connection.scalars(_CHANGED, values))


def horizon(connection: sqlalchemy.Connection) -> int:
    """Returns the oldest transaction that may be under way.

    All that was changed by older ones can be seen now. What a later look has to read again is
    therefore what this transaction or a later one has changed.
    """
    return int(connection.execute(_HORIZON).scalar_one())


def state_counts(connection: sqlalchemy.Connection, study_id: int) -> dict[TrialState, int]:
    """Returns how many trials of a study are in each state."""
    rows = connection.execute(_COUNTS, {"study_id": study_id})
    return {TrialState[state]: count for state, count in rows}


def read_trials(connection: sqlalchemy.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    """Returns trials by their ids, in the order of their numbers."""
    if not ids:
        return []
    chosen = {"ids": list(ids)}
    # Others write meanwhile, so the order counts: whoever sees the state of a trial that has ended
    # finds all of it afterwards, and whoever sees that one pauses finds the report before that.
    rows = connection.execute(_TRIALS, chosen).all()
    user_attrs = _grouped(connection.execute(_USER_ATTRIBUTES, chosen))
    reports = _grouped(connection.execute(_REPORTS, chosen))
    values = dict(tuple(row) for row in connection.execute(_VALUES, chosen))
    params = _grouped(connection.execute(_PARAMS, chosen))
    system_attrs = _grouped(connection.execute(_SYSTEM_ATTRIBUTES, chosen))
    trials = []
    for trial_id, number, name, start, complete in rows:
        state = TrialState[name]
        value = values.get(trial_id) if state.is_finished() else None
        domains = {name: _distribution(text) for name, _, text in params[trial_id]}
        trials.append(
            FrozenTrial(
                number=number,
                trial_id=trial_id,
                state=state,
                value=None,
                values=None if value is None else [float(value)],
                datetime_start=_local(start),
                datetime_complete=_local(complete),
                params={
                    name: domains[name].to_external_repr(raw) for name, raw, _ in params[trial_id]
                },
                distributions=domains,
                user_attrs={key: json.loads(text) for key, text in user_attrs[trial_id]},
                system_attrs={key: json.loads(text) for key, text in system_attrs[trial_id]},
                intermediate_values={step: float(at) for step, at in reports[trial_id]},
            )
        )
    return sorted(trials, key=lambda trial: trial.number)


def _grouped(rows: Iterable[Any]) -> defaultdict[int, list[tuple[Any, ...]]]:
    grouped: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for trial_id, *rest in rows:
        grouped[trial_id].append(tuple(rest))
    return grouped


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(instant: datetime | None) -> datetime | None:
    """Optuna's tables hold UTC without saying so, and its trials local time likewise."""
    return instant and instant.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
