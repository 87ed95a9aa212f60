"""What may stand under ``clearml:``, and what must not."""

from pathlib import Path

import pytest

from search.config import load_config
from search.errors import ConfigError


def write(tmp_path: Path, section: str) -> Path:
    path = tmp_path / "canopy.yaml"
    path.write_text(f"data: {{demo: digits}}\nclearml: {section}\n")
    return path


def test_project_and_addresses(tmp_path: Path) -> None:
    section = "{project: Planet/hand, api_server: 'http://fir:8008/', web_server: https://fir}"
    ours = load_config(write(tmp_path, section)).clearml
    assert ours is not None
    assert (ours.enabled, ours.project) == (True, "Planet/hand")
    assert (ours.api_server, ours.web_server) == ("http://fir:8008", "https://fir")
    assert ours.files_server is None


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{secret_key: hunter2}", "clearml: 'secret_key' does not belong"),
        ("{credentials: {access_key: hunter2}}", "clearml: 'credentials' does not belong"),
        ("{api_server: 'http://me:hunter2@fir:8008'}", "clearml.api_server: an address without"),
        ("{api_server: fir}", "clearml.api_server: expected an address such as http://HOST:8008"),
        ("{project: ab}", "clearml.project: expected a name of at least 3 characters"),
        ("{proyect: abc}", "clearml.proyect: unknown key; did you mean 'project'"),
        ("{enabled: yes}", "clearml.enabled: expected true or false"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_is(
    tmp_path: Path, section: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, section))
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)
