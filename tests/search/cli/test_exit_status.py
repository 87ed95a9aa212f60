import errno
import os
from pathlib import Path

import pytest

from canopy_search.search.cli.exit_status import explain

HOME = Path("/state")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_said_with_its_remedy(error: Exception) -> None:
    message, status = explain(error, HOME)

    assert message.startswith("not enough memory: ")
    assert "ulimit -v" in message
    assert status == 1


def test_another_failed_import_is_not_called_a_shortage() -> None:
    message, _ = explain(ImportError("No module named 'nothing'"), HOME)

    assert message.startswith("internal error: ImportError")


def test_a_full_disk_elsewhere_is_no_reason_to_move_the_state_folder() -> None:
    inside, _ = explain(OSError(errno.ENOSPC, "full", "/state/cache/x"), HOME)
    outside, _ = explain(OSError(errno.ENOSPC, "full", "/else/report.html"), HOME)

    assert inside == (
        "/state/cache/x: full; make room there, or set CANOPY_HOME to a folder on a larger disk"
    )
    assert outside == "/else/report.html: full; make room there"
