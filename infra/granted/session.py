"""Sessions in Redis: what a grant is exchanged for, once, and for how long it is good.

Keys: `kangklip:grant:{id}` (who has redeemed it), `kangklip:session:{digest of the token}`, and beside that `:nonce`
until the session is used. A session is good while its attempt is the current one and its grant that attempt's newest:
a grant for other infrastructure ends it.
"""

import hashlib
import secrets
import time
from typing import cast

from pydantic import BaseModel, ConfigDict

from infra.errors import GrantRefused
from infra.granted.grant import Grant
from infra.jobs.connection import shared_client
from infra.jobs.scripts import REDEEM, Refusal
from infra.jobs.store import JobStore, answering, report_keys
from infra.settings import Settings

_REMEMBERED_SECONDS = 7 * 86400
"""How long it is known that a grant was redeemed: longer than any may be redeemed."""
NONCE_SECONDS = 600
"""For so long whoever has redeemed a grant may ask again for an answer that was lost."""
_CLOSING_SECONDS = 60
"""How long a session lasts beyond the end of its run: the last lines of its log are still under way."""


STOLEN = (
    "The grant of this run was redeemed twice: possibly it was stolen, so the run was stopped. Start the job again."
)


class GrantTaken(GrantRefused):
    """A grant that was redeemed before: one of the two who have it has stolen it."""


class Session(BaseModel):
    """Whose it is and what of the Prefect server belongs to it. `expires_at` is in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    session_id: str
    grant_id: str
    job_id: str
    run_id: str
    attempt: int
    flow_id: str
    deployment_id: str | None
    expires_at: float


class SessionStore:
    """Every method raises `StateError` when Redis does not answer."""

    def __init__(self, url: str, jobs: JobStore) -> None:
        self._redis = shared_client(url)
        self._jobs = jobs

    @classmethod
    def beside(cls, jobs: JobStore, settings: Settings) -> "SessionStore":
        """In the same Redis as the jobs."""
        if settings.redis_url is None:
            raise ValueError("there are no sessions without Redis")
        return cls(settings.redis_url.get_secret_value(), jobs)

    def open(
        self, grant: Grant, flow_id: str, deployment_id: str | None, nonce: str | None = None
    ) -> tuple[str, Session]:
        """A token, told to nobody else, and its session.

        The same nonce gives another token for `NONCE_SECONDS`, in place of the former, until a session was used.

        Raises:
            GrantTaken: the grant was redeemed before; its attempt has failed for that, unless it was followed.
            GrantRefused: it is not the newest of an attempt that goes on.
        """
        token = f"kks_{secrets.token_urlsafe(32)}"
        session = Session(
            session_id=_digest(token),
            expires_at=time.time() + grant.session_seconds,
            flow_id=flow_id,
            deployment_id=deployment_id,
            **grant.model_dump(include={"grant_id", "job_id", "run_id", "attempt"}),
        )
        self._redeem(grant, nonce, session.session_id, session.model_dump_json())
        return token, session

    def check(self, grant: Grant, nonce: str | None = None) -> None:
        """Raises: GrantTaken, GrantRefused: it could not be redeemed now; as `open`."""
        self._redeem(grant, nonce, "", "")

    def _redeem(self, grant: Grant, nonce: str | None, session_id: str, session_json: str) -> None:
        keys = [*report_keys(grant.job_id), _grant_key(grant), _key(session_id)]
        arguments = [grant.attempt, grant.run_id, grant.grant_id, session_id, session_json, grant.session_seconds]
        shown = _digest(nonce) if nonce else ""
        answer = self._jobs.run(REDEEM, keys, [*arguments, _REMEMBERED_SECONDS, shown, NONCE_SECONDS, STOLEN])
        if answer == Refusal.TAKEN:
            raise GrantTaken("The grant was redeemed before.")
        if answer <= 0:
            raise GrantRefused(f"Job {grant.job_id} {Refusal(answer).words}.")

    def find(self, token: str) -> Session | None:
        """The session of that token while it is good: not expired, closed, or followed by another grant's.

        It outlasts its job by a minute, whoever has ended that. From now on it counts as used.
        """
        key = _key(_digest(token))
        with answering():
            found = cast("str | None", self._redis.get(key))
            self._redis.delete(f"{key}:nonce")
        if found is None:
            return None
        session = Session.model_validate_json(found)
        job = self._jobs.get(session.job_id)
        if job is None or (job.attempt, job.grant_id) != (session.attempt, session.grant_id):
            return None
        is_over = job.has_ended and time.time() - job.updated_at > _CLOSING_SECONDS
        return None if is_over else session

    def end_of_run(self, session: Session) -> None:
        """The run has ended: what is still under way may arrive, then the session is over."""
        with answering():
            self._redis.expire(_key(session.session_id), _CLOSING_SECONDS, lt=True)

    def count(self, session: Session, what: str) -> int:
        """Count something that the session has only so much of; how often it was counted."""
        key = f"{_key(session.session_id)}:{what}"
        with answering():
            counted = self._redis.incr(key)
            self._redis.expireat(key, int(session.expires_at) + 1)
        return counted

    def hold(self, session: Session, what: str, seconds: int) -> bool:
        """Be the only one who does `what` for the session, until it is let go or `seconds` are over."""
        with answering():
            return bool(self._redis.set(f"{_key(session.session_id)}:{what}", "1", nx=True, ex=seconds))

    def let_go(self, session: Session, what: str) -> None:
        with answering():
            self._redis.delete(f"{_key(session.session_id)}:{what}")


def _digest(token: str) -> str:
    """Redis holds no token that could be used."""
    return hashlib.sha256(token.encode()).hexdigest()


def _key(session_id: str) -> str:
    return f"kangklip:session:{session_id}"


def _grant_key(grant: Grant) -> str:
    return f"kangklip:grant:{grant.grant_id}"
