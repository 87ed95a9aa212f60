"""Commits whose answer is lost: whether they happened or not, nothing doubles and nothing lacks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from tests.faults.conftest import Facts, NewSearch
from tests.faults.deaths import Prepare, nth_time, times
from tests.faults.invariants import check


def losing(counter: Path, every: int, *, happens: bool) -> Prepare:
    """Breaks the connection as every so many-th commit is sent.

    Args:
        counter: a file.
        every: of so many commits one.
        happens: whether the commit takes place.
    """

    def prepare() -> None:
        original: Any = PGDialect_psycopg2.do_commit

        def commit(self: Any, connection: Any) -> None:
            breaks = nth_time(counter) % every == 0
            if happens or not breaks:
                original(self, connection)
            if breaks:
                connection.close()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")

        PGDialect_psycopg2.do_commit = commit

    return prepare


CASES = [
    (True, 7),
    (False, 7),
    pytest.param(True, 11, marks=pytest.mark.exhaustive),
    pytest.param(False, 11, marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize(("happens", "every"), CASES)
def test_an_answer_that_is_lost_doubles_nothing(
    new_search: NewSearch,
    undisturbed: Callable[..., Facts],
    tmp_path: Path,
    happens: bool,
    every: int,
) -> None:
    counter = tmp_path / "counter"
    search = new_search()
    begun = search.begin()
    worker = search.start(losing(counter, every, happens=happens))
    assert worker.end() == 0, worker.said()
    assert times(counter) > 3 * every
    assert "Traceback" not in worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded == 0
    assert outcome.repeated <= 2  # a checkpoint that was cut again and again
    assert outcome.facts() == undisturbed()
