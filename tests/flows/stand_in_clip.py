"""A quick stand-in for the flow `clip`, and a runner for the deployment `clip/stand-in`, four runs at a time.

By default Prefect's engine runs them in this process. With `serve`, Prefect's runner starts a process for each run,
which takes seconds, and the deployment is `clip/stand-in-served`. The deployments differ because two runners of one
deployment clash: the second may pick up a run that the first has ended, and Prefect restarts failed runs. A video
whose address ends in `bad` has no speech.

Every run is recorded in Redis under `stand-in:runs`.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.flow_engine import run_flow

from infra import settings
from infra.bucket.store import ArtifactStore
from infra.jobs.record import JobRef, Report
from infra.jobs.store import JobStore
from infra.states import JobState, Stage
from tasks.core.errors import NoSpeech


@flow(name="clip")
def clip(request: dict[str, Any], job_id: str, attempt: int) -> None:
    configured = settings.load()
    jobs = JobStore.from_settings(configured)
    redis.Redis.from_url(os.environ["REDIS_URL"]).rpush("stand-in:runs", job_id)
    job = JobRef(job_id=job_id, attempt=attempt)
    jobs.report(Report(**job.model_dump(exclude={"progress_artifact"}), stage=Stage.DOWNLOAD, progress=5))
    if request["video_url"].endswith("bad"):
        error = NoSpeech("Nobody speaks.")
        document = {"job_id": job_id, "attempt": job.attempt, "code": error.code}
        ArtifactStore.from_settings(configured).put_json(f"jobs/{job_id}/error.json", document)
        jobs.report(Report(job_id=job_id, attempt=job.attempt, status=JobState.FAILED, error=str(error)))
        raise error
    done = Report(job_id=job_id, attempt=job.attempt, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)
    jobs.report(done)


def run_all(limit: int) -> None:
    """Run whatever is scheduled, until this process is killed."""
    deployment = clip.to_deployment(name="stand-in").apply()
    of_ours = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    scheduled = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    begun = set()
    with ThreadPoolExecutor(limit) as pool, get_client(sync_client=True) as client:
        while True:
            for run in client.read_flow_runs(deployment_filter=of_ours, flow_run_filter=scheduled):
                if run.id not in begun:
                    begun.add(run.id)
                    pool.submit(run_flow, clip, run, run.parameters, return_type="state")
            time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        clip.serve(name="stand-in-served", limit=4, print_starting_message=False)
    else:
        run_all(limit=4)
