"""A client of KangKlip's API, for the command line and assistants. The API may be anyone's, so we do not trust it."""

import base64
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from deployments.local_run import readable_name
from infra.errors import ApiUnreachable, ConfigError
from infra.jobs.ids import JOB_ID
from infra.states import JobState
from tasks.core.errors import BadRequest, ClipError
from tasks.core.plurals import megabytes

Report = Callable[[float, str], None]

PIECE_BYTES = 64 * 1024 * 1024
"""Bytes per request: proxies end requests that take too long."""
PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0)
"""Seconds before each new try without progress."""
POLL_SECONDS = 1.0
MOST_FAULTS = 10
"""Faults of an edit document that are shown."""
MAX_DIGITS = 15
"""Of a number in a header."""
_UPLOAD_PATH = re.compile(r"/api/uploads/[0-9a-f]{32}", re.ASCII)
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


Model = TypeVar("Model", bound=BaseModel)


def _ignore(where: str, expires: str) -> None:
    """Do nothing."""


class RecutAnswer(BaseModel):
    """What is read of a recut; `progress` is in percent."""

    revision: int
    state: str
    progress: float
    error: str | None = None


class JobAnswer(BaseModel):
    """What is read of the API's description of a job; `progress` is in percent.

    `revision` is that of its published clips; `recut` is the newest change of them.
    """

    job_id: str
    status: str
    stage: str
    progress: float
    message: str = ""
    error: str | None = None
    next_step: str | None = None
    revision: int | None = None
    recut: RecutAnswer | None = None


class WordAnswer(BaseModel):
    """A word of the source, in seconds from its start."""

    start: float
    end: float
    text: str


class WordsAnswer(BaseModel):
    """Words of the source that follow each other; `first` is the index of the first one."""

    first: int
    words: list[WordAnswer]


class ClipAnswer(BaseModel):
    """What is read of a finished clip. Paths are on the API's server; `start` and `end` are seconds of the source."""

    file: str
    title: str | None = None
    duration: float | None = None
    start: float | None = None
    end: float | None = None
    hook: str | None = None
    description: str | None = None
    hashtags: list[str] | None = None
    text: str | None = None
    why: str | None = None
    download_url: str
    stream_url: str
    subtitles: dict[str, str] = {}
    poster: str | None = None


class _Created(BaseModel):
    job_id: str


class _RecutBegun(BaseModel):
    revision: int


class _Jobs(BaseModel):
    jobs: list[JobAnswer]


class _Results(BaseModel):
    clips: list[ClipAnswer]


_DOCUMENT = TypeAdapter(dict[str, Any])


class ApiClient:
    """The API at `url`. Calls that may be repeated are, for about three minutes.

    Every method raises:
        ApiUnreachable: the API does not answer, or what answers is not KangKlip's API.
        BadRequest, ConfigError: it refuses the request, or the key.
    """

    def __init__(self, url: str, key: str = "", pauses: tuple[float, ...] = PAUSES) -> None:
        headers = {"x-api-key": key} if key else {}
        timeout = httpx.Timeout(60, connect=10)
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)
        self.url, self._pauses = url, pauses

    def upload(
        self,
        path: Path,
        report: Report,
        earlier: str | None = None,
        begun: Callable[[str, str], None] = _ignore,
    ) -> str:
        """Upload a file; returns the upload's path.

        Args:
            report: gets the share that has arrived, and a message.
            earlier: the path of an upload of this file that is continued if the API still has it.
            begun: gets the path of a new upload, and its Upload-Expires header.
        """
        size, failures = path.stat().st_size, 0
        where, offset = self._earlier(earlier, size) or (self._begin_upload(path.name, size, begun), 0)
        while offset < size:
            report(offset / size, f"{megabytes(offset)} of {megabytes(size)}")
            try:
                offset = self._send_piece(where, path, offset, size)
                failures = 0
            except _Retryable:
                if failures == len(self._pauses):
                    raise
                time.sleep(self._pauses[failures])
                failures += 1
                offset = self._offset(self._repeat("HEAD", where), 0, size)
        report(1, megabytes(size))
        return where

    def _begin_upload(self, name: str, size: int, begun: Callable[[str, str], None]) -> str:
        encoded = base64.b64encode(readable_name(name).encode()).decode()
        answer = self._repeat(
            "POST", "/api/uploads", {"upload-length": str(size), "upload-metadata": f"filename {encoded}"}
        )
        where = answer.headers.get("location", "")
        if not _UPLOAD_PATH.fullmatch(where):
            raise self._foreign()
        begun(where, answer.headers.get("upload-expires", ""))
        return where

    def _earlier(self, where: str | None, size: int) -> tuple[str, int] | None:
        """The path of an earlier upload and how much of it has arrived, or None if the API no longer has it."""
        if not where or not _UPLOAD_PATH.fullmatch(where):
            return None
        try:
            answer = self._repeat("HEAD", where)
        except BadRequest:
            return None
        is_same = answer.headers.get("upload-length") == str(size)
        return (where, self._offset(answer, 0, size)) if is_same else None

    def create(self, body: dict[str, Any]) -> str:
        """Create a job; returns its id."""
        job_id = self._parse(_Created, self._ask("POST", "/api/jobs", json=body)).job_id
        if not JOB_ID.fullmatch(job_id):
            raise self._foreign()
        return job_id

    def job(self, job_id: str) -> JobAnswer:
        return self._parse(JobAnswer, self._repeat("GET", _path(job_id)))

    def jobs(self, limit: int) -> list[JobAnswer]:
        """The most recent jobs, the newest first."""
        return self._parse(_Jobs, self._repeat("GET", f"/api/jobs?limit={limit}")).jobs

    def clips(self, job_id: str) -> list[ClipAnswer]:
        """The clips of a job that has succeeded."""
        return self._parse(_Results, self._repeat("GET", _path(job_id, "/results"))).clips

    def recut(self, job_id: str, document: Any) -> int:
        """Change the job's document, whose `revision` is the one that was changed; returns the new revision."""
        base = document.get("revision") if isinstance(document, dict) else None
        return self._parse(
            _RecutBegun, self._ask("PUT", _path(job_id, "/edit"), {"if-match": f'"{base}"'}, json=document)
        ).revision

    def follow_recut(self, job_id: str, revision: int, report: Report) -> None:
        """Wait for the end of a recut.

        Raises:
            ClipError: it has failed, or its job was deleted.
        """
        while True:
            job = self.job(job_id)
            if job.recut is None or job.recut.revision != revision:
                if (job.revision or 0) >= revision:
                    return
                raise ClipError("The recut was replaced by another one.", "Read the document again, and change that.")
            report(job.recut.progress / 100, job.recut.state.lower())
            if job.recut.state == JobState.SUCCEEDED:
                return
            if job.recut.state == JobState.FAILED:
                raise ClipError(job.recut.error or "The recut has failed.", "")
            time.sleep(POLL_SECONDS)

    def cancel(self, job_id: str) -> None:
        self._ask("POST", _path(job_id, "/cancel"))

    def edit(self, job_id: str) -> dict[str, Any]:
        """The document of the published clips (docs/edit.md)."""
        try:
            return _DOCUMENT.validate_json(self._repeat("GET", _path(job_id, "/edit")).content)
        except ValidationError:
            raise self._foreign() from None

    def words(self, job_id: str, start: float, end: float) -> WordsAnswer:
        """The words of the source between two times, in seconds."""
        return self._parse(WordsAnswer, self._repeat("GET", _path(job_id, f"/words?start={start}&end={end}")))

    def change_clip(self, job_id: str, revision: int, clip_id: str, changes: dict[str, Any]) -> None:
        """Change one clip of the document's `revision` by a merge patch (RFC 7396), and have it drawn again."""
        where = _path(job_id, f"/edit/clips/{quote(clip_id, safe='')}")
        self._ask("PATCH", where, {"if-match": f'"{revision}"'}, json=changes)

    def follow(self, job_id: str, report: Report) -> None:
        """Wait for the job's end.

        Raises:
            ClipError: the job has failed.
        """
        while True:
            job = self.job(job_id)
            report(job.progress / 100, job.message or job.stage.lower())
            if job.status == JobState.SUCCEEDED:
                return
            if job.status == JobState.FAILED:
                raise ClipError(job.error or "The job has failed.", job.next_step or "")
            time.sleep(POLL_SECONDS)

    def download(self, job_id: str, folder: Path) -> list[Path]:
        """Save the manifest and the clips, with their subtitles and posters, in the folder."""
        paths = {"manifest.json": _path(job_id, "/manifest")}
        for clip in self.clips(job_id):
            extras = [*clip.subtitles.values(), clip.poster]
            paths |= {_file_name(path): path for path in [clip.stream_url, *extras] if path}
        folder.mkdir(parents=True, exist_ok=True)
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

    def _send_piece(self, where: str, path: Path, offset: int, size: int) -> int:
        headers = {"upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        with path.open("rb") as file:
            file.seek(offset)
            length = min(PIECE_BYTES, size - offset)
            headers["content-length"] = str(length)
            answer = self._ask("PATCH", where, headers, content=_chunks(file, length))
        return self._offset(answer, offset + 1, size)

    def _offset(self, answer: httpx.Response, least: int, size: int) -> int:
        """How much of the upload has arrived."""
        offset = answer.headers.get("upload-offset", "")
        if not offset.isdecimal() or len(offset) > MAX_DIGITS or not least <= int(offset) <= size:
            raise self._foreign()
        return int(offset)

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
            raise ConfigError(f"{self.url} needs a key ({reason}); set KANGKLIP_API_KEY.")
        if answer.status_code in _TRY_AGAIN:
            raise _Retryable(f"{self.url} answered {answer.status_code}: {reason}.")
        raise BadRequest(f"{self.url} answered {answer.status_code}: {reason}.")

    def _parse(self, model: type[Model], answer: httpx.Response) -> Model:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise self._foreign() from None

    def _foreign(self) -> ApiUnreachable:
        return ApiUnreachable(f"{self.url} does not answer as KangKlip's API does; check the address.")

    def _unreachable(self, error: Exception) -> "_Retryable":
        return _Retryable(f"{self.url} does not answer ({type(error).__name__}); check the address and the network.")


class _Retryable(ApiUnreachable):
    """The same request may succeed later."""


def _path(job_id: str, rest: str = "") -> str:
    """The path of a job.

    Raises:
        BadRequest: it is no job id.
    """
    if not JOB_ID.fullmatch(job_id):
        raise BadRequest("That is not a job id.", "Job ids are kk_ and 26 letters and digits.")
    return f"/api/jobs/{job_id}{rest}"


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
        content = answer.json()
        listed = [f"{error['path']}: {error['reason']}" for error in content.get("errors", [])[:MOST_FAULTS]]
        return "; ".join([str(content["detail"]), *listed])
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer.reason_phrase or "no reason given"
