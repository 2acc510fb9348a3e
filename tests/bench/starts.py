"""The cost of starting a process: help, a refused input, the API's import."""

import os
import resource
import subprocess
import sys
from pathlib import Path

TIMES = 5
_CLI = [str(Path(sys.executable).with_name("kangklip"))]
COMMANDS = {
    "kangklip --help": [*_CLI, "--help"],
    "kangklip clip, refused": [*_CLI, "clip", "no-such-file.mp4"],
    "import of the API": [sys.executable, "-c", "import deployments.api.app"],
}


def cold_starts(times: int = TIMES) -> dict[str, list[float]]:
    """CPU seconds of each command in `times` new processes, after one that compiles the modules."""
    return {name: [_cpu(command) for _ in range(times + 1)][1:] for name, command in COMMANDS.items()}


def _cpu(command: list[str]) -> float:
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=compiled, capture_output=True, check=False, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
