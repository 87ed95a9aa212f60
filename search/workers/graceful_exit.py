"""Graceful exit: a worker that gets a signal exits within seconds, whatever it is doing."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the signal of SLURM and Kubernetes, and a closed terminal."""
GRACE_S = 3.5
"""Seconds after which a worker that cannot be interrupted exits without a message."""


@contextmanager
def leaving_in_time(
    parent: int | None = None,
    end: Callable[[int], object] = os._exit,
    *,
    signals: Sequence[signal.Signals] = SIGNALS,
    grace_s: float | None = None,
) -> Iterator[None]:
    """Raises KeyboardInterrupt in the main thread at the first signal; exits after `grace_s`.

    A long torch operation does not notice a signal until it is done. The process then exits as if
    it were killed, which loses only the running epoch. Later signals are ignored: SLURM signals a
    job and each of its workers, and the job signals its workers again; a second interrupt would
    break the release of a trial.

    Args:
        parent: file descriptor that becomes readable when the parent process exits, which counts
            as a signal.
        end: ends the process.
        signals: signals to handle.
        grace_s: seconds from the first signal to the exit; None for `GRACE_S`.
    """
    grace_s = GRACE_S if grace_s is None else grace_s
    reader, writer = socket.socketpair()
    writer.settimeout(0)
    previous_handlers = {number: signal.getsignal(number) for number in signals}
    watched: list[socket.socket | int] = [reader]
    watched += [parent] if parent is not None else []

    def watch() -> None:
        ready = wait(watched)
        if reader in ready and not reader.recv(1):
            reader.close()
            return  # the context ended without a signal
        if reader not in ready:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        end(128 + signal.SIGTERM)

    def interrupt(_signal_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, name="canopy graceful exit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
        writer.close()
