"""Keys of objects in the bucket: `jobs/{job_id}/` belongs to one job, `cache/` is shared."""

import hashlib
import json
from typing import Literal

SOURCE_VERSION = 4
"""Bump it when DOWNLOAD changes how it stores sources."""


def job_key(job_id: str, name: str) -> str:
    """Key of a job's artifact, such as `jobs/kk_…/manifest.json`."""
    return f"jobs/{job_id}/{name}"


def clip_name(index: int) -> str:
    """File name of clip `index`, counted from 1."""
    return f"clip_{index:02d}.mp4"


SubtitleFormat = Literal["srt", "vtt"]
SUBTITLE_TYPES: dict[SubtitleFormat, str] = {
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
"""Content types of subtitle files."""


def subtitle_name(index: int, form: SubtitleFormat) -> str:
    """File name of the subtitles of clip `index`, counted from 1."""
    return f"clip_{index:02d}.{form}"


def digest(*parts: object) -> str:
    """SHA-256 of the parts as canonical JSON, 64 hex digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def media_key(source_digest: str, name: str) -> str:
    """Key of a source's shared media, such as `cache/media/{digest}/audio.m4a`."""
    return f"cache/media/{source_digest}/{name}"


def source_key(source_digest: str) -> str:
    """Key of a source's entry in the shared cache, which names its media."""
    return media_key(source_digest, f"source-{SOURCE_VERSION}.json")


def alias_key(video_url: str) -> str:
    """Key of the entry that maps a URL to the source it last resolved to."""
    return f"cache/urls/{digest('url', video_url)}.json"


def transcripts_prefix(audio_sha256: str) -> str:
    """Prefix of all shared transcripts of an audio file."""
    return f"cache/transcripts/{audio_sha256}/"


def transcript_key(audio_sha256: str, transcript_digest: str) -> str:
    """Key of a shared transcript."""
    return f"{transcripts_prefix(audio_sha256)}{transcript_digest}.json"


def upload_key(content_sha256: str) -> str:
    """Key of a local file uploaded by the command line."""
    return f"cache/uploads/{content_sha256}"
