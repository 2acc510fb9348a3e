"""Commands about jobs: cut, look, change, delete."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from deployments import console, local_run
from deployments.cli import validate
from deployments.cli.on_this_machine import (
    job_store,
    print_result,
    run_job,
    run_remotely,
    show_result,
    stack_for_command,
    unknown_job,
)
from deployments.cli.options import JobArgument, Json, Out, Verbose
from deployments.cli.printing import (
    FinishedJob,
    displayed_state,
    failure_printed,
    job_document,
    jobs_table,
    print_document,
)
from infra import settings
from infra.jobs.ids import new_job_id
from infra.local.services import Service
from tasks.core.request import DEFAULT_CLIPS, DEFAULT_SECONDS, MAX_CLIPS, MAX_SECONDS, MIN_SECONDS

SAMPLE = Path(__file__).parents[2] / "tests" / "media" / "sample.mp4"


def clip_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A video or sound file, or a link to one or to any site that yt-dlp supports.", metavar="SOURCE"
        ),
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
            help="auto follows faces and speakers, fit shows the whole picture, centre its middle, "
            "split two people one above the other, screen the whole picture above an enlarged face.",
        ),
    ] = None,
    tighten: Annotated[
        bool,
        typer.Option("--tighten", help="Cut out pauses over 0.6 s, fillers such as um, and slips."),
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
            print_result(run_remotely(api, source, options, out), as_json=as_json)
            return
        with stack_for_command(verbose) as stack:
            if not validate.is_address(source):
                key, name = local_run.register_file(validate.local_path(source), job_id)
                request = request.model_copy(update={"source_key": key, "source_name": name})
            finished, address = run_job(request, job_id, out)
    show_result(finished, address, stack, as_json=as_json)


def demo(out: Out = Path("clips"), verbose: Verbose = False, as_json: Json = False) -> None:
    """Cut two clips from the bundled sample talk."""
    clip_command(str(SAMPLE), duration=30, count=2, language="en", out=out, verbose=verbose, as_json=as_json)


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
        with stack_for_command(verbose) as stack:
            request = local_run.request_of(job)
            if request is None:
                raise unknown_job(job)
            finished, address = run_job(request, job, out)
    show_result(finished, address, stack, as_json=as_json)


def status(job: JobArgument, as_json: Json = False) -> None:
    """Show a JOB's state, stage, progress and attempt, and why it failed."""
    with failure_printed(as_json=as_json, job_id=job):
        validate.job_id(job)
        with stack_for_command(verbose=False, services=(Service.VALKEY,)):
            found = job_store().get(job)
        if found is None:
            raise unknown_job(job)
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


def list_command(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of jobs.")] = 20,
    as_json: Json = False,
) -> None:
    """List recent jobs, newest first: id, state, progress, age and video."""
    with failure_printed(as_json=as_json), stack_for_command(verbose=False, services=(Service.VALKEY,)):
        found = job_store().recent(limit)
    if as_json:
        print_document({"jobs": [job_document(job) for job in found]})
    elif found:
        console.out.print(jobs_table(found))
    else:
        console.note("No jobs yet. Start with: kangklip demo")


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
        with stack_for_command(verbose=False, services=(Service.VALKEY, Service.S3)):
            document = deletion.delete(jobs, job_store(), local_run.bucket(), yes=yes)
    if as_json:
        print_document(document)
    else:
        deletion.show(document)


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
            with stack_for_command(verbose=False, services=(Service.VALKEY, Service.S3)):
                content = recut.document_here(job, job_store())
        if out:
            recut.write(content, out)
        else:
            print_document(content)


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
            with stack_for_command(verbose):
                recut.recut_here(job, content, job_store())
                finished = FinishedJob(job, out / job, local_run.export(job, out / job))
    print_result(finished, as_json=as_json)
