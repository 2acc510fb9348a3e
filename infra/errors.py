"""Infrastructure failures. A stage that raises one is retried, with backoff and jitter, unless noted.

InfraError
├── StoreError          the bucket failed
│   ├── ObjectMissing   an expected object does not exist
│   └── ObjectTooLarge  an object is larger than the reader accepts
├── StateError          Redis failed
│   ├── StateFull       it refuses writes, because its disk is full
│   └── ReportLost      the work is done, but could not be reported
├── JobConflict         the job's state does not allow the change; never retried
│   ├── RunNotStopped   its run is still stopping
│   └── NewerRevision   the clips have been changed meanwhile
├── TooManyQueued       too many jobs are waiting
├── CallbackError       the callback address failed
├── SiteError           the site that serves the video failed, or the network
├── MachineError        a program was killed from outside, or this machine cannot continue
│   └── DiskFull        no space is left; the user has to free some
├── SubmitError         the Prefect server did not answer, or refused a call
├── NosanaError         Nosana's API failed, or reported a failure
├── GrantRefused        a grant or session is not valid
├── ApiUnreachable      our API does not answer a rented machine
├── StackError          a part of the embedded stack did not start
└── ConfigError         a setting is missing or malformed; never retried
"""

from typing import ClassVar


class InfraError(Exception):
    """An infrastructure failure. The message is one line that says what to check.

    `is_transient`: the same attempt may succeed later, so the job is retried automatically.
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


class RunNotStopped(JobConflict):
    pass


class NewerRevision(JobConflict):
    pass


class TooManyQueued(InfraError):
    """`own`: the limit per client is reached; otherwise the limit for all clients is."""

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
    """A session requested something outside its run."""
