"""Runs a program as an ordinary account, or in the background, or both.

It is run by its path in a Python process of its own and becomes the program:
`python -I -S unprivileged.py … -- PROGRAM ARGUMENTS`. Dropping privileges between fork and exec is
not safe in a process with several threads; here there is one.
"""

import argparse
import ctypes
import os
import sys
from pathlib import Path
from typing import NoReturn

FAILED = 126

_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_privileges(uid: int, gid: int, *, keep_file_access: bool) -> None:
    """Switches this process from root to another account, permanently.

    Args:
        uid: the account's user id.
        gid: its group id.
        keep_file_access: keep the capability that lets root access private folders,
            CAP_DAC_OVERRIDE, also in the program that this becomes. Linux only.

    Raises:
        OSError: the system does not allow it.
    """
    if keep_file_access:
        _system_call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep_file_access:
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        only = _CapabilitySet(*(3 * [1 << _CAP_DAC_OVERRIDE]))
        # Version 3 of the interface takes 64 capabilities as two sets of 32.
        _system_call("capset", ctypes.byref(header), (_CapabilitySet * 2)(only, _CapabilitySet()))
        _system_call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _system_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # prctl is variadic and reads longs.
    wide = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    if getattr(libc, name)(*wide) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _become(command: list[str]) -> NoReturn:
    os.execv(command[0], command)  # noqa: S606 -- no shell on purpose


def _become_in_background(command: list[str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    child = os.fork()
    if child:
        sys.stdout.write(f"{child}\n")
        return
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        _become(command)
    except OSError as error:
        os.write(2, f"FATAL:  {command[0]}: {error.strerror}\n".encode())
        os._exit(FAILED)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--keep-file-access", action="store_true")
    parser.add_argument("--background", type=Path, metavar="LOG")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _main() -> None:
    arguments = _arguments()
    try:
        if arguments.uid is not None:
            drop_privileges(
                arguments.uid, arguments.gid, keep_file_access=arguments.keep_file_access
            )
        if arguments.background is None:
            _become(arguments.command)
        _become_in_background(arguments.command, arguments.background)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    _main()
