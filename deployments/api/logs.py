"""Logs each request and each event as one JSON line.

A line contains the route's path template, never the requested address, which may contain secrets.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.refusals import refusal
from infra.jobs.ids import JOB_ID

logger = logging.getLogger(__name__)
_audit = logging.getLogger("kangklip.audit")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(file: Path | None = None) -> None:
    """Log everything as JSON lines, except the addresses that libraries log, which contain queries.

    Args:
        file: file to log to, with errors also on standard error; or None for standard output.
    """
    handler = (
        logging.StreamHandler(sys.stdout)
        if file is None
        else RotatingFileHandler(file, maxBytes=5 * 1024**2, backupCount=1)
    )
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if file is not None:
        errors = logging.StreamHandler(sys.stderr)
        errors.setLevel(logging.ERROR)
        logging.getLogger().addHandler(errors)
    for name in ("httpx", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)


def audit(action: str, job_id: str, *, key: str, client: str, **more: Any) -> None:
    """Log a change to a job in one line. `key` is the name of the caller's API key, never the key itself."""
    fields = {"action": action, "job_id": job_id, "key": key or None, "client": client or None, **more}
    _audit.info("audit", extra={"fields": fields})


class RequestLog:
    """Logs each request, and responds with 500 if the app raises."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("cache-control", "no-store")
                MutableHeaders(scope=message).setdefault("x-content-type-options", "nosniff")
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            logger.exception("unhandled error", extra={"fields": _fields(scope)})
            if status:  # a truncated response must not look complete
                raise
            await refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")(scope, receive, send_and_note)
        finally:
            ms = round((time.perf_counter() - began) * 1000, 1)
            logger.info("request", extra={"fields": _fields(scope) | {"status": status, "ms": ms}})


def _fields(scope: Scope) -> dict[str, str | None]:
    job_id = scope.get("path_params", {}).get("job_id") or scope.get("state", {}).get("job_id")
    known = job_id if isinstance(job_id, str) and JOB_ID.fullmatch(job_id) else None
    return {"method": scope["method"], "path": _template(scope), "job_id": known}


def _template(scope: Scope) -> str | None:
    return getattr(scope.get("route"), "path", None)
