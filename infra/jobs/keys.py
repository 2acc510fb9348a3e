"""Names of the keys in Redis that more than one module uses."""

import hashlib

ALL_JOBS, ACTIVE_JOBS, TOTALS = "kangklip:jobs", "kangklip:active", "kangklip:totals"
"""A sorted set by creation time, a set, and a hash of counters."""
JOB_PREFIX = "kangklip:job:"


def job_key(job_id: str) -> str:
    return f"{JOB_PREFIX}{job_id}"


def events_key(job_id: str) -> str:
    return f"{JOB_PREFIX}{job_id}:events"


def lease_key(name: str) -> str:
    return f"{JOB_PREFIX}{name}:lease"


def idempotency_key(key: str) -> str:
    return f"kangklip:idempotency:{digest(key)}"


def report_keys(job_id: str) -> list[str]:
    """The keys of every script that may end an attempt."""
    return [job_key(job_id), events_key(job_id), ACTIVE_JOBS, TOTALS]


def digest(text: str) -> str:
    """SHA-256 in hex, for text chosen by clients: it may be long, or secret."""
    return hashlib.sha256(text.encode()).hexdigest()
