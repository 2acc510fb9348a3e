"""The next revision of a job's clips: what is new in it, and how it is published. Needs no media code.

A revision is complete under `revisions/N/` before it is published, its manifest last. Then the job's own folder, which
others read by itself, is brought up to date: its manifest goes first and comes back last.

A run that draws on one of our machines does all of this itself. For one on a rented machine, the API does: such a
machine only draws clips.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from infra.bucket.store import ArtifactStore
from infra.errors import JobConflict, ObjectMissing
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore
from tasks.core.edit.document import EDIT_BYTES, EditDocument
from tasks.core.edit.faults import faults
from tasks.core.edit.revisions import RevisedClip, revised_clips
from tasks.core.edl import EdlClip
from tasks.core.errors import RecutRefused
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
from tasks.core.output.manifest import ClipEntry, manifest_entry
from tasks.revisions import Revision, read_revision, read_source

COPIES = 8
"""Objects copied at once: a copy within a distant bucket takes a tenth of a second, whatever its size."""


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


class DrawnClips(BaseModel):
    """What has been drawn for a revision in `seconds`: clips, whose files are in its folder, and their face log."""

    clips: list[ClipEntry] = Field(default_factory=list[ClipEntry])
    face_log: dict[str, Any] = Field(default_factory=lambda: {"clips": []})
    seconds: float = 0.0


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
        content = EditDocument.model_validate_json(store.get_bounded(_key(f"{folder}edit.json", job), EDIT_BYTES))
    except (ObjectMissing, ValidationError):
        raise RecutRefused("The new document did not arrive in the bucket.") from None
    if found := faults(content.model_dump(mode="json"), source.facts):
        raise RecutRefused(f"The new document is wrong: {found[0]}.")
    shown = [EdlClip.model_validate(entry) for entry in base.manifest["clips"]]
    return Recut(folder, base, content, revised_clips(content, base.document, shown, source.speech))


def prepare_revision(recut: Recut, job: JobRef, jobs: JobStore, store: ArtifactStore) -> None:
    """Keep the first revision in its own folder, and delete what recuts have left that failed after the published one.

    Raises:
        JobConflict: the recut has ended meanwhile, or another run makes it.
    """
    if not recut.base.folder:
        keep_first(recut, job, store)
        _check(job, is_done=jobs.recuts.keep(job.job_id, _number(job), job.attempt))
    discard_unpublished(job, recut.base.document.revision, store)


def publish_revision(recut: Recut, drawn: DrawnClips, job: JobRef, jobs: JobStore, store: ArtifactStore) -> None:
    """Write everything of the revision into its folder. From then on, readers see this revision and no other.

    Raises:
        JobConflict: the recut has ended meanwhile, or another run makes it.
    """
    write_revision(recut, drawn, job, store)
    _check(job, is_done=jobs.recuts.publish(job.job_id, _number(job), job.attempt))


def update_job_folder(job: JobRef, store: ArtifactStore) -> None:
    """Bring the job's own folder to the published revision. It has no manifest while its files change."""
    folder = revision_folder(_number(job))
    manifest = store.get_json(_key(f"{folder}manifest.json", job))
    names = [name for entry in manifest["clips"] for name in _files(entry).values()]
    store.delete(_key("manifest.json", job))
    for key in set(store.list(_key("clip_", job))) - {_key(name, job) for name in names}:
        store.delete(key)
    _copy({name: f"{folder}{name}" for name in [*names, "edl.json", "face_log.json", "edit.json"]}, job, store)
    _copy({"manifest.json": f"{folder}manifest.json"}, job, store)


def revised_manifest(recut: Recut, drawn: DrawnClips) -> dict[str, Any]:
    """The manifest of the revision."""
    made = {entry.clip.index: manifest_entry(entry) for entry in drawn.clips}
    entries = [made.get(revised.clip.index) or _kept_entry(revised, recut) for revised in recut.clips]
    return recut.base.manifest | {
        "revision": recut.document.revision,
        "clips": entries,
        "dropped": [],
        "warnings": [f"clip {entry['index']}: {text}" for entry in entries for text in entry["warnings"]],
        "timings": recut.base.manifest.get("timings", {}) | {"RECUT": drawn.seconds},
    }


def keep_first(recut: Recut, job: JobRef, store: ArtifactStore) -> None:
    """Copy the first revision to its own folder, before a later one replaces it; the manifest last."""
    names = [name for entry in recut.base.manifest["clips"] for name in _files(entry).values()]
    folder = revision_folder(recut.base.document.revision)
    _copy({f"{folder}{name}": name for name in [*names, "edl.json", "face_log.json"]}, job, store)
    store.put_json(_key(f"{folder}edit.json", job), recut.base.document)
    store.put_json(_key(f"{folder}manifest.json", job), recut.base.manifest | {"revision": 1})


def discard_unpublished(job: JobRef, published: int, store: ArtifactStore) -> None:
    """Delete what recuts have left that failed after the published revision."""
    for key in list(store.list(_key(REVISIONS, job))):
        number = key.removeprefix(_key(REVISIONS, job)).partition("/")[0]
        if number.isdigit() and published < int(number) < _number(job):
            store.delete(key)


def write_revision(recut: Recut, drawn: DrawnClips, job: JobRef, store: ArtifactStore) -> None:
    """Write the kept clips and the documents of the revision into its folder, the manifest last."""
    store.delete(_key(f"{recut.folder}manifest.json", job))
    kept = [(revised.kept, file_names(revised.clip.index)) for revised in recut.clips if revised.kept is not None]
    clips = recut.base.manifest["clips"]
    files = {
        recut.folder + new[kind]: recut.base.folder + name for n, new in kept for kind, name in _files(clips[n]).items()
    }
    _copy(files, job, store)
    edl = recut.base.edl.model_copy(update={"clips": [revised.clip for revised in recut.clips]})
    store.put_json(_key(f"{recut.folder}edl.json", job), edl)
    store.put_json(_key(f"{recut.folder}face_log.json", job), _face_log(recut, drawn, job, store))
    store.put_json(_key(f"{recut.folder}manifest.json", job), revised_manifest(recut, drawn))


def file_names(index: int) -> dict[str, str]:
    """The names of a clip's files, by their kind."""
    forms: dict[str, str] = {form: subtitle_name(index, form) for form in SUBTITLE_TYPES}
    return {"video": clip_name(index), "poster": poster_name(index)} | forms


def _files(entry: dict[str, Any]) -> dict[str, str]:
    """The names of the files of a clip in the manifest, by their kind. One of an earlier version may lack some."""
    subtitles: dict[SubtitleFormat, str] = entry.get("subtitles") or {}
    found = {"video": entry["file"], "poster": entry.get("poster")} | {
        form: subtitles.get(form) for form in SUBTITLE_TYPES
    }
    return {kind: name for kind, name in found.items() if name}


def _kept_entry(revised: RevisedClip, recut: Recut) -> dict[str, Any]:
    """The entry in the manifest of a clip that keeps its files, under the number that it has now."""
    before: dict[str, Any] = recut.base.manifest["clips"][revised.kept]
    names = {kind: name for kind, name in file_names(revised.clip.index).items() if kind in _files(before)}
    files = {
        "file": names["video"],
        "poster": names.get("poster"),
        "subtitles": {form: names[form] for form in SUBTITLE_TYPES if form in names},
    }
    segments = revised.clip.segments
    times = {"start": segments[0].start, "end": segments[-1].end}
    return {"warnings": []} | before | revised.clip.model_dump(mode="json") | times | files


def _face_log(recut: Recut, drawn: DrawnClips, job: JobRef, store: ArtifactStore) -> dict[str, Any]:
    """The face log of the published revision, with the clips that were drawn and under the numbers they have now."""
    before = store.get_json(_key(f"{recut.base.folder}face_log.json", job))
    logs = {log["index"]: log for log in before["clips"]}
    shown = recut.base.manifest["clips"]
    kept = [
        logs.get(shown[revised.kept]["index"], {}) | {"index": revised.clip.index}
        for revised in recut.clips
        if revised.kept is not None
    ]
    clips = sorted([*kept, *drawn.face_log["clips"]], key=lambda log: log["index"])
    return (drawn.face_log if drawn.clips else before) | {"clips": clips}


def _copy(sources: Mapping[str, str], job: JobRef, store: ArtifactStore) -> None:
    """Copy objects of the job to new names, several at once. What is already there is not copied again.

    Args:
        sources: what to copy, by the name that it gets.
    """

    def copy_one(target: str, source: str) -> None:
        ref, present = store.stat(_key(source, job)), store.stat(_key(target, job))
        if ref is None:
            raise ObjectMissing(f"{_key(source, job)} is not in the bucket.")
        if present is None or (present.sha256, present.size) != (ref.sha256, ref.size):
            store.copy(ref, _key(target, job))

    with ThreadPoolExecutor(COPIES) as pool:
        list(pool.map(copy_one, sources.keys(), sources.values()))


def _key(name: str, job: JobRef) -> str:
    return job_key(job.job_id, name)


def _number(job: JobRef) -> int:
    if job.revision is None:
        raise ValueError("not a run of a recut")
    return job.revision


def _check(job: JobRef, *, is_done: bool) -> None:
    if not is_done:
        raise JobConflict(f"The recut of {job.job_id} is no longer this run's.")
