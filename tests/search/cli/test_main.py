"""What `canopy` itself prints, and how it ends when it is interrupted."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from canopy_search.search.cli.lazy_group import app
from tests.waiting import HANG_S

# Ctrl-C while a module is searched; dataclasses, too, use `exec` while they are imported.
_INTERRUPTED = """
import os, signal, sys
from canopy_search.search.cli.main import main
module = sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            exec("os.kill(os.getpid(), signal.SIGINT)")
sys.meta_path.insert(0, Finder())
main()
"""


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        app(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"canopy {version('canopy-search')}\n"


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("typer", "--help"),
        ("optuna", "status"),
        ("canopy_search.search.cli.search", "search"),
        ("pydantic", "search"),
        ("sqlalchemy", "db"),
    ],
)
def test_ctrl_c_while_a_command_is_imported_prints_nothing(module: str, command: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, module, command],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")
