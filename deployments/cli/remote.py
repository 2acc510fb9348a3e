"""`kangklip clip --api`: has another machine's KangKlip cut the clips, and fetches them."""

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deployments import console
from deployments.api_client import PAUSES, ApiClient, Report
from deployments.cli.printing import FinishedJob
from deployments.cli.unfinished_uploads import UnfinishedUpload
from infra import settings

SHORT_PAUSES = (0.5, 1.0)
"""Seconds between tries where somebody waits for an answer."""


def client(url: str, pauses: tuple[float, ...] = PAUSES) -> ApiClient:
    """A client of the API at the URL, with the key in KANGKLIP_API_KEY."""
    key = settings.load().api_key
    return ApiClient(url, key.get_secret_value() if key else "", pauses)


def _create(api: ApiClient, file: Path, options: dict[str, Any], report: Report) -> str:
    """Upload the file, or what is left of it since an earlier call, and create the job."""
    unfinished = UnfinishedUpload(settings.load().data_dir, api.url, file)
    upload = api.upload(file, report, unfinished.where(), unfinished.remember)
    job_id = api.create({"upload": upload} | options)
    unfinished.forget()
    return job_id


def clip(api: ApiClient, source: Path | str, options: dict[str, Any], out: Path) -> FinishedJob:
    """Have the API cut the source, a file's path or an address, and fetch the clips into `out/JOB`.

    Raises:
        ClipError, InfraError: the job, or the API, has failed.
    """
    columns = (
        *(TextColumn("{task.description:<10}"), BarColumn(bar_width=32), TextColumn("{task.percentage:>3.0f}%")),
        *(TimeElapsedColumn(), TextColumn("{task.fields[message]}", style="dim", markup=False)),
    )
    with Progress(*columns, console=console.console) as bars:

        def bar(name: str) -> Report:
            task = bars.add_task(name, total=1, message="")
            return lambda share, message: bars.update(task, completed=share, message=message)

        job_id = (
            _create(api, source, options, bar("send"))
            if isinstance(source, Path)
            else api.create({"video_url": source} | options)
        )
        console.note(f"Job {job_id}")
        api.follow(job_id, bar("job"))
    folder = out / job_id
    return FinishedJob(job_id, folder, api.download(job_id, folder))
