"""Run the flow once: `run_clip.py JOB_ID REQUEST_JSON`. With `-` as id it runs without one, as from the Prefect UI.

`DIE_IN=STAGE` makes the process kill itself with SIGKILL in that stage, right after the stage has
written its first artifact, when most is half done. `DIE_IN=RECORD` does so after UPLOAD has
published everything and before it writes its record. `STOP_IN=STAGE` sends the process SIGTERM
at the same moment and swallows what the signal raises, as some libraries do.
`DIE_AFTER_CLIP=N` makes it kill itself when clip N has been drawn and kept.
`FAIL_CLIP=N` kills the first encoder of clip N, as a machine short of memory does.
`LOSE_END` loses the report that the job has ended. `LOSE_SOURCE=STAGE` deletes the source from the shared cache at that
moment.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from deployments import local_run
from tasks.core.request import ClipRequest


def stop_and_swallow() -> None:
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lose_source() -> None:
    from infra import settings
    from infra.bucket.store import ArtifactStore

    ArtifactStore.from_settings(settings.load()).delete_all("cache/media/")


def end_in(stage: str, end: Callable[[], None]) -> None:
    from infra.bucket.store import ArtifactStore
    from infra.jobs.reports import stage_reports
    from infra.prefect.results import StageRecords
    from tasks import workspace

    if stage == "RECORD":
        write_record = StageRecords.write_path

        def ending(self, path, content, **more):
            if "/upload-" in path:
                end()
            return write_record(self, path, content, **more)

        StageRecords.write_path = ending
        return

    begun: list[str] = []

    def noting(job, current, to):
        begun.append(current)
        return stage_reports(job, current, to)

    workspace.stage_reports = noting
    for name in ("put_json", "put_file"):
        write = getattr(ArtifactStore, name)

        def ending(self, *args, write=write, **named):
            ref = write(self, *args, **named)
            if begun and begun[-1] == stage:
                end()
            return ref

        setattr(ArtifactStore, name, ending)


def die_after_clip(number: int) -> None:
    from infra.prefect.results import StageRecords

    write_record, written = StageRecords.write_path, list[str]()

    def ending(self, path, content, **more):
        write_record(self, path, content, **more)
        if "/clip-" in path:
            written.append(path)
        if len(written) == number:
            die()

    StageRecords.write_path = ending


def fail_clip(number: int) -> None:
    from tasks import draw
    from tasks.core.errors import ProgramStopped
    from tasks.stages.render import render_clip

    failed: list[int] = []

    def failing(drawing, *rest):
        if drawing.clip.index == number and not failed:
            failed.append(number)
            raise ProgramStopped("ffmpeg was killed by signal 9")
        return render_clip(drawing, *rest)

    draw.render_clip = failing


def lose_end() -> None:
    from flows import lifecycle

    lifecycle.report_end = lambda *_: False


if __name__ == "__main__":
    local_run.quiet_prefect()
    if stage := os.environ.get("DIE_IN"):
        end_in(stage, die)
    if stage := os.environ.get("STOP_IN"):
        end_in(stage, stop_and_swallow)
    if stage := os.environ.get("LOSE_SOURCE"):
        end_in(stage, lose_source)
    if clip := os.environ.get("DIE_AFTER_CLIP"):
        die_after_clip(int(clip))
    if clip := os.environ.get("FAIL_CLIP"):
        fail_clip(int(clip))
    if os.environ.get("LOSE_END"):
        lose_end()
    with local_run.sigterm_as_interrupt():
        request = ClipRequest.model_validate_json(sys.argv[2])
        if sys.argv[1] == "-":
            from flows.clip import clip

            print(clip(request))
        else:
            print(local_run.run_flow(request, sys.argv[1]).model_dump_json())
