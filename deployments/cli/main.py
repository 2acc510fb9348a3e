"""The command line: kangklip clip | resume | status | list | edit | recut | delete | up | api | deploy | doctor |
demo | job | backup | restore | mcp.

Results go to standard output; progress, notes and errors go to standard error.
"""

import io
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.logging import RichHandler
from rich.text import Text

from deployments import console, local_run
from deployments.cli import validate
from deployments.cli.printing import (
    FinishedJob,
    displayed_state,
    failure_printed,
    job_document,
    jobs_table,
    print_document,
)
from infra import disk, settings
from infra.errors import ConfigError, InfraError
from infra.jobs.ids import new_job_id
from infra.local.services import SERVERS, Service
from infra.states import JobState
from tasks.core.errors import BadRequest, ClipError
from tasks.core.request import DEFAULT_CLIPS, DEFAULT_SECONDS, MAX_CLIPS, MAX_SECONDS, MIN_SECONDS, ClipRequest

if TYPE_CHECKING:
    from infra.jobs.store import JobStore
    from infra.local.stack import LocalStack

API_PORT, PREFECT_PORT = 8000, 4200

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done; 1 the job, or something it depends on, failed; 2 the request or a setting is wrong, "
    "or a port is taken; 130 stopped.",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for results: clips and JSON artifacts go to OUT/JOB/.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log along with the progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
WithoutPrefect = Annotated[
    bool, typer.Option("--without-prefect", help="Leave Prefect's database out; back it up with its own tools.")
]
JobArgument = Annotated[str, typer.Argument(help="Job id, kk_...", metavar="JOB")]


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"kangklip {version('kangklip')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def every_command(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Cut a long video into short vertical clips with titles and captions.

    Start with `kangklip demo` or `kangklip clip talk.mp4 --count 2`. For a web page and an API, run `kangklip up`.
    """


@app.command("clip")
def clip_command(
    source: Annotated[
        str,
        typer.Argument(help="A video file, or a link to one or to any site that yt-dlp supports.", metavar="SOURCE"),
    ],
    duration: Annotated[
        float, typer.Option("--duration", "-d", min=MIN_SECONDS, max=MAX_SECONDS, help="Longest clip, in seconds.")
    ] = DEFAULT_SECONDS,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=MAX_CLIPS, help="Number of clips.")] = DEFAULT_CLIPS,
    language: Annotated[str, typer.Option("--language", "-l", help="Spoken language: auto, en, id, ...")] = "auto",
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Cut only from what is said after TIME, such as 12:30.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Cut only from what is said before TIME.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic", metavar="TEXT", help='What the clips shall be about, such as "how the piano was found".'
        ),
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(
            "--ratio", metavar="W:H", help="Shape of the clips: 9:16 (as RENDER_RESOLUTION), 4:5, 1:1 or 16:9."
        ),
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(
            "--captions",
            metavar="PRESET",
            help="Look of the captions: classic, punch (large capitals), word (one at a time), box, label or reveal.",
        ),
    ] = None,
    framing: Annotated[
        str | None,
        typer.Option(
            "--framing",
            metavar="KIND",
            help="auto follows faces and speakers, fit shows the whole picture, centre its middle.",
        ),
    ] = None,
    tighten: Annotated[
        bool, typer.Option("--tighten", help="Cut out pauses over 0.6 s and filler words such as um.")
    ] = False,
    api: Annotated[
        str | None, typer.Option("--api", metavar="URL", help="Cut on another machine, by KangKlip's API at URL.")
    ] = None,
    out: Out = Path("clips"),
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Cut clips from SOURCE on this machine, or on another one, and save them to a folder.

    - `kangklip clip talk.mp4`
    - `kangklip clip https://example.org/talk.mp4 --duration 30 --count 2 --language en`
    - `kangklip clip talk.mp4 --from 10:00 --to 25:30`
    - `kangklip clip talk.mp4 --topic "village life" --count 8`
    - `kangklip clip talk.mp4 --captions punch --ratio 4:5 --tighten`
    - `kangklip clip talk.mp4 --json | jq -r '.clips[].file'`
    - `kangklip clip talk.mp4 --api https://clips.example.org`
    """
    job_id = new_job_id()
    with failure_printed(as_json=as_json, job_id=None if api else job_id, runs_job=True):
        allow_private = settings.load().allow_private_addresses
        options = {
            "clip_duration_seconds": duration,
            "clip_count": count,
            "language": language,
            "start_seconds": validate.position(start, "--from"),
            "end_seconds": validate.position(end, "--to"),
            "topic": topic,
            "ratio": ratio,
            "caption_preset": captions,
            "framing": framing,
            "tighten": tighten or None,
        }
        request = validate.clip_request(source, options, allow_private=allow_private)
        validate.check_out(out)
        if api:
            _print(_run_remotely(api, source, options, out), as_json=as_json)
            return
        with _stack(verbose) as stack:
            if not validate.is_address(source):
                key, name = local_run.register_file(validate.local_path(source), job_id)
                request = request.model_copy(update={"source_key": key, "source_name": name})
            finished, address = _run(request, job_id, out)
    _show(finished, address, stack, as_json=as_json)


@app.command()
def resume(
    job: JobArgument,
    out: Out = Path("clips"),
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Resume a JOB that was stopped or failed; finished stages are not repeated.

    If the job has succeeded, its files are copied again. `kangklip list` shows recent jobs.
    """
    with failure_printed(as_json=as_json, job_id=job, runs_job=True):
        validate.job_id(job)
        validate.check_out(out)
        with _stack(verbose) as stack:
            request = local_run.request_of(job)
            if request is None:
                raise _unknown_job(job)
            finished, address = _run(request, job, out)
    _show(finished, address, stack, as_json=as_json)


@app.command()
def status(job: JobArgument, as_json: Json = False) -> None:
    """Show a JOB's state, stage, progress and attempt, and why it failed."""
    with failure_printed(as_json=as_json, job_id=job):
        validate.job_id(job)
        with _stack(verbose=False, services=(Service.VALKEY,)):
            found = _jobs().get(job)
        if found is None:
            raise _unknown_job(job)
    if as_json:
        print_document(job_document(found))
        return
    line = f"{found.job_id}  {displayed_state(found)}  {found.stage}  {found.progress:.0f}%  attempt {found.attempt}"
    console.out.print(line, soft_wrap=True)
    for attempt in found.attempts:
        if attempt.reason and attempt.number < found.attempt:
            console.out.print(Text(f"attempt {attempt.number}: {attempt.reason}"), soft_wrap=True)
    if text := found.error or (found.message if found.again_at else None):
        console.out.print(Text(text), soft_wrap=True)


@app.command("list")
def list_command(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of jobs.")] = 20,
    as_json: Json = False,
) -> None:
    """List recent jobs, newest first: id, state, progress, age and video."""
    with failure_printed(as_json=as_json), _stack(verbose=False, services=(Service.VALKEY,)):
        found = _jobs().recent(limit)
    if as_json:
        print_document({"jobs": [job_document(job) for job in found]})
    elif found:
        console.out.print(jobs_table(found))
    else:
        console.note("No jobs yet. Start with: kangklip demo")


@app.command("delete")
def delete_command(
    jobs: Annotated[list[str], typer.Argument(help="Ids of the jobs, kk_...", metavar="JOB")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Delete each JOB for good: its record, its clips, and the source and transcript unless another job uses them.

    Only jobs that have ended are deleted. Copies in your own folders stay. A job that is already gone is no error.

    - `kangklip delete kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R`
    - `kangklip list --json | jq -r '.jobs[] | select(.status == "FAILED").job_id' | xargs kangklip delete --yes`
    """
    from deployments.cli import deletion  # noqa: PLC0415 loads boto3

    with failure_printed(as_json=as_json, job_id=jobs[0] if len(jobs) == 1 else None):
        for job in jobs:
            validate.job_id(job)
        deletion.check_can_ask(yes=yes)
        with _stack(verbose=False, services=(Service.VALKEY, Service.S3)):
            document = deletion.delete(jobs, _jobs(), local_run.bucket(), yes=yes)
    if as_json:
        print_document(document)
    else:
        deletion.show(document)


@app.command("edit")
def edit_command(
    job: JobArgument,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; by default, standard output.")] = None,
    api: Annotated[
        str | None, typer.Option("--api", metavar="URL", help="Ask KangKlip's API at URL, not this machine.")
    ] = None,
) -> None:
    """Print the edit document of a JOB's clips, or write it to a file; `kangklip recut` takes it back.

    - `kangklip edit kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R --out edit.json`
    """
    from deployments.cli import recut, remote  # noqa: PLC0415 loads boto3 and httpx

    with failure_printed(as_json=False, job_id=job):
        validate.job_id(job)
        if api:
            content = remote.client(validate.api_address(api), remote.SHORT_PAUSES).edit(job)
        else:
            with _stack(verbose=False, services=(Service.VALKEY, Service.S3)):
                content = recut.document_here(job, _jobs())
        if out:
            recut.write(content, out)
        else:
            print_document(content)


@app.command("recut")
def recut_command(
    job: JobArgument,
    file: Annotated[Path, typer.Argument(help="The changed document, from kangklip edit.", metavar="FILE")],
    api: Annotated[
        str | None, typer.Option("--api", metavar="URL", help="Recut on another machine, by KangKlip's API at URL.")
    ] = None,
    out: Out = Path("clips"),
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Change a JOB's edit document to FILE, draw again the clips that it changes, and save all clips to a folder.

    Until all of that is done, the clips stay as they are. `docs/edit.md` says what a document may say.

    - `kangklip edit JOB --out edit.json`, change the file, `kangklip recut JOB edit.json`
    """
    from deployments.cli import recut, remote  # noqa: PLC0415 loads boto3 and httpx

    with failure_printed(as_json=as_json, job_id=job, runs_job=False):
        validate.job_id(job)
        validate.check_out(out)
        content = recut.read_file(file)
        if api:
            client = remote.client(validate.api_address(api), remote.SHORT_PAUSES)
            finished = recut.recut_remotely(client, job, content, out / job)
        else:
            with _stack(verbose):
                recut.recut_here(job, content, _jobs())
                finished = FinishedJob(job, out / job, local_run.export(job, out / job))
    _print(finished, as_json=as_json)


@app.command()
def demo(out: Out = Path("clips"), verbose: Verbose = False, as_json: Json = False) -> None:
    """Cut two clips from the bundled sample talk."""
    sample = Path(__file__).parents[2] / "tests" / "media" / "sample.mp4"
    clip_command(str(sample), duration=30, count=2, language="en", out=out, verbose=verbose, as_json=as_json)


@app.command()
def up(
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="Port for the page and the API.")
    ] = API_PORT,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port for the Prefect UI.")] = PREFECT_PORT,
    data_dir: Annotated[Path | None, typer.Option(help="Folder for all data.")] = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Run jobs, or leave them QUEUED.")] = True,
) -> None:
    """Run everything on this machine: the page, the API, a worker and the servers they need.

    A server named in the environment (REDIS_URL, R2_ENDPOINT, PREFECT_API_URL) is used instead of an embedded one.
    """
    if data_dir is not None:
        os.environ["KANGKLIP_DATA_DIR"] = str(validate.local_path(str(data_dir)).resolve())
    from deployments.cli.serve import up as run_up  # noqa: PLC0415 other commands need no server

    with local_run.sigterm_as_interrupt():
        run_up(port, prefect_port, worker=worker)


@app.command()
def api() -> None:
    """Run only the API. Set REDIS_URL, R2_*, PREFECT_API_URL and CALLBACK_TOKEN in the environment."""
    from deployments.cli.serve import api as run_api  # noqa: PLC0415 other commands need no server

    run_api()


@app.command("deploy")
def deploy_command(
    bucket_block: Annotated[
        bool,
        typer.Option(
            "--bucket-block",
            help="Also save a block with the bucket's keys; anyone who can read the server's blocks gets them.",
        ),
    ] = False,
) -> None:
    """Register work pools, deployments, blocks and automations with the Prefect server at PREFECT_API_URL.

    Safe to repeat: limits and schedules that you changed on the server stay as they are.
    """
    local_run.quiet_prefect()
    from deployments.registry.deploy import deploy  # noqa: PLC0415 other commands need no Prefect

    deploy(bucket_block=bucket_block)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything a job needs: each part is ok, off (optional) or missing, with a way to fix it."""
    from deployments.cli.doctor import examine  # noqa: PLC0415 the checks import every engine

    if not examine(as_json=as_json):
        raise typer.Exit(1)


@app.command("backup")
def backup_command(
    file: Annotated[Path, typer.Argument(help="File to write, such as kangklip.tar.gz; - for standard output.")],
    without_prefect: WithoutPrefect = False,
) -> None:
    """Back up all job records and Prefect's database to FILE; the bucket's objects are not included.

    Nothing needs to stop. The file contains links and titles, and only its owner can read it.
    """
    from deployments.cli.backup import save  # noqa: PLC0415 loads redis-py

    save(file, without_prefect=without_prefect)


@app.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that kangklip backup wrote; - for standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Delete existing records first.")] = False,
    without_prefect: WithoutPrefect = False,
) -> None:
    """Restore job records and Prefect's database from FILE. Stop everything that uses them first."""
    from deployments.cli.backup import restore  # noqa: PLC0415 loads redis-py

    restore(file, replace=replace, without_prefect=without_prefect)


@app.command("job")
def job_command() -> None:
    """Run one job from environment variables: JOB_ID, VIDEO_URL, the bucket and the callback."""
    from deployments.image.worker_job import run_job  # noqa: PLC0415

    run_job()


@app.command("mcp")
def mcp_command(
    api: Annotated[str, typer.Option("--api", metavar="URL", help="KangKlip's API.")] = f"http://127.0.0.1:{API_PORT}",
    port: Annotated[
        int | None,
        typer.Option("--http", metavar="PORT", min=1, max=65535, help="Serve http://127.0.0.1:PORT/mcp, not stdio."),
    ] = None,
) -> None:
    """Let an AI assistant make clips: serve KangKlip's tools by the Model Context Protocol.

    Run `kangklip up` first, or give the `--api` of another machine, and its key in KANGKLIP_API_KEY.

    - In the assistant's settings, add an MCP server with the command `kangklip mcp`.
    - `kangklip mcp --http 8765` serves assistants that connect by HTTP. They cannot read or save files here.
    """
    from deployments import assistant  # noqa: PLC0415 the other commands need no MCP
    from deployments.cli import remote  # noqa: PLC0415 loads httpx

    client = remote.client(validate.api_address(api), remote.SHORT_PAUSES)
    assistant.serve(client, port)


def main() -> None:
    """Run the command line; print each expected failure as one line with a next step."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths may hold bytes that are no text; JSON reads them back
    try:
        sys.exit(app(standalone_mode=False))
    except (ClipError, InfraError) as error:
        may_be_disk = isinstance(error, InfraError) and not isinstance(error, ConfigError)
        console.fail((may_be_disk and disk.explain_if_full(error, settings.load().data_dir)) or str(error))
        sys.exit(2 if isinstance(error, ConfigError | BadRequest) else 1)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        console.fail("Stopped.")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of click
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
            sys.exit(2)
        if fault := disk.explain_if_full(error, settings.load().data_dir):
            console.fail(fault)
            sys.exit(1)
        raise


@contextmanager
def _stack(verbose: bool, services: tuple[Service, ...] = SERVERS) -> Generator["LocalStack"]:
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


def _jobs() -> "JobStore":
    from infra.jobs.store import JobStore  # noqa: PLC0415

    jobs = JobStore.from_settings(settings.load())
    if jobs is None:
        raise ConfigError("REDIS_URL is empty; unset it to use the embedded Redis.")
    return jobs


def _unknown_job(job: str) -> BadRequest:
    folder = settings.load().data_dir
    return BadRequest(f"There is no job {job} in {folder}.", "To see recent jobs: kangklip list")


def _run(request: ClipRequest, job_id: str, out: Path) -> tuple[FinishedJob, str]:
    """Run the job with progress bars and copy its results; also return the path of its run in the Prefect UI."""
    from infra.jobs.events import JobEvents  # noqa: PLC0415

    jobs = _jobs()
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


def _run_remotely(api: str, source: str, options: dict[str, Any], out: Path) -> FinishedJob:
    """Have another machine's API run the job, and fetch its results."""
    from deployments.cli import remote  # noqa: PLC0415 loads httpx

    video = source if validate.is_address(source) else validate.local_path(source)
    return remote.clip(remote.client(validate.api_address(api)), video, options, out)


def _print(finished: FinishedJob, *, as_json: bool) -> None:
    if as_json:
        print_document(finished.document())
    else:
        finished.show()
    for line in [*finished.manifest["warnings"], *finished.manifest["dropped"]]:
        console.note(f"! {line}")


def _show(finished: FinishedJob, path: str, stack: "LocalStack", *, as_json: bool) -> None:
    """Print the result and how to see the run in the Prefect UI."""
    _print(finished, as_json=as_json)
    if stack.stays_up(Service.PREFECT):
        console.note(f"Run in the Prefect UI: {local_run.prefect_ui()}{path}")
    else:
        console.note(f"To see the run in the Prefect UI: kangklip up, then http://127.0.0.1:{PREFECT_PORT}{path}")


if __name__ == "__main__":
    main()
