"""The `canopy` command. Imports here delay every command, even ``canopy --help``."""

import signal
import sys
import warnings
from types import FrameType
from typing import Annotated

import typer

from canopy_search.search.cli.lazy_group import lazy_typer
from canopy_search.search.cli.standard_streams import prepare_streams
from canopy_search.search.openmp import spin_briefly

app = lazy_typer("Search the backbone, loss and schedule of multi-label image classifiers.")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from canopy_search.search.console import say

        say(f"canopy {version('canopy-search')}")
        raise typer.Exit


@app.callback()
def _canopy(
    version: Annotated[  # noqa: ARG001 - `_print_version` takes it
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[  # noqa: ARG001 - `main` takes it; here for --help
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    """Runs before each command."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def main() -> None:
    """Runs the command; an error is one line on standard error, without a traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # SIGINT too: background processes of a script ignore it from the start, and would not end with
    # the message that says how to resume.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    prepare_streams()
    spin_briefly()
    # Pillow's warnings are harmless, or the image is reported as damaged.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app(arguments, prog_name="canopy")
    except Exception as error:
        if debug:
            raise
        from canopy_search.search.cli.exit_status import explain
        from canopy_search.search.console import say
        from canopy_search.search.environment import state_home

        message, exit_status = explain(error, state_home())
        say(*f"canopy: {message}".split("\n"), err=True)
        sys.exit(exit_status)


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
