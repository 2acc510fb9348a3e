"""GET /metrics: Prometheus metrics, counted by the job store rather than by this process."""

from collections import Counter
from collections.abc import Iterator

from fastapi import Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from deployments.api.dependencies import Given, Parts
from deployments.api.guards import needs_operator_where_keys_are
from deployments.api.models import NO_OPERATOR, NO_STORE, refusals
from deployments.api.routing import Router
from infra.errors import SubmitError
from infra.states import JobState, Stage

router = Router()


@router.get(
    "/metrics",
    dependencies=[Depends(needs_operator_where_keys_are)],
    response_class=Response,
    summary="Metrics for Prometheus",
    responses=refusals(NO_OPERATOR, NO_STORE)
    | {200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_metrics(parts: Given) -> Response:
    registry = CollectorRegistry()
    registry.register(JobMetrics(parts))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class JobMetrics(Collector):
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> list[Metric]:
        """Registration queries nothing; a scrape queries once."""
        return []

    def collect(self) -> Iterator[Metric]:
        active = Counter(job.status for job in self._parts.jobs.active())
        totals = self._parts.jobs.totals()
        jobs = GaugeMetricFamily("kangklip_jobs", "Jobs that have not ended.", labels=["state"])
        for state in (JobState.QUEUED, JobState.RUNNING):
            jobs.add_metric([state], active[state])
        yield jobs
        ended = CounterMetricFamily("kangklip_jobs_finished", "Jobs that have ended.", labels=["state"])
        for state in (JobState.SUCCEEDED, JobState.FAILED):
            ended.add_metric([state], totals.get(f"finished:{state}", 0))
        yield ended
        seconds = SummaryMetricFamily("kangklip_stage_seconds", "How long finished stages took.", labels=["stage"])
        for stage in Stage:
            if count := totals.get(f"count:{stage}"):
                seconds.add_metric([stage], int(count), totals.get(f"seconds:{stage}", 0))
        yield seconds
        yield from self._queue()

    def _queue(self) -> Iterator[Metric]:
        """Runs that wait for a worker; nothing if Prefect does not answer."""
        try:
            depth = self._parts.submitter.queue_depth()
        except SubmitError:
            return
        yield GaugeMetricFamily("kangklip_queue_depth", "Runs that wait for a worker.", depth)
