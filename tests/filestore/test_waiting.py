import threading

import pytest

from canopy_search.filestore.errors import FileStoreUnavailableError
from canopy_search.filestore.waiting import Waiting


def test_what_is_away_is_asked_again() -> None:
    waited: list[FileStoreUnavailableError] = []
    answers = iter([FileStoreUnavailableError("away"), FileStoreUnavailableError("away"), "here"])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Waiting(60, waited.append).call(ask) == "here"
    assert len(waited) == 2


def test_patience_ends() -> None:
    def ask() -> None:
        raise FileStoreUnavailableError("away")

    with pytest.raises(FileStoreUnavailableError, match=r"^away$"):
        Waiting(0).call(ask)
    with pytest.raises(FileStoreUnavailableError, match=r".+: away$"):
        Waiting(0.3).call(ask)


def test_whoever_waits_can_be_told_to_give_up() -> None:
    asked = threading.Event()

    def ask() -> None:
        asked.set()
        raise FileStoreUnavailableError("away")

    waiting = Waiting(3600)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            waiting.call(ask)
        except FileStoreUnavailableError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(240)
    waiting.end()
    thread.join()
    assert len(failures) == 1


def test_other_errors_are_not_waited_for() -> None:
    def ask() -> None:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        Waiting(3600).call(ask)
