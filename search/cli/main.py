"""The start of the `canopy` command: signals and errors.

It imports next to nothing, so that Ctrl-C is handled almost from the start.
"""

import signal
import sys
from types import FrameType

_ORDERS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Runs the command; an error is one line on standard error, without a traceback.

    Ctrl-C ends it with exit status 130 at any moment, also while its parts are being imported.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    interrupts: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    # SIGINT too: background processes of a script ignore it from the start, and would not end with
    # the message that says how to resume.
    for number in _ORDERS:
        signal.signal(number, interrupt)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        if interrupts:  # some packages turn it into another error while they are imported
            sys.exit(130)
        from canopy_search.search.cli.exit_status import explain
        from canopy_search.search.console import say
        from canopy_search.search.environment import state_home

        message, exit_status = explain(error, state_home())
        say(*f"canopy: {message}".split("\n"), err=True)
        sys.exit(exit_status)
    finally:
        for number in _ORDERS:  # nothing is left to be said while Python ends
            signal.signal(number, signal.SIG_DFL)
        # CPython ends by the signal instead of with the exit status if an interrupt went through
        # exec, as dataclasses use it, unless exec runs once more.
        exec("")  # noqa: S102 - an empty program, for what it does to the state of CPython


def _run(arguments: list[str]) -> None:
    import warnings

    from canopy_search.search.cli.lazy_group import app
    from canopy_search.search.cli.standard_streams import prepare_streams
    from canopy_search.search.openmp import spin_briefly

    prepare_streams()
    spin_briefly()
    # Pillow's warnings are harmless, or the image is reported as damaged.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    app(arguments, prog_name="canopy")
