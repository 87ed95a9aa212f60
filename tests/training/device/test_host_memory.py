import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from canopy_search.training.device.host_memory import keep_freed_memory

STEPS = """
import ctypes, os, resource
from canopy_search.training.device.host_memory import keep_freed_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
BLOCK_BYTES = 2**24

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])

def step():
    blocks = [ctypes.c_void_p(library.malloc(BLOCK_BYTES)) for _ in range(16)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for block in reversed(blocks):
        library.free(block)

def measure(keeps):
    if keeps:
        assert keep_freed_memory()
    for _ in range(3):
        step()
    before = faults()
    step()
    print(faults() - before)
    full = resident_pages()
    if keeps:
        keep_freed_memory()
    print(full - resident_pages(), flush=True)

for keeps in (True, False):
    if not os.fork():
        measure(keeps)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def measured() -> list[int]:
    """Page faults of a step and pages given back, in a process that keeps and one that does not."""
    command = [sys.executable, "-c", STEPS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [int(each) for each in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's")
def test_a_step_finds_its_memory_where_the_last_one_left_it() -> None:
    pages = 16 * 2**24 // 4096
    kept, returned, given_back, _ = measured()
    assert kept < pages / 10
    assert returned > pages / 2
    assert given_back > 20 * max(kept, 1)


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: Any) -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not keep_freed_memory()
