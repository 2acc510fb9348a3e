"""Delivers reports to Redis, to an HTTP callback, or both.

Each sink has its own courier thread, so a slow receiver never slows down the work. Undelivered progress is replaced by
newer progress. A change of stage or state is retried until it is delivered or times out.
"""

import atexit
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from infra.errors import CallbackError, InfraError
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.settings import Settings
from infra.states import JobState, Stage

logger = logging.getLogger(__name__)

Sink = Callable[[Report], object]
"""Delivers one report. It raises `InfraError` to be called again, and returns False if the report is refused."""

Progress = Callable[[float, str], None]
"""Reports the finished fraction of the stage, 0 to 1, and a short message for the user."""

PROGRESS_INTERVAL = 0.5
"""Seconds between two deliveries."""

STAGE_PATIENCE = 2.0
"""Seconds that a finished stage waits for its reports to be delivered; the next stage's reports replace them."""

FINAL_PATIENCE = 300.0
"""Seconds that a run waits for its final state to be delivered."""

STOPPED_PATIENCE = 10.0
"""The same for a run that was stopped, because the user is waiting for it."""
CALLBACK_SECONDS = 10.0
"""Longest wait for the response to a report."""
SUCCESS_SECONDS = 300.0
"""The same for a success report: the receiver may check the clips first."""

ATTEMPT_HEADER = "x-callback-attempt"


class CallbackSink:
    """POSTs reports to the callback URL. A refused report is logged and not retried.

    The attempt is sent in a header, because the earlier service's receivers expect the body without it. They would take
    a recut's reports for the job's own, so these are sent only with `sends_recuts`.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        transport: httpx.BaseTransport | None = None,
        *,
        sends_recuts: bool = False,
    ) -> None:
        self._url, self._sends_recuts = url, sends_recuts
        self._client = httpx.Client(
            headers={"x-callback-token": token or ""}, follow_redirects=False, transport=transport
        )

    def close(self) -> None:
        self._client.close()

    def __call__(self, report: Report) -> bool:
        if report.retry_reason or (report.revision is not None and not self._sends_recuts):
            return True  # the receiver gets the next attempt's reports
        headers = {} if report.attempt is None else {ATTEMPT_HEADER: str(report.attempt)}
        timeout = SUCCESS_SECONDS if report.status is JobState.SUCCEEDED else CALLBACK_SECONDS
        try:
            answer = self._client.post(self._url, json=_body(report), headers=headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise CallbackError(f"The callback URL did not answer ({type(error).__name__}).") from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise CallbackError(f"The callback URL answered {answer.status_code}.")
        if not answer.is_success:
            logger.error("The callback URL refused a report with %s.", answer.status_code)
        return answer.is_success


def _body(report: Report) -> dict[str, object]:
    body: dict[str, object] = {"job_id": report.job_id, "status": report.status}
    if report.revision is not None:
        body["revision"] = report.revision
    if report.message:
        body["message"] = report.message
    if report.stage:
        body["stage"] = report.stage
    if report.progress is not None:
        body["progress"] = round(report.progress)
    if report.status is JobState.SUCCEEDED:
        body["r2_prefix"] = f"jobs/{report.job_id}"
    if report.error:
        body["error"] = report.error
    return body


class Courier(threading.Thread):
    """Delivers reports to one sink in order, and retries failed deliveries.

    `is_accepted`: the last report was delivered and not refused.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(daemon=True, name="report-courier")
        self._sink = sink
        self._pending: deque[Report] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self.is_accepted = False
        self.start()

    def put(self, report: Report) -> None:
        with self._changed:
            if self._pending and _is_same_step(self._pending[-1], report):
                self._pending[-1] = report
            else:
                self._pending.append(report)
            self._changed.notify()

    def close(self, deadline: float) -> None:
        """Keep delivering the pending reports until `deadline` on the monotonic clock."""
        self._deadline = deadline
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self.join(max(0.0, deadline - time.monotonic()) + 15)

    def run(self) -> None:
        while (report := self._next()) is not None:
            self._deliver(report)
            self._closing.wait(PROGRESS_INTERVAL)

    def _next(self) -> Report | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing.is_set())
            return self._pending.popleft() if self._pending else None

    def _deliver(self, report: Report) -> None:
        wait = 0.25
        while True:
            self.is_accepted = False
            try:
                self.is_accepted = self._sink(report) is not False
            except InfraError as error:
                if time.monotonic() >= self._deadline:
                    logger.error("A report of %s was not delivered: %s", report.stage, error)  # noqa: TRY400 expected, one line
                    return
                logger.warning("A report of %s is late: %s", report.stage, error)
                time.sleep(min(wait, max(0.0, self._deadline - time.monotonic())))
                wait = min(wait * 2, 5)
            except Exception:
                logger.exception("A report of %s failed", report.stage)
                return
            else:
                return


def sinks_of(settings: Settings) -> list[Sink]:
    """The sinks in the settings: Redis and the callback URL, if set."""
    found: list[Sink] = []
    if store := JobStore.from_settings(settings):
        found.append(store.report)
    if settings.callback_url:
        token, is_granted = next(iter(settings.callback_tokens), None), settings.access is not None
        found.append(_callback_sink(settings.callback_url, token, is_granted))
    return found


@functools.lru_cache(maxsize=8)
def _callback_sink(url: str, token: str | None, is_granted: bool) -> CallbackSink:
    """A sink whose connections all stages of a run share. Where the run has a grant, our own API receives them."""
    sink = CallbackSink(url, token, sends_recuts=is_granted)
    atexit.register(sink.close)
    return sink


@contextmanager
def stage_reports(job: JobRef, stage: Stage, sinks: Sequence[Sink]) -> Generator[Progress]:
    """Report that `stage` has begun, its progress while the body runs, and that it is done unless the body raises."""
    with _progress_reports(sinks, lambda share: {"stage": stage, "progress": stage.percent(share)}, job) as progress:
        yield progress


@contextmanager
def recut_reports(job: JobRef, sinks: Sequence[Sink]) -> Generator[Progress]:
    """Report the progress of a recut while the body runs."""
    with _progress_reports(sinks, lambda share: {"progress": 100 * share}, job) as progress:
        yield progress


@contextmanager
def _progress_reports(
    sinks: Sequence[Sink], of_share: Callable[[float], dict[str, Any]], job: JobRef
) -> Generator[Progress]:
    couriers = [Courier(sink) for sink in sinks]

    def progress(fraction: float, message: str = "") -> None:
        report = job.report(message=message, **of_share(fraction))
        for courier in couriers:
            courier.put(report)

    try:
        progress(0)
        yield progress
        progress(1)
    finally:
        _close(couriers, STAGE_PATIENCE)


def report_end(report: Report, sinks: Sequence[Sink], patience: float = FINAL_PATIENCE) -> bool:
    """Deliver a final state to every sink. True if all accepted it."""
    couriers = [Courier(sink) for sink in sinks]
    for courier in couriers:
        courier.put(report)
    _close(couriers, patience)
    return all(courier.is_accepted for courier in couriers)


def _close(couriers: Sequence[Courier], patience: float) -> None:
    deadline = time.monotonic() + patience
    for courier in couriers:
        courier.close(deadline)


def _is_same_step(one: Report, other: Report) -> bool:
    return (one.stage, one.status, one.attempt) == (other.stage, other.status, other.attempt)
