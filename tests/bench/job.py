"""Runs and measures one job: `python -m tests.bench.job JOB_ID REQUEST_JSON RESULT_JSON`.

The flow is the product's own; the measurements are wrapped around its parts:

- a *stage* is the flow's whole call of it, including Prefect and the reports;
- its *work* is the time between the reports of its begin and its end;
- its *bucket* is the part of the work spent in calls of the artifact store and in waiting
  for earlier ones;
- *background* is time in store calls that nobody waits for: background transfers, and clips uploaded while
  others are encoded.

Standard output gets the name of each stage as it begins.
"""

import importlib
import inspect
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import local_run
from tasks.core.request import ClipRequest
from tests.bench.processes import cpu_seconds

BUCKET_CALLS = ("put_file", "copy", "put_bytes", "get_bytes", "fetch", "exists", "stat", "has_all", "delete")


class Meter:
    """Records where one job's time goes. The captions of its clips are kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: list[dict[str, Any]] = []
        self.encodes: list[dict[str, Any]] = []
        self.bucket_seconds = 0.0
        self.background_seconds = 0.0
        self.work_seconds = 0.0
        self._encoding = self._calls = 0
        self._waiting_since = 0.0
        self._lock = threading.Lock()
        self._thread = threading.local()

    def stage(self, run_stage: Callable[..., Any]) -> Callable[..., Any]:
        """`run_stage`, measured."""

        def call(stage: Any, *args: Any, **kwargs: Any) -> Any:
            print(stage.name.upper(), flush=True)
            self.stages.append({"stage": stage.name.upper()})
            before = time.monotonic(), _own_cpu(), self.work_seconds, self.bucket_seconds
            record = run_stage(stage, *args, **kwargs)
            after = time.monotonic(), _own_cpu(), self.work_seconds, self.bucket_seconds
            cpu, work, bucket = (end - begin for begin, end in zip(before[1:], after[1:], strict=True))
            self.stages[-1] |= {
                "began": before[0],
                "ended": after[0],
                "cpu": cpu,
                "work": work,
                "bucket": bucket,
                "reused": record.reused,
                "warnings": record.warnings,
            }
            return record

        return call

    def work(self, stage_reports: Callable[..., Any]) -> Callable[..., Any]:
        """`stage_reports`, which encloses a stage's work, with that work measured."""

        @contextmanager
        def reports(*args: Any) -> Generator[Any]:
            with stage_reports(*args) as say:
                began = time.monotonic()
                try:
                    yield say
                finally:
                    self.work_seconds += time.monotonic() - began

        return reports

    def store(self, plain: type) -> type:
        """The artifact store with its calls measured; nested calls count once."""

        def from_settings(cls: Any, *args: Any) -> Any:
            with self._bucket():
                return super(timed, cls).from_settings(*args)

        calls = {name: self.in_bucket(getattr(plain, name)) for name in BUCKET_CALLS}
        timed: Any = type("TimedStore", (plain,), calls | {"from_settings": classmethod(from_settings)})
        return timed

    def encode(self, encode: Callable[..., None]) -> Callable[..., None]:
        """`encode`, with the CPU time of its children measured."""

        def call(*args: Any, **kwargs: Any) -> None:
            bound = inspect.signature(encode).bind(*args, **kwargs).arguments
            edit, info, out = bound["edit"], bound["footage"].info, bound["out"]
            plan, captions, fonts = edit.plan, edit.captions, edit.fonts
            self._thread.cpu = 0.0
            self._encoding += 1
            encode(*args, **kwargs)
            self._encoding -= 1
            script = self.folder / f"{len(self.encodes)}-{out.stem}.ass"
            script.write_text(captions, encoding="utf-8")
            self.encodes.append(
                {
                    "stage": self.stages[-1]["stage"],
                    "file": out.name,
                    "seconds": plan.duration,
                    "cpu": self._thread.cpu,
                    "ranges": [(segment.start, plan.seconds(segment)) for segment in plan.segments],
                    "rate": f"{plan.rate_num}/{plan.rate_den}",
                    "source": (info.width, info.height),
                    "gain": edit.loud.gain,
                    "captions": str(script),
                    "fonts": str(fonts),
                }
            )

        return call

    def wait(self, wait: Callable[..., int]) -> Callable[..., int]:
        """`Popen.wait` that records the CPU time of a child for its thread, before the child is reaped."""

        def call(process: subprocess.Popen[Any], timeout: float | None = None) -> int:
            if timeout is None and process.returncode is None:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                self._thread.cpu = getattr(self._thread, "cpu", 0.0) + cpu_seconds(process.pid)
            return wait(process, timeout)

        return call

    def in_bucket(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._bucket():
                return method(*args, **kwargs)

        return call

    @contextmanager
    def _bucket(self) -> Generator[None]:
        thread = threading.current_thread()
        is_background = thread.name.startswith("transfer-") or (
            thread is not threading.main_thread() and self._encoding > 0
        )
        began, self._thread.depth = time.monotonic(), getattr(self._thread, "depth", 0) + 1
        if not is_background:
            self._enter(began)
        try:
            yield
        finally:
            self._thread.depth -= 1
            if not is_background:
                self._leave()
            elif not self._thread.depth:
                self.background_seconds += time.monotonic() - began

    def _enter(self, now: float) -> None:
        """A call begins. While several are under way at once, their time counts once."""
        with self._lock:
            if not self._calls:
                self._waiting_since = now
            self._calls += 1

    def _leave(self) -> None:
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self.bucket_seconds += time.monotonic() - self._waiting_since


def _own_cpu() -> float:
    """User and system time of this process and of its reaped children, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def wrap_product(meter: Meter) -> None:
    """Wrap the meter around the product's parts."""
    from infra.bucket import background_transfers
    from tasks import workspace
    from tasks.stages import render

    flow = importlib.import_module("flows.clip")
    replaced: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (flow, "run_stage", meter.stage),
        (workspace, "stage_reports", meter.work),
        (workspace, "ArtifactStore", meter.store),
        (background_transfers, "wait", meter.in_bucket),
        (render, "encode", meter.encode),
        (subprocess.Popen, "wait", meter.wait),
    ]
    for owner, name, measured in replaced:
        setattr(owner, name, measured(getattr(owner, name)))


def main(job_id: str, request: str, result: Path) -> None:
    local_run.quiet_prefect()
    meter = Meter(result.parent)
    wrap_product(meter)
    began = time.monotonic()
    with local_run.sigterm_as_interrupt():
        published = local_run.run_flow(ClipRequest.model_validate_json(request), job_id)
    ended = time.monotonic()
    measured = {
        "began": began,
        "ended": ended,
        "background": meter.background_seconds,
        "stages": meter.stages,
        "encodes": meter.encodes,
        "clips": [clip.model_dump() for clip in published.clips],
        "dropped": published.dropped,
    }
    result.write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
