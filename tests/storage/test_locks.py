import pytest
import sqlalchemy

from storage.database import Database
from storage.errors import StudyLockLostError
from storage.locks import study_lock


def test_a_lock_whose_connection_was_ended_says_so(database: Database) -> None:
    with study_lock(database.url, "planet") as lock:
        lock.check()
        with database.engine.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name LIKE 'canopy search %'"
                )
            )
        for _ in range(2):  # the second time, SQLAlchemy has connected anew, without the lock
            with pytest.raises(StudyLockLostError, match="'planet' is not held"):
                lock.check()
