"""Verifies what a rented machine has drawn for a recut, and publishes the revision.

The machine only draws. Which clips, in which order, with which titles and words: all that is computed on our side, from
the document that a person has sent, and compared with what the machine says. Clips that it did not have to draw are
copied from the published revision.
"""

import json
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from deployments.api.job_documents import MANIFEST_BYTES
from deployments.api.rented_machine.acceptance import (
    MachineClip,
    OutputRejected,
    check_servable,
    publish_files,
    read_document,
)
from infra.bucket.store import ArtifactStore
from infra.errors import JobConflict
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore
from tasks.core.edl import EdlClip
from tasks.core.errors import RecutRefused
from tasks.core.object_keys import SUBTITLE_TYPES, job_key
from tasks.core.output.check import LENGTH_TOLERANCE
from tasks.core.output.manifest import ClipEntry
from tasks.handover import drawn_key
from tasks.next_revision import (
    DrawnClips,
    Recut,
    file_names,
    plan_recut,
    prepare_revision,
    publish_revision,
    revised_manifest,
    update_job_folder,
)

DRAWN_BYTES = 4 * 1024**2
"""Largest list of drawn clips, with their face log."""


class _FaceLogEntry(BaseModel):
    index: Annotated[int, Field(strict=True)]


class _FaceLog(BaseModel):
    clips: list[_FaceLogEntry]


def accept_recut(run: JobRef, jobs: JobStore, bucket: ArtifactStore) -> None:
    """Verify and publish the clips that the run's machine has drawn. After a crash it can be repeated.

    Call it while holding the job's lease.

    Raises:
        OutputRejected: a check failed. Readers see what they saw before.
        JobConflict: the recut has ended meanwhile.
        StoreError: the bucket does not answer; try again.
    """
    job = jobs.get(run.job_id)
    if job is None:
        raise JobConflict(f"Job {run.job_id} was deleted.")
    if job.revision != run.revision:  # an API process may have published it and died
        try:
            planned = plan_recut(run, job.revision, bucket)
        except RecutRefused as refused:
            raise OutputRejected(refused.message) from None
        drawn = _verified(planned, run, bucket)
        prepare_revision(planned, run, jobs, bucket)
        publish_revision(planned, drawn, run, jobs, bucket)
    update_job_folder(run, bucket)


def _verified(planned: Recut, run: JobRef, bucket: ArtifactStore) -> DrawnClips:
    """The drawn clips, once their files are copied to the revision's folder and checked there."""
    drawn = _read_drawn(run, bucket)
    wanted = {revised.clip.index: revised.clip for revised in planned.drawn}
    indexes = [entry.clip.index for entry in drawn.clips]
    if sorted(indexes) != sorted(wanted):
        raise OutputRejected("It has not drawn the clips that the document changes.")
    _check_face_log(drawn.face_log, indexes)
    clips = [_checked_entry(entry, wanted[entry.clip.index]) for entry in drawn.clips]
    checked = drawn.model_copy(update={"clips": clips})
    document = _encoded(revised_manifest(planned, checked))
    if len(document) > MANIFEST_BYTES:
        raise OutputRejected("What it says of its clips is too large.")
    check_servable(document)
    for entry in clips:
        publish_files(_files_of(entry), planned.folder, run.job_id, bucket)
    return checked


def _read_drawn(run: JobRef, bucket: ArtifactStore) -> DrawnClips:
    name = drawn_key(run).removeprefix(job_key(run.job_id, ""))
    _, content = read_document(name, run.job_id, bucket, DRAWN_BYTES)
    try:
        drawn = DrawnClips.model_validate(content)
    except ValidationError:
        raise OutputRejected("Its list of clips is malformed.") from None
    _encoded(drawn.model_dump(mode="json"))
    return drawn


def _checked_entry(entry: ClipEntry, clip: EdlClip) -> ClipEntry:
    """Our clip, with what only the machine can know: its files' sizes, and how it was drawn and measured."""
    if abs(entry.duration - clip.duration) > LENGTH_TOLERANCE:
        raise OutputRejected("A clip does not have the length that the document says.")
    names = file_names(clip.index)
    files = {"file": names["video"], "poster": names["poster"]}
    return entry.model_copy(update={"clip": clip, **files, "subtitles": {form: names[form] for form in SUBTITLE_TYPES}})


def _files_of(entry: ClipEntry) -> MachineClip:
    try:
        return MachineClip.model_validate(entry.model_dump(include=set(MachineClip.model_fields)))
    except ValidationError:
        raise OutputRejected("Its list of clips is malformed.") from None


def _check_face_log(log: dict[str, Any], indexes: list[int]) -> None:
    try:
        found = _FaceLog.model_validate(log).clips
    except ValidationError:
        raise OutputRejected("Its face log is malformed.") from None
    if sorted(entry.index for entry in found) != sorted(indexes):
        raise OutputRejected("Its face log is about other clips.")


def _encoded(content: Any) -> bytes:
    """The content as it would be stored."""
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2).encode()
    except (UnicodeEncodeError, ValueError):
        raise OutputRejected("Its list of clips is malformed.") from None
