"""Measures what a job costs: seconds, CPU seconds and peak memory of each stage. `make bench`.

A talk is served on loopback, the embedded stack is started, and the flow cuts the talk twice, each
time in a new process: once as requested, and once with another length and count. Between them,
one clip is recut. A plain ffmpeg encode of the first job's seconds is measured for comparison.

Standard output gets a table, and the same as JSON in its last line; progress goes to standard
error. The exit status is 1 if a limit is exceeded, or if it could not be measured.
"""

import argparse
import contextlib
import json
import mmap
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from infra import settings
from infra.errors import ConfigError
from infra.jobs.ids import new_job_id
from infra.local.stack import LocalStack
from infra.settings import Settings
from tasks.core.errors import BadRequest
from tasks.core.request import ClipRequest
from tasks.engines.probe import probe
from tasks.engines.weights import whisper_model
from tasks.options import run_options
from tests.bench import report
from tests.bench.comparison import comparison_cpu
from tests.bench.make_talk import make_talk
from tests.bench.plain import plain_encodes
from tests.bench.processes import Sampler, cpu_seconds, sum_over_trees
from tests.bench.starts import cold_starts
from tests.folders import MEDIA
from tests.media_server import MediaServer, file

SHORT = MEDIA / "short.mp4"
FOLDER = Path("build") / "bench"
SETTINGS = {
    "ASR_MODEL": "base",
    "ASR_DEVICE": "cpu",
    "RENDER_ENCODER": "x264",
    "RENDER_PRESET": "veryfast",
    "RENDER_RESOLUTION": "1080x1920",
}
"""The settings of the earlier service's measurements; everything else is the product's default."""
BEGAN = time.monotonic()


def main() -> int:
    """Measure, print the result and return the exit status."""
    arguments = _arguments()
    folder = FOLDER.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"talk: {arguments.source or 'the ten-minute one; making it takes two minutes, once'}")
    video = arguments.source or make_talk(folder)
    info = probe(video)
    machine = _machine()
    whisper_model(SETTINGS["ASR_MODEL"], folder / "weights")
    say("fresh processes")
    starts = cold_starts()
    runs = [_run(video, arguments, folder, f"run {number}") for number in range(1, arguments.runs + 1)]
    comparable = not arguments.source and _is_earlier(arguments)
    result = {
        "machine": machine,
        "settings": {name.lower(): os.environ[name] for name in SETTINGS},
        "source": {
            "file": video.name,
            "seconds": info.duration,
            "size": f"{info.width}x{info.height}",
            "fps": info.fps,
        },
        "request": _request(arguments, again=False),
        "again": _request(arguments, again=True),
        "runs": runs,
        "starts": starts,
        "verdicts": [
            asdict(verdict)
            for verdict in (*report.verdicts(runs, comparable=comparable), *report.start_verdicts(starts))
        ],
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    say(f"kept: {FOLDER / 'result.json'}")
    print(report.text(result), json.dumps(result), sep="\n\n")
    return report.exit_status(result["verdicts"])


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {line}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--source", type=Path, help="a video file instead of the ten-minute talk; nothing is compared")
    parser.add_argument("--seconds", type=float, default=45, help="seconds per clip, 5 to 180 (%(default)s)")
    parser.add_argument("--count", type=int, default=3, help="clips, 1 to 5 (%(default)s)")
    parser.add_argument("--resolution", default=SETTINGS["RENDER_RESOLUTION"], help="size of the clips (%(default)s)")
    parser.add_argument("--runs", type=int, default=1, help="measure so often; limits look at medians (%(default)s)")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    if arguments.source and not arguments.source.is_file():
        parser.error(f"--source: there is no file {arguments.source}")
    _use_settings(SETTINGS | {"RENDER_RESOLUTION": arguments.resolution})
    try:
        settings.load()
        ClipRequest(video_url="http://127.0.0.1/talk.mp4", **_request(arguments, again=False))
    except (ConfigError, BadRequest, ValidationError) as error:
        parser.error(str(error))
    return arguments


def _use_settings(chosen: dict[str, str]) -> None:
    """Use these settings and none of the user's, so that no bucket, Redis or model of theirs takes part."""
    known = {*(name.upper() for name in Settings.model_fields), "KANGKLIP_DATA_DIR"}
    for name in [name for name in os.environ if name.upper() in known]:
        del os.environ[name]
    os.environ.update(chosen, ALLOW_PRIVATE_ADDRESSES="true")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _request(arguments: argparse.Namespace, *, again: bool) -> dict[str, Any]:
    """The arguments of the request; with `again`, another length and a single clip."""
    if again:
        return {"clip_duration_seconds": max(5.0, round(arguments.seconds * 2 / 3)), "clip_count": 1}
    return {"clip_duration_seconds": arguments.seconds, "clip_count": arguments.count}


def _is_earlier(arguments: argparse.Namespace) -> bool:
    return (arguments.seconds, arguments.count, arguments.resolution) == (45, 3, SETTINGS["RENDER_RESOLUTION"])


def _machine() -> dict[str, Any]:
    described = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": names[0] if names else platform.machine(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def _run(video: Path, arguments: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """The two jobs on a new stack, and the plain encode of the first one's clips."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="data-", ignore_cleanup_errors=True) as data:
        (Path(data) / "weights").symlink_to(folder / "weights")
        configured = settings.load().model_copy(update={"data_dir": Path(data)})
        with _served(video) as url, LocalStack(configured, progress=lambda what: say(f"{name}: {what}")) as stack:
            _warm_up(stack, Path(data), name)
            job, encodes = _job(
                stack, {"video_url": url} | _request(arguments, again=False), Path(data), f"{name}, first"
            )
            recut = _recut(stack, job["job_id"], Path(data), name)
            again, _ = _job(stack, {"video_url": url} | _request(arguments, again=True), Path(data), f"{name}, again")
        say(f"{name}: plain encode and comparison")
        rendered = [encode for encode in encodes if encode["stage"] == "RENDER"]
        options = run_options(configured).picture
        plain = plain_encodes(video, rendered, options, Path(data))
        comparison = comparison_cpu(video, rendered, options)
    return {"job": job, "again": again, "recut": recut, "plain": plain, "comparison": comparison}


def _warm_up(stack: LocalStack, folder: Path, name: str) -> None:
    """Run a short job first: one-time compiling and loading is not a job's cost."""
    with _served(SHORT) as url:
        request = {"video_url": url, "clip_duration_seconds": 9, "clip_count": 1, "language": "en"}
        _job(stack, request, folder, f"{name}, warming up")


@contextlib.contextmanager
def _served(video: Path) -> Generator[str]:
    """The file's address on loopback."""
    with video.open("rb") as opened:
        body = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    with MediaServer() as server:
        # Slices of a memoryview are no copies, and sockets accept them like bytes.
        server.pages["/talk.mp4"] = file(cast("bytes", body), etag='"talk"')
        yield f"http://127.0.0.1:{server.port}/talk.mp4"


def _job(
    stack: LocalStack, request: dict[str, Any], folder: Path, name: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run one job in a new process; returns its summary, and its encodes as the plain encode needs them."""
    result, log, job_id = folder / f"{name}.json", folder / f"{name}.log", new_job_id()
    command = [sys.executable, "-m", "tests.bench.job", job_id, json.dumps(request), str(result)]
    servers = [pid for part in stack.needed if (pid := stack.pid(part)) is not None]
    before, stack_before, started = _children_cpu(), sum_over_trees(cpu_seconds, servers), time.monotonic()
    with (
        log.open("wb") as errors,
        _running_child(command, stack.environment(), errors) as process,
        Sampler([process.pid]) as own,
        Sampler(servers) as others,
    ):
        for line in process.stdout or ():
            say(f"{name}: {line.strip()}")
        status = process.wait()
    ended = time.monotonic()
    if status:
        raise SystemExit(f"The job ended with status {status}:\n{log.read_text(errors='replace')[-3000:]}")
    measured = json.loads(result.read_text())
    used = {"cpu": sum_over_trees(cpu_seconds, servers) - stack_before, "peak_mb": max(mb for _, mb in others.samples)}
    cpu = _children_cpu() - before
    summary = report.summary(started, ended, cpu, measured, own.samples, used)
    return summary | {"job_id": job_id}, measured["encodes"]


def _recut(stack: LocalStack, job_id: str, folder: Path, name: str) -> dict[str, float]:
    """Change one clip of the job in a new process; returns what `tests.bench.recut` measured."""
    say(f"{name}: recut of one clip")
    result, log = folder / "recut.json", folder / "recut.log"
    command = [sys.executable, "-m", "tests.bench.recut", job_id, str(result)]
    with log.open("wb") as errors, _running_child(command, stack.environment(), errors) as process:
        status = process.wait()
    if status:
        raise SystemExit(f"The recut ended with status {status}:\n{log.read_text(errors='replace')[-3000:]}")
    return json.loads(result.read_text())


@contextlib.contextmanager
def _running_child(command: list[str], environment: dict[str, str], errors: Any) -> Generator[subprocess.Popen[str]]:
    """A running child, stopped when we are."""
    with subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _children_cpu() -> float:
    """User and system time of ended children, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
