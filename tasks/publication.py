"""Stores the files of a clip that is published."""

from concurrent.futures import ThreadPoolExecutor

from infra.bucket.store import ArtifactRef
from tasks.core.object_keys import SUBTITLE_TYPES, job_key
from tasks.stages.publish import VerifiedClip
from tasks.workspace import Workspace


def store_clip(clip: VerifiedClip, drawn: ArtifactRef | None, folder: str, work: Workspace) -> dict[str, ArtifactRef]:
    """Store a clip, its poster and its subtitles, all at once, in a folder below the job's prefix.

    Returns them by file name. `drawn` is the same clip in the bucket, which is then copied there, or None.
    """

    def key(name: str) -> str:
        return job_key(work.job.job_id, folder + name)

    def put_video() -> ArtifactRef:
        if drawn:
            return work.store.copy(drawn, key(clip.file))
        return work.store.put_file(key(clip.file), clip.path, sha256=clip.sha256)

    with ThreadPoolExecutor(len(clip.subtitles) + 2) as pool:
        puts = {
            name: pool.submit(work.store.put_bytes, key(name), clip.subtitle_texts[form].encode(), SUBTITLE_TYPES[form])
            for form, name in clip.subtitles.items()
        }
        puts[clip.poster] = pool.submit(work.store.put_file, key(clip.poster), clip.poster_path)
        puts[clip.file] = pool.submit(put_video)
    return {name: put.result() for name, put in puts.items()}
