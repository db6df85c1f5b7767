"""A picture file that is small and says that it is large."""

from __future__ import annotations

import struct
import zlib


def bomb(side: int) -> bytes:
    """A PNG that says that it has side x side pixels, and is a few bytes long."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data, end = b"IDAT" + zlib.compress(b"\0"), b"IEND"
    chunks = [
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (header, data, end)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
