"""Recut: draws the clips that a new revision of a job's document changes. The others keep their files."""

from collections.abc import Callable

from infra.bucket.store import ArtifactRef
from tasks.core.edl import EdlClip
from tasks.core.errors import NoClips, RecutRefused
from tasks.core.output.render_plan import Correction, RenderOptions
from tasks.draw import draw_all
from tasks.next_revision import DrawnClips, Recut
from tasks.publication import store_clip
from tasks.records import SourceRecord
from tasks.stages.publish import verify_clips
from tasks.stages.render import RenderedClip, render_clip
from tasks.workspace import Workspace

DRAWN, CHECKED = 0.8, 0.95
"""Shares of a recut that are done when the clips have been drawn and checked."""


def draw_and_check(recut: Recut, options: RenderOptions, source: SourceRecord | None, work: Workspace) -> DrawnClips:
    """Draw the changed clips, check them against the output contract, and store their files in the revision's folder.

    Without changed clips, no source is needed.

    Raises:
        RecutRefused: a clip cannot be drawn or fails a check.
    """
    return _draw_and_check(recut, options, source, work) if source else DrawnClips(seconds=work.seconds)


def _draw_and_check(recut: Recut, options: RenderOptions, source: SourceRecord, work: Workspace) -> DrawnClips:
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
    drawn = {ref.sha256: ref for ref in stored.values()}
    for clip in checked.clips:
        store_clip(clip, drawn.get(clip.sha256), recut.folder, work)
    return DrawnClips(clips=[clip.entry for clip in checked.clips], face_log=result.face_log, seconds=work.seconds)


def _with_file(clip: RenderedClip, stored: dict[str, ArtifactRef], work: Workspace) -> RenderedClip:
    name = clip.path.name
    return clip.model_copy(update={"path": work.fetch_to(stored[name], f"checked/{name}")})


def _refused(reasons: list[tuple[int, str]]) -> str:
    return "; ".join(f"Clip {index}: {reason}" for index, reason in reasons).removesuffix(".") + "."
