"""Commands that run or look after a service."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deployments import local_run
from deployments.cli import validate
from deployments.cli.options import API_PORT, PREFECT_PORT, Json

WithoutPrefect = Annotated[
    bool, typer.Option("--without-prefect", help="Leave Prefect's database out; back it up with its own tools.")
]


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


def api() -> None:
    """Run only the API. Set REDIS_URL, R2_*, PREFECT_API_URL and CALLBACK_TOKEN in the environment."""
    from deployments.cli.serve import api as run_api  # noqa: PLC0415 other commands need no server

    run_api()


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


def doctor(as_json: Json = False) -> None:
    """Check everything a job needs: each part is ok, off (optional) or missing, with a way to fix it."""
    from deployments.cli.doctor import examine  # noqa: PLC0415 the checks import every engine

    if not examine(as_json=as_json):
        raise typer.Exit(1)


def backup_command(
    file: Annotated[Path, typer.Argument(help="File to write, such as kangklip.tar.gz; - for standard output.")],
    without_prefect: WithoutPrefect = False,
) -> None:
    """Back up all job records and Prefect's database to FILE; the bucket's objects are not included.

    Nothing needs to stop. The file contains links and titles, and only its owner can read it.
    """
    from deployments.cli.backup import save  # noqa: PLC0415 loads redis-py

    save(file, without_prefect=without_prefect)


def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that kangklip backup wrote; - for standard input.")],
    replace: Annotated[bool, typer.Option("--replace", help="Delete existing records first.")] = False,
    without_prefect: WithoutPrefect = False,
) -> None:
    """Restore job records and Prefect's database from FILE. Stop everything that uses them first."""
    from deployments.cli.backup import restore  # noqa: PLC0415 loads redis-py

    restore(file, replace=replace, without_prefect=without_prefect)


def job_command() -> None:
    """Run one job from environment variables: JOB_ID, VIDEO_URL, the bucket and the callback."""
    from deployments.image.worker_job import run_job  # noqa: PLC0415

    run_job()


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
