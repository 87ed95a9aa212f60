"""The `canopy` command. What is imported here is waited for even by ``canopy --help``."""

import signal
import sys
import warnings
from types import FrameType
from typing import Annotated

import typer

from canopy_search.search.cli.lazy_group import lazy_typer
from canopy_search.search.openmp import spin_briefly

app = lazy_typer("Search the backbone, loss and schedule of multi-label image classifiers.")


@app.callback()
def _canopy(
    debug: Annotated[  # noqa: ARG001 - as below
        bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")
    ] = False,
) -> None:
    """Runs before each command; `main` has taken --debug already, it stands here for --help."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


def main() -> None:
    """Runs the command; what goes wrong is one line on standard error and no traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # Ctrl-C too: a script's background processes are born deaf to it, and then cannot be stopped so
    # that they can say how to go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    spin_briefly()
    # What Pillow warns of is either harmless or reported as a damaged image.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        app(arguments, prog_name="canopy")
    except Exception as error:
        if debug:
            raise
        from canopy_search.search.cli.exit_status import explain
        from canopy_search.search.environment import state_home

        message, exit_status = explain(error, state_home())
        typer.echo(f"canopy: {message}", err=True)
        sys.exit(exit_status)


def _interrupt(_signal_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
