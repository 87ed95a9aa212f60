"""Settings of the host's allocator for memory that a training step frees."""

import ctypes
from typing import Any

# From mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_LARGEST_KEPT_BYTES = 2**25
"""The largest threshold allowed. Larger blocks are returned at once, as by default."""


def keep_freed_memory() -> bool:
    """Makes glibc keep memory that a training step frees, because the next step needs it again.

    By default glibc returns free memory at the end of the heap to the system, which must zero and
    map every page again for the next step (benchmarks/log). Memory left by earlier runs of
    this process is returned now. This changes no results.

    Returns:
        Whether the process uses glibc.

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
