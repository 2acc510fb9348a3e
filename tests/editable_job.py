"""What a job with two clips has in the bucket when it has succeeded, without running it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.bucket.store import ArtifactStore
from tasks.core.edit.document import first_revision
from tasks.core.edl import Edl, EdlClip, Selection, Span
from tasks.core.media import MediaInfo
from tasks.core.object_keys import clip_name, job_key, poster_name, source_key, subtitle_name
from tasks.core.transcript import TRANSCRIPT_JSON, Segment, Word
from tasks.records import SharedSource
from tasks.shared_cache import mark_use

WORDS = [Word(word=f"word{i}", start=i / 2, end=i / 2 + 0.4) for i in range(1200)]
INFO = MediaInfo(duration=600.1, size_bytes=10, container="mp4", width=1280, height=720, fps=25)
CHOSEN = [
    EdlClip(index=i, title="t", hook="h", segments=[Span(start=50 * i, end=50 * i + 30, text="said")]) for i in (1, 2)
]
SPARE = EdlClip(index=2, title="spare", hook="", segments=[Span(start=300, end=330, text="said")])


@dataclass(frozen=True)
class Talk:
    """A source, the words said in it, and the clips chosen from it. `clip` is the content of every clip, if any."""

    video: bytes = b"video of the source"
    info: MediaInfo = INFO
    words: Sequence[Word] = tuple(WORDS)
    chosen: Sequence[EdlClip] = tuple(CHOSEN)
    clip: bytes | None = None


TALK = Talk()


def content(index: int) -> bytes:
    """The bytes of a published clip."""
    return f"clip {index} ".encode() * 1000


def entry(clip: EdlClip, sha256: str = "c" * 64) -> dict[str, Any]:
    """A clip as in UPLOAD's manifest."""
    return clip.model_dump(mode="json") | {
        "start": clip.segments[0].start,
        "end": clip.segments[-1].end,
        "file": clip_name(clip.index),
        "poster": poster_name(clip.index),
        "subtitles": {form: subtitle_name(clip.index, form) for form in ("srt", "vtt")},
        "duration": clip.duration,
        "size_bytes": len(content(clip.index)),
        "sha256": sha256,
        "checks": [],
        "encoder": "libx264",
        "encoder_reason": "",
        "gain_db": 0.0,
        "history": [],
        "warnings": [],
    }


def store_published(
    job_id: str,
    bucket: ArtifactStore,
    shown: Sequence[EdlClip] | None = None,
    talk: Talk = TALK,
    folder: str = "",
) -> None:
    """Put what the stages leave behind into a folder below the job's prefix, and the source into the shared cache.

    `shown` are the published clips; None means all that were chosen.
    """
    shown = talk.chosen if shown is None else shown
    index = source_key(job_id)
    mark_use(index, job_id, bucket)
    media = {
        name: bucket.put_bytes(f"cache/media/{job_id}/{name}", data, "video/mp4")
        for name, data in (("video.mp4", talk.video), ("audio.m4a", b"audio"))
    }
    shared = SharedSource(
        video=media["video.mp4"],
        audio=media["audio.m4a"],
        audio_made="",
        info=talk.info,
        loudness=-14,
        tracks=[],
        warnings=[],
    )
    bucket.put_json(index, shared)
    document = first_revision(talk.chosen, shared.video.sha256, talk.words)
    edl = Edl(job_id=job_id, clips=list(talk.chosen), reserve=[SPARE], selection=Selection(mode="heuristic"))
    half = len(talk.words) // 2
    documents = {
        "edit.json": document.model_dump(mode="json"),
        "edl.json": edl.model_dump(mode="json"),
        "face_log.json": {"clips": [{"index": clip.index} for clip in shown]},
        "video_stats.json": talk.info.model_dump(mode="json") | {"loudness": {"integrated_lufs": -14}},
        "transcript.json": TRANSCRIPT_JSON.dump_python(
            [
                Segment(text="", start=0, duration=600, words=list(talk.words[:half])),
                Segment(text="", start=0, duration=600, words=list(talk.words[half:])),
            ],
            mode="json",
        ),
    }
    for name, value in documents.items():
        bucket.put_json(job_key(job_id, folder + name), value)
    entries: list[dict[str, Any]] = []
    for clip in shown:
        data = talk.clip or content(clip.index)
        stored = bucket.put_bytes(job_key(job_id, folder + clip_name(clip.index)), data, "video/mp4")
        entries.append(entry(clip, stored.sha256) | {"size_bytes": len(data)})
        for name in (poster_name(clip.index), subtitle_name(clip.index, "srt"), subtitle_name(clip.index, "vtt")):
            bucket.put_bytes(job_key(job_id, folder + name), name.encode(), "text/plain")
    language = {"code": "en", "probability": 1.0}
    manifest = {"job_id": job_id, "clips": entries, "selection": {"mode": "heuristic"}, "language": language}
    bucket.put_json(
        job_key(job_id, f"{folder}manifest.json"), manifest | {"dropped": [], "warnings": [], "timings": {}}
    )
