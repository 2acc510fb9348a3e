"""What commands share that work on this machine: a running stack, its jobs, a run with progress bars, its result."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.logging import RichHandler

from deployments import console, local_run
from deployments.cli import validate
from deployments.cli.options import PREFECT_PORT
from deployments.cli.printing import FinishedJob, print_document
from infra import settings
from infra.errors import ConfigError
from infra.local.services import SERVERS, Service
from infra.states import JobState
from tasks.core.errors import BadRequest, ClipError
from tasks.core.request import ClipRequest

if TYPE_CHECKING:
    from infra.jobs.store import JobStore
    from infra.local.stack import LocalStack


@contextmanager
def stack_for_command(verbose: bool, services: tuple[Service, ...] = SERVERS) -> Generator["LocalStack"]:
    """A running stack, or one started for this command."""
    from infra.jobs import schema  # noqa: PLC0415 help and rejected input need neither
    from infra.local.stack import LocalStack  # noqa: PLC0415

    local_run.quiet_prefect()
    shown_from = logging.INFO if verbose else logging.CRITICAL
    handler = RichHandler(shown_from, console=console.console, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    with (
        local_run.sigterm_as_interrupt(),
        console.console.status("Starting") as shown,
        LocalStack(settings.load(), services, progress=shown.update) as stack,
    ):
        shown.stop()
        stack.apply()
        schema.update(stack.settings)
        yield stack


def job_store() -> "JobStore":
    from infra.jobs.store import JobStore  # noqa: PLC0415

    jobs = JobStore.from_settings(settings.load())
    if jobs is None:
        raise ConfigError("REDIS_URL is empty; unset it to use the embedded Redis.")
    return jobs


def unknown_job(job: str) -> BadRequest:
    folder = settings.load().data_dir
    return BadRequest(f"There is no job {job} in {folder}.", "To see recent jobs: kangklip list")


def run_job(request: ClipRequest, job_id: str, out: Path) -> tuple[FinishedJob, str]:
    """Run the job with progress bars and copy its results; also return the path of its run in the Prefect UI."""
    from infra.jobs.events import JobEvents  # noqa: PLC0415

    jobs = job_store()
    jobs.create(job_id, request.model_dump_json(exclude_none=True))
    known = jobs.get(job_id)
    folder = out / job_id
    console.note(f"Job {job_id}")
    if known is None or known.status is not JobState.SUCCEEDED:
        try:
            with console.progress_bars(JobEvents(jobs.connection), job_id):
                local_run.run_flow(request, job_id)
        except ClipError:
            local_run.export(job_id, folder)
            console.note(f"Partial results are in {folder}")
            raise
        except BaseException:
            console.note(f"To continue: kangklip resume {job_id}")
            raise
    return FinishedJob(job_id, folder, local_run.export(job_id, folder)), local_run.run_path(job_id)


def run_remotely(api: str, source: str, options: dict[str, Any], out: Path) -> FinishedJob:
    """Have another machine's API run the job, and fetch its results."""
    from deployments.cli import remote  # noqa: PLC0415 loads httpx

    video = source if validate.is_address(source) else validate.local_path(source)
    return remote.clip(remote.client(validate.api_address(api)), video, options, out)


def print_result(finished: FinishedJob, *, as_json: bool) -> None:
    if as_json:
        print_document(finished.document())
    else:
        finished.show()
    for line in [*finished.manifest["warnings"], *finished.manifest["dropped"]]:
        console.note(f"! {line}")


def show_result(finished: FinishedJob, path: str, stack: "LocalStack", *, as_json: bool) -> None:
    """Print the result and how to see the run in the Prefect UI."""
    print_result(finished, as_json=as_json)
    if stack.stays_up(Service.PREFECT):
        console.note(f"Run in the Prefect UI: {local_run.prefect_ui()}{path}")
    else:
        console.note(f"To see the run in the Prefect UI: kangklip up, then http://127.0.0.1:{PREFECT_PORT}{path}")
