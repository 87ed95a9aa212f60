"""A stub, and a client of the real SDK."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clearml_stub.server import ACCESS_KEY, SECRET_KEY, Stub

NO_RETRIES = {"total": 0, "connect": 0, "read": 0, "redirect": 0, "backoff_factor": 0}


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub().start()
    yield stub
    stub.stop()
    failed = [each.problem for each in stub.requests() if "stub failed" in str(each.problem)]
    assert not failed


@pytest.fixture
def log_in(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Logs in with the real SDK and returns its client."""
    # Its settings are read when it is imported, so that a user's own file is never seen.
    monkeypatch.setenv("CLEARML_CONFIG_FILE", "/dev/null")
    from clearml.backend_api.session.client import APIClient, StrictSession

    sessions = []

    def client() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the SDK's own parser, as it reads its settings
            session = StrictSession(
                api_key=ACCESS_KEY,
                secret_key=SECRET_KEY,
                host=stub.url,
                http_retries_config=dict(NO_RETRIES),
            )
        sessions.append(session)
        return APIClient(session=session)

    yield client
    for session in sessions:
        session._Session__http_session.close()


@pytest.fixture
def client(log_in: Callable[[], Any]) -> Any:
    return log_in()
