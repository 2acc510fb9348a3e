"""Grants. A grant is the only secret in a job definition, because an untrusted host can read it.

A grant is a signed token for one flow run, and its attempt at a job or at a recut. Our API exchanges it for a session,
once.
"""

import secrets
import time

import jwt
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError, GrantRefused
from infra.jobs.ids import JobId
from infra.jobs.record import JobRef
from infra.settings import Settings

_ALGORITHM = "HS256"
_AUDIENCE = "kangklip-grant"


class Grant(BaseModel):
    """The content of a grant. It can be redeemed until `expires_at`, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    grant_id: str = Field(default_factory=lambda: secrets.token_hex(16), pattern=r"^[0-9a-f]{32}$")
    job_id: JobId
    run_id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    attempt: int = Field(ge=1)
    revision: int | None = Field(default=None, ge=2, description="That which the run makes, if it is a recut's.")
    session_seconds: int = Field(ge=60, description="Longest session in seconds.")
    expires_at: int

    @property
    def run(self) -> JobRef:
        return JobRef(job_id=self.job_id, attempt=self.attempt, revision=self.revision)


def expiry_after(redeem_seconds: int) -> int:
    """`expires_at` for a grant that can be redeemed for `redeem_seconds` from now."""
    return int(time.time()) + redeem_seconds


def sign(grant: Grant, settings: Settings) -> str:
    """Return the grant as a signed token.

    Raises:
        ConfigError: GRANT_SECRET is not set.
    """
    claims = grant.model_dump() | {"aud": _AUDIENCE, "exp": grant.expires_at}
    return jwt.encode(claims, _secret(settings).get_secret_value(), _ALGORITHM)


def verify(settings: Settings, token: str) -> Grant:
    """Return the grant in a token, after checking its signature and expiry.

    Raises:
        GrantRefused: the token is forged, malformed or expired.
        ConfigError: GRANT_SECRET is not set.
    """
    secret = _secret(settings).get_secret_value()
    try:
        claims = jwt.decode(token, secret, [_ALGORITHM], audience=_AUDIENCE, options={"require": ["exp", "aud"]})
        return Grant.model_validate(claims | {"grant_id": claims.get("grant_id")})
    except jwt.ExpiredSignatureError:
        raise GrantRefused("The grant has expired.") from None
    except (jwt.InvalidTokenError, ValidationError):
        raise GrantRefused("The grant is not valid.") from None


def _secret(settings: Settings) -> SecretStr:
    if settings.grant_secret is None:
        raise ConfigError("Runs on Nosana need GRANT_SECRET; set it for the API and the worker: openssl rand -hex 32")
    return settings.grant_secret
