"""UPLOAD: publishes the clips that meet the output contract, and then the manifest."""

from functools import partial
from importlib.metadata import version
from typing import Any

from prefect import task

from infra.bucket.store import ArtifactRef
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.edit.cuts import SourceWords, left_out
from tasks.core.edit.drawing import Drawing, asked_drawing
from tasks.core.edl import Edl, EdlClip, Span
from tasks.core.object_keys import job_key
from tasks.core.output.manifest import manifest
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.core.request import ClipRequest
from tasks.publication import store_clip
from tasks.records import (
    EdlRecord,
    PublishedClip,
    RenderRecord,
    SourceRecord,
    StageRecords,
    TranscriptRecord,
    UploadRecord,
)
from tasks.stages.ends import snap_ends
from tasks.stages.publish import Published, VerifiedClip, verify_clips
from tasks.stages.render import RenderedClip, RenderResult, render_clip
from tasks.workspace import Workspace, stage_workspace


@task(**task_arguments(Stage.UPLOAD, version=12))
def upload(
    job: JobRef,
    request: ClipRequest,
    options: RenderOptions,
    records: StageRecords,
) -> UploadRecord:
    """Check the clips, fix or replace those that fail, and publish the rest."""
    source, transcript, edl, rendered = records.source, records.transcript, records.edl, records.rendered
    with stage_workspace(job, Stage.UPLOAD) as work:
        result = RenderResult.model_validate_json(work.fetch(rendered.artifacts["renders"]).read_bytes())
        again: list[RenderedClip] = []

        def render_one(clip: EdlClip, correction: Correction) -> RenderedClip:
            drawn = next((made.drawing for made in result.clips if made.clip == clip), None)
            if drawn is None:
                taken = [span for made in [*result.clips, *again] for span in made.clip.segments]
                drawn = _spare_drawing(clip, taken, request, source, transcript, work)
            again.append(_render_again(drawn, correction, options, source, work))
            return again[-1]

        published = verify_clips(
            [*(_with_file(clip, rendered, work) for clip in result.clips), *result.failed],
            render_one,
            Edl.model_validate_json(work.fetch(edl.artifacts["edl"]).read_bytes()).reserve,
            options,
            longest=request.clip_duration_seconds,
            progress=lambda share: work.report_progress(share * 0.8, "checking"),
        )
        cameras = work.put_json("face_log.json", _face_log(again, result))
        return _publish(published, records, cameras, work)


def _publish(
    published: Published,
    records: StageRecords,
    cameras: ArtifactRef,
    work: Workspace,
) -> UploadRecord:
    """Store the clips, then the manifest, so that a prefix with a manifest is complete."""
    _unpublish(work)
    stages, transcript, edl = records.by_stage(), records.transcript, records.edl
    rendered = {ref.sha256: ref for ref in records.rendered.artifacts.values()}
    clips: dict[str, ArtifactRef] = {}
    for clip in published.clips:
        clips |= store_clip(clip, rendered.get(clip.sha256), "", work)
    warnings = [f"{name}: {text}" for name, record in stages.items() for text in record.warnings] + published.warnings
    stored = work.put_json(
        "manifest.json",
        manifest(
            work.job.job_id,
            [clip.entry for clip in published.clips],
            published.dropped,
            edl.selection,
            _models(transcript, edl),
            {str(name): record.seconds for name, record in stages.items()} | {"UPLOAD": work.seconds},
            warnings,
            revision=1,
            language={"code": transcript.language, "probability": transcript.language_probability},
            reused=[str(name) for name, record in stages.items() if record.reused],
        ),
    )
    return UploadRecord(
        artifacts={"manifest": stored, "face_log": cameras, **clips},
        seconds=work.seconds,
        warnings=warnings,
        clips=[_table_row(clip) for clip in published.clips],
        dropped=[f"clip {lost.index} ({lost.title}): {lost.reason}" for lost in published.dropped],
    )


def _spare_drawing(
    clip: EdlClip,
    taken: list[Span],
    request: ClipRequest,
    source: SourceRecord,
    transcript: TranscriptRecord,
    work: Workspace,
) -> Drawing:
    """A clip of the reserve, with its ends snapped to cuts, which SELECT does only for the chosen clips."""
    speech = work.speech(transcript)
    video, occupied = work.fetch(source.artifacts["video"]), [(span.start, span.end) for span in taken]
    unheard = partial(left_out, source=SourceWords.of(speech)) if request.tighten else None
    (snapped,) = snap_ends([clip], speech.segments, video, source.info, request.bounds, occupied, unheard)
    return asked_drawing(snapped, speech, request)


def _render_again(
    drawing: Drawing, correction: Correction, options: RenderOptions, source: SourceRecord, work: Workspace
) -> RenderedClip:
    work.report_progress(0.5, f"rendering clip {drawing.clip.index} again")
    return render_clip(drawing, work.footage(source), options, work.folder / "again", correction=correction)


def _with_file(clip: RenderedClip, rendered: RenderRecord, work: Workspace) -> RenderedClip:
    name = clip.path.name
    return clip.model_copy(update={"path": work.fetch_to(rendered.artifacts[name], f"checked/{name}")})


def _unpublish(work: Workspace) -> None:
    """Delete what an earlier attempt may have published, starting with the manifest."""
    manifest, clips = job_key(work.job.job_id, "manifest.json"), job_key(work.job.job_id, "clip_")
    for key in [manifest, *work.store.list(clips)]:
        work.store.delete(key)


def _face_log(again: list[RenderedClip], result: RenderResult) -> dict[str, Any]:
    """RENDER's face log, with the entries of the clips that were rendered again replaced."""
    logs = {log["index"]: log for log in result.face_log["clips"]} | {clip.clip.index: clip.face_log for clip in again}
    return result.face_log | {"clips": [logs[index] for index in sorted(logs)]}


def _models(transcript: TranscriptRecord, edl: EdlRecord) -> dict[str, Any]:
    return {
        "speech": transcript.model | {"engine": f"faster-whisper {version('faster-whisper')}"},
        "faces": f"YuNet 2023mar, OpenCV {version('opencv-python-headless')}",
        "selection": edl.selection.model,
        "encoder": f"imageio-ffmpeg {version('imageio-ffmpeg')}",
    }


def _table_row(clip: VerifiedClip) -> PublishedClip:
    return PublishedClip(
        file=clip.file,
        title=clip.clip.title,
        duration=clip.duration,
        size_bytes=clip.size_bytes,
        checks_passed=sum(check.ok for check in clip.checks),
        checks=len(clip.checks),
        score=clip.clip.score,
    )
