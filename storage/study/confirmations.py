"""Confirmations: which study trains the finalists of which, and what its runs score on test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import CONFIRMATION, STUDIES, TEST, TRIALS
from canopy_search.storage.study.finite import check_finite


@dataclass(frozen=True)
class AskedConfirmation:
    """What was asked for last.

    Attributes:
        study: the name of the study that trains the finalists again.
        top: how many finalists.
        seeds: how many further seeds each of them gets.
    """

    study: str
    top: int
    seeds: int


class ConfirmationStore:
    """The confirmations of a database.

    Args:
        database: an opened one.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    def ask(self, study_id: int, confirmed_by: int, *, top: int, seeds: int) -> None:
        """Records what is asked for, in place of what was.

        Args:
            study_id: the database's id of the study that was searched.
            confirmed_by: that of the study that trains its finalists again.
            top: how many finalists.
            seeds: how many further seeds each of them gets.
        """
        values = {"confirmed_by": confirmed_by, "top": top, "seeds": seeds}
        insert = postgresql.insert(CONFIRMATION).values(study_id=study_id, **values)
        update = insert.on_conflict_do_update(
            index_elements=[CONFIRMATION.c.study_id],
            set_={**values, "asked": sqlalchemy.func.now()},
        )
        with self._engine.begin() as connection:
            connection.execute(update)

    def asked(self, study: str) -> AskedConfirmation | None:
        """Returns what was asked for last of a study that was searched, if anything was.

        Args:
            study: its name.
        """
        searched, confirming = STUDIES.alias(), STUDIES.alias()
        query = (
            sqlalchemy.select(confirming.c.study_name, CONFIRMATION.c.top, CONFIRMATION.c.seeds)
            .join_from(CONFIRMATION, searched, CONFIRMATION.c.study_id == searched.c.study_id)
            .join(confirming, CONFIRMATION.c.confirmed_by == confirming.c.study_id)
            .where(searched.c.study_name == study)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else AskedConfirmation(*row)

    def confirms(self, study: str) -> bool:
        """Whether a study trains the finalists of another one again; its runs are tested.

        Args:
            study: its name.
        """
        query = (
            sqlalchemy.select(CONFIRMATION.c.study_id)
            .join(STUDIES, CONFIRMATION.c.confirmed_by == STUDIES.c.study_id)
            .where(STUDIES.c.study_name == study)
        )
        with self._engine.connect() as connection:
            return connection.scalar(query) is not None

    def test_scores(self, study: str) -> dict[int, dict[str, Any]]:
        """Returns what the runs of a study score on test, by the number of their trial.

        Args:
            study: its name.
        """
        query = (
            sqlalchemy.select(TRIALS.c.number, TEST.c.scores)
            .join_from(TEST, TRIALS)
            .join(STUDIES)
            .where(STUDIES.c.study_name == study)
        )
        with self._engine.connect() as connection:
            return {row.number: row.scores for row in connection.execute(query)}


def scoring(trial_id: int, scores: Mapping[str, Any]) -> Callable[[sqlalchemy.Connection], None]:
    """Returns what records the scores of a trial on test, unless there are some.

    Args:
        trial_id: the database's id of the trial.
        scores: JSON values by name.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    check_finite("scores", scores)
    insert = postgresql.insert(TEST).values(trial_id=trial_id, scores=scores)

    def write(connection: sqlalchemy.Connection) -> None:
        connection.execute(insert.on_conflict_do_nothing())

    return write
