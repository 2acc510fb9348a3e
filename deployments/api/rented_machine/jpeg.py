"""Checks that bytes are a plain JPEG picture, by its structure. No picture is decoded in the API's process."""

import re

_START, _END = b"\xff\xd8", b"\xff\xd9"
_JFIF, _QUANTIZATION, _HUFFMAN, _BASELINE, _SCAN = (bytes([0xFF, low]) for low in (0xE0, 0xDB, 0xC4, 0xC0, 0xDA))
_NEEDED, _ALLOWED = {_QUANTIZATION, _HUFFMAN, _BASELINE}, {_JFIF, _QUANTIZATION, _HUFFMAN, _BASELINE}
_MARKER = re.compile(rb"\xff[^\x00]", re.DOTALL)
"""Ends the scan: in coded data, a zero follows each 0xFF (ITU-T T.81, B.1.1.5)."""
_FRAME_BYTES = 6 + 3 * 3
LONGEST_SIDE = 4096


def is_plain_jpeg(content: bytes) -> bool:
    """Whether this is a baseline JPEG of at most LONGEST_SIDE pixels a side, with nothing but the picture.

    One frame of 8 bits and three components in one scan, as KangKlip writes it; no metadata, nothing after its end.
    """
    if not content.startswith(_START):
        return False
    at, seen = len(_START), list[bytes]()
    while (marker := content[at : at + 2]) in _ALLOWED:
        length = int.from_bytes(content[at + 2 : at + 4])
        body = content[at + 4 : at + 2 + length]
        if len(body) != length - 2 or (marker == _BASELINE and not _is_drawable(body)):
            return False
        seen.append(marker)
        at += 2 + length
    is_complete = marker == _SCAN and set(seen) >= _NEEDED and seen.count(_BASELINE) == 1
    return is_complete and _ends(content, at + 2 + int.from_bytes(content[at + 2 : at + 4]))


def _is_drawable(frame: bytes) -> bool:
    """Whether a frame header (ITU-T T.81, B.2.2) has 8 bits, three components and a size in bounds."""
    if len(frame) != _FRAME_BYTES:
        return False
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    return (frame[0], frame[5]) == (8, 3) and 0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE


def _ends(content: bytes, scan: int) -> bool:
    """Whether coded data begins at `scan`, followed by the end of the picture and of the bytes."""
    found = _MARKER.search(content, scan)
    return found is not None and found.start() > scan and content[found.start() :] == _END
