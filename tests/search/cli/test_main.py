"""What `canopy` itself prints."""

from importlib.metadata import version

import pytest

from canopy_search.search.cli import main as command


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.app(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"canopy {version('canopy-search')}\n"
