"""Measures a recut: `python -m tests.bench.recut JOB_ID RESULT_JSON` cuts the job's first clip to 30 s in this process.

The flow is the product's own. *Drawing* is the time of its one clip from analysis to the encode's end, of which
*encode* is ffmpeg's; *beside* is the rest of the flow: Prefect, Redis, the bucket, checks and publication.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments import local_run
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.jobs.store import JobStore
from tasks.core.object_keys import job_key, revision_folder

SECONDS = 30.0


def main(job_id: str, result: Path) -> None:
    began = time.monotonic()
    revision = _begin(job_id)
    spent = {"draw": 0.0, "encode": 0.0}
    for module, name, kind in (("tasks.draw", "render_clip", "draw"), ("tasks.stages.render", "encode", "encode")):
        owner = importlib.import_module(module)
        setattr(owner, name, _timed(getattr(owner, name), kind, spent))
    flow = importlib.import_module("flows.recut").recut
    ready = time.monotonic()
    flow(job_id, revision)
    total = time.monotonic() - ready
    measured = {"imports": ready - began, "flow": total, **spent, "beside": total - spent["draw"]}
    result.write_text(json.dumps(measured))


def _begin(job_id: str) -> int:
    """Begin a recut that gives the first clip another end, as the API does."""
    jobs, store = JobStore.from_settings(settings.load()), ArtifactStore.from_settings(settings.load())
    if jobs is None:
        raise SystemExit("there is no Redis")
    document = store.get_json(job_key(job_id, "edit.json"))
    segment = document["clips"][0]["segments"][0]
    segment["end"] = min(segment["end"] - 0.5, segment["start"] + SECONDS)
    document["clips"][0]["segments"] = [segment]
    revision = jobs.recuts.begin(job_id, document["revision"])
    store.put_json(job_key(job_id, f"{revision_folder(revision)}edit.json"), document | {"revision": revision})
    return revision


def _timed(function: Callable[..., Any], kind: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*args, **named)
        finally:
            spent[kind] += time.monotonic() - began

    return call


if __name__ == "__main__":
    local_run.quiet_prefect()
    main(sys.argv[1], Path(sys.argv[2]))
