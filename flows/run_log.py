"""What our own loggers say while a flow runs, brought to the run's log in Prefect."""

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
    """Prefect's handler, for threads that know no run too: what they say belongs to the flow run."""

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
    """Send what our packages log, from INFO on, to the log of the flow run that is on.

    It asks nothing of the process's environment, so every worker's runs show it. Handlers of Prefect's own
    (PREFECT_LOGGING_EXTRA_LOGGERS) are set aside meanwhile, or each line would be there twice.
    """
    if (run_id := flow_run.get_id()) is None:  # the flow's function was called as it is, outside of any run
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
