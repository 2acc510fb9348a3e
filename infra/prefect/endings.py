"""What a Prefect server says of a run that is over, as what happened to it. Pure."""

import re
import signal
from typing import Any

from infra.untrusted_text import one_line

_STATUS = re.compile(r"status code:? (-?\d+)")
"""As the workers of Prefect put it: no field holds the number, and what they add to it is a guess."""


def is_own_doing(run: dict[str, Any]) -> bool:
    """Whether the run would end like that again: it raised. One that was killed, or whose end was lost, would not."""
    return str(run.get("state_type")) == "FAILED"


def reason(run: dict[str, Any]) -> str:
    """Why the run is over, in one sentence."""
    state, message = str(run.get("state_type")), _message(run)
    if state == "CANCELLED":
        return _with("The run was cancelled in the Prefect UI", message)
    if state == "CRASHED" and (found := _STATUS.search(message)):
        return _of_status(int(found[1]))
    return _with(f"The run ended as {state.lower()}", message)


def _of_status(status: int) -> str:
    """What an exit status tells: a process that a signal ended has a negative one, in a shell 128 and more."""
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"The process that ran the job exited with status {status}."
    return f"The process that ran the job was ended by {name}."


def _with(said: str, message: str) -> str:
    return f"{said}: {message.rstrip('.')}." if message else f"{said}."


def _message(run: dict[str, Any]) -> str:
    state: dict[str, Any] = run.get("state") or {}
    return one_line(state.get("message"), 200)
