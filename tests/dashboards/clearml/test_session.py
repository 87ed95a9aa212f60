"""What a server can do to the machine that logs in."""

import os
from pathlib import Path

import pytest

from canopy_search.dashboards.clearml.credentials import tracker_settings
from canopy_search.dashboards.clearml.session import TrackerSession
from canopy_search.dashboards.errors import TrackerUnavailableError
from tests.clearml_stub.server import ApiHandler, FilesHandler, Stub


def login() -> None:
    settings = tracker_settings()
    assert settings is not None
    TrackerSession(settings)


def test_a_server_cannot_set_variables_or_write_files_here(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    (tmp_path / "clearml.conf").write_text(
        "sdk { apply_environment: true, apply_files: true }\n"
        "environment { CANOPY_EVIL: yes }\n"
        f'files {{ a {{ path: "{evil}", contents: "evil" }} }}\n'
    )
    login()
    assert "CANOPY_EVIL" not in os.environ
    assert not evil.exists()


@pytest.mark.parametrize("status", [302, 307])
def test_a_server_that_redirects_hands_no_keys_on(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    elsewhere = stub.files_url.replace("127.0.0.1", "localhost")
    seen = []

    def redirect(handler: ApiHandler) -> None:
        handler.content()
        seen.append((handler.headers["Host"], handler.headers["Authorization"]))
        handler.send_response(status)
        handler.send_header("Location", f"{elsewhere}/auth.login")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr(ApiHandler, "do_GET", redirect)
    monkeypatch.setattr(FilesHandler, "do_GET", redirect)
    with pytest.raises(TrackerUnavailableError, match="it redirects"):
        login()
    assert seen[0][1].startswith("Basic ")
    assert [key for host, key in seen if host.startswith("localhost")] == [None] * 30
