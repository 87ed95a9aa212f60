import subprocess
import sys

import pytest
from typer.main import get_command

from canopy_search.search.cli.lazy_group import COMMANDS, app, load_command

HEAVY = {"alembic", "clearml", "numpy", "optuna", "pandas", "plotly", "pydantic", "sqlalchemy"}
HEAVY |= {"psycopg2", "rich", "scipy", "sklearn", "torch", "torchvision"}

IMPORTED = """
import sys
from canopy_search.search.cli.main import main
sys.argv = ["canopy", *sys.argv[1:]]
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return set(ran.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_the_list_of_commands_imports_nothing_that_takes_long(arguments: list[str]) -> None:
    assert not imported(*arguments) & HEAVY


def test_what_takes_long_is_seen_where_it_is_imported() -> None:
    found = imported("status", "--help")
    assert {"optuna", "sqlalchemy"} <= found
    assert not found & {"torch", "plotly", "pandas"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_begins_with(name: str) -> None:
    listed = get_command(app).get_command(None, name)
    assert listed.help == load_command(name).help
    assert listed.help
