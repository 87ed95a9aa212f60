"""Sizes in bytes as text for messages."""

_MIB = 2**20
_GIB = 2**30


def size_text(size_bytes: int) -> str:
    """Returns a size in MiB or GiB, with at least two digits."""
    if size_bytes < 10 * _MIB:
        return f"{size_bytes / _MIB:.2g} MiB"
    if size_bytes < _GIB / 10:
        return f"{size_bytes / _MIB:.0f} MiB"
    return f"{size_bytes / _GIB:,.1f} GiB"
