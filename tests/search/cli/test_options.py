"""How long a command waits for its database before it starts."""

import pytest

from canopy_search.filestore.retry import RetryPolicy
from canopy_search.search.cli import options as options_module
from canopy_search.search.cli.options import WorkerOptions
from canopy_search.storage.errors import DatabaseUnavailableError, DatabaseUnreachableError


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the database answers, one for each attempt; the last one is repeated."""
    found: list[bool] = []

    def check(_url: object) -> None:
        if not (found.pop(0) if len(found) > 1 else found[0]):
            raise DatabaseUnreachableError("refused")

    monkeypatch.setattr(options_module, "check_reachable", check)
    monkeypatch.setattr(RetryPolicy, "pauses", lambda _policy: lambda _state: 0.0)
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@db.example/canopy")
    return found


def test_it_waits_as_long_as_the_user_said(
    answers: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [False, False, True]
    WorkerOptions(retry_for_min=5).wait_for_database()
    assert answers == [True]
    assert "secret" not in capsys.readouterr().err


def test_no_patience_is_no_wait(answers: list[bool]) -> None:
    answers += [False]
    with pytest.raises(DatabaseUnavailableError):
        WorkerOptions(retry_for_min=0).wait_for_database()


def test_without_the_option_the_command_itself_says_what_is_wrong(answers: list[bool]) -> None:
    answers += [False]
    WorkerOptions().wait_for_database()
