"""Keeps a process running after the reader of its output has gone."""

import os
import sys

from rich.console import Console


def ignore_broken_pipe() -> None:
    """Ignore a broken pipe on standard output.

    Prefect logs through rich, which exits with status 1 on a broken pipe. Without this, a run would die with the
    worker that started it, and report that it was stopped.
    """
    Console.on_broken_pipe = _write_to_null


def _write_to_null(self: Console) -> None:
    self.quiet = True
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    os.close(null)
