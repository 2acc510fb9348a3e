"""Corrects runs that look crashed although their work was done: their process was killed just after it had reported.

Prefect's page, its notifications and its counts would show a failure where there is none.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from infra.jobs.ids import JOB_ID
from infra.jobs.store import JobStore
from infra.states import JobState

logger = logging.getLogger(__name__)

LOOK_BACK_SECONDS = 900.0
"""How long ago a run may have crashed. A worker says so within a minute or, if it died too, the reconciler does."""
DONE = "The clips were published before the run's process died."


class CrashedRuns(Protocol):
    """Calls to the Prefect server; see `PrefectRuns`."""

    def crashed_since(self, since: float) -> list[dict[str, Any]]: ...

    def mark_completed(self, run_id: str, message: str) -> None: ...


@dataclass
class FinishedRuns:
    """Marks crashed runs as completed if their job, or its recut, has succeeded in them. Call `step` now and then."""

    jobs: JobStore
    runs: CrashedRuns
    clock: Callable[[], float] = time.time

    def step(self) -> list[str]:
        """Correct the runs that have crashed lately; return their ids.

        Raises:
            InfraError: Redis or the Prefect server does not answer.
        """
        finished = [
            run["id"] for run in self.runs.crashed_since(self.clock() - LOOK_BACK_SECONDS) if self._has_succeeded(run)
        ]
        for run_id in finished:
            self.runs.mark_completed(run_id, DONE)
            logger.warning("Run %s looked crashed: %s", run_id, DONE)
        return finished

    def _has_succeeded(self, run: dict[str, Any]) -> bool:
        """Whether the job that the run is named after, or its recut, has succeeded in this run."""
        job = self.jobs.get(run["name"]) if JOB_ID.fullmatch(run["name"]) else None
        works = (job, job.recut) if job else ()
        return any(work and work.flow_run_id == run["id"] and work.status is JobState.SUCCEEDED for work in works)
