"""What may stand under ``clearml:``, and what must not."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import ConfigError
from canopy_search.search.study.configuration import load_config


def write(tmp_path: Path, section: str) -> Path:
    path = tmp_path / "canopy.yaml"
    path.write_text(f"data: {{demo: digits}}\nclearml: {section}\n")
    return path


def test_project_and_addresses(tmp_path: Path) -> None:
    section = "{project: Planet/hand, api_server: 'http://fir:8008/', web_server: https://fir}"
    ours = load_config(write(tmp_path, section)).settings.clearml
    assert ours is not None
    assert (ours.enabled, ours.project) == (True, "Planet/hand")
    assert (ours.api_server, ours.web_server) == ("http://fir:8008", "https://fir")
    assert ours.files_server is None


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("{secret_key: hunter2}", "secret_key"),
        ("{credentials: {access_key: hunter2}}", "credentials"),
        ("{api_server: 'http://me:hunter2@fir:8008'}", "clearml.api_server"),
        ("{api_server: fir}", "clearml.api_server"),
        ("{project: ab}", "clearml.project"),
        ("{proyect: abc}", "clearml.proyect"),
        ("{enabled: yes}", "clearml.enabled"),
    ],
    ids=["secret", "secrets", "password", "no address", "short", "unknown", "a word"],
)
def test_what_is_wrong_is_said_and_no_secret_is(
    tmp_path: Path, section: str, key: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, section))
    assert key in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value) == words
