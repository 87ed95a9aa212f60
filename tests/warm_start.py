"""Processes as copies of one that has imported what they need: a start of Python costs seconds.

A copy is a process like any other, with its own environment, folder, streams and signals, and a
child of the one that asked for it. It differs from a user's in one thing: modules are there, so
nothing of its environment may matter to an import (``PYTHONPATH``).

What is copied is the process that runs tests, as it was before it had a test: it has to import the
same modules anyway.
"""

import array
import atexit
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any, NoReturn, cast
from uuid import uuid4

WARM = sys.platform == "linux"
"""Elsewhere a process cannot be made another's child, and is begun as usual."""

_MODULES = (
    "canopy_search.search.workers.process",
    "canopy_search.search.workflows.run_study",
    "canopy_search.search.workflows.search",
    "canopy_search.search.progress_display",
)
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_SPARE = 700  # above every descriptor that a copy is given
_LIMIT = 1 << 17


class WarmPopen(subprocess.Popen[str]):
    """`subprocess.Popen` of the `canopy` command.

    Args:
        words: of the command line, without `canopy`.
        folder: where it runs.
        environment: all of it.
    """

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(
            ["canopy", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _execute_child(self, args: list[str], *given: Any) -> None:
        cwd, env = given[4], given[5]
        streams = {1: given[12], 2: given[14]}
        self.pid = _ask(_Template.address, {"argv": args}, cwd, env, streams)
        cast("Any", self)._child_created = True
        for descriptor in streams.values():
            os.close(descriptor)


@contextlib.contextmanager
def warm_forkservers() -> Iterator[None]:
    """Lets multiprocessing's fork servers begin as copies, for the time of a ``with``."""
    if not WARM:
        yield
        return
    with contextlib.ExitStack() as stack:
        before = util.spawnv_passfds
        stack.callback(setattr, util, "spawnv_passfds", before)
        _patch(_Template.address, before)
        yield


@contextlib.contextmanager
def own_forkserver() -> Iterator[None]:
    """Begins a fork server that has this test's environment, for the time of a ``with``."""
    from canopy_search.search.workers.forkserver import warm_up

    template: Any = forkserver
    template._forkserver._stop()  # what Python's own tests do; there is no public way
    try:
        with warm_forkservers():
            warm_up()
            yield
    finally:
        template._forkserver._stop()


def _patch(address: str, cold: Callable[..., int]) -> None:
    def spawn(path: bytes, args: list[str], descriptors: Sequence[int]) -> int:
        code = str(args[-1])
        if "multiprocessing.forkserver" not in code:
            return cold(path, args, descriptors)
        kept = {number: number for number in (1, 2, *map(int, descriptors))}
        return _ask(address, {"code": code}, Path.cwd(), dict(os.environ), kept)

    util.spawnv_passfds = spawn


def _ask(
    address: str,
    what: dict[str, Any],
    folder: str | Path,
    environment: Mapping[str, str],
    descriptors: Mapping[int, int],
) -> int:
    """Asks for a copy that becomes a child of this process; returns its process id."""
    order = {"folder": str(folder), "environment": dict(environment), "to": list(descriptors)}
    content = json.dumps(order | what).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(_SUBREAPER, 1)
        try:
            ours = array.array("i", descriptors.values())
            connection.sendmsg([content], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ours)])
            answer = connection.recv(64)
        finally:
            prctl(_SUBREAPER, 0)
    return int(answer)


class _Template:
    """The process that copies are made of.

    Attributes:
        address: where it listens.
    """

    address: str


def import_all() -> None:
    """Imports what `canopy` and its workers need."""
    for module in _MODULES:
        __import__(module)


def copy_this_process() -> None:
    """Lets copies be made of this process as it is now."""
    _Template.address = _fork_template()


def _fork_template() -> str:
    """Begins a template for the copies that this process will ask for; returns where it listens.

    They are to be this process's children, and only a descendant's children can become that.
    """
    address = f"\0canopy-tests-{uuid4().hex}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(16)
    ends, keeps = os.pipe()  # the template ends when this process does
    if os.fork() == 0:
        os.close(keeps)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(null)
        _end_as(_serve(listener, ends))
    listener.close()
    os.close(ends)
    return address


def _serve(listener: socket.socket, ends: int) -> Callable[[], None]:
    """Makes copies until the asking process is gone; returns in each copy what it is to do."""
    import select

    while True:
        ready, _, _ = select.select([listener, ends], [], [])
        if ends in ready:
            return lambda: None
        connection, _ = listener.accept()
        content, descriptors, _, _ = socket.recv_fds(connection, _LIMIT, 16)
        if not content:
            connection.close()
            continue
        reads, writes = os.pipe()
        between = os.fork()
        if between == 0:
            copy = os.fork()
            if copy:
                os.write(writes, str(copy).encode())
                os._exit(0)
            for opened in (reads, writes, ends):
                os.close(opened)
            connection.close()
            listener.close()
            return lambda: _become(json.loads(content), descriptors)
        os.waitpid(between, 0)  # from now on the copy is a child of the one that asked
        connection.send(os.read(reads, 64))
        for opened in (reads, writes, *descriptors):
            os.close(opened)
        connection.close()


def _become(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Turns this copy into the process that was asked for, and runs it."""
    spare = {to: _SPARE + to for to in order["to"]}
    for descriptor, to in zip(descriptors, order["to"], strict=True):
        os.dup2(descriptor, spare[to])
        os.close(descriptor)
    for to, descriptor in spare.items():
        os.dup2(descriptor, to, inheritable=False)
        os.close(descriptor)
    for number in (1, 2):
        os.set_inheritable(number, True)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - stays open
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        stream = open(number, "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - stays open
        stream.reconfigure(line_buffering=number == 2)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if "code" in order:
        exec(order["code"], {"__name__": "__main__"})  # noqa: S102 - multiprocessing's own line
        return
    from canopy_search.search.cli.main import main

    _patch(_fork_template(), util.spawnv_passfds)
    sys.argv = order["argv"]
    main()


def _end_as(run: Callable[[], None]) -> NoReturn:
    """Runs what a process is for, and ends it with the status that Python would give it.

    Without taking every module apart, which takes Python longer than many a command runs.
    """
    status: Any = 0
    try:
        run()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001 - as Python itself does
        sys.excepthook(*cast("Any", sys.exc_info()))
        status = 1
    internals: Any = threading
    internals._shutdown()
    cast("Any", atexit)._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
