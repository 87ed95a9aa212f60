"""Calls to a service that is unavailable are repeated, and the user reads of it twice."""

import pickle
import threading
import time
from collections.abc import Callable

import pytest

from canopy_search.filestore.errors import FileStoreUnavailableError
from canopy_search.filestore.retry import FILE_STORE, Retrier, RetryPolicy

FOR_EVER_S = 1e4  # pytest ends a test that hangs before that
AWAY = FileStoreUnavailableError("s3://bucket: no answer; check the network")


def fails(error: Exception, times: int) -> Callable[[], str]:
    """Returns what fails some times with an error and answers then."""
    left = [error] * times

    def ask() -> str:
        if left:
            raise left.pop()
        return "here"

    return ask


def fails_for_ever(error: Exception) -> Callable[[], str]:
    return fails(error, 10**6)


def test_it_is_asked_again_until_it_answers() -> None:
    notes: list[str] = []
    revived: list[int] = []
    retrier = Retrier(
        RetryPolicy(FOR_EVER_S), FILE_STORE, note=notes.append, revive=lambda: revived.append(1)
    )
    assert retrier.call(fails(AWAY, 2)) == "here"
    assert notes == [
        "the file store is unavailable: s3://bucket: no answer; retrying",
        "the file store is back after 0 s",
    ]
    assert len(revived) == 2
    assert not retrier.is_waiting


def test_the_limit_ends_it() -> None:
    with pytest.raises(FileStoreUnavailableError, match=r"^s3://bucket: no answer; check"):
        Retrier(RetryPolicy(0), FILE_STORE).call(fails_for_ever(AWAY))
    retrier = Retrier(RetryPolicy(0.3), FILE_STORE)
    with pytest.raises(FileStoreUnavailableError, match=r"^waited \d s .+: s3://bucket"):
        retrier.call(fails_for_ever(AWAY))
    assert not retrier.is_waiting


def test_other_errors_end_it_at_once() -> None:
    for error in (FileNotFoundError("gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            Retrier(RetryPolicy(FOR_EVER_S), FILE_STORE).call(fails(error, 1))


def test_all_threads_are_told_once_and_give_up_together() -> None:
    notes: list[str] = []
    retrier = Retrier(RetryPolicy(FOR_EVER_S), FILE_STORE, note=notes.append)
    failures: list[BaseException] = []
    asked = threading.Barrier(4)

    def wait() -> None:
        first = True

        def ask() -> None:
            nonlocal first
            if first:
                first = False
                asked.wait()
            raise AWAY

        try:
            retrier.call(ask)
        except FileStoreUnavailableError as error:
            failures.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    asked.wait()
    retrier.end()
    for thread in threads:
        thread.join()
    assert failures == 3 * [AWAY]
    assert len(notes) <= 1


def test_a_thread_in_the_background_is_ended_alone_and_gives_no_sign_of_life() -> None:
    retrier = Retrier(RetryPolicy(FOR_EVER_S), FILE_STORE)
    signs: list[str] = []
    ended = threading.Event()

    def give_sign() -> None:
        signs.append(threading.current_thread().name)
        if len(signs) == 3:
            ended.set()

    retrier.alive = give_sign

    def work() -> None:
        with pytest.raises(FileStoreUnavailableError):
            retrier.call(fails_for_ever(AWAY), ended)

    thread = threading.Thread(target=work, name="background")
    thread.start()
    while not retrier.is_waiting:
        time.sleep(0.01)
    assert retrier.call(lambda: "here") == "here"
    assert retrier.is_waiting, "the other thread still waits"

    def ask() -> str:
        if not ended.is_set():
            raise AWAY
        return "here"

    assert retrier.call(ask) == "here"
    thread.join()
    assert set(signs) == {threading.main_thread().name}


def test_a_policy_travels() -> None:
    policy = RetryPolicy(3.0, 1.0)
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own bytes
