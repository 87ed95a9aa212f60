"""Keys and files go only where the user's own configuration says."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.clearml.credentials import TrackerSettings, tracker_settings
from canopy_search.dashboards.errors import TrackerConfigError

OWN = "https://api.fir.example:8008"


@dataclass(frozen=True)
class Project:
    """A ``clearml`` section that somebody else may have written."""

    api_server: str | None = None
    web_server: str | None = None
    files_server: str | None = None


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user with keys for `OWN`, in variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONFIG_FILE", "AUTH_TOKEN", "FILES_HOST"):
        monkeypatch.delenv(f"CLEARML_{name}", raising=False)
        monkeypatch.delenv(f"TRAINS_{name}", raising=False)
    monkeypatch.setenv("CLEARML_API_HOST", OWN)
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "access")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "hunter2")


def settings(project: Project) -> TrackerSettings:
    found = tracker_settings(project)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "api_server", [OWN, f"{OWN}/", "HTTPS://API.Fir.Example:8008", "https://api.fir.example.:8008"]
)
def test_a_project_may_name_the_users_server(api_server: str) -> None:
    assert settings(Project(api_server)).host == OWN


@pytest.mark.parametrize(
    "api_server",
    [
        *("http://api.fir.example:8008", "https://api.fir.example", "https://fir.example:8008"),
        *("https://evil.example", "https://api.fir.example.evil.example:8008"),
        *("http://127.0.0.1:8008", "https://api.fir.example:8008\\@evil.example"),
        *(
            "https://evil.example#api.fir.example:8008",
            "https://[::1]:8008",
            "https://api.clear.ml",
        ),
    ],
)
def test_no_other_server_gets_keys(api_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackerConfigError, match="so it gets none") as caught:
        settings(Project(api_server))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("CLEARML_API_HOST", api_server)
    assert settings(Project(api_server)).host == api_server


def test_keys_without_a_server_are_for_clearml_s_own(
    monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.delenv("CLEARML_API_HOST")
    assert settings(Project("https://api.clear.ml")).host == "https://api.clear.ml"
    with pytest.raises(TrackerConfigError) as caught:
        settings(Project("https://evil.example"))
    assert str(caught.value) == words


def test_the_file_of_the_user_counts_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_HOST", "API_ACCESS_KEY", "API_SECRET_KEY"):
        monkeypatch.delenv(f"CLEARML_{name}")
    (tmp_path / "clearml.conf").write_text(
        f'api {{ api_server: "{OWN}"\n files_server: "https://files.elm.example"\n'
        ' credentials { access_key: "a", secret_key: "hunter2" } }\n'
    )
    assert settings(Project(OWN, files_server="https://files.elm.example")).is_usable
    with pytest.raises(TrackerConfigError, match="so it gets none"):
        settings(Project("https://evil.example"))
    with pytest.raises(TrackerConfigError, match="so it gets no files"):
        settings(Project(files_server="https://files.evil.example"))


def test_a_project_alone_configures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_HOST", "API_ACCESS_KEY", "API_SECRET_KEY"):
        monkeypatch.delenv(f"CLEARML_{name}")
    assert tracker_settings(Project("https://evil.example")) is None


@pytest.mark.parametrize(
    "files_server", ["https://api.fir.example:8081", "https://api.fir.example"]
)
def test_files_go_to_the_host_of_the_api(files_server: str) -> None:
    assert settings(Project(files_server=files_server)).files == files_server


@pytest.mark.parametrize(
    "files_server", ["http://api.fir.example:8081", "https://evil.example", "s3://evil.example"]
)
def test_no_other_server_gets_files(
    files_server: str, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    with pytest.raises(TrackerConfigError) as caught:
        settings(Project(files_server=files_server))
    assert str(caught.value) == words
    monkeypatch.setenv("CLEARML_FILES_HOST", files_server)
    assert settings(Project(files_server=files_server)).files == files_server


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("http://fir.example:8008", True), ("http://127.0.0.1.example", True)),
        *((OWN, False), ("http://localhost:8008", False), ("http://[::1]:8008", False)),
        ("http://127.0.0.1:8008", False),
    ],
)
def test_unencrypted_keys(host: str, expected: bool) -> None:
    assert TrackerSettings(host, "", ()).is_unencrypted is expected
