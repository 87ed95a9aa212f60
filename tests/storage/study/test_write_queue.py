"""What is owed is written in order and once, whatever the database does."""

import re
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from syrupy.assertion import SnapshotAssertion

from canopy_search.filestore.retry import Retrier, RetryPolicy
from canopy_search.storage.connection.retry import DATABASE
from canopy_search.storage.errors import DatabaseUnavailableError, LeaseLostError
from canopy_search.storage.study.trial_changes import Lease, TrialChange
from canopy_search.storage.study.write_queue import WriteQueue

FOR_EVER_S = 1e4  # pytest ends a test that hangs before that
AWAY = OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))


class Server:
    """Takes changes, or fails as it is told."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int, dict[int, float]]] = []
        self.error: Exception | None = None
        self.attempts = 0
        self.notes: list[str] = []

    def write(self, change: TrialChange, lease: Lease, before: int) -> None:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        self.written.append((lease.number, before, change.reports))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def write_queue(server: Server) -> Iterator[WriteQueue]:
    opened = WriteQueue(
        server.write, Retrier(RetryPolicy(FOR_EVER_S), DATABASE, note=server.notes.append)
    )
    yield opened
    opened.close(FOR_EVER_S)


def lease(number: int = 7) -> Lease:
    return Lease(trial_id=number, number=number, worker=1, token=1)


def wait_until_away(write_queue: WriteQueue) -> None:
    while not write_queue.is_retrying:
        time.sleep(0.01)


def report(epoch: int) -> TrialChange:
    return TrialChange(7, reports={epoch: epoch / 10})


def test_in_order_and_counted(write_queue: WriteQueue, server: Server) -> None:
    mine = lease()
    for epoch in range(1, 6):
        write_queue.post(report(epoch), mine)
    assert write_queue.wait_until_written(mine)
    assert server.written == [(7, epoch - 1, {epoch: epoch / 10}) for epoch in range(1, 6)]
    assert not write_queue.is_retrying


def test_what_is_owed_waits_for_the_database(
    write_queue: WriteQueue, server: Server, words: SnapshotAssertion
) -> None:
    mine = lease()
    server.error = AWAY
    for epoch in (1, 2, 3):
        write_queue.post(report(epoch), mine)
        wait_until_away(write_queue)
        assert not write_queue.wait_shortly_until_written(mine), "who trains does not wait"
    assert server.written == []
    server.error = None
    assert write_queue.wait_until_written(mine)
    assert [before for _, before, _ in server.written] == [0, 1, 2]
    assert [re.sub(r"\d+ s", "N s", note) for note in server.notes] == words


def test_patience_ends(server: Server, words: SnapshotAssertion) -> None:
    server.error = AWAY
    write_queue = WriteQueue(server.write, Retrier(RetryPolicy(0.2), DATABASE))
    mine = lease()
    write_queue.post(report(1), mine)
    with pytest.raises(DatabaseUnavailableError) as error:
        write_queue.wait_until_written(mine)
    assert re.sub(r"\d+\.\d minutes", "N minutes", str(error.value)) == words
    with pytest.raises(DatabaseUnavailableError):
        write_queue.post(report(2), mine)


def test_a_lost_lease_drops_what_was_handed_in_under_it_alone(
    write_queue: WriteQueue, server: Server
) -> None:
    lost, mine = lease(1), lease(2)
    server.error = LeaseLostError("trial 1 is taken over by another worker")
    write_queue.post(report(1), lost)
    with pytest.raises(LeaseLostError, match="trial 1 "):
        write_queue.wait_until_written(lost)
    with pytest.raises(LeaseLostError):
        write_queue.post(report(2), lost)
    server.error = None
    write_queue.post(report(1), mine)
    assert write_queue.wait_until_written(mine)
    assert [number for number, *_ in server.written] == [2]


def test_a_mistake_of_ours_is_not_waited_out(write_queue: WriteQueue, server: Server) -> None:
    server.error = IntegrityError("INSERT", {}, Exception("violates"))
    mine = lease()
    write_queue.post(report(1), mine)
    with pytest.raises(IntegrityError):
        write_queue.wait_until_written(mine)
    assert server.attempts == 1


def test_closing_while_the_database_is_away_does_not_hang(server: Server) -> None:
    server.error = AWAY
    write_queue = WriteQueue(server.write, Retrier(RetryPolicy(FOR_EVER_S), DATABASE))
    write_queue.post(report(1), lease())
    wait_until_away(write_queue)
    write_queue.close(FOR_EVER_S)
    assert write_queue._thread not in threading.enumerate()


def test_who_waits_says_again_and_again_that_it_is_alive(server: Server) -> None:
    signs = 0

    def give_sign() -> None:
        nonlocal signs
        signs += 1
        if signs == 3:
            server.error = None

    retrier = Retrier(RetryPolicy(FOR_EVER_S), DATABASE)
    retrier.alive = give_sign
    write_queue = WriteQueue(server.write, retrier)
    server.error = AWAY
    write_queue.post(report(1), lease())
    assert write_queue.wait_until_written(lease())
    assert signs >= 3
    write_queue.close(FOR_EVER_S)


def test_who_waits_for_a_time_waits_no_longer(server: Server) -> None:
    server.error = AWAY
    write_queue = WriteQueue(server.write, Retrier(RetryPolicy(FOR_EVER_S), DATABASE))
    write_queue.post(report(1), lease())
    assert not write_queue.wait_until_written(lease(), 0.3)
    wait_until_away(write_queue)
    write_queue.close(FOR_EVER_S)
