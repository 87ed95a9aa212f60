"""Reads Optuna's FrozenTrials from Optuna's tables, many at once.

Other programs write there, too. A trial that cannot be used is read as one that is left out, so
that nothing that reads trials has to expect it.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.schema.tables import STUDY
from canopy_search.storage.study.parameters import describe
from canopy_search.storage.study.trial_attributes import left_out, parse_attributes, paused_at

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
    SELECT trial_id, number, state, datetime_start, datetime_complete,
        canopy_trial.trial_id IS NOT NULL AS is_ours
    FROM trials LEFT JOIN canopy_trial USING (trial_id) WHERE trial_id = ANY(:ids)
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


@dataclass(frozen=True)
class TrialForm:
    """What the trials of a study that Canopy started look like.

    Attributes:
        space: name of a parameter → its distribution as text; None in the record of an old study.
    """

    space: Mapping[str, str] | None


def read_trial_form(connection: sqlalchemy.Connection, study_id: int) -> TrialForm | None:
    """Returns what the trials of a study look like; None if Canopy has not started it.

    Args:
        connection: of any kind.
        study_id: the database's id of the study.
    """
    query = sqlalchemy.select(STUDY.c.record).where(STUDY.c.study_id == study_id)
    record = connection.scalar(query)
    return None if record is None else TrialForm(record.get("space"))


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


def read_trials(
    connection: sqlalchemy.Connection, ids: Sequence[int], form: TrialForm | None = None
) -> list[FrozenTrial]:
    """Returns the trials of one study with these ids, in the order of their numbers.

    Args:
        connection: of any kind.
        ids: the database's ids of the trials.
        form: what they look like; None for trials of plain Optuna, which have any form.
    """
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
    for trial_id, number, name, start, complete, is_ours in rows:
        trial = FrozenTrial(
            number=number,
            trial_id=trial_id,
            state=TrialState[name],
            value=None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        own = {kind: parts[kind, trial_id] for kind in ("value", "report", "param")}
        try:
            trial.user_attrs = _attributes(parts["user", trial_id])
            trial.system_attrs = _attributes(parts["system", trial_id])
            _fill(trial, **own)
        except (ValueError, TypeError, LookupError, ArithmeticError):
            problem: str | None = "its rows in the database cannot be read"
        else:
            problem = next(_problems(trial, form, is_ours=is_ours), None)
        trials.append(trial if problem is None else left_out(trial, problem))
    return sorted(trials, key=lambda trial: trial.number)


_Parts = Sequence[tuple[Any, ...]]


def _fill(trial: FrozenTrial, value: _Parts, report: _Parts, param: _Parts) -> None:
    """Sets values and parameters from their rows; raises an error if they make no sense."""
    values = [float(number) for _, _, number, _ in value]
    trial.values = values if values and trial.state.is_finished() else None
    trial.intermediate_values = {step: float(number) for step, _, number, _ in report}
    trial.distributions = domains = {name: _distribution(text) for _, name, _, text in param}
    if not all(math.isfinite(raw) for _, _, raw, _ in param):
        raise ValueError("a parameter is NaN or infinite")
    trial.params = {name: domains[name].to_external_repr(raw) for _, name, raw, _ in param}


def _problems(trial: FrozenTrial, form: TrialForm | None, *, is_ours: bool) -> Iterator[str]:
    """Yields why a trial cannot be used."""
    if trial.state == TrialState.COMPLETE and trial.values is None:
        yield "it is complete and has no value"
    if form is None:
        return
    if trial.state == TrialState.RUNNING and not is_ours:
        yield "another program runs it"
    for value in trial.values or ():
        if not 0 <= value <= 1:
            yield f"its value {value:g} is not an AP, which is between 0 and 1"
    for step, value in trial.intermediate_values.items():
        if not (0 <= value <= 1 or math.isnan(value)):  # without any label, an AP is undefined
            yield f"its report {value:g} is not an AP, which is between 0 and 1"
        if step < 1:
            yield f"it has a report for epoch {step}, but epochs count from 1"
    epoch = paused_at(trial)
    if epoch is not None and epoch not in trial.intermediate_values:
        yield f"it is paused after epoch {epoch} and has no report for it"
    if form.space is not None:
        yield from _space_problems(trial, form.space)


def _space_problems(trial: FrozenTrial, space: Mapping[str, str]) -> Iterator[str]:
    """Yields what differs between the parameters of a trial and the search space."""
    for name, domain in trial.distributions.items():
        if name not in space:
            yield f"it has {name!r}, which search.space does not have"
        elif (text := describe(domain)) != space[name]:
            yield f"its {name} is from {text!r}, but search.space has {space[name]!r}"
    is_sampled = trial.state in {TrialState.COMPLETE, TrialState.PRUNED} or trial.last_step
    if is_sampled and (missing := space.keys() - trial.distributions.keys()):
        yield f"it has no {min(missing)}"


def _attributes(parts: _Parts) -> dict[str, Any]:
    return parse_attributes((key, text) for _, key, _, text in parts)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(instant: datetime | None) -> datetime | None:
    """Converts Optuna's stored UTC to local time, both without a time zone."""
    return instant and instant.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
