"""What of a JPEG file is looked at before it is decoded."""

import re

_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)  # neither a stuffed byte nor a restart
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_ALONE = frozenset((0x01, 0xD8, _END_OF_IMAGE))
"""Markers without a segment."""


def scans(data: bytes) -> int:
    """The number of scans. A small file can have millions, and each goes over all pixels."""
    count = place = 0
    while found := _MARKER.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        count += marker == _START_OF_SCAN
        if marker not in _ALONE:
            place += max(int.from_bytes(data[place : place + 2], "big"), 2)
    return count
