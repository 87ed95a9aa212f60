import ctypes
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from training.host_memory import keep_freed_memory

STEPS = """
import ctypes, resource, sys
from training.host_memory import keep_freed_memory

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

if sys.argv[1] == "keeps":
    assert keep_freed_memory()
for _ in range(3):
    step()
before = faults()
step()
print(faults() - before)
full = resident_pages()
if sys.argv[1] == "keeps":
    keep_freed_memory()
print(full - resident_pages())
"""


def faults_and_returned(how: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", STEPS, how], check=True, capture_output=True, text=True, timeout=100
    )
    first, second = done.stdout.split()
    return int(first), int(second)


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's")
def test_a_step_finds_its_memory_where_the_last_one_left_it() -> None:
    pages = 16 * 2**24 // 4096
    kept, returned = faults_and_returned("keeps")
    assert kept < pages / 10
    assert returned > pages / 2
    assert faults_and_returned("gives back")[0] > 20 * max(kept, 1)


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: Any) -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert not keep_freed_memory()
