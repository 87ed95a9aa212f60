"""Processes that do the same at the same time, and start as fast as one."""

import subprocess
import sys

_FORKING = """
import os, sys, traceback
{imports}
children = []
for number in range({processes}):
    if not (child := os.fork()):
        try:
            {action}
            status = 0
        except BaseException:
            traceback.print_exc()
            status = 1
        finally:
            sys.stdout.flush()
            os._exit(status)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def in_processes(processes: int, imports: str, action: str, *arguments: str) -> list[str]:
    """Runs one line in so many processes, each of which knows its `number`.

    They are forked from one that has imported what it needs and has no threads.

    Returns:
        What they printed, in lines.
    """
    code = _FORKING.format(processes=processes, imports=imports, action=action)
    # Threads of NumPy's, which newer Pythons warn of, do nothing while nobody computes.
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    command = [sys.executable, *warnings, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()
