"""Changes of a trial: collected in memory, written atomically and exactly once."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import TrialState

from canopy_search.storage.errors import LeaseLostError

_INSERT_TRIAL = sqlalchemy.text("""
    INSERT INTO trials (trial_id, number, study_id, state, datetime_start)
    VALUES (:trial_id, :number, :study_id, CAST(:state AS trialstate), :now)
""")
_PARAMS = sqlalchemy.text("""
    INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT :trial_id, * FROM unnest(
        CAST(:names AS text[]), CAST(:values AS float8[]), CAST(:distributions AS text[]))
    ON CONFLICT (trial_id, param_name) DO NOTHING
""")
_REPORTS = sqlalchemy.text("""
    INSERT INTO trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT :trial_id, step, value, 'FINITE'
    FROM unnest(CAST(:steps AS int[]), CAST(:values AS float8[])) AS new (step, value)
    ON CONFLICT (trial_id, step) DO NOTHING
""")
_START = sqlalchemy.text("""
    UPDATE trials SET state = 'RUNNING', datetime_start = :now
    WHERE trial_id = :trial_id AND state = 'WAITING'
""")
_END = sqlalchemy.text("""
    UPDATE trials SET state = CAST(:state AS trialstate), datetime_complete = :now
    WHERE trial_id = :trial_id AND state = 'RUNNING'
""")
_VALUE = sqlalchemy.text("""
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    VALUES (:trial_id, 0, :value, 'FINITE')
""")
_FENCE = sqlalchemy.text("""
    UPDATE canopy_trial SET writes = writes + 1,
        deaths = CASE WHEN :moves_on THEN 0 ELSE deaths END + CASE WHEN :is_death THEN 1 ELSE 0 END,
        ended = CASE WHEN :ends THEN now() END,
        worker = CASE WHEN :releases THEN NULL ELSE worker END,
        changed = CAST(CAST(pg_current_xact_id() AS text) AS bigint)
    WHERE trial_id = :trial_id AND worker = :worker AND token = :token AND writes = :writes
""")
_LEASE = sqlalchemy.text("SELECT token, writes FROM canopy_trial WHERE trial_id = :trial_id")


def _attributes(table: str) -> sqlalchemy.TextClause:
    return sqlalchemy.text(f"""
        INSERT INTO {table} (trial_id, key, value_json)
        SELECT :trial_id, * FROM unnest(CAST(:keys AS text[]), CAST(:values AS text[]))
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
    """)  # noqa: S608 - our own text


_USER_ATTRIBUTES = _attributes("trial_user_attributes")
_SYSTEM_ATTRIBUTES = _attributes("trial_system_attributes")


@dataclass
class Lease:
    """A worker's lease of a trial, until another worker takes it.

    Attributes:
        trial_id: the database's id of the trial.
        number: of the trial in its study.
        worker: id of its holder.
        token: grows with every new lease, so that writes of an earlier holder are recognised.
        posted: number of changes that were queued under it, written or not.
    """

    trial_id: int
    number: int
    worker: int
    token: int
    posted: int = 0


@dataclass
class TrialChange:
    """A change of a trial.

    Attributes:
        trial_id: the database's id of the trial.
        params: name → value as Optuna stores it, and its distribution.
        user_attrs: of the trial, JSON values.
        system_attrs: likewise.
        reports: epoch → validation AP.
        made_as: first state of the trial, if it is new.
        starts: whether it was waiting and runs now.
        state: final state of the trial, if it ends.
        value: of the trial, if it ends with one.
        at: when it starts or ends.
        releases: whether its lease is released; an end releases it, too.
        is_death: whether its worker ends with this release, which counts as a death.
        besides: additional writes in the same transaction.
    """

    trial_id: int
    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    made_as: TrialState | None = None
    starts: bool = False
    state: TrialState | None = None
    value: float | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    releases: bool = False
    is_death: bool = False
    besides: list[Callable[[sqlalchemy.Connection], None]] = field(default_factory=list)

    @property
    def ends(self) -> bool:
        """Whether the trial ends with this change."""
        return self.state is not None


def write_new(
    connection: sqlalchemy.Connection, study_id: int, number: int, change: TrialChange
) -> None:
    """Writes a new trial while the study is locked."""
    state = change.made_as or TrialState.RUNNING
    values = {
        "study_id": study_id,
        "trial_id": change.trial_id,
        "number": number,
        "state": state.name,
        "now": None if state == TrialState.WAITING else _utc(change.at),
    }
    connection.execute(_INSERT_TRIAL, values)
    write_change(connection, change)


def write_leased(
    connection: sqlalchemy.Connection, change: TrialChange, lease: Lease, before: int
) -> None:
    """Writes a change of a leased trial, unless it was already written.

    Args:
        connection: in a transaction, which is rolled back on an error.
        change: to be written.
        lease: of the trial.
        before: number of changes written under the lease before this one.

    Raises:
        LeaseLostError: another worker took the trial over, or another process ended it.
    """
    values = {
        "trial_id": lease.trial_id,
        "worker": lease.worker,
        "token": lease.token,
        "writes": before,
        "moves_on": bool(change.reports),
        "ends": change.ends,
        "is_death": change.is_death,
        "releases": change.releases or change.ends,
    }
    if connection.execute(_FENCE, values).rowcount == 0:
        recorded = connection.execute(_LEASE, values).first()
        # It was written, and then the connection broke before the answer arrived.
        if recorded is not None and recorded.token == lease.token and recorded.writes > before:
            return
        raise LeaseLostError(f"trial {lease.number} was taken over by another worker")
    write_change(connection, change)


def write_change(connection: sqlalchemy.Connection, change: TrialChange) -> None:
    """Writes a change of a trial that no other worker can write to now.

    Raises:
        LeaseLostError: another process ended the trial.
    """
    trial_id = change.trial_id
    if change.starts:
        connection.execute(_START, {"trial_id": trial_id, "now": _utc(change.at)})
    if change.params:
        values, distributions = zip(*change.params.values(), strict=True)
        encoded = [distribution_to_json(distribution) for distribution in distributions]
        names = list(change.params)
        connection.execute(
            _PARAMS,
            {
                "trial_id": trial_id,
                "names": names,
                "values": list(values),
                "distributions": encoded,
            },
        )
    for statement, attributes in (
        (_USER_ATTRIBUTES, change.user_attrs),
        (_SYSTEM_ATTRIBUTES, change.system_attrs),
    ):
        if attributes:
            connection.execute(statement, {"trial_id": trial_id, **_as_arrays(attributes)})
    if change.reports:
        steps, reported = list(change.reports), list(change.reports.values())
        connection.execute(_REPORTS, {"trial_id": trial_id, "steps": steps, "values": reported})
    for write in change.besides:
        write(connection)
    if change.state is not None:
        ending = {"trial_id": trial_id, "state": change.state.name, "now": _utc(change.at)}
        if connection.execute(_END, ending).rowcount == 0:
            raise LeaseLostError("the trial was ended by another process")
        if change.value is not None:
            connection.execute(_VALUE, {"trial_id": trial_id, "value": change.value})


def _as_arrays(attributes: Mapping[str, Any]) -> dict[str, list[str]]:
    return {"keys": list(attributes), "values": [json.dumps(v) for v in attributes.values()]}


def _utc(instant: datetime) -> datetime:
    """Converts to UTC without a time zone, as in Optuna's tables."""
    return instant.astimezone(UTC).replace(tzinfo=None)
