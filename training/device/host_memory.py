"""How the host's allocator treats what a training step frees."""

import ctypes
from typing import Any

# Of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_LARGEST_KEPT_BYTES = 2**25
"""The largest threshold that there is. What is larger goes back at once, as it always did."""


def keep_freed_memory() -> bool:
    """Lets glibc keep what a training step frees, because the next step asks for the same again.

    By default it gives what is free at the end of its memory back to the system, which then zeroes
    and maps every page anew for the next step (benchmarks/RESULTS.md). What earlier runs of this
    process have left is given back now. No number depends on it.

    Returns:
        Whether there was a glibc to tell.

    References:
        https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        return False
    library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    library.malloc_trim(ctypes.c_size_t(0))
    return True
