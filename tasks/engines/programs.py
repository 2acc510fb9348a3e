"""Reads the programs of an MPEG transport stream from its program tables (ISO/IEC 13818-1, 2.4.4)."""

from collections.abc import Iterator
from pathlib import Path

READ_BYTES = 8 * 1024**2
"""The tables repeat at least every half second."""
_SYNC, _PACKET_BYTES = 0x47, 188
_SPACINGS = (188, 192, 204)
"""Bytes from packet to packet: plain, with a leading time code (Blu-ray, AVCHD), with error correction."""
_PAT_PID, _PAT_TABLE, _PMT_TABLE = 0, 0, 2


def programs(path: Path) -> list[frozenset[int]]:
    """The PIDs of each program's streams, in the order of the program association table.

    Empty if the file does not start with such a table. Programs without a map table are omitted.
    """
    with path.open("rb") as file:
        packets = list(_packets(file.read(READ_BYTES)))
    association = next(_sections(packets, _PAT_PID, _PAT_TABLE), b"")
    entries = (association[i : i + 4] for i in range(8, len(association) - 7, 4))
    maps = [_pid(entry, 2) for entry in entries if entry[:2] != b"\0\0"]  # number 0 is the network's table
    return [_stream_pids(table) for pid in maps for table in list(_sections(packets, pid, _PMT_TABLE))[:1]]


def _packets(data: bytes) -> Iterator[bytes]:
    for spacing in _SPACINGS:
        for first in range(min(spacing, len(data))):
            if all(at < len(data) and data[at] == _SYNC for at in range(first, first + 5 * spacing, spacing)):
                yield from (data[at : at + _PACKET_BYTES] for at in range(first, len(data), spacing))
                return


def _pid(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2]) & 0x1FFF


def _sections(packets: list[bytes], pid: int, table: int) -> Iterator[bytes]:
    """Complete sections of a table, from table id to checksum."""
    section = b""
    for packet in packets:
        if len(packet) < _PACKET_BYTES or packet[0] != _SYNC or _pid(packet, 1) != pid or not packet[3] & 0x10:
            continue
        payload = packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
        if packet[1] & 0x40 and payload:  # a section starts after the pointer field
            section = payload[1 + payload[0] :]
        elif section:
            section += payload
        length = 3 + (int.from_bytes(section[1:3]) & 0xFFF)
        if len(section) >= max(length, 12) and section[0] == table:
            yield section[:length]
            section = b""


def _stream_pids(table: bytes) -> frozenset[int]:
    at, pids = 12 + (int.from_bytes(table[10:12]) & 0xFFF), set[int]()
    while at + 5 <= len(table) - 4:
        pids.add(_pid(table, at + 1))
        at += 5 + (int.from_bytes(table[at + 3 : at + 5]) & 0xFFF)
    return frozenset(pids)
