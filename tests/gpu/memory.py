"""Reads a GPU's memory from nvidia-smi."""

import subprocess

from tests.bench.processes import Sampler


class GpuMemory(Sampler):
    """Samples how many MB of all GPUs' memory are in use, by any process."""

    def __init__(self) -> None:
        super().__init__([])

    def measure(self) -> float:
        return sum(map(float, _query("memory.used")))

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
