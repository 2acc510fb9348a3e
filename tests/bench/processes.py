"""CPU time and memory of processes, and a sampler of whole process trees."""

import threading
import time
from collections.abc import Callable
from typing import Self

import psutil

INTERVAL = 0.2
"""Seconds between two samples."""

Sample = tuple[float, float]
"""Seconds on the monotonic clock, which all processes share, and MB (10^6 bytes)."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process in seconds; also of an ended one that is not yet reaped."""
    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return used.user + used.system


def resident_mb(pid: int) -> float:
    """Resident memory in MB; shared pages count for each process."""
    try:
        return psutil.Process(pid).memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def tree(pid: int) -> list[int]:
    """The process and all of its descendants."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return [pid]


def sum_over_trees(what: Callable[[int], float], pids: list[int]) -> float:
    """The sum of `cpu_seconds` or `resident_mb` over processes and their descendants."""
    return sum(what(process) for pid in pids for process in tree(pid))


class Sampler:
    """Context manager that samples the resident memory of process trees five times a second."""

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

    def measure(self) -> float:
        """MB in use now."""
        return sum_over_trees(resident_mb, self._pids)

    def _sample(self) -> None:
        while True:
            self.samples.append((time.monotonic(), self.measure()))
            if self._done.wait(INTERVAL):
                return
