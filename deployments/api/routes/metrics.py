"""GET /metrics: Prometheus metrics, read from the job store rather than counted in this process."""

from collections.abc import Iterator

from fastapi import Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import require_operator_if_keys_exist
from deployments.api.models import NO_OPERATOR, NO_STORE, refusals
from deployments.api.routing import Router
from infra.errors import SubmitError
from infra.states import JobState, Stage

router = Router()


@router.get(
    "/metrics",
    dependencies=[Depends(require_operator_if_keys_exist)],
    response_class=Response,
    summary="Metrics for Prometheus",
    responses=refusals(NO_OPERATOR, NO_STORE)
    | {200: {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_metrics(services: ServicesDep) -> Response:
    registry = CollectorRegistry()
    registry.register(JobMetrics(services))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class JobMetrics(Collector):
    """Collects the metrics of all jobs on each scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing, so that registering the collector does not query the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        active = self._services.jobs.states()
        totals = self._services.jobs.totals()
        jobs = GaugeMetricFamily("kangklip_jobs", "Jobs that have not ended.", labels=["state"])
        for state in (JobState.QUEUED, JobState.RUNNING):
            jobs.add_metric([state], active[state])
        yield jobs
        ended = CounterMetricFamily("kangklip_jobs_finished", "Jobs that have ended.", labels=["state"])
        for state in (JobState.SUCCEEDED, JobState.FAILED):
            ended.add_metric([state], totals.get(f"finished:{state}", 0))
        yield ended
        recuts = CounterMetricFamily("kangklip_recuts_finished", "Changes of clips that have ended.", labels=["state"])
        for state in (JobState.SUCCEEDED, JobState.FAILED):
            recuts.add_metric([state], totals.get(f"recuts:{state}", 0))
        yield recuts
        seconds = SummaryMetricFamily("kangklip_stage_seconds", "Duration of finished stages.", labels=["stage"])
        for stage in Stage:
            if count := totals.get(f"count:{stage}"):
                seconds.add_metric([stage], int(count), totals.get(f"seconds:{stage}", 0))
        yield seconds
        yield from self._queue()

    def _queue(self) -> Iterator[Metric]:
        """Number of runs waiting for a worker; nothing if Prefect does not answer."""
        try:
            depth = self._services.submitter.queue_depth()
        except SubmitError:
            return
        yield GaugeMetricFamily("kangklip_queue_depth", "Runs waiting for a worker.", depth)
