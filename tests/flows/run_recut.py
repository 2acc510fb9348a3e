"""Run the recut flow once: `run_recut.py JOB_ID REVISION ATTEMPT`.

`DIE_AT` makes the process kill itself with SIGKILL: `draw` when the first clip has been drawn and kept, `manifest` when
everything is written but not published, `publish` when readers see the revision but the job's own folder has the one
before, `copy` in the middle of bringing that up to date. `FAIL_CHECK` makes each drawn clip fail a check.
"""

import os
import signal
import sys
from typing import Any

from deployments import local_run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(method: Any) -> Any:
    def run(*args: Any, **named: Any) -> Any:
        result = method(*args, **named)
        die()
        return result

    return run


def die_at(place: str, job_id: str) -> None:
    from infra.bucket.store import ArtifactStore
    from infra.jobs.recuts import Recuts
    from infra.prefect.results import StageRecords

    if place == "draw":
        StageRecords.write_path = dying(StageRecords.write_path)
    elif place == "manifest":
        Recuts.publish = lambda *_: die()
    elif place == "publish":
        Recuts.publish = dying(Recuts.publish)
    elif place == "copy":
        copy = ArtifactStore.copy

        def copying(self: Any, ref: Any, key: str, *more: Any) -> Any:
            if key == f"jobs/{job_id}/edl.json":
                die()
            return copy(self, ref, key, *more)

        ArtifactStore.copy = copying
    else:
        raise ValueError(place)


def fail_checks() -> None:
    from tasks.core.output.check import Check
    from tasks.stages import publish

    publish.check_clip = lambda *_: [Check(name="mood", ok=False, measured="bad", wanted="good")]


if __name__ == "__main__":
    local_run.quiet_prefect()
    if place := os.environ.get("DIE_AT"):
        die_at(place, sys.argv[1])
    if os.environ.get("FAIL_CHECK"):
        fail_checks()
    from flows.recut import recut

    with local_run.sigterm_as_interrupt():
        print(recut(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
