"""How sizes stand in a finding."""

_MIB = 2**20
_GIB = 2**30


def size_text(size_bytes: int) -> str:
    """Returns a size in MiB or GiB."""
    if size_bytes < _GIB / 10:
        return f"{size_bytes / _MIB:.0f} MiB"
    return f"{size_bytes / _GIB:,.1f} GiB"
