"""Run the flow once: `run_clip.py JOB_ID REQUEST_JSON`; with `-` as id, as the Prefect UI would.

`DIE_IN=STAGE` makes the process kill itself with SIGKILL in that stage, just after it has
written its first artifact: the moment at which most is half done. `DIE_IN=RECORD` does so when
UPLOAD has published everything and its record is about to be written.
"""

import os
import signal
import sys

from deployments import local_run
from tasks.core.request import ClipRequest


def die_in(stage: str) -> None:
    from infra.bucket.store import ArtifactStore
    from infra.jobs.reports import stage_reports
    from infra.prefect.results import StageRecords
    from tasks import workspace

    if stage == "RECORD":
        write_record = StageRecords.write_path

        def dying(self, path, content, **more):
            if "/upload-" in path:
                os.kill(os.getpid(), signal.SIGKILL)
            return write_record(self, path, content, **more)

        StageRecords.write_path = dying
        return

    begun: list[str] = []

    def noting(job, current, to):
        begun.append(current)
        return stage_reports(job, current, to)

    workspace.stage_reports = noting
    for name in ("put_json", "put_file"):
        write = getattr(ArtifactStore, name)

        def killing(self, *args, write=write, **named):
            ref = write(self, *args, **named)
            if begun and begun[-1] == stage:
                os.kill(os.getpid(), signal.SIGKILL)
            return ref

        setattr(ArtifactStore, name, killing)


if __name__ == "__main__":
    local_run.quiet_prefect()
    if stage := os.environ.get("DIE_IN"):
        die_in(stage)
    with local_run.unwound_on_sigterm():
        request = ClipRequest.model_validate_json(sys.argv[2])
        if sys.argv[1] == "-":
            from flows.clip import clip

            print(clip(request))
        else:
            print(local_run.run_flow(request, sys.argv[1]).model_dump_json())
