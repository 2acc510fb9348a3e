"""Keys of objects in the bucket: `jobs/{job_id}/` belongs to one job, `cache/` is shared."""

import hashlib
import json
from typing import Literal

SOURCE_VERSION = 4
"""Bump it when DOWNLOAD changes how it stores sources."""
USES = "cache/uses/"
"""Prefix of the marks that say which job uses which entry of the shared cache."""


def job_key(job_id: str, name: str) -> str:
    """Key of a job's artifact, such as `jobs/kk_…/manifest.json`."""
    return f"jobs/{job_id}/{name}"


REVISIONS = "revisions/"
"""Folder of a job's revisions, below its prefix."""


def revision_folder(revision: int) -> str:
    """Folder of a revision below the job's prefix."""
    return f"{REVISIONS}{revision}/"


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


POSTER_TYPE = "image/jpeg"
"""Content type of posters."""


def poster_name(index: int) -> str:
    """File name of the poster of clip `index`, counted from 1."""
    return f"clip_{index:02d}.jpg"


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


def cache_entry(key: str) -> str:
    """The entry that an object of the shared cache belongs to: `cache/KIND/NAME`, the first part of its key."""
    return "/".join(key.split("/")[:3])


def is_cache_index(key: str) -> bool:
    """Whether the object is the one by which jobs find a source in the shared cache."""
    return key.startswith("cache/media/") and key.rpartition("/")[2].startswith("source-")


def use_key(entry: str, job_id: str) -> str:
    """Key of the mark that a job uses an entry of the shared cache. Without a job, the prefix of the entry's marks."""
    return f"{USES}{entry.removeprefix('cache/')}/{job_id}"


def job_uses(job_id: str) -> str:
    """Prefix of the list of entries of the shared cache that a job uses; the rest of a key is the entry's."""
    return job_key(job_id, "records/uses/")


def transcripts_prefix(audio_sha256: str) -> str:
    """Prefix of all shared transcripts of an audio file."""
    return f"cache/transcripts/{audio_sha256}/"


def transcript_key(audio_sha256: str, transcript_digest: str) -> str:
    """Key of a shared transcript."""
    return f"{transcripts_prefix(audio_sha256)}{transcript_digest}.json"


def upload_key(content_sha256: str) -> str:
    """Key of a local file uploaded by the command line."""
    return f"cache/uploads/{content_sha256}"
