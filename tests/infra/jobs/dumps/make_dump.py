"""Makes form_1.json: Redis records of the first releases, which had no schema version.

Run in a checkout of the commit 8ac3ab0, with its environment:

    git worktree add /tmp/form_1 8ac3ab0
    cd /tmp/form_1 && PYTHONPATH=. python PATH/TO/make_dump.py PATH/TO/form_1.json

It has one record per line as `infra/jobs/dump.py` writes them, but with `left`, the seconds until a key expires.
Modules of that commit are imported inside functions: today's tree no longer has all of them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import redis

URL = "https://example.org/talk.mp4"
RUN = "00000000-0000-4000-8000-00000000000{}"


def job_id(number: int) -> str:
    return f"kk_01JB2Q8Y7N4M3K6T9V5W1X0Z{number:02d}"


def main(target: Path) -> None:
    from infra.local.services import Service
    from infra.local.stack import LocalStack
    from infra.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        nothing = dict.fromkeys(("redis_url", "r2_endpoint", "prefect_api_url"))
        named = Settings(KANGKLIP_DATA_DIR=Path(folder)).model_copy(update=nothing)
        with LocalStack(named, [Service.VALKEY]) as stack:
            fill(stack.settings)
            client = redis.Redis.from_url(stack.settings.redis_url.get_secret_value(), decode_responses=True)
            records = [record(client, key) for key in sorted(client.scan_iter("*"))]
    target.write_text("".join(json.dumps(found, ensure_ascii=False) + "\n" for found in records))


def fill(configured: Any) -> None:
    from infra.grants import Grant
    from infra.sessions import SessionStore

    from infra import grants
    from infra.jobs import Job, JobStore, Report
    from infra.states import JobState, Stage

    store = JobStore.from_settings(configured)
    assert store
    for number in range(1, 8):
        request = {"video_url": URL, "clip_duration_seconds": 45, "clip_count": 3, "language": "en", "n": number}
        store.create(job_id(number), json.dumps(request | {"note": "é 日本"}))
        if number != 2:
            store.set_run(job_id(number), RUN.format(number))
    store.set_start_error(job_id(2), "The Prefect server did not answer (ConnectError).")
    store.report(Report(job_id=job_id(2), status=JobState.FAILED, error="The Prefect server did not answer."))
    for number in (3, 4, 5, 6):
        store.report(Report(job_id=job_id(number), stage=Stage.DOWNLOAD, progress=5, message="12 of 30 MB"))
        store.report(Report(job_id=job_id(number), stage=Stage.TRANSCRIPT, progress=25))
    store.hold(job_id(3))
    store.report(Report(job_id=job_id(4), status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100))
    store.add_cost(job_id(4), 0.125)
    cancelled = {"status": JobState.FAILED, "error": "Cancelled.", "message": "Cancelled."}
    store.report(Report(job_id=job_id(5), **cancelled))
    store.report(Report(job_id=job_id(6), status=JobState.FAILED, error="The run has died. Start the job again."))
    store.reopen(job_id(6), after=1)
    store.claim("monday", "digest-of-the-request", job_id(1))
    store.allow("192.0.2.7", 30)
    named = {"job_id": job_id(7), "run_id": RUN.format(7), "attempt": 1, "session_seconds": 600}
    grant = Grant(**named, expires_at=grants.until(600))
    store.set_grant(job_id(7), grant.grant_id)
    SessionStore.beside(store, configured).open(grant, RUN.format(8), RUN.format(9))
    assert isinstance(store.get(job_id(1)), Job)


def record(client: Any, key: str) -> dict[str, Any]:
    kind = client.type(key)
    read = {
        "string": lambda: client.get(key),
        "hash": lambda: client.hgetall(key),
        "set": lambda: sorted(client.smembers(key)),
        "zset": lambda: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda: client.xrange(key),
    }
    left = client.ttl(key)
    value = "host:1:0" if key.endswith(":lease") else read[kind]()  # not this machine's name
    return {"key": key, "type": kind, "value": value, "left": None if left < 0 else left}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
