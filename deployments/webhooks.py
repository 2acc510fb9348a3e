"""Sends the end of a job to the webhook in its request, as https://www.standardwebhooks.com specifies.

A message is repeated until the receiver accepts it, so it may arrive twice, with the same `webhook-id`. Receivers are
as untrusted as videos: they must be public, redirects are not followed, and their answers are not read.
"""

import asyncio
import contextlib
import json
import logging
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, cast

import httpcore
from standardwebhooks.webhooks import Webhook

from infra.errors import InfraError
from infra.jobs.webhooks import JobEnd, PendingWebhooks
from infra.settings import Settings
from tasks.core.source.addresses import is_public

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
SENDERS = 4
"""Messages sent at once by one process, so that one slow receiver does not hold up the others."""
ANSWER_SECONDS = 20.0
"""Longest that one try may take, from resolving the name to the response's head."""
PAUSES = (5, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)
"""Seconds between tries, as the specification recommends; after the last one the message is given up."""
JITTER = 0.1
"""Most by which a pause is lengthened, as a share of it."""


class ReceiverRefused(Exception):
    """The message must not be sent there."""


@dataclass(frozen=True)
class WebhookSender:
    """Sends job ends that are due, signed with each of `secrets`; a receiver may check any of the signatures."""

    pending: PendingWebhooks
    secrets: tuple[str, ...]
    allow_private: bool = False

    @classmethod
    def from_settings(cls, pending: PendingWebhooks, settings: Settings) -> "WebhookSender | None":
        """The sender, or None if there is no secret to sign with."""
        secrets = settings.webhook_secrets
        return cls(pending, secrets, settings.allow_private_addresses) if secrets else None

    async def send_next(self) -> bool:
        """Send the end that is due longest. False if none is due.

        Raises:
            InfraError: Redis does not answer.
        """
        end = await asyncio.to_thread(self.pending.take)
        if end is None:
            return False
        error, may_retry = await self._try(end)
        if error is None:
            await asyncio.to_thread(self.pending.delivered, end)
            return True
        next_try = _next_try(end.tries) if may_retry else None
        await asyncio.to_thread(self.pending.failed, end, error, next_try)
        outlook = "giving up" if next_try is None else f"trying again in {next_try - time.time():.0f} s"
        logger.warning("The webhook of %s was not delivered (%s); %s", end.job_id, error, outlook)
        return True

    async def _try(self, end: JobEnd) -> tuple[str | None, bool]:
        """Why the message was not delivered, or None if it was; and whether to try again."""
        body = message(end)
        headers = {"content-type": "application/json", "user-agent": "KangKlip", **signed(end, body, self.secrets)}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await _post(end.url, headers, body, allow_private=self.allow_private)
        except ReceiverRefused as refusal:
            return str(refusal), False
        except (httpcore.NetworkError, httpcore.TimeoutException, TimeoutError, OSError, ValueError) as error:
            return f"the receiver did not answer ({type(error).__name__})", True
        except httpcore.ProtocolError:
            return "the receiver did not answer in HTTP", True
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return None, False
        return f"the receiver answered {status}", status != HTTPStatus.GONE


def message(end: JobEnd) -> str:
    """The body of the message, the same for every try."""
    return json.dumps(
        {
            "type": f"job.{end.status.lower()}",
            "timestamp": datetime.fromtimestamp(end.ended_at, UTC).isoformat(timespec="milliseconds"),
            "data": {
                "job_id": end.job_id,
                "attempt": end.attempt,
                "status": end.status,
                "error": end.error,
                "results": f"/api/jobs/{end.job_id}/results",
            },
        }
    )


def signed(end: JobEnd, body: str, secrets: Iterable[str]) -> dict[str, str]:
    """The headers that identify and sign the message, for a try made now."""
    now, message_id = datetime.now(UTC), f"msg_{end.job_id}_{end.attempt}"
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, now, body) for secret in secrets),
    }


async def keep_sending(sender: WebhookSender) -> None:
    """Send what is due, forever."""
    await asyncio.gather(*(_keep_sending(sender) for _ in range(SENDERS)))


async def _keep_sending(sender: WebhookSender) -> None:
    while True:
        try:
            if await sender.send_next():
                continue
        except InfraError as error:
            logger.warning("Webhooks could not be sent: %s", error)
        except Exception:
            logger.exception("Webhooks could not be sent; retrying")
        await asyncio.sleep(INTERVAL_SECONDS)


def _next_try(tries: int) -> float | None:
    """When to try again after `tries` failures and the one just now, in epoch seconds, or None to give up."""
    if tries >= len(PAUSES):
        return None
    return time.time() + PAUSES[tries] * random.uniform(1, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing


async def _post(url: str, headers: dict[str, str], body: str, *, allow_private: bool) -> int:
    """POST the body and return the status; the rest of the answer is not read."""
    network = _PublicNetwork(allow_private=allow_private)
    async with (
        httpcore.AsyncConnectionPool(network_backend=network) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body.encode()) as answer,
    ):
        return answer.status


class _PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to exactly the address that it checked, which prevents DNS rebinding."""

    def __init__(self, *, allow_private: bool) -> None:
        self._network = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())
        self._allow_private = allow_private

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise ReceiverRefused("the receiver's address is not public")
        for address in addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError):
                return await self._network.connect_tcp(address, port, *args, **kwargs)
        return await self._network.connect_tcp(addresses[-1], port, *args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
