"""Recut: makes a new revision of a job's clips. Only clips that have changed are drawn; the others keep their files.

A revision is complete under `revisions/N/` before it is published, its manifest last. Then the job's own folder, which
others read by itself, is brought up to date: its manifest goes first and comes back last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import ObjectMissing
from infra.jobs.record import JobRef
from tasks.core.edit.document import EDIT_BYTES, EditDocument
from tasks.core.edit.faults import faults
from tasks.core.edit.revisions import RevisedClip, revised_clips
from tasks.core.edl import EdlClip
from tasks.core.errors import NoClips, RecutRefused
from tasks.core.object_keys import (
    REVISIONS,
    SUBTITLE_TYPES,
    SubtitleFormat,
    clip_name,
    job_key,
    poster_name,
    revision_folder,
    subtitle_name,
)
from tasks.core.output.manifest import manifest_entry
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.draw import draw_all
from tasks.publication import store_clip
from tasks.records import SourceRecord
from tasks.revisions import Revision, read_revision, read_source
from tasks.stages.publish import Published, VerifiedClip, verify_clips
from tasks.stages.render import RenderedClip, RenderResult, render_clip
from tasks.workspace import Workspace

DRAWN, CHECKED = 0.8, 0.95
"""Shares of a recut that are done when the clips have been drawn and checked."""


@dataclass(frozen=True)
class Recut:
    """What a recut makes: the clips of the document, each kept from the published revision or drawn.

    `folder` is where it goes, below the job's prefix.
    """

    folder: str
    base: Revision
    document: EditDocument
    clips: list[RevisedClip]

    @property
    def drawn(self) -> list[RevisedClip]:
        return [clip for clip in self.clips if clip.kept is None]


def plan_recut(job: JobRef, published: int | None, store: ArtifactStore) -> Recut:
    """What must be done for the revision of `job`.

    Args:
        published: the job's published revision, or None if there is only the first, in the job's own folder.

    Raises:
        RecutRefused: the document is missing or does not fit the job.
        StoreError: the bucket does not answer.
    """
    folder = revision_folder(_number(job))
    base = read_revision(job.job_id, revision_folder(published) if published else "", store)
    source = read_source(job.job_id, base, store)
    try:
        content = EditDocument.model_validate_json(
            store.get_bounded(job_key(job.job_id, f"{folder}edit.json"), EDIT_BYTES)
        )
    except (ObjectMissing, ValidationError):
        raise RecutRefused("The new document did not arrive in the bucket.") from None
    if found := faults(content.model_dump(mode="json"), source.facts):
        raise RecutRefused(f"The new document is wrong: {found[0]}.")
    shown = [EdlClip.model_validate(entry) for entry in base.manifest["clips"]]
    return Recut(folder, base, content, revised_clips(content, base.document, shown, source.speech))


def keep_first(recut: Recut, job: JobRef, store: ArtifactStore) -> None:
    """Copy the first revision to its own folder, before a later one replaces it; the manifest last."""
    names = [name for entry in recut.base.manifest["clips"] for name in _files(entry)]
    folder = revision_folder(recut.base.document.revision)
    _copy([*names, "edl.json", "face_log.json"], "", folder, job, store)
    store.put_json(job_key(job.job_id, f"{folder}edit.json"), recut.base.document)
    store.put_json(job_key(job.job_id, f"{folder}manifest.json"), recut.base.manifest | {"revision": 1})


def draw_and_check(
    recut: Recut, options: RenderOptions, source: SourceRecord | None, work: Workspace
) -> tuple[Published, dict[str, ArtifactRef], RenderResult]:
    """Draw the changed clips, and check them against the output contract. Without any, no source is needed.

    Returns the checked clips, those stored in the bucket by SHA-256, and what was drawn.

    Raises:
        RecutRefused: a clip cannot be drawn or fails a check.
    """
    if source is None:
        return Published(clips=[]), {}, RenderResult(clips=[], face_log={"clips": []})
    return _draw_and_check(recut, options, source, work)


def _draw_and_check(
    recut: Recut, options: RenderOptions, source: SourceRecord, work: Workspace
) -> tuple[Published, dict[str, ArtifactRef], RenderResult]:
    wanted = [clip.drawing for clip in recut.drawn]

    def tell(begin: float, end: float, message: str) -> Callable[[float], None]:
        return lambda share: work.report_progress(begin + (end - begin) * share, message)

    result, stored = draw_all(work.job, wanted, options, source, work, tell(0, DRAWN, "drawing"))
    if result.failed:
        raise RecutRefused(_refused([(lost.clip.index, lost.reason) for lost in result.failed]))

    def render_one(clip: EdlClip, correction: Correction) -> RenderedClip:
        drawing = next(made.drawing for made in result.clips if made.clip == clip)
        return render_clip(drawing, work.footage(source), options, work.folder / "again", correction=correction)

    clips = [_with_file(clip, stored, work) for clip in result.clips]
    try:
        checked = verify_clips(clips, render_one, [], options, None, tell(DRAWN, CHECKED, "checking"), by_person=True)
    except NoClips as error:
        raise RecutRefused(error.message) from None
    if checked.dropped:
        raise RecutRefused(_refused([(lost.index, lost.reason) for lost in checked.dropped]))
    return checked, {ref.sha256: ref for ref in stored.values()}, result


def write_revision(
    recut: Recut, checked: Published, drawn: dict[str, ArtifactRef], result: RenderResult, work: Workspace
) -> None:
    """Write everything of the revision into its folder, the manifest last."""
    work.store.delete(_key(f"{recut.folder}manifest.json", work.job))
    made = {clip.clip.index: clip for clip in checked.clips}
    entries = [_store(revised, made.get(revised.clip.index), drawn, recut, work) for revised in recut.clips]
    edl = recut.base.edl.model_copy(update={"clips": [revised.clip for revised in recut.clips]})
    work.store.put_json(_key(f"{recut.folder}edl.json", work.job), edl)
    work.store.put_json(_key(f"{recut.folder}face_log.json", work.job), _face_log(recut, result, work))
    changed = {
        "revision": recut.document.revision,
        "clips": entries,
        "dropped": [],
        "warnings": [f"clip {entry['index']}: {text}" for entry in entries for text in entry["warnings"]],
        "timings": recut.base.manifest.get("timings", {}) | {"RECUT": work.seconds},
    }
    work.store.put_json(_key(f"{recut.folder}manifest.json", work.job), recut.base.manifest | changed)


def update_job_folder(job: JobRef, store: ArtifactStore) -> None:
    """Bring the job's own folder to the published revision. It has no manifest while its files change."""
    folder = revision_folder(_number(job))
    manifest = store.get_json(_key(f"{folder}manifest.json", job))
    names = [name for entry in manifest["clips"] for name in _files(entry)]
    store.delete(_key("manifest.json", job))
    for key in set(store.list(_key("clip_", job))) - {_key(name, job) for name in names}:
        store.delete(key)
    _copy([*names, "edl.json", "face_log.json", "edit.json", "manifest.json"], folder, "", job, store)


def discard_unpublished(job: JobRef, published: int, store: ArtifactStore) -> None:
    """Delete what recuts have left that failed after the published revision."""
    for key in list(store.list(_key(REVISIONS, job))):
        number = key.removeprefix(_key(REVISIONS, job)).partition("/")[0]
        if number.isdigit() and published < int(number) < _number(job):
            store.delete(key)


def _store(
    revised: RevisedClip, made: VerifiedClip | None, drawn: dict[str, ArtifactRef], recut: Recut, work: Workspace
) -> dict[str, Any]:
    """Store a clip's files in the revision's folder, and return its entry in the manifest."""
    if made:
        store_clip(made, drawn.get(made.sha256), recut.folder, work)
        return manifest_entry(made.entry)
    before: dict[str, Any] = recut.base.manifest["clips"][revised.kept]
    index = revised.clip.index
    forms: dict[SubtitleFormat, str] = {form: subtitle_name(index, form) for form in SUBTITLE_TYPES}
    files = {"file": clip_name(index), "poster": poster_name(index), "subtitles": forms}
    for old, new in zip(_files(before), _files(files), strict=True):
        _copy_one(recut.base.folder + old, recut.folder + new, work.job, work.store)
    segments = revised.clip.segments
    times = {"start": segments[0].start, "end": segments[-1].end}
    return before | revised.clip.model_dump(mode="json") | times | files


def _files(entry: dict[str, Any]) -> list[str]:
    """The names of a clip's files: its video, poster and subtitles."""
    return [entry["file"], entry["poster"], *(entry["subtitles"][form] for form in SUBTITLE_TYPES)]


def _face_log(recut: Recut, result: RenderResult, work: Workspace) -> dict[str, Any]:
    """The face log of the published revision, with the clips that were drawn and under the numbers they have now."""
    before = work.store.get_json(_key(f"{recut.base.folder}face_log.json", work.job))
    logs = {log["index"]: log for log in before["clips"]}
    shown = recut.base.manifest["clips"]
    kept = [
        logs.get(shown[revised.kept]["index"], {}) | {"index": revised.clip.index}
        for revised in recut.clips
        if revised.kept is not None
    ]
    clips = sorted([*kept, *result.face_log["clips"]], key=lambda log: log["index"])
    return (result.face_log if result.clips else before) | {"clips": clips}


def _with_file(clip: RenderedClip, stored: dict[str, ArtifactRef], work: Workspace) -> RenderedClip:
    name = clip.path.name
    return clip.model_copy(update={"path": work.fetch_to(stored[name], f"checked/{name}")})


def _refused(reasons: list[tuple[int, str]]) -> str:
    return "; ".join(f"Clip {index}: {reason}" for index, reason in reasons).removesuffix(".") + "."


def _copy(names: list[str], source: str, target: str, job: JobRef, store: ArtifactStore) -> None:
    for name in names:
        _copy_one(source + name, target + name, job, store)


def _copy_one(source: str, target: str, job: JobRef, store: ArtifactStore) -> None:
    ref = store.stat(_key(source, job))
    if ref is None:
        raise ObjectMissing(f"{_key(source, job)} is not in the bucket.")
    store.copy(ref, _key(target, job))


def _key(name: str, job: JobRef) -> str:
    return job_key(job.job_id, name)


def _number(job: JobRef) -> int:
    if job.revision is None:
        raise ValueError("not a run of a recut")
    return job.revision
