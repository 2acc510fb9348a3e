"""Failures of the infrastructure. Stages are retried after them, with backoff and jitter.

InfraError
├── StoreError        the bucket
│   ├── ObjectMissing an expected object is missing
│   └── ObjectTooLarge an object is larger than the reader accepts
├── StateError        Redis
│   ├── StateFull     it refuses writes: its disk is full
│   └── ReportLost    the work is done, but could not be reported
├── JobConflict       the job's state does not allow it; never retried
├── TooManyQueued     the limit of waiting jobs is reached
├── CallbackError     the callback address
├── SiteError         the site that serves the video, or the network
├── MachineError      a program was killed from outside, or this machine cannot continue
│   └── DiskFull      no space is left; the user has to free some
├── SubmitError       the Prefect server is away, or refused a call
├── NosanaError       Nosana's API, or what it says of a deployment
├── GrantRefused      a grant or its session is not valid; never retried
├── ApiUnreachable    our API does not answer a rented machine
├── StackError        a part of the embedded stack did not start
└── ConfigError       a setting is missing or malformed; never retried
"""

from typing import ClassVar


class InfraError(Exception):
    """A failure of the infrastructure; the message is one line that says what to check.

    `is_transient`: another attempt may succeed without any change, so one follows automatically.
    """

    is_transient: ClassVar[bool] = False


class StoreError(InfraError):
    is_transient = True


class ObjectMissing(StoreError):
    pass


class ObjectTooLarge(StoreError):
    pass


class StateError(InfraError):
    is_transient = True


class StateFull(StateError):
    pass


class ReportLost(StateError):
    pass


class JobConflict(InfraError):
    pass


class TooManyQueued(InfraError):
    """`own`: the limit of the client is reached, else that of all clients."""

    def __init__(self, text: str, *, own: bool) -> None:
        super().__init__(text)
        self.own = own


class CallbackError(InfraError):
    pass


class SiteError(InfraError):
    pass


class MachineError(InfraError):
    is_transient = True


class DiskFull(MachineError):
    is_transient = False


class SubmitError(InfraError):
    pass


class NosanaError(InfraError):
    pass


class GrantRefused(InfraError):
    pass


class ApiUnreachable(InfraError):
    is_transient = True


class StackError(InfraError):
    pass


class ConfigError(InfraError):
    pass


class Forbidden(Exception):
    """A session requested something that does not belong to its run."""
