"""Stores the files of a clip that is published."""

from infra.bucket.store import ArtifactRef
from tasks.core.object_keys import SUBTITLE_TYPES, job_key
from tasks.stages.publish import VerifiedClip
from tasks.workspace import Workspace


def store_clip(clip: VerifiedClip, drawn: ArtifactRef | None, folder: str, work: Workspace) -> dict[str, ArtifactRef]:
    """Store a clip, its poster and its subtitles in a folder below the job's prefix; return them by file name.

    `drawn` is the same clip in the bucket, which is then copied there, or None.
    """

    def key(name: str) -> str:
        return job_key(work.job.job_id, folder + name)

    stored = {
        name: work.store.put_bytes(key(name), clip.subtitle_texts[form].encode(), SUBTITLE_TYPES[form])
        for form, name in clip.subtitles.items()
    }
    stored[clip.poster] = work.store.put_file(key(clip.poster), clip.poster_path)
    if drawn:
        stored[clip.file] = work.store.copy(drawn, key(clip.file))
    else:
        stored[clip.file] = work.store.put_file(key(clip.file), clip.path, sha256=clip.sha256)
    return stored
