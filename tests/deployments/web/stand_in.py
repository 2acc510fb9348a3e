"""A double of the API for states that a real run does not reach on command.

It speaks the same HTTP over a real socket, with real event streams and ranges, and serves the real page.
The test decides what happens to a job. It can cut connections, refuse streams, and stop the server and
restart it on its port.
"""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import cv2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from deployments.api.routes import pages
from infra.states import Stage
from tasks.core.output.file_names import file_name_from_title

SPANS = {stage.value: stage.span for stage in Stage}
REQUEST = {
    "video_url": "https://example.com/talks/open-it.mp4",
    "clip_duration_seconds": 45,
    "clip_count": 3,
    "language": "en",
}
ENDED = {"SUCCEEDED", "FAILED"}
POLL_SECONDS = 0.02
"""Seconds between polls of a job's events."""


class StandIn:
    """Context manager. `jobs` holds what GET returns; `request_counts` counts requests as ("POST", "/api/jobs")."""

    def __init__(self, clip: Path | None = None) -> None:
        self.clip = clip
        self._cuts = 0
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all jobs and requests, and cut open connections."""
        self.cut()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.clips: dict[str, list[dict[str, Any]]] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        self.request_counts: Counter[tuple[str, str]] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.resumed_after: list[str | None] = []
        self.ranges: list[str] = []
        self.api_key: str | None = None
        self.refusal: tuple[int, str] | None = None
        self.streams = True
        self._keys: dict[str, str] = {}
        self._events: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_up(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        config = uvicorn.Config(self._app(), port=self._port, log_level="error", lifespan="off")
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        while not server.started:
            time.sleep(0.01)
        self._port = server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop at once, even with open connections."""
        assert self._server
        assert self._thread
        self.cut()
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    def cut(self) -> None:
        """Cut every open stream."""
        self._cuts += 1

    # Changes of jobs

    def add(self, seconds_ago: float = 0, **fields: Any) -> str:
        """Add a queued job; `fields` replace its defaults."""
        job_id = "kk_" + "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(26))
        at = time.time() - seconds_ago
        job = {"job_id": job_id, "status": "QUEUED", "stage": "DOWNLOAD", "progress": 0, "attempt": 1, "message": ""}
        unknown = dict.fromkeys(("start_error", "nosana_run_id", "error", "error_code", "next_step"))
        times = {"created_at": at, "updated_at": at, "stages": {}}
        self.jobs[job_id] = job | unknown | times | {"request": dict(REQUEST)} | fields
        self._add_event(job_id)
        return job_id

    def report(
        self, job_id: str, stage: str, fraction: float = 0.0, message: str = "", at: float | None = None
    ) -> None:
        """Report that `fraction` (0 to 1) of `stage` is done; `at` is the time in epoch seconds."""
        job, at = self.jobs[job_id], at or time.time()
        begin, end = SPANS[stage]
        for name, times in job["stages"].items():
            times["ended"] = times["ended"] or (at if name != stage else None)
        job["stages"].setdefault(stage, {"began": at, "ended": None})
        progress = begin + (end - begin) * fraction
        job.update(status="RUNNING", stage=stage, progress=progress, message=message, updated_at=at)
        self._add_event(job_id)

    def work_to(self, job_id: str, stage: str, fraction: float = 0.0, message: str = "") -> None:
        """Complete all stages before `stage`, each in some seconds, and begin it."""
        seconds = {"DOWNLOAD": 14, "TRANSCRIPT": 96, "CHUNK": 0.4, "SELECT": 3, "RENDER": 71, "UPLOAD": 12}
        names = list(SPANS)[: list(SPANS).index(stage) + 1]
        at = time.time() - sum(seconds[name] for name in names)
        self.jobs[job_id].update(created_at=at - 4)
        for name in names:
            done = fraction if name == stage else 1.0
            self.report(job_id, name, done, message if name == stage else "", at)
            at += seconds[name]

    def succeed(self, job_id: str, clips: list[dict[str, Any]], **manifest: Any) -> None:
        """End the job as succeeded; `clips` are the entries of its results, without URLs."""
        self.clips[job_id] = [
            entry
            | {"download_url": f"https://bucket.invalid/{entry['file']}?signature=x"}
            | {"stream_url": f"/api/jobs/{job_id}/clips/{entry['file']}"}
            | ({"poster": entry["poster"].replace("kk_x", job_id)} if "poster" in entry else {})
            for entry in clips
        ]
        self.manifests[job_id] = {"job_id": job_id, "clips": clips, "warnings": [], "dropped": [], **manifest}
        for times in self.jobs[job_id]["stages"].values():
            times["ended"] = times["ended"] or time.time()
        self.jobs[job_id].update(status="SUCCEEDED", stage="DONE", progress=100, message="", updated_at=time.time())
        self._add_event(job_id)

    def fail(self, job_id: str, error: str, code: str | None = None, next_step: str | None = None) -> None:
        job = self.jobs[job_id]
        for times in job["stages"].values():
            times["ended"] = times["ended"] or time.time()
        message = f"{error} {next_step}" if next_step else error
        job.update(status="FAILED", error=message, error_code=code, next_step=next_step, updated_at=time.time())
        self._add_event(job_id)

    def _add_event(self, job_id: str) -> None:
        job = self.jobs[job_id]
        events = self._events.setdefault(job_id, [])
        data = {name: job[name] for name in ("status", "stage", "progress", "message", "error", "attempt")}
        events.append((f"{len(events) + 1}-0", data))

    # Responses

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(pages.router)
        app.middleware("http")(self._count)
        app.post("/api/jobs")(self._create)
        app.get("/api/jobs/{job_id}")(self._job)
        app.get("/api/jobs/{job_id}/events")(self._stream)
        app.get("/api/jobs/{job_id}/results")(self._results)
        app.get("/api/jobs/{job_id}/manifest")(self._manifest)
        app.get("/api/jobs/{job_id}/clips/{file}")(self._clip)
        app.get("/api/jobs/{job_id}/clips/{file}/download")(self._download)
        app.post("/api/jobs/{job_id}/start")(self._start)
        app.post("/api/jobs/{job_id}/cancel")(self._cancel)
        app.delete("/api/jobs/{job_id}")(self._delete)
        return app

    async def _count(self, request: Request, call_next: Any) -> Response:
        path = request.url.path
        self.request_counts[request.method, path] += 1
        is_change = request.method in ("POST", "DELETE")
        if is_change and self.api_key and request.headers.get("x-api-key") != self.api_key:
            return refuse(401, "api key required")
        if is_change and self.refusal:
            return refuse(*self.refusal)
        parts = path.split("/")
        if path.startswith("/api/jobs/") and parts[3] not in self.jobs:
            return refuse(404, "job not found")
        return await call_next(request)

    async def _create(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        key = request.headers.get("idempotency-key", secrets.token_hex())
        if key not in self._keys:
            self._keys[key] = self.add(request=body)
        return JSONResponse({"job_id": self._keys[key], "status": "QUEUED"})

    async def _job(self, job_id: str) -> Response:
        return JSONResponse(self.jobs[job_id])

    async def _stream(self, request: Request, job_id: str) -> Response:
        if not self.streams:
            return refuse(503, "job store unavailable")
        after = request.headers.get("last-event-id")
        self.resumed_after.append(after)
        return StreamingResponse(self._event_stream(job_id, after), media_type="text/event-stream")

    async def _event_stream(self, job_id: str, after: str | None) -> AsyncIterator[str]:
        events, cuts = self._events[job_id], self._cuts
        next_one = int(after.partition("-")[0]) if after else len(events) - 1
        while cuts == self._cuts:
            for event_id, data in events[next_one:]:
                yield f"id: {event_id}\nevent: progress\ndata: {json.dumps(data)}\n\n"
            next_one = len(events)
            if events[-1][1]["status"] in ENDED:
                yield f"id: {events[-1][0]}\nevent: end\ndata: {json.dumps(events[-1][1])}\n\n"
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _results(self, job_id: str) -> Response:
        if self.jobs[job_id]["status"] != "SUCCEEDED":
            return refuse(409, "job not completed")
        return JSONResponse({"clips": self.clips[job_id]})

    async def _manifest(self, job_id: str) -> Response:
        return JSONResponse(self.manifests[job_id])

    async def _clip(self, request: Request, file: str) -> Response:
        assert self.clip
        if file.endswith(".jpg"):
            return Response(self._poster(), media_type="image/jpeg")
        self.ranges.append(request.headers.get("range", ""))
        return FileResponse(self.clip, media_type="video/mp4")

    def _poster(self) -> bytes:
        """The clip's first frame as a JPEG."""
        _, frame = cv2.VideoCapture(str(self.clip)).read()
        return cv2.imencode(".jpg", frame)[1].tobytes()

    async def _download(self, job_id: str, file: str, name: str = "") -> Response:
        assert self.clip
        title = next(clip["title"] for clip in self.clips[job_id] if clip["file"] == file)
        saved_as = file_name_from_title(title, file) if name == "title" else file
        return FileResponse(self.clip, media_type="video/mp4", filename=saved_as)

    async def _start(self, job_id: str) -> Response:
        job = self.jobs[job_id]
        if job["status"] == "FAILED":
            fresh = dict.fromkeys(("error", "error_code", "next_step", "start_error")) | {"cancelled": False}
            attempt = job["attempt"] + 1
            job.update(fresh, status="QUEUED", stage="DOWNLOAD", progress=0, stages={}, attempt=attempt)
            job.update(updated_at=time.time())
            self._add_event(job_id)
        return JSONResponse({"ok": True})

    async def _cancel(self, job_id: str) -> Response:
        if self.jobs[job_id]["status"] in ENDED:
            return refuse(409, "job has ended")
        self.jobs[job_id]["cancelled"] = True
        self.fail(job_id, "Cancelled.")
        return JSONResponse({"ok": True})

    async def _delete(self, job_id: str) -> Response:
        if self.jobs[job_id]["status"] not in ENDED:
            return refuse(409, "job has not ended; cancel it first")
        del self.jobs[job_id]
        return JSONResponse({"ok": True})


def refuse(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
