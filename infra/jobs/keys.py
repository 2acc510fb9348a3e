"""The Redis keys that more than one module uses."""

import hashlib

ALL_JOBS, ACTIVE_JOBS, TOTALS = "kangklip:jobs", "kangklip:active", "kangklip:totals"
"""A sorted set of job ids by creation time, a set of job ids, and a hash of counters."""
WAITING, WAITING_OF = "kangklip:waiting", "kangklip:waiting:clients"
"""The QUEUED jobs that clients have created: a hash of job ids to clients, and a hash of clients to their number."""
RECUTS = "kangklip:recuts"
"""A set of the jobs whose clips are being changed."""
WEBHOOKS = "kangklip:webhooks"
"""A sorted set of the jobs whose end must still be sent to their webhook, by the time of the next try."""
DELETIONS = "kangklip:deletions"
"""A hash of the deletions that have begun but not finished: job id -> owner of the job."""
JOB_PREFIX = "kangklip:job:"


def job_key(job_id: str) -> str:
    return f"{JOB_PREFIX}{job_id}"


def events_key(job_id: str) -> str:
    return f"{JOB_PREFIX}{job_id}:events"


def lease_key(name: str) -> str:
    return f"{JOB_PREFIX}{name}:lease"


def idempotency_key(key: str) -> str:
    return f"kangklip:idempotency:{digest(key)}"


def jobs_of(owner: str) -> str:
    """A sorted set of one owner's job ids by creation time."""
    return f"{ALL_JOBS}:{owner}"


def report_keys(job_id: str) -> list[str]:
    """The keys that a script needs in order to end an attempt."""
    return [job_key(job_id), events_key(job_id), ACTIVE_JOBS, TOTALS]


def digest(text: str) -> str:
    """The SHA-256 in hex of text from clients, which may be long or secret."""
    return hashlib.sha256(text.encode()).hexdigest()
