"""The command line: kangklip clip | resume | status | up | api | deploy | doctor | demo | job | backup | restore."""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.logging import RichHandler

from deployments import backup, console, local_run
from infra import disk, schema, settings
from infra.errors import ConfigError, InfraError
from infra.jobs import JobStore, new_job_id
from infra.local.parts import Part
from infra.local.stack import SERVERS, LocalStack
from infra.states import JobState
from tasks.core.errors import BadRequest, ClipError
from tasks.core.keys import JOB_ID
from tasks.core.request import ClipRequest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Cut a long video into short vertical clips with titles and captions.

    Start with `kangklip demo`, or `kangklip clip talk.mp4 --count 2`.""",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that receives DIR/JOB/: clips and JSON artifacts.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log beside the bars.")]


@app.command("clip")
def clip_command(
    source: Annotated[
        str, typer.Argument(help="Address of a video (any site yt-dlp reads, or a media file), or a file.")
    ],
    duration: Annotated[float, typer.Option("--duration", "-d", min=5, max=180, help="Seconds per clip.")] = 45,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=5, help="How many clips.")] = 3,
    language: Annotated[str, typer.Option("--language", "-l", help="Spoken language: auto, en, id, ...")] = "auto",
    out: Out = Path("clips"),
    verbose: Verbose = False,
) -> None:
    """Cut clips from SOURCE on this machine, and put them into a folder."""
    with _stack(verbose):
        request = _request(source, duration, count, language)
        _run(request, new_job_id(), out)


@app.command()
def resume(
    job: Annotated[str, typer.Argument(help="Job id, kk_...")], out: Out = Path("clips"), verbose: Verbose = False
) -> None:
    """Go on with a JOB that was stopped or failed; what is done is not done again."""
    with _stack(verbose):
        request = local_run.request_of(_job_id(job))
        if request is None:
            raise BadRequest(f"No job {job} is known here.", "Check the id, and that the data folder is the same.")
        _run(request, job, out)


@app.command()
def status(job: Annotated[str, typer.Argument(help="Job id, kk_...")]) -> None:
    """Show how a JOB stands."""
    with _stack(verbose=False, parts=(Part.VALKEY,)):
        store = JobStore.from_settings(settings.load())
        found = store.get(_job_id(job)) if store else None
        if found is None:
            raise BadRequest(f"No job {job} is known here.", "Check the id, and that the data folder is the same.")
        print(f"{found.job_id}  {found.status}  {found.stage}  {found.progress:.0f}%  attempt {found.attempt}")  # noqa: T201
        for attempt in found.attempts:
            if attempt.reason and attempt.number < found.attempt:
                print(f"attempt {attempt.number}: {attempt.reason}")  # noqa: T201
        if text := found.error or (found.message if found.again_at else None):
            print(text)  # noqa: T201


@app.command()
def demo(out: Out = Path("clips"), verbose: Verbose = False) -> None:
    """Cut clips from the sample talk that comes with the project."""
    sample = Path(__file__).parents[1] / "tests" / "media" / "sample.mp4"
    clip_command(str(sample), duration=30, count=2, language="en", out=out, verbose=verbose)


@app.command()
def up(
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port of the page and the API.")] = 8000,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect UI.")] = 4200,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of everything that is kept.")] = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run jobs, or let them wait.")] = True,
) -> None:
    """Run everything on this machine: the page, the API, a worker and what they stand on.

    What the environment names (REDIS_URL, R2_ENDPOINT, PREFECT_API_URL) is used instead of starting it.
    """
    if data_dir is not None:
        os.environ["KANGKLIP_DATA_DIR"] = str(data_dir.expanduser().resolve())
    from deployments.serve import up as run_up  # noqa: PLC0415 the other commands need no server

    with local_run.unwound_on_sigterm():
        run_up(port, prefect_port, worker=worker)


@app.command()
def api() -> None:
    """Run the API alone, configured by the environment: REDIS_URL, R2_*, PREFECT_API_URL, CALLBACK_TOKEN."""
    from deployments.serve import api as run_api  # noqa: PLC0415 the other commands need no server

    run_api()


@app.command("deploy")
def deploy_command(
    bucket_block: Annotated[
        bool,
        typer.Option(
            "--bucket-block",
            help="Save a block with the bucket's keys too; whoever reads the server's blocks has them.",
        ),
    ] = False,
) -> None:
    """Register work pools, deployments, blocks and automations with the Prefect server of PREFECT_API_URL.

    What is there already stays, and so do the limits and switches that were turned there.
    """
    local_run.quiet_prefect()
    from deployments.deploy import deploy  # noqa: PLC0415 the other commands need no Prefect

    deploy(bucket_block=bucket_block)


@app.command()
def doctor() -> None:
    """Check what KangKlip needs: each part ok, missing, or how to mend it."""
    from deployments.doctor import examine  # noqa: PLC0415 the checks import every engine

    if not examine():
        raise typer.Exit(1)


app.command("backup")(backup.backup_command)
app.command("restore")(backup.restore_command)


@app.command("job")
def job_command() -> None:
    """Run one job from the worker's environment: JOB_ID, VIDEO_URL, the bucket, the callback."""
    from deployments.worker_job import run_job  # noqa: PLC0415

    run_job()


def main() -> None:
    """The program: every expected failure is one line that says what to do next."""
    try:
        sys.exit(app(standalone_mode=False))
    except (ClipError, InfraError) as error:
        is_ours = isinstance(error, InfraError) and not isinstance(error, ConfigError)
        console.fail((is_ours and disk.fault(error, settings.load().data_dir)) or str(error))
        sys.exit(2 if isinstance(error, ConfigError | BadRequest) else 1)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        console.fail("Stopped.")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # click's own usage errors
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
            sys.exit(2)
        if fault := disk.fault(error, settings.load().data_dir):
            console.fail(fault)
            sys.exit(1)
        raise


@contextmanager
def _stack(verbose: bool, parts: tuple[Part, ...] = SERVERS) -> Generator[None]:
    """A stack that is up, or one brought up for the length of the command."""
    local_run.quiet_prefect()
    shown_from = logging.INFO if verbose else logging.CRITICAL
    handler = RichHandler(shown_from, console=console.console, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    with (
        local_run.unwound_on_sigterm(),
        console.console.status("Starting") as shown,
        LocalStack(settings.load(), parts, progress=shown.update) as stack,
    ):
        shown.stop()
        stack.apply()
        schema.bring_up_to_date(stack.settings)
        yield


def _request(source: str, duration: float, count: int, language: str) -> ClipRequest:
    """A typed request; a source without a scheme is a local file, registered first."""
    if "://" in source:
        named = {"video_url": source}
    else:
        key, name = local_run.register_file(Path(source).expanduser())
        named = {"source_key": key, "source_name": name}
    asked = {"clip_duration_seconds": duration, "clip_count": count, "language": language}
    try:
        return ClipRequest.model_validate(named | asked)
    except ValidationError as error:
        fault = error.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, fault['loc'])) or 'The address'}: {fault['msg']}.") from None


def _job_id(text: str) -> str:
    if not JOB_ID.fullmatch(text):
        raise BadRequest(f"{text} is not a job id.", "A job id is kk_ and 26 letters and digits.")
    return text


def _run(request: ClipRequest, job_id: str, out: Path) -> None:
    """Run the job with bars, copy what it made, and show the table."""
    jobs = JobStore.from_settings(settings.load())
    if jobs is None:
        raise ConfigError("REDIS_URL is empty; unset it to use the embedded one.")
    jobs.create(job_id, request.model_dump_json(exclude_none=True))
    known = jobs.get(job_id)
    console.note(f"Job {job_id}")
    if known is None or known.status is not JobState.SUCCEEDED:
        try:
            with console.progress_bars(jobs, job_id):
                published = local_run.run_flow(request, job_id)
        except ClipError:
            local_run.export(job_id, out / job_id)
            console.note(f"What was found up to then is in {out / job_id}")
            raise
        except BaseException:
            console.note(f"Go on with: kangklip resume {job_id}")
            raise
        console.console.print(console.clips_table(published))
        for line in [*published.warnings, *published.dropped]:
            console.note(f"! {line}")
    files = local_run.export(job_id, out / job_id)
    console.note(f"{len(files)} files in {out / job_id}")
    console.note(f"The run in the Prefect UI: {local_run.run_address(job_id)}")


if __name__ == "__main__":
    main()
