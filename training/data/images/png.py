"""A PNG writer that produces the same bytes on every machine.

Pillow's files depend on its version of zlib, and a data set's fingerprint on the bytes of its
files. Uncompressed files do not differ.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED_MAX_BYTES = 0xFFFF


def uncompressed_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encodes an image as PNG without compression.

    Args:
        pixels: (height, width, 3), uint8.

    References:
        https://www.w3.org/TR/png-3/ for the chunks, RFC 1950 and RFC 1951 for stored blocks.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits, RGB
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", _stored(rows.tobytes()))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _stored(content: bytes) -> bytes:
    """Returns a zlib stream of stored blocks."""
    blocks = [b"\x78\x01"]
    for at in range(0, len(content), _STORED_MAX_BYTES):
        block = content[at : at + _STORED_MAX_BYTES]
        is_last = at + len(block) == len(content)
        blocks.append(struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(blocks) + struct.pack(">I", zlib.adler32(content))
