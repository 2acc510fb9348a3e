"""What processes use, from /proc: CPU seconds, resident bytes, and a sampler of whole trees."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
INTERVAL = 0.2
"""Seconds between two samples."""

Sample = tuple[float, float]
"""Seconds on the monotonic clock, which all processes share, and MB (10^6 bytes)."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; of one that has ended too, until somebody waits for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory; pages that processes share count in each of them."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def tree(pid: int) -> list[int]:
    """The process and all of its descendants."""
    return [pid, *(below for child in _children(pid) for below in tree(child))]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for threads in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, threads.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


def of_trees(what: Callable[[int], float], pids: list[int]) -> float:
    """Sum of `cpu_seconds` or `resident_mb` over processes and their descendants."""
    return sum(what(process) for pid in pids for process in tree(pid))


class Sampler:
    """Context manager: the resident memory of some processes' trees, five times a second."""

    def __init__(self, pids: list[int]) -> None:
        self.samples: list[Sample] = []
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append((time.monotonic(), of_trees(resident_mb, self._pids)))
            if self._done.wait(INTERVAL):
                return
