"""Sends our log records to the log of the Prefect flow run."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.exceptions import MissingContextError
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run

PACKAGES = ("flows", "tasks", "infra")


class _RunLogHandler(APILogHandler):
    """Prefect's handler, which here also accepts records from threads without a run context."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__()
        self._run_id = run_id

    def prepare(self, record: logging.LogRecord) -> dict[str, Any]:
        try:
            return super().prepare(record)
        except MissingContextError:
            record.flow_run_id = self._run_id
            return super().prepare(record)


@contextmanager
def run_log() -> Generator[None]:
    """Send our packages' log records, from INFO up, to the log of the current flow run.

    This needs no environment variable, so it works with every worker. Prefect's own handlers
    (PREFECT_LOGGING_EXTRA_LOGGERS) are removed meanwhile, because each line would appear twice.
    """
    if (run_id := flow_run.get_id()) is None:  # the flow's function was called directly, outside a run
        yield
        return
    handler = _RunLogHandler(UUID(str(run_id)))
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    for logger, level, handlers in before:
        logger.handlers = [other for other in handlers if not isinstance(other, APILogHandler)] + [handler]
        logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.handlers = handlers
            logger.setLevel(level)
