"""Confirmations: which study retrains whose finalists, and the test scores of its runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import CONFIRMATION, STUDIES, TEST, TRIALS
from canopy_search.storage.study.json_numbers import check_finite


@dataclass(frozen=True)
class AskedConfirmation:
    """The confirmation that was requested last.

    Attributes:
        study: the name of the study that retrains the finalists.
        top: number of finalists.
        seeds: additional seeds for each of them.
    """

    study: str
    top: int
    seeds: int


class ConfirmationStore:
    """The confirmations of a database.

    Args:
        database: an open one.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.engine

    def ask(self, study_id: int, confirmed_by: int, *, top: int, seeds: int) -> None:
        """Records the requested confirmation, in place of an earlier one.

        Args:
            study_id: the database's id of the searched study.
            confirmed_by: the database's id of the study that retrains its finalists.
            top: number of finalists.
            seeds: additional seeds for each of them.
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
        """Returns the confirmation of a searched study that was requested last, if any.

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
        """Whether a study retrains the finalists of another one; its runs are scored on test.

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
        """Returns the test scores of a study's runs, by trial number.

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
    """Returns a function that records the test scores of a trial, unless it has some.

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
