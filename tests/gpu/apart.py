"""Runs a function in a process of its own, for at most so long."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil

_SPAWN = multiprocessing.get_context("spawn")
"""A forked process could not use CUDA once its parent had."""


class Failed(RuntimeError):
    """The function raised, its process died, or its time was up."""


def apart(seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns. A library that aborts or hangs takes its own process with it, and no other.

    Raises:
        Failed: one line that says why.
    """
    receiving, sending = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_call, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        if not receiving.poll(seconds):
            raise Failed(f"it did not end within {seconds:.0f} s")
        returned, value = receiving.recv()
    except EOFError:
        process.join()
        raise Failed(_ending(process.exitcode or 0)) from None
    finally:
        _end(process)
    if not returned:
        raise Failed(value)
    return value


def _call(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer = (True, function(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever failed is the answer
        answer = (False, f"{type(error).__name__}: {error}")
    sending.send(answer)


def _ending(status: int) -> str:
    return f"its process was ended by {signal.Signals(-status).name}" if status < 0 else f"it exited with {status}"


def _end(process: Any) -> None:
    """Kill the process and what it has started, as far as it still runs."""
    if process.is_alive():
        parent = psutil.Process(process.pid)
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    process.join(5)
