"""What this process prints, and that somebody may stop to read it."""

import os
import sys

from rich.console import Console


def outlive_reader() -> None:
    """Let no line of a log end this process because nobody reads it any more.

    Prefect's log goes through rich, which exits with status 1 at a broken pipe: a run would die with the worker
    that started it, and say that it was stopped.
    """
    Console.on_broken_pipe = _go_on_unheard


def _go_on_unheard(self: Console) -> None:
    self.quiet = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
