"""What the pipeline stands on did not answer: retried with backoff and jitter.

InfraError
├── StoreError        the bucket
│   ├── ObjectMissing a key that should be there is not
│   └── ObjectTooLarge it is larger than the reader takes
├── StateError        Redis
│   ├── StateFull     it takes no writes: its disk is full
│   └── ReportLost    the work is done and nobody could be told
├── JobConflict       the job's state does not allow it; never retried
├── TooManyQueued     as many jobs wait as may
├── CallbackError     the callback address
├── SiteError         the site that the video comes from, or the way to it
├── MachineError      a program that the work needs was ended from outside, or this machine cannot go on
│   └── DiskFull      no space is left; somebody has to make room
├── SubmitError       the Prefect server would not take a run
├── NosanaError       Nosana's API, or what it says of a deployment
├── GrantRefused      a grant or the session that it was changed for is not valid; never retried
├── StackError        a part of the embedded stack did not start
└── ConfigError       a setting is missing or malformed; never retried
"""

from typing import ClassVar


class InfraError(Exception):
    """A failure of the infrastructure; the message is one line that says what to look at.

    `may_pass`: the same attempt may succeed later without anybody changing anything, so another one follows by itself.
    """

    may_pass: ClassVar[bool] = False


class StoreError(InfraError):
    may_pass = True


class ObjectMissing(StoreError):
    pass


class ObjectTooLarge(StoreError):
    pass


class StateError(InfraError):
    may_pass = True


class StateFull(StateError):
    pass


class ReportLost(StateError):
    pass


class JobConflict(InfraError):
    pass


class TooManyQueued(InfraError):
    """`own` tells whether the client's own jobs are too many, or those of all."""

    def __init__(self, text: str, *, own: bool) -> None:
        super().__init__(text)
        self.own = own


class CallbackError(InfraError):
    pass


class SiteError(InfraError):
    pass


class MachineError(InfraError):
    may_pass = True


class DiskFull(MachineError):
    may_pass = False


class SubmitError(InfraError):
    pass


class NosanaError(InfraError):
    pass


class GrantRefused(InfraError):
    pass


class StackError(InfraError):
    pass


class ConfigError(InfraError):
    pass


class Forbidden(Exception):
    """A session asked for something that belongs to another run, or to no run."""
