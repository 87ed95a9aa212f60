"""Which errors mean that the database will be back."""

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from canopy_search.storage.connection.retry import is_unavailability
from canopy_search.storage.errors import DatabaseUnreachableError, LeaseLostError


class ServerError(Exception):
    """What a server answered."""

    def __init__(self, code: str | None) -> None:
        super().__init__(code)
        self.pgcode = code


def after(error: BaseException, earlier: Exception) -> BaseException:
    """Returns an error that was raised while an earlier one was handled."""
    error.__context__ = earlier
    return error


CODES = ("57P01", "53100", "25006", "40P01")
"""Cut off, no room on the disk, a standby after a failover, a deadlock."""
CUT = OperationalError("SELECT 1", {}, ServerError(None))


@pytest.mark.parametrize(
    "error",
    [
        CUT,
        DatabaseUnreachableError("no answer"),
        sqlalchemy.exc.TimeoutError("pool"),
        StorageInternalError("of Optuna"),
        after(StorageInternalError("of Optuna"), CUT),
        *(
            DBAPIError("SELECT 1", {}, ServerError(code))
            for code in ("57P01", "53100", "25006", "40P01")
        ),
    ],
    ids=repr,
)
def test_it_is_unavailable(error: BaseException) -> None:
    assert is_unavailability(error)


@pytest.mark.parametrize(
    "error",
    [
        IntegrityError("INSERT", {}, ServerError("23505")),
        ProgrammingError("SELEC", {}, ServerError("42601")),
        after(
            StorageInternalError("of Optuna"), ProgrammingError("SELEC", {}, ServerError("42601"))
        ),
        LeaseLostError("taken over"),
        after(LeaseLostError("taken over"), CUT),
        after(KeyboardInterrupt(), CUT),
    ],
    ids=repr,
)
def test_it_is_not(error: BaseException) -> None:
    assert not is_unavailability(error)
