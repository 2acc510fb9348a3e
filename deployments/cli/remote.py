"""`kangklip clip --api`: has another machine's KangKlip cut the clips, and fetches them."""

import base64
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deployments import console
from deployments.cli.printing import FinishedJob
from deployments.local_run import readable_name
from infra.errors import ApiUnreachable, ConfigError
from infra.jobs.ids import JOB_ID
from tasks.core.errors import BadRequest, ClipError
from tasks.core.plurals import megabytes

Report = Callable[[float, str], None]

PIECE_BYTES = 64 * 1024 * 1024
"""Bytes per request: proxies end requests that take too long."""
PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0)
"""Seconds before each new try without progress."""
POLL_SECONDS = 1.0
_CLIP_FILE = re.compile(r"clip_\d{2,3}\.(mp4|srt|vtt|jpg)", re.ASCII)
_TUS = {"tus-resumable": "1.0.0"}
_TRY_AGAIN = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class RemoteApi:
    """The API at `url`. Calls that may be repeated are, for about three minutes.

    Every method raises:
        ApiUnreachable: the API does not answer.
        BadRequest, ConfigError: it refuses the request, or the key.
    """

    def __init__(self, url: str, key: str = "", pauses: tuple[float, ...] = PAUSES) -> None:
        headers = {"x-api-key": key} if key else {}
        timeout = httpx.Timeout(60, connect=10)
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)
        self._url, self._pauses = url, pauses

    def upload(self, path: Path, report: Report) -> str:
        """Upload a file; returns the upload's path. `report` gets the share that has arrived, and a message."""
        size = path.stat().st_size
        name = base64.b64encode(readable_name(path.name).encode()).decode()
        begun = self._repeat(
            "POST", "/api/uploads", {"upload-length": str(size), "upload-metadata": f"filename {name}"}
        )
        where, offset, failures = begun.headers["location"], 0, 0
        while offset < size:
            report(offset / size, f"{megabytes(offset)} of {megabytes(size)}")
            try:
                offset = self._send_piece(where, path, offset)
                failures = 0
            except _Retryable:
                if failures == len(self._pauses):
                    raise
                time.sleep(self._pauses[failures])
                failures += 1
                offset = int(self._repeat("HEAD", where).headers["upload-offset"])
        report(1, megabytes(size))
        return where

    def create(self, body: dict[str, Any]) -> str:
        """Create a job; returns its id."""
        job_id = str(self._ask("POST", "/api/jobs", json=body).json()["job_id"])
        if not JOB_ID.fullmatch(job_id):
            raise ApiUnreachable(f"{self._url} is not KangKlip's API.")
        return job_id

    def follow(self, job_id: str, report: Report) -> None:
        """Wait for the job's end.

        Raises:
            ClipError: the job has failed.
        """
        while True:
            job = self._repeat("GET", f"/api/jobs/{job_id}").json()
            report(job["progress"] / 100, job["message"] or job["stage"].lower())
            if job["status"] == "SUCCEEDED":
                return
            if job["status"] == "FAILED":
                raise ClipError(job["error"] or "The job has failed.", job["next_step"] or "")
            time.sleep(POLL_SECONDS)

    def download(self, job_id: str, folder: Path) -> list[Path]:
        """Save the manifest and the clips, with their subtitles and posters, in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        results = self._repeat("GET", f"/api/jobs/{job_id}/results").json()["clips"]
        paths = {"manifest.json": f"/api/jobs/{job_id}/manifest"}
        for clip in results:
            extras = [*(clip.get("subtitles") or {}).values(), clip.get("poster")]
            paths |= {_file_name(path): path for path in [clip["stream_url"], *extras] if path}
        return [self._save(path, folder / name) for name, path in paths.items()]

    def _save(self, path: str, file: Path) -> Path:
        part = file.with_name(f".{file.name}.part")
        try:
            with self._client.stream("GET", path) as answer, part.open("wb") as out:
                self._check(answer)
                for chunk in answer.iter_bytes():
                    out.write(chunk)
            part.replace(file)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        finally:
            part.unlink(missing_ok=True)
        return file

    def _send_piece(self, where: str, path: Path, offset: int) -> int:
        headers = {"upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        with path.open("rb") as file:
            file.seek(offset)
            length = min(PIECE_BYTES, path.stat().st_size - offset)
            headers["content-length"] = str(length)
            answer = self._ask("PATCH", where, headers, content=_chunks(file, length))
        return int(answer.headers["upload-offset"])

    def _repeat(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        for pause in self._pauses:
            try:
                return self._ask(method, path, headers)
            except _Retryable:
                time.sleep(pause)
        return self._ask(method, path, headers)

    def _ask(self, method: str, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, headers=_TUS | (headers or {}), **body)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        answer.read()
        reason = _detail(answer)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise ConfigError(f"{self._url} needs a key ({reason}); set KANGKLIP_API_KEY.")
        if answer.status_code in _TRY_AGAIN:
            raise _Retryable(f"{self._url} answered {answer.status_code}: {reason}.")
        raise BadRequest(f"{self._url} answered {answer.status_code}: {reason}.")

    def _unreachable(self, error: Exception) -> "_Retryable":
        return _Retryable(f"{self._url} does not answer ({type(error).__name__}); check the address and the network.")


class _Retryable(ApiUnreachable):
    """The same request may succeed later."""


def clip(api: RemoteApi, source: Path | str, options: dict[str, Any], out: Path) -> FinishedJob:
    """Have the API cut the source, a file's path or an address, and fetch the clips into `out/JOB`.

    Raises:
        ClipError, InfraError: the job, or the API, has failed.
    """
    columns = (
        *(TextColumn("{task.description:<10}"), BarColumn(bar_width=32), TextColumn("{task.percentage:>3.0f}%")),
        *(TimeElapsedColumn(), TextColumn("{task.fields[message]}", style="dim", markup=False)),
    )
    with Progress(*columns, console=console.console) as bars:

        def bar(name: str) -> Report:
            task = bars.add_task(name, total=1, message="")
            return lambda share, message: bars.update(task, completed=share, message=message)

        video = {"upload": api.upload(source, bar("send"))} if isinstance(source, Path) else {"video_url": source}
        job_id = api.create(video | options)
        console.note(f"Job {job_id}")
        api.follow(job_id, bar("job"))
    folder = out / job_id
    return FinishedJob(job_id, folder, api.download(job_id, folder))


def _file_name(path: str) -> str:
    """The last part of a path in the API's results.

    Raises:
        ApiUnreachable: it is no name of a clip's file.
    """
    name = path.rpartition("/")[2]
    if not _CLIP_FILE.fullmatch(name):
        raise ApiUnreachable("The API's results name a file that is no clip; check the address.")
    return name


def _chunks(file: Any, length: int) -> Any:
    while length and (data := file.read(min(length, 1024 * 1024))):
        length -= len(data)
        yield data


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase or "no reason given"
