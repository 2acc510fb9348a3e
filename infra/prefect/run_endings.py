"""Why a flow run ended, read from its state on the Prefect server. Pure."""

import re
import signal
from typing import Any

from infra.errors import InfraError
from infra.untrusted_text import one_line

_STATUS = re.compile(r"status code:? (-?\d+)")
"""How Prefect's workers word it: no field holds the number, and what they add to it is a guess."""
_RAISED = re.compile(r"Flow run encountered an exception: (?:\w+\.)*(\w+)")
"""How Prefect words an exception of the flow: no other field of the state holds its class."""


def would_fail_again(run: dict[str, Any]) -> bool:
    """Whether another attempt would fail too: the flow raised an error that does not pass by itself.

    A flow that can tell its job about a passing error does; its run is read here when Redis or the callback address
    was away for minutes.
    """
    if str(run.get("state_type")) != "FAILED":
        return False
    raised = _RAISED.match(_message(run))
    return raised is None or raised[1] not in _passing(InfraError)


def _passing(kind: type[InfraError]) -> set[str]:
    """Names of the errors below `kind` that may pass."""
    own = {kind.__name__} if kind.is_transient else set[str]()
    return own.union(*map(_passing, kind.__subclasses__()))


def reason(run: dict[str, Any]) -> str:
    """Why the run ended, in one sentence."""
    state, message = str(run.get("state_type")), _message(run)
    if state == "CANCELLED":
        return _with("The run was cancelled in the Prefect UI", message)
    if state == "CRASHED" and (found := _STATUS.search(message)):
        return _of_status(int(found[1]))
    return _with(f"The run ended as {state.lower()}", message)


def _of_status(status: int) -> str:
    """A process ended by a signal has a negative status, or one above 128 in a shell."""
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"The process that ran the job exited with status {status}."
    return f"The process that ran the job was ended by {name}."


def _with(sentence: str, message: str) -> str:
    return f"{sentence}: {message.rstrip('.')}." if message else f"{sentence}."


def _message(run: dict[str, Any]) -> str:
    state: dict[str, Any] = run.get("state") or {}
    return one_line(state.get("message"), 200)
