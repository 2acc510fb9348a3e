"""Keeps a process alive whose standard output is closed."""

import os
import sys

from rich.console import Console


def outlive_reader() -> None:
    """Keep running when the reader of our log goes away.

    Prefect logs through rich, which exits with status 1 at a broken pipe: a run would die with the worker
    that started it, and report that it was stopped.
    """
    Console.on_broken_pipe = _write_to_null


def _write_to_null(self: Console) -> None:
    self.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
