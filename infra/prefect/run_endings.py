"""Explains why a flow run ended, from its state on the Prefect server. Pure."""

import re
import signal
from typing import Any

from infra.errors import InfraError
from infra.untrusted_text import one_line

_STATUS = re.compile(r"status code:? (-?\d+)")
"""Matches the message of Prefect's workers: no field holds the exit status, and the explanation they add is a guess."""
_RAISED = re.compile(r"Flow run encountered an exception: (?:\w+\.)*(\w+)")
"""Matches Prefect's message for an exception in the flow: no field of the state holds its class."""


def would_fail_again(run: dict[str, Any]) -> bool:
    """Whether another attempt would fail too, because the flow raised an error that is not transient.

    A flow reports its errors to the job itself. This matters if it could not, because Redis or the callback URL was
    unreachable for minutes.
    """
    if str(run.get("state_type")) != "FAILED":
        return False
    raised = _RAISED.match(_message(run))
    return raised is None or raised[1] not in _transient_names(InfraError)


def _transient_names(kind: type[InfraError]) -> set[str]:
    """The names of `kind` and its subclasses that are transient."""
    own = {kind.__name__} if kind.is_transient else set[str]()
    return own.union(*map(_transient_names, kind.__subclasses__()))


def reason(run: dict[str, Any]) -> str:
    """Why the run ended, in one sentence."""
    state, message = str(run.get("state_type")), _message(run)
    if state == "CANCELLED":
        return _sentence("The run was cancelled in the Prefect UI", message)
    if state == "CRASHED" and (found := _STATUS.search(message)):
        return _explain_status(int(found[1]))
    return _sentence(f"The run ended as {state.lower()}", message)


def _explain_status(status: int) -> str:
    """A process killed by a signal has a negative status or, in a shell, one above 128."""
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"The process that ran the job exited with status {status}."
    return f"The process that ran the job was killed by {name}."


def _sentence(start: str, message: str) -> str:
    return f"{start}: {message.rstrip('.')}." if message else f"{start}."


def _message(run: dict[str, Any]) -> str:
    state: dict[str, Any] = run.get("state") or {}
    return one_line(state.get("message"), 200)
