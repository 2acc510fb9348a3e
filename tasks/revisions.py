"""Reads what a job has published from the bucket: its revisions, its words, and its source.

A rented machine may have written these documents, so their sizes are limited and their content is checked.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from infra.bucket.store import ArtifactStore
from infra.errors import ObjectMissing, StoreError
from tasks.core.edit.camera_views import CameraView, LoggedClip, camera_views, logged
from tasks.core.edit.cuts import filler_words
from tasks.core.edit.document import EDIT_BYTES, EditDocument, transcript_words
from tasks.core.edit.faults import SourceFacts
from tasks.core.edit.revisions import published
from tasks.core.edl import Edl, EdlClip
from tasks.core.media import MediaInfo
from tasks.core.object_keys import is_cache_index, job_key, job_uses, media_key
from tasks.core.transcript import TRANSCRIPT_JSON, Speech
from tasks.records import SharedSource

FACE_LOG_BYTES = 4 * 1024**2
MANIFEST_BYTES, EDL_BYTES, STATS_BYTES, TRANSCRIPT_BYTES = 1024**2, 4 * 1024**2, 256 * 1024, 64 * 1024**2


class _Language(BaseModel):
    code: str = ""


class _FaceLog(BaseModel):
    clips: list[LoggedClip] = Field(max_length=20)


class _Manifest(BaseModel):
    clips: list[EdlClip] = Field(max_length=20)
    language: _Language = _Language()


@dataclass(frozen=True)
class Revision:
    """A published revision. `folder` is where its files are, below the job's prefix; `manifest` is as stored."""

    folder: str
    document: EditDocument
    edl: Edl
    manifest: dict[str, Any]

    @property
    def language(self) -> str:
        """Whisper's code of the source's main language."""
        return str(self.manifest.get("language", {}).get("code", ""))


@dataclass(frozen=True)
class EditableSource:
    """The source of a job: its words, their language, and the SHA-256 and streams of its video."""

    video: str
    info: MediaInfo
    speech: Speech

    @cached_property
    def facts(self) -> SourceFacts:
        """What a document is checked against."""
        words = transcript_words(self.speech.segments)
        return SourceFacts(self.video, self.info.duration, words, filler_words(self.speech))


def read_revision(job_id: str, folder: str, store: ArtifactStore) -> Revision:
    """The revision in a folder below the job's prefix; in "" is the first one, as long as there is no other.

    Raises:
        ObjectMissing: the job has no document, as jobs of earlier versions, or the folder has no revision.
        StoreError: the bucket does not answer, or a document is malformed.
    """

    def read(name: str, most: int) -> bytes:
        return store.get_bounded(job_key(job_id, folder + name), most)

    written, derived = read("edit.json", EDIT_BYTES), read("edl.json", EDL_BYTES)
    shown = read("manifest.json", MANIFEST_BYTES)
    with _checked(job_id):
        document, edl = EditDocument.model_validate_json(written), Edl.model_validate_json(derived)
        manifest = _Manifest.model_validate_json(shown)
        if not folder:
            document = published(document, edl.clips, manifest.clips)
        return Revision(folder, document, edl, json.loads(shown))


def read_camera(job_id: str, revision: Revision, size: tuple[int, int], store: ArtifactStore) -> list[list[CameraView]]:
    """What the camera showed in each clip of the document, in its order.

    Args:
        size: width and height of the source's picture.

    Raises:
        StoreError: the bucket does not answer, or the log is malformed or missing.
    """
    written = store.get_bounded(job_key(job_id, f"{revision.folder}face_log.json"), FACE_LOG_BYTES)
    with _checked(job_id):
        log = _FaceLog.model_validate_json(written)
        shown = _Manifest.model_validate(revision.manifest).clips
        return [
            camera_views(clip, logged(log.clips, entry.index), size)
            for clip, entry in zip(revision.document.clips, shown, strict=True)
        ]


def read_source(job_id: str, revision: Revision, store: ArtifactStore) -> EditableSource:
    """What the job's documents are checked against.

    Raises:
        StoreError: the bucket does not answer, or a document is malformed or missing.
    """
    spoken = store.get_bounded(job_key(job_id, "transcript.json"), TRANSCRIPT_BYTES)
    with _checked(job_id):
        segments = TRANSCRIPT_JSON.validate_json(spoken)
    return EditableSource(revision.document.source.video, _info(job_id, store), Speech(segments, revision.language))


def find_media(job_id: str, video: str, store: ArtifactStore) -> SharedSource | None:
    """The job's source in the shared cache, or None if its video or the chosen sound is no longer there.

    Args:
        video: SHA-256 of the source's video.
    """
    info = _info(job_id, store)
    for key in store.list(job_uses(job_id)):
        _, kind, name = key.removeprefix(job_uses(job_id)).split("/", 2)
        if kind == "media":
            for index in filter(is_cache_index, store.list(media_key(name, "source-"))):
                found = _shared_source(index, store)
                if found and found.video.sha256 == video and found.info == info:
                    return found if store.has_all([found.video, found.audio]) else None
    return None


def _shared_source(index: str, store: ArtifactStore) -> SharedSource | None:
    try:
        return SharedSource.model_validate(store.get_json(index))
    except (ObjectMissing, ValidationError):
        return None


def _info(job_id: str, store: ArtifactStore) -> MediaInfo:
    """The streams of the job's source, with the sound that was chosen."""
    stats = store.get_bounded(job_key(job_id, "video_stats.json"), STATS_BYTES)
    with _checked(job_id):
        return MediaInfo.model_validate_json(stats)


@contextmanager
def _checked(job_id: str) -> Generator[None]:
    """Name a malformed document as a failure of the bucket's content."""
    try:
        yield
    except (ValueError, KeyError):  # a ValidationError is a ValueError
        raise StoreError(f"A document of {job_id} is malformed.") from None
