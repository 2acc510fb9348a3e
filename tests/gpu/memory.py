"""Reads a GPU's memory from nvidia-smi."""

import subprocess
import threading
import time
from typing import Self

INTERVAL = 0.2


class GpuMemory:
    """Context manager that samples how many MB of all GPUs' memory are in use."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="gpu memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(INTERVAL):
            self.samples.append((time.monotonic(), sum(map(float, _query("memory.used")))))

    @staticmethod
    def describe() -> list[str]:
        """Name, memory and driver of each GPU; empty without nvidia-smi."""
        return _query("name,memory.total,driver_version")


def _query(what: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
