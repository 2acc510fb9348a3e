"""Checks command-line input before anything is started or created."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deployments.local_run import readable_name
from infra.errors import ConfigError
from infra.jobs.ids import JOB_ID
from infra.validation import describe_errors
from tasks.core.errors import BadRequest, UnreadableMedia
from tasks.core.plurals import seconds_of
from tasks.core.request import ClipRequest
from tasks.core.source.batch import refusal
from tasks.core.speech.punctuation import ends_sentence

_OPTIONS = {
    "video_url": "SOURCE",
    "clip_duration_seconds": "--duration",
    "clip_count": "--count",
    "language": "--language",
    "start_seconds": "--from",
    "end_seconds": "--to",
    "ratio": "--ratio",
    "caption_preset": "--captions",
    "framing": "--framing",
    "topic": "--topic",
}
_PLACEHOLDER_KEY = f"cache/uploads/{'0' * 64}"
_HOST = re.compile(r"^(www\.|[\w-]+(\.[\w-]+)*\.(com|org|net|tv|io|be|co|de|id|uk|me)(:\d+)?(/|$))", re.IGNORECASE)


def clip_request(source: str, options: dict[str, Any], *, allow_private: bool) -> ClipRequest:
    """The request with these fields. A local file gets a placeholder key until it is in the bucket.

    Raises:
        BadRequest: the input is invalid.
    """
    if is_address(source):
        video = {"video_url": source}
    else:
        check_file(local_path(source))
        video = {"source_key": _PLACEHOLDER_KEY, "source_name": readable_name(Path(source).name)}
    try:
        request = ClipRequest.model_validate(video | options)
    except ValidationError as error:
        message = describe_errors(error, ClipRequest, lambda name: _OPTIONS.get(name, name))
        message = message.replace("end_seconds", "--to").replace("start_seconds", "--from")
        raise BadRequest(_sentence(message), "See: kangklip clip --help") from None
    if is_address(source) and (fault := refusal(source, allow_private=allow_private)):
        raise BadRequest(fault, "Give a public http or https address, or a file.")
    return request


def position(text: str | None, option: str) -> float | None:
    """The position in seconds, or None if the option was not given.

    Raises:
        BadRequest: it cannot be read.
    """
    try:
        return None if text is None else seconds_of(text)
    except ValueError as error:
        raise BadRequest(f"{option} {error}.", "See: kangklip clip --help") from None


def api_address(url: str) -> str:
    """The URL, if it can be that of an API.

    Raises:
        BadRequest: it cannot.
    """
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise BadRequest("--api must be an http or https address such as https://clips.example.org.", "")
    return url


def is_address(source: str) -> bool:
    return "://" in source


def local_path(text: str) -> Path:
    """The path with `~` expanded; for an unknown user, `~` stays part of the name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def check_file(path: Path) -> None:
    """Refuse a file that cannot be a video or sound.

    Raises:
        BadRequest: the file is missing, unreadable, empty, or neither.
    """
    try:
        is_empty = _is_empty(path)
    except OSError as error:
        raise BadRequest(f"Cannot read {path} ({error.strerror}).", "Give a readable file.") from None
    if is_empty:
        raise BadRequest(f"The file {path} is empty.", "Copy or export it again.")
    from tasks.engines.source.demux import check_container  # noqa: PLC0415 the other checks need no media library

    try:
        check_container(path)
    except UnreadableMedia as error:
        problem = f"{path} is not a video or sound in a known format, or it is damaged."
        raise BadRequest(problem, error.next_step) from None


def _is_empty(path: Path) -> bool:
    if path.is_dir():
        raise BadRequest(f"{path} is a folder.", "Give one of the files in it.")
    if not path.exists():
        looks_like_host = _HOST.match(str(path))
        raise BadRequest(
            f"There is no file {path}.",
            f"If this is an address, write https://{path}"
            if looks_like_host
            else "Give a file that exists, or an http(s) address.",
        )
    if not path.is_file():
        raise BadRequest(f"{path} is not a regular file.", "Give a video or sound file, or an http(s) address.")
    with path.open("rb") as file:
        return not file.read(1)


def check_out(folder: Path) -> None:
    """Create the folder for the results and check that it is writable.

    Raises:
        ConfigError: the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"Cannot write to {folder} ({reason}); name another folder with --out.") from None


def job_id(text: str) -> str:
    """The text, if it is a job id.

    Raises:
        BadRequest: it is not a job id.
    """
    if not JOB_ID.fullmatch(text):
        raise BadRequest(
            f"{text} is not a job id.", "Job ids are kk_ and 26 letters and digits; kangklip list shows recent jobs."
        )
    return text


def _sentence(text: str) -> str:
    return text if ends_sentence(text) else f"{text}."
