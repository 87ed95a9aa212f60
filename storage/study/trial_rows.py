"""Reads Optuna's FrozenTrials from Optuna's tables, many at once."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

# All from one snapshot: changes that it does not see are not from a transaction older than its
# oldest one, and no id from its newest one on is of this server: such a row was restored here from
# another one. Each part reads an index, and its cost grows with the number of changes.
_CHANGES = """
    SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS horizon,
    pg_postmaster_start_time() AS server,
    ARRAY(
        SELECT trial_id FROM trials JOIN canopy_trial USING (trial_id)
            WHERE study_id = :study_id AND changed >= :since
            AND changed < CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
        UNION SELECT trial_id FROM trials WHERE study_id = :study_id AND trial_id > :last_id
        UNION SELECT trial_id FROM trials WHERE trial_id = ANY(CAST(:waiting AS int[]))
    ) AS trial_ids
"""
_READ = sqlalchemy.text(_CHANGES)
_READ_AND_COUNT = sqlalchemy.text(f"""
    {_CHANGES}, ARRAY(
        SELECT CAST(state AS text) || ' ' || count(*) FROM trials WHERE study_id = :study_id
        GROUP BY state
    ) AS counts
""")  # noqa: S608 - our own text
_TRIALS = sqlalchemy.text("""
    SELECT trial_id, number, state, datetime_start, datetime_complete
    FROM trials WHERE trial_id = ANY(:ids)
""")
# One statement, and so one snapshot. The first column is the kind of the row.
_PARTS = sqlalchemy.text("""
    SELECT 'value', trial_id, objective, NULL, CASE value_type WHEN 'FINITE' THEN value
            WHEN 'INF_POS' THEN 'infinity' ELSE '-infinity' END, NULL
        FROM trial_values WHERE trial_id = ANY(:ids) AND objective < (
            SELECT count(*) FROM study_directions JOIN trials USING (study_id)
            WHERE trials.trial_id = :first
        )
    UNION ALL
    SELECT 'report', trial_id, step, NULL, CASE intermediate_value_type
            WHEN 'FINITE' THEN intermediate_value
            WHEN 'INF_POS' THEN 'infinity' WHEN 'INF_NEG' THEN '-infinity' ELSE 'nan' END, NULL
        FROM trial_intermediate_values WHERE trial_id = ANY(:ids)
    UNION ALL
    SELECT 'param', trial_id, param_id, param_name, param_value, distribution_json
        FROM trial_params WHERE trial_id = ANY(:ids)
    UNION ALL
    SELECT 'user', trial_id, trial_user_attribute_id, key, NULL, value_json
        FROM trial_user_attributes WHERE trial_id = ANY(:ids)
    UNION ALL
    SELECT 'system', trial_id, trial_system_attribute_id, key, NULL, value_json
        FROM trial_system_attributes WHERE trial_id = ANY(:ids)
    ORDER BY 3
""")


@dataclass(frozen=True)
class Position:
    """How far the changes of a study were read.

    Attributes:
        horizon: the oldest transaction that may have been open. The next read has to include the
            changes of this and all later transactions.
        last_id: the highest trial id that was read.
        waiting: ids of the waiting trials; other programs may start them through Optuna.
    """

    horizon: int = 0
    last_id: int = -1
    waiting: Sequence[int] = ()


@dataclass(frozen=True)
class StudyChanges:
    """The changes of a study since an earlier read.

    Attributes:
        horizon: of the next `Position`.
        server: when the server was started. After another start it may be another server, or
            restored data, and ids of transactions may be smaller than before.
        trial_ids: of the trials that may have changed.
        counts: number of trials in each state; None if not requested.
    """

    horizon: int
    server: datetime
    trial_ids: list[int]
    counts: dict[TrialState, int] | None


def read_changes(
    connection: sqlalchemy.Connection, study_id: int, position: Position, *, count: bool = False
) -> StudyChanges:
    """Returns the changes of a study since a position.

    Args:
        connection: of any kind.
        study_id: the database's id of the study.
        position: how far they were read; the first one returns all trials.
        count: whether to count the trials.
    """
    values = {
        "study_id": study_id,
        "since": position.horizon,
        "last_id": position.last_id,
        "waiting": list(position.waiting),
    }
    row = connection.execute(_READ_AND_COUNT if count else _READ, values).one()
    counts = None
    if count:
        pairs = (text.split() for text in row.counts)
        counts = {TrialState[name]: int(number) for name, number in pairs}
    return StudyChanges(row.horizon, row.server, row.trial_ids, counts)


def read_trials(connection: sqlalchemy.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    """Returns the trials of one study with these ids, in the order of their numbers."""
    if not ids:
        return []
    chosen = {"ids": list(ids), "first": ids[0]}
    # Others write at the same time, so the order matters: all rows of a trial that is read as ended
    # are found afterwards, and so is the last report of one that is read as paused.
    rows = connection.execute(_TRIALS, chosen).all()
    parts: defaultdict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    for kind, trial_id, *part in connection.execute(_PARTS, chosen):
        parts[kind, trial_id].append(tuple(part))
    trials = []
    for trial_id, number, name, start, complete in rows:
        state = TrialState[name]
        values = [float(value) for _, _, value, _ in parts["value", trial_id]]
        params = parts["param", trial_id]
        domains = {name: _distribution(text) for _, name, _, text in params}
        trials.append(
            FrozenTrial(
                number=number,
                trial_id=trial_id,
                state=state,
                value=None,
                values=values if values and state.is_finished() else None,
                datetime_start=_local(start),
                datetime_complete=_local(complete),
                params={name: domains[name].to_external_repr(raw) for _, name, raw, _ in params},
                distributions=domains,
                user_attrs=_attributes(parts["user", trial_id]),
                system_attrs=_attributes(parts["system", trial_id]),
                intermediate_values={
                    step: float(value) for step, _, value, _ in parts["report", trial_id]
                },
            )
        )
    return sorted(trials, key=lambda trial: trial.number)


def _attributes(parts: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    return {key: json.loads(text) for _, key, _, text in parts}


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(instant: datetime | None) -> datetime | None:
    """Converts Optuna's stored UTC to local time, both without a time zone."""
    return instant and instant.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
